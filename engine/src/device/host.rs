//! Host memory in the place of a device's.

use std::ops::Range;

use parking_lot::Mutex;

use super::granules::Granules;
use super::pinned_heap::PinnedHeap;
use super::reference::{self, PinnedUse, invalid};
use super::{Device, DeviceError, DeviceInfo, DeviceKind, Fence, PinnedBuffer, Queue, Work};

const GRANULE_BYTES: u64 = 64 * 1024;
/// Addresses cost nothing, and more of them than memory lets pages move without a shortage of room.
const RESERVED_PER_MEMORY: u64 = 4;
const MEMORY_BYTES: u64 = 4 << 30;

/// A device whose memory is host memory and whose work is done at once, by the processor, in the call that submits it.
///
/// It is what a device can be at its simplest: correct, and as fast as the processor. Every fence is reached when it is made. After
/// a piece of work failed every call fails until [`Device::reset`], as with other devices.
#[derive(Debug)]
pub struct HostDevice {
    state: Mutex<State>,
    pinned: PinnedHeap,
    base_address: u64,
    info: DeviceInfo,
}

#[derive(Debug)]
struct State {
    memory: Granules,
    submitted: [u64; 2],
    failure: Option<DeviceError>,
}

impl HostDevice {
    /// A device with `memory_bytes`, rounded up to whole granules of 64 KiB, for pages. They are taken from the system when they are
    /// first written to.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] when the system has no such address range.
    pub fn new(memory_bytes: u64) -> Result<Self, DeviceError> {
        let unavailable = || DeviceError::Unavailable {
            kind: DeviceKind::Host.name(),
            reason: format!("{memory_bytes} bytes of memory are more than can be addressed"),
        };
        let memory_bytes = memory_bytes
            .max(1)
            .checked_next_multiple_of(GRANULE_BYTES)
            .ok_or_else(unavailable)?;
        let reserved_bytes = memory_bytes
            .checked_mul(RESERVED_PER_MEMORY)
            .ok_or_else(unavailable)?;
        let kind = DeviceKind::Host;
        let memory = Granules::new(kind.name(), memory_bytes, reserved_bytes, GRANULE_BYTES)?;
        Ok(Self {
            base_address: memory.base_address(),
            info: DeviceInfo::new(
                kind,
                "host memory".to_owned(),
                String::new(),
                memory_bytes,
                reserved_bytes,
                GRANULE_BYTES,
            ),
            state: Mutex::new(State {
                memory,
                submitted: [0; 2],
                failure: None,
            }),
            pinned: PinnedHeap::new(usize::MAX / 2),
        })
    }

    /// A device with 4 GiB for pages.
    ///
    /// # Errors
    /// As [`HostDevice::new`].
    pub fn with_default_memory() -> Result<Self, DeviceError> {
        Self::new(MEMORY_BYTES)
    }
}

impl State {
    fn check(&self) -> Result<(), DeviceError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn known(&self, fence: Fence) -> Result<(), DeviceError> {
        self.check()?;
        let [copy, compute] = self.submitted;
        let submitted = match fence.queue {
            Queue::Copy => copy,
            Queue::Compute => compute,
        };
        if fence.sequence > submitted {
            return Err(invalid(format!(
                "a fence after {} pieces of work in a queue that was given {submitted}",
                fence.sequence
            )));
        }
        Ok(())
    }
}

impl Device for HostDevice {
    fn info(&self) -> DeviceInfo {
        self.info.clone()
    }

    fn map(&self, range: Range<u64>) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.check()?;
        state.memory.map(&range)
    }

    fn unmap(&self, range: Range<u64>) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.check()?;
        state.memory.unmap(&range)
    }

    fn address(&self, offset: u64) -> u64 {
        self.base_address.wrapping_add(offset)
    }

    fn pin(&self, len_bytes: usize) -> Result<PinnedBuffer, DeviceError> {
        self.state.lock().check()?;
        self.pinned.pin(len_bytes)
    }

    fn submit(&self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.check()?;
        if let Err(error) = run(&mut state.memory, &self.pinned, work) {
            state.failure = Some(error.clone());
            return Err(error);
        }
        let [copy, compute] = &mut state.submitted;
        match queue {
            Queue::Copy => *copy += 1,
            Queue::Compute => *compute += 1,
        }
        Ok(())
    }

    fn fence(&self, queue: Queue) -> Result<Fence, DeviceError> {
        let state = self.state.lock();
        state.check()?;
        let [copy, compute] = state.submitted;
        let sequence = match queue {
            Queue::Copy => copy,
            Queue::Compute => compute,
        };
        Ok(Fence { queue, sequence })
    }

    fn order(&self, _queue: Queue, fence: Fence) -> Result<(), DeviceError> {
        self.state.lock().known(fence)
    }

    fn is_reached(&self, fence: Fence) -> Result<bool, DeviceError> {
        self.state.lock().known(fence).map(|()| true)
    }

    fn wait(&self, fence: Fence) -> Result<(), DeviceError> {
        self.state.lock().known(fence)
    }

    fn reset(&self) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        state.memory.unmap_all();
        state.failure = None;
        Ok(())
    }
}

/// Does `work` now.
fn run(memory: &mut Granules, pinned: &PinnedHeap, work: &Work<'_>) -> Result<(), DeviceError> {
    match reference::pinned_use(work) {
        PinnedUse::None => reference::execute(memory, work, &[], &mut []),
        PinnedUse::Read(slice) => {
            let part = pinned.part(slice)?;
            // SAFETY: the memory belongs to the device until a later fence was waited for: that is the contract of
            // `PinnedBuffer::bytes_mut`, so nobody writes to it now.
            reference::execute(memory, work, unsafe { part.bytes() }, &mut [])
        }
        PinnedUse::Write(slice) => {
            let part = pinned.part(slice)?;
            // SAFETY: as above; nobody reads it now either, by the contract of `PinnedBuffer::bytes`, and other work runs under
            // the same lock.
            reference::execute(memory, work, &[], unsafe { part.bytes_mut() })
        }
    }
}
