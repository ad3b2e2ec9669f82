//! The simulated device as a device.

use std::ops::Range;

use parking_lot::Mutex;

use super::counters::SimulatedCounters;
use super::fault::{DeviceFault, DeviceFaultKind, DeviceOperation};
use super::options::SimulatedOptions;
use super::state::State;
use crate::device::granules::Granules;
use crate::device::pinned_heap::PinnedHeap;
use crate::device::reference::Space;
use crate::device::{
    Device, DeviceError, DeviceInfo, DeviceKind, Fence, PinnedBuffer, Queue, Work,
};

/// No address of this or any other process: who takes one for a pointer is stopped by the processor.
const BASE_ADDRESS: u64 = 0x00d0_0000_0000_0000;

/// A device that is simulated.
///
/// - Work runs when somebody waits for it or asks for it, and not before; which queue advances, and how far, the seed decides where the
///   trait leaves it open.
/// - Memory that was just mapped holds a pattern, as does pinned memory that work is going to write. What was unmapped cannot be reached.
/// - Two pieces of work in different queues that touch the same memory, one of them writing, without an order between them, are an error,
///   whether or not it did harm. So is pinned memory that the host writes to while it belongs to the device.
/// - [`SimulatedDevice::inject`] makes operations fail.
///
/// After a piece of work has failed every call fails, until [`Device::reset`].
#[derive(Debug)]
pub struct SimulatedDevice {
    info: DeviceInfo,
    pinned: PinnedHeap,
    state: Mutex<State>,
}

impl SimulatedDevice {
    /// A device as `options` say.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] for options that contradict themselves, and when the system has no such address range.
    pub fn new(options: &SimulatedOptions) -> Result<Self, DeviceError> {
        let kind = DeviceKind::Simulated;
        let memory = Granules::new(
            kind.name(),
            options.memory_bytes,
            options.reserved_bytes,
            options.granule_bytes,
        )?;
        let pinned = PinnedHeap::new(options.pinned_bytes);
        Ok(Self {
            info: DeviceInfo::new(
                kind,
                "simulated device".to_owned(),
                format!("seed {}", options.seed),
                options.memory_bytes,
                options.reserved_bytes,
                options.granule_bytes,
            ),
            state: Mutex::new(State::new(options.seed, memory, pinned.clone())),
            pinned,
        })
    }

    /// Makes an operation fail, once. Several faults may wait for their turn.
    ///
    /// # Errors
    /// [`DeviceError::Invalid`] for a kind that the operation cannot fail with, and for number 0.
    pub fn inject(&self, fault: DeviceFault) -> Result<(), DeviceError> {
        self.state.lock().plan.add(fault)
    }

    /// Lifts all faults, and lets a lost device be reset. What has failed stays failed until then.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.plan.clear();
        state.is_lost = false;
    }

    /// The faults that have not struck, with the number that each would strike from now on.
    #[must_use]
    pub fn pending_faults(&self) -> Vec<DeviceFault> {
        self.state.lock().plan.pending()
    }

    /// What it was asked to do so far.
    #[must_use]
    pub fn counters(&self) -> SimulatedCounters {
        self.state.lock().counters
    }
}

impl Device for SimulatedDevice {
    fn info(&self) -> DeviceInfo {
        self.info.clone()
    }

    fn map(&self, range: Range<u64>) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        match state.strike(DeviceOperation::Map) {
            None => {}
            Some(DeviceFaultKind::OutOfMemory) => {
                let asked_bytes = range.end.saturating_sub(range.start);
                return Err(state.memory.out_of_memory(asked_bytes));
            }
            Some(fault) => {
                return fault
                    .error("map")
                    .map_or(Ok(()), |error| Err(state.fail(error)));
            }
        }
        state.memory.map(&range)?;
        state.counters.maps += 1;
        let State { random, memory, .. } = &mut *state;
        random.poison(memory.bytes_mut(&range)?);
        Ok(())
    }

    fn unmap(&self, range: Range<u64>) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        state.run_all()?;
        state.memory.unmap(&range)?;
        state.counters.unmaps += 1;
        Ok(())
    }

    fn address(&self, offset: u64) -> u64 {
        BASE_ADDRESS.wrapping_add(offset)
    }

    fn pin(&self, len_bytes: usize) -> Result<PinnedBuffer, DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        match state.strike(DeviceOperation::Pin) {
            None => {}
            Some(fault) => {
                return Err(match fault.error("pin") {
                    Some(error) => state.fail(error),
                    None => DeviceError::PinnedExhausted {
                        asked_bytes: len_bytes as u64,
                        reason: "an injected fault".to_owned(),
                    },
                });
            }
        }
        let buffer = self.pinned.pin(len_bytes)?;
        state.counters.pins += 1;
        Ok(buffer)
    }

    fn submit(&self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        state.submit(queue, work)
    }

    fn fence(&self, queue: Queue) -> Result<Fence, DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        state.counters.fences += 1;
        let sequence = state.queue(queue).submitted;
        Ok(Fence { queue, sequence })
    }

    fn order(&self, queue: Queue, fence: Fence) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        state.counters.orders += 1;
        state.order(queue, fence)
    }

    fn is_reached(&self, fence: Fence) -> Result<bool, DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        state.check_fence(fence)?;
        if state.queue(fence.queue).done < fence.sequence {
            state.run_burst()?;
        }
        let is_reached = state.queue(fence.queue).done >= fence.sequence;
        if is_reached {
            state.reported(fence);
        }
        Ok(is_reached)
    }

    fn wait(&self, fence: Fence) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.enter()?;
        state.check_fence(fence)?;
        state.counters.waits += 1;
        if let Some(error) = state
            .strike(DeviceOperation::Wait)
            .and_then(|fault| fault.error("wait"))
        {
            return Err(state.fail(error));
        }
        state.run_to(fence)?;
        state.reported(fence);
        Ok(())
    }

    fn reset(&self) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        if let (true, Some(error)) = (state.is_lost, &state.failure) {
            return Err(error.clone());
        }
        state.reset();
        Ok(())
    }
}
