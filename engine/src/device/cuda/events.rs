//! Moments in a queue, marked by events that are used again and again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::api::{self, Handle};
use super::context::Context;
use crate::device::DeviceError;

/// Events of a queue that exist; more moments than that are not told apart at once.
const EVENTS: usize = 256;

/// A moment that can be asked for: the position of its event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    pub(super) event: usize,
}

#[derive(Debug)]
struct Slot {
    handle: Handle,
    /// How many threads wait for it outside of the lock.
    users: u32,
    /// Its moment is in the past; it is free when nobody uses it.
    is_retired: bool,
}

/// The events of one queue, and the moments that are marked, oldest first.
#[derive(Debug)]
pub(super) struct Events {
    context: Arc<Context>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    marks: VecDeque<Mark>,
    /// Everything up to here is done.
    reached: u64,
}

impl Events {
    /// Makes all events; the context is current.
    pub(super) fn new(context: &Arc<Context>, is_wait_blocking: bool) -> Result<Self, DeviceError> {
        const BLOCKING_SYNC: u32 = 1;
        const DISABLE_TIMING: u32 = 2;
        let flags = DISABLE_TIMING | if is_wait_blocking { BLOCKING_SYNC } else { 0 };
        let mut events = Self {
            context: Arc::clone(context),
            slots: Vec::with_capacity(EVENTS),
            free: (0..EVENTS).rev().collect(),
            marks: VecDeque::with_capacity(EVENTS),
            reached: 0,
        };
        for _ in 0..EVENTS {
            let mut handle = 0;
            // SAFETY: the driver writes a handle to a place that is valid.
            let code = unsafe { (context.api.event_create)(&raw mut handle, flags) };
            context.check("making an event", code)?;
            events.slots.push(Slot {
                handle,
                users: 0,
                is_retired: false,
            });
        }
        Ok(events)
    }

    pub(super) const fn reached(&self) -> u64 {
        self.reached
    }

    /// The sequence of the latest moment that is marked or known to be reached.
    pub(super) fn marked(&self) -> u64 {
        self.marks.back().map_or(self.reached, |mark| mark.sequence)
    }

    /// The first mark at or after a moment that is not known to be reached.
    pub(super) fn find(&self, sequence: u64) -> Option<Mark> {
        let position = self.marks.partition_point(|mark| mark.sequence < sequence);
        self.marks.get(position).copied()
    }

    /// Marks the present moment of `stream`. Waits only if all events stand for moments to come.
    pub(super) fn mark(&mut self, stream: Handle, sequence: u64) -> Result<(), DeviceError> {
        let event = match self.free.pop() {
            Some(event) => event,
            None => self.recycle()?,
        };
        let handle = self.handle(event);
        // SAFETY: event and stream live as long as the device, and nobody waits for what the event stood for.
        let code = unsafe { (self.context.api.event_record)(handle, stream) };
        if code != api::SUCCESS {
            self.free.push(event);
        }
        self.context.check("recording an event", code)?;
        self.marks.push_back(Mark { sequence, event });
        Ok(())
    }

    /// Waits for the oldest moment whose event nobody else waits for, and takes that event.
    #[cold]
    fn recycle(&mut self) -> Result<usize, DeviceError> {
        while let Some(mark) = self.marks.front().copied() {
            // SAFETY: the event lives as long as the device.
            let code = unsafe { (self.context.api.event_synchronize)(self.handle(mark.event)) };
            self.context.check("earlier work", code)?;
            self.reach(mark.sequence);
            if let Some(event) = self.free.pop() {
                return Ok(event);
            }
        }
        Err(DeviceError::Invalid {
            reason: format!("{EVENTS} threads wait for fences of one queue"),
        })
    }

    pub(super) fn handle(&self, event: usize) -> Handle {
        self.slots.get(event).map_or(0, |slot| slot.handle)
    }

    /// Keeps the event of a mark from being used for another moment.
    pub(super) fn hold(&mut self, mark: Mark) -> Handle {
        match self.slots.get_mut(mark.event) {
            Some(slot) => {
                slot.users += 1;
                slot.handle
            }
            None => 0,
        }
    }

    pub(super) fn let_go(&mut self, mark: Mark) {
        if let Some(slot) = self.slots.get_mut(mark.event) {
            slot.users -= 1;
            if slot.users == 0 && slot.is_retired {
                slot.is_retired = false;
                self.free.push(mark.event);
            }
        }
    }

    /// Everything up to `sequence` is done.
    pub(super) fn reach(&mut self, sequence: u64) {
        self.reached = self.reached.max(sequence);
        while let Some(mark) = self.marks.front().copied()
            && mark.sequence <= self.reached
        {
            self.marks.pop_front();
            if let Some(slot) = self.slots.get_mut(mark.event) {
                slot.is_retired = slot.users > 0;
                if !slot.is_retired {
                    self.free.push(mark.event);
                }
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for slot in &self.slots {
            self.context.give_back("destroying an event", |api| {
                // SAFETY: the event was made by `new`, and this is the end of it.
                unsafe { (api.event_destroy)(slot.handle) }
            });
        }
    }
}
