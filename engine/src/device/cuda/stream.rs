//! One of the two queues of a device: a stream, its events, and its tables.

use parking_lot::{Mutex, MutexGuard};

use super::api::{self, Address, Handle};
use super::context::Context;
use super::events::{Events, Mark};
use super::options::CudaOptions;
use super::pinning;
use super::scratch::{FAULT_BYTES, Scratch};
use super::tables::{Room, Table, Tables};
use crate::device::kernels::ApplyFault;
use crate::device::{DeviceError, Fence, Queue};

/// A queue.
#[derive(Debug)]
pub(super) struct Stream {
    queue: Queue,
    pub(super) handle: Handle,
    state: Mutex<State>,
    /// Where the device reports what was wrong with tables of runs: one number, 0 for nothing.
    fault: usize,
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
        context: &Context,
        queue: Queue,
        options: &CudaOptions,
    ) -> Result<Self, DeviceError> {
        const NON_BLOCKING: u32 = 1;
        let mut handle = 0;
        // SAFETY: the driver writes a handle to a place that is valid.
        let code = unsafe { (context.api.stream_create)(&raw mut handle, NON_BLOCKING) };
        context.check("making a stream", code)?;
        let tables = Tables::new(context, options.table_bytes)?;
        let scratch = Scratch::new(context, tables.half_bytes() as u64)?;
        let stream = Self {
            queue,
            handle,
            state: Mutex::new(State {
                submitted: 0,
                events: Events::new(context, options.is_wait_blocking)?,
                tables,
                scratch,
                has_applied: false,
            }),
            fault: pinning::allocate(context, FAULT_BYTES)?
                .expose_provenance()
                .get(),
        };
        stream.clear_fault(context)?;
        Ok(stream)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn fault_pointer(&self) -> *mut u32 {
        std::ptr::with_exposed_provenance_mut(self.fault)
    }

    /// Forgets a fault; nothing is under way.
    fn clear_fault(&self, context: &Context) -> Result<(), DeviceError> {
        let mut state = self.lock();
        state.has_applied = false;
        // SAFETY: the number is pinned, aligned, ours, and not written to by work under way.
        unsafe { self.fault_pointer().write_volatile(0) };
        // SAFETY: the scratch memory is allocated and this long.
        let code =
            unsafe { (context.api.set_bytes)(state.scratch.fault(), 0, FAULT_BYTES, self.handle) };
        context.check("clearing the fault", code)?;
        self.synchronize(context, &mut state)
    }

    fn check_fault(&self, context: &Context) -> Result<(), DeviceError> {
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
        Err(context.fail(error, false))
    }

    /// Marks the present moment, unless it is marked.
    fn mark(&self, context: &Context, state: &mut State) -> Result<(), DeviceError> {
        if state.events.marked() == state.submitted {
            return Ok(());
        }
        self.ask_for_fault(context, state)?;
        let sequence = state.submitted;
        state.events.mark(context, self.handle, sequence)
    }

    fn ask_for_fault(&self, context: &Context, state: &mut State) -> Result<(), DeviceError> {
        if !std::mem::take(&mut state.has_applied) {
            return Ok(());
        }
        // SAFETY: both are allocated and this long; nobody but the device writes to the number.
        let code = unsafe {
            (context.api.copy_to_host)(
                self.fault_pointer().cast(),
                state.scratch.fault(),
                FAULT_BYTES,
                self.handle,
            )
        };
        context.check("apply", code)
    }

    /// The moment after everything that was submitted.
    pub(super) fn fence(&self, context: &Context) -> Result<Fence, DeviceError> {
        let mut state = self.lock();
        self.mark(context, &mut state)?;
        Ok(Fence {
            queue: self.queue,
            sequence: state.submitted,
        })
    }

    /// The mark of a fence; `None` when it was reached.
    fn find(
        &self,
        context: &Context,
        state: &mut State,
        sequence: u64,
    ) -> Result<Option<Mark>, DeviceError> {
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
            self.mark(context, state)?;
        }
        Ok(state.events.find(sequence))
    }

    pub(super) fn is_reached(&self, context: &Context, sequence: u64) -> Result<bool, DeviceError> {
        let mut state = self.lock();
        let Some(mark) = self.find(context, &mut state, sequence)? else {
            return self.check_fault(context).map(|()| true);
        };
        // SAFETY: the event lives as long as the device.
        let code = unsafe { (context.api.event_query)(state.events.handle(mark.event)) };
        if code == api::NOT_READY {
            return Ok(false);
        }
        context.check("earlier work", code)?;
        state.events.reach(mark.sequence);
        self.check_fault(context).map(|()| true)
    }

    pub(super) fn wait(&self, context: &Context, sequence: u64) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let Some(mark) = self.find(context, &mut state, sequence)? else {
            return self.check_fault(context);
        };
        let event = state.events.hold(mark);
        drop(state);
        // SAFETY: the event lives as long as the device, and is held, so that it keeps standing for this moment.
        let code = unsafe { (context.api.event_synchronize)(event) };
        let mut state = self.lock();
        state.events.let_go(mark);
        context.check("earlier work", code)?;
        state.events.reach(mark.sequence);
        drop(state);
        self.check_fault(context)
    }

    /// Lets `other` start what is submitted to it from now on after a fence of this queue.
    pub(super) fn order(
        &self,
        context: &Context,
        sequence: u64,
        other: &Self,
    ) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let Some(mark) = self.find(context, &mut state, sequence)? else {
            return Ok(());
        };
        let event = state.events.hold(mark);
        drop(state);
        // One lock at a time: two threads may order the queues both ways.
        let mut waiting = other.lock();
        // SAFETY: stream and event live as long as the device; the event is held, so that it keeps standing for this moment.
        let code = unsafe { (context.api.stream_wait_event)(other.handle, event, 0) };
        // A fence from now on is one behind this.
        waiting.submitted += 1;
        drop(waiting);
        self.lock().events.let_go(mark);
        context.check("ordering queues", code)
    }

    /// Waits for everything that was submitted.
    pub(super) fn drain(&self, context: &Context) -> Result<(), DeviceError> {
        let mut state = self.lock();
        if state.events.reached() < state.submitted {
            self.ask_for_fault(context, &mut state)?;
            self.synchronize(context, &mut state)?;
        }
        self.check_fault(context)
    }

    fn synchronize(&self, context: &Context, state: &mut State) -> Result<(), DeviceError> {
        // SAFETY: the stream lives as long as the device.
        let code = unsafe { (context.api.stream_synchronize)(self.handle) };
        context.check("earlier work", code)?;
        let sequence = state.submitted;
        state.events.reach(sequence);
        Ok(())
    }

    /// Takes room for a table. Waits for work that reads older ones when there is none.
    pub(super) fn take_table(
        &self,
        context: &Context,
        state: &mut State,
        len_bytes: usize,
    ) -> Result<Table, DeviceError> {
        if let Room::After(sequence) = state.tables.room(len_bytes) {
            // What reads the half that is left is submitted already, but for the work that takes this table.
            state.submitted += 1;
            self.mark(context, state)?;
            state.tables.turn(state.submitted);
            if let Some(mark) = self.find(context, state, sequence)? {
                // SAFETY: the event lives as long as the device; under the lock, it keeps standing for its moment.
                let code =
                    unsafe { (context.api.event_synchronize)(state.events.handle(mark.event)) };
                context.check("earlier work", code)?;
                state.events.reach(mark.sequence);
            }
        }
        state.tables.take(len_bytes)
    }

    /// Copies a table to the device.
    pub(super) fn send_table(
        &self,
        context: &Context,
        table: Table,
        to: Address,
        len_bytes: usize,
        work: &'static str,
    ) -> Result<(), DeviceError> {
        // SAFETY: the table is this long and stays as it is until the work after it was waited for; `to` is scratch memory as long.
        let code = unsafe {
            (context.api.copy_to_device)(to, table.pointer().cast(), len_bytes, self.handle)
        };
        context.check(work, code)
    }

    /// Starts over: waits for what was submitted, and forgets faults.
    pub(super) fn reset(&self, context: &Context) -> Result<(), DeviceError> {
        let mut state = self.lock();
        self.synchronize(context, &mut state)?;
        drop(state);
        self.clear_fault(context)
    }

    /// Gives everything back; nobody uses the queue any more, and the context is current.
    pub(super) fn close(&self, context: &Context) {
        let mut state = self.lock();
        // SAFETY: the stream was made by `new`, and this is the end of it. Its work was waited for.
        let code = unsafe { (context.api.stream_destroy)(self.handle) };
        context.report("destroying a stream", code);
        state.events.close(context);
        state.tables.close(context);
        state.scratch.close(context);
        pinning::free(context, self.fault);
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
