//! One of the two queues of a device: a stream, its events, and its tables.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::api::{self, Address, Handle};
use super::context::Context;
use super::events::{Events, Mark};
use super::options::CudaOptions;
use super::pinning::Block;
use super::scratch::{FAULT_BYTES, Scratch};
use super::tables::{Room, Table, Tables};
use crate::device::kernels::ApplyFault;
use crate::device::{DeviceError, Fence, Queue};

/// A queue.
#[derive(Debug)]
pub(super) struct Stream {
    context: Arc<Context>,
    queue: Queue,
    driver: DriverStream,
    state: Mutex<State>,
    /// Where the device reports what was wrong with tables of runs: one number, 0 for nothing.
    fault: Block,
}

/// The driver's stream.
#[derive(Debug)]
struct DriverStream {
    context: Arc<Context>,
    handle: Handle,
}

impl DriverStream {
    fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        const NON_BLOCKING: u32 = 1;
        let mut handle = 0;
        // SAFETY: the driver writes a handle to a place that is valid.
        let code = unsafe { (context.api.stream_create)(&raw mut handle, NON_BLOCKING) };
        context.check("making a stream", code)?;
        Ok(Self {
            context: Arc::clone(context),
            handle,
        })
    }
}

impl Drop for DriverStream {
    fn drop(&mut self) {
        self.context.give_back("destroying a stream", |api| {
            // SAFETY: the stream was made by `new`, its work was waited for, and this is the end of it.
            unsafe { (api.stream_destroy)(self.handle) }
        });
    }
}

/// What changes with every piece of work.
#[derive(Debug)]
pub(super) struct State {
    submitted: u64,
    events: Events,
    pub(super) tables: Tables,
    pub(super) scratch: Scratch,
    /// Runs were applied since the fault was last asked for.
    has_applied: bool,
}

impl Stream {
    /// The context is current.
    pub(super) fn new(
        context: &Arc<Context>,
        queue: Queue,
        options: &CudaOptions,
    ) -> Result<Self, DeviceError> {
        let tables = Tables::new(context, options.table_bytes)?;
        let scratch = Scratch::new(context, tables.half_bytes() as u64)?;
        let stream = Self {
            context: Arc::clone(context),
            queue,
            driver: DriverStream::new(context)?,
            state: Mutex::new(State {
                submitted: 0,
                events: Events::new(context, options.is_wait_blocking)?,
                tables,
                scratch,
                has_applied: false,
            }),
            fault: Block::new(context, FAULT_BYTES)?,
        };
        stream.clear_fault()?;
        Ok(stream)
    }

    pub(super) const fn handle(&self) -> Handle {
        self.driver.handle
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn fault_pointer(&self) -> *mut u32 {
        std::ptr::with_exposed_provenance_mut(self.fault.start())
    }

    /// Forgets a fault; nothing is under way.
    fn clear_fault(&self) -> Result<(), DeviceError> {
        let mut state = self.lock();
        state.has_applied = false;
        // SAFETY: the number is pinned, aligned, ours, and not written to by work under way.
        unsafe { self.fault_pointer().write_volatile(0) };
        // SAFETY: the scratch memory is allocated and this long.
        let code = unsafe {
            (self.context.api.set_bytes)(state.scratch.fault(), 0, FAULT_BYTES, self.handle())
        };
        self.context.check("clearing the fault", code)?;
        self.synchronize(&mut state)
    }

    fn check_fault(&self) -> Result<(), DeviceError> {
        // SAFETY: the number is pinned and aligned; the device may write it at this moment, in one piece.
        let fault = unsafe { self.fault_pointer().read_volatile() };
        if fault == 0 {
            return Ok(());
        }
        let error = DeviceError::Invalid {
            reason: match ApplyFault::from_code(fault) {
                Some(fault) => format!("apply: {fault}"),
                None => format!("apply: fault {fault}"),
            },
        };
        Err(self.context.fail(error, false))
    }

    /// Marks the present moment, unless it is marked.
    fn mark(&self, state: &mut State) -> Result<(), DeviceError> {
        if state.events.marked() == state.submitted {
            return Ok(());
        }
        self.ask_for_fault(state)?;
        let sequence = state.submitted;
        state.events.mark(self.handle(), sequence)
    }

    fn ask_for_fault(&self, state: &mut State) -> Result<(), DeviceError> {
        if !std::mem::take(&mut state.has_applied) {
            return Ok(());
        }
        // SAFETY: both are allocated and this long; nobody but the device writes to the number.
        let code = unsafe {
            (self.context.api.copy_to_host)(
                self.fault_pointer().cast(),
                state.scratch.fault(),
                FAULT_BYTES,
                self.handle(),
            )
        };
        self.context.check("apply", code)
    }

    /// The moment after everything that was submitted.
    pub(super) fn fence(&self) -> Result<Fence, DeviceError> {
        let mut state = self.lock();
        self.mark(&mut state)?;
        Ok(Fence {
            queue: self.queue,
            sequence: state.submitted,
        })
    }

    /// The mark of a fence; `None` when it was reached.
    fn find(&self, state: &mut State, sequence: u64) -> Result<Option<Mark>, DeviceError> {
        if sequence > state.submitted {
            return Err(DeviceError::Invalid {
                reason: format!(
                    "a fence after {sequence} pieces of work, of which {} were submitted",
                    state.submitted
                ),
            });
        }
        if sequence <= state.events.reached() {
            return Ok(None);
        }
        if state.events.marked() < sequence {
            // A fence that was not made by `fence`.
            self.mark(state)?;
        }
        Ok(state.events.find(sequence))
    }

    pub(super) fn is_reached(&self, sequence: u64) -> Result<bool, DeviceError> {
        let mut state = self.lock();
        let Some(mark) = self.find(&mut state, sequence)? else {
            return self.check_fault().map(|()| true);
        };
        // SAFETY: the event lives as long as the device.
        let code = unsafe { (self.context.api.event_query)(state.events.handle(mark.event)) };
        if code == api::NOT_READY {
            return Ok(false);
        }
        self.context.check("earlier work", code)?;
        state.events.reach(mark.sequence);
        self.check_fault().map(|()| true)
    }

    pub(super) fn wait(&self, sequence: u64) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let Some(mark) = self.find(&mut state, sequence)? else {
            return self.check_fault();
        };
        let event = state.events.hold(mark);
        drop(state);
        // SAFETY: the event lives as long as the device, and is held, so that it keeps standing for this moment.
        let code = unsafe { (self.context.api.event_synchronize)(event) };
        let mut state = self.lock();
        state.events.let_go(mark);
        self.context.check("earlier work", code)?;
        state.events.reach(mark.sequence);
        drop(state);
        self.check_fault()
    }

    /// Lets `other` start what is submitted to it from now on after a fence of this queue.
    pub(super) fn order(&self, sequence: u64, other: &Self) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let Some(mark) = self.find(&mut state, sequence)? else {
            return Ok(());
        };
        let event = state.events.hold(mark);
        drop(state);
        // One lock at a time: two threads may order the queues both ways.
        let mut waiting = other.lock();
        // SAFETY: stream and event live as long as the device; the event is held, so that it keeps standing for this moment.
        let code = unsafe { (self.context.api.stream_wait_event)(other.handle(), event, 0) };
        // A fence from now on is one behind this.
        waiting.submitted += 1;
        drop(waiting);
        self.lock().events.let_go(mark);
        self.context.check("ordering queues", code)
    }

    /// Waits for everything that was submitted.
    pub(super) fn drain(&self) -> Result<(), DeviceError> {
        let mut state = self.lock();
        if state.events.reached() < state.submitted {
            self.ask_for_fault(&mut state)?;
            self.synchronize(&mut state)?;
        }
        self.check_fault()
    }

    fn synchronize(&self, state: &mut State) -> Result<(), DeviceError> {
        // SAFETY: the stream lives as long as the device.
        let code = unsafe { (self.context.api.stream_synchronize)(self.handle()) };
        self.context.check("earlier work", code)?;
        let sequence = state.submitted;
        state.events.reach(sequence);
        Ok(())
    }

    /// Takes room for a table. Waits for work that reads older ones when there is none.
    pub(super) fn take_table(
        &self,
        state: &mut State,
        len_bytes: usize,
    ) -> Result<Table, DeviceError> {
        if let Room::After(sequence) = state.tables.room(len_bytes) {
            // What reads the half that is left is submitted already, but for the work that takes this table.
            state.submitted += 1;
            self.mark(state)?;
            state.tables.turn(state.submitted);
            if let Some(mark) = self.find(state, sequence)? {
                // SAFETY: the event lives as long as the device; under the lock, it keeps standing for its moment.
                let code = unsafe {
                    (self.context.api.event_synchronize)(state.events.handle(mark.event))
                };
                self.context.check("earlier work", code)?;
                state.events.reach(mark.sequence);
            }
        }
        state.tables.take(len_bytes)
    }

    /// Copies a table to the device.
    pub(super) fn send_table(
        &self,
        table: Table,
        to: Address,
        len_bytes: usize,
        work: &'static str,
    ) -> Result<(), DeviceError> {
        // SAFETY: the table is this long and stays as it is until the work after it was waited for; `to` is scratch memory as long.
        let code = unsafe {
            (self.context.api.copy_to_device)(to, table.pointer().cast(), len_bytes, self.handle())
        };
        self.context.check(work, code)
    }

    /// Starts over: waits for what was submitted, and forgets faults.
    pub(super) fn reset(&self) -> Result<(), DeviceError> {
        let mut state = self.lock();
        self.synchronize(&mut state)?;
        drop(state);
        self.clear_fault()
    }
}

impl State {
    /// One more piece of work was submitted.
    pub(super) const fn count(&mut self) {
        self.submitted += 1;
    }

    /// As [`State::count`], for work that may report a fault.
    pub(super) const fn count_apply(&mut self) {
        self.submitted += 1;
        self.has_applied = true;
    }
}
