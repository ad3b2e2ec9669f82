//! Ordinary host memory in the place of pinned memory, and which of it there is.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

use super::reference::invalid;
use super::{DeviceError, PinnedBuffer, PinnedOwner, PinnedSlice};

/// Pinned memory begins at a page, as it does with a driver.
const ALIGN_BYTES: usize = 4096;

/// The buffers of one device.
#[derive(Clone, Debug)]
pub(super) struct PinnedHeap {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    buffers: BTreeMap<u64, Arc<Allocation>>,
    next_id: u64,
    pinned_bytes: usize,
    capacity_bytes: usize,
}

/// Zeroed heap memory.
#[derive(Debug)]
pub(super) struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, which is bound to no thread, and gives out nothing but its address.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated by `pin` with this layout, and the last owner is going.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// What a buffer owns: its place in the heap.
struct Owner {
    id: u64,
    heap: PinnedHeap,
    _allocation: Arc<Allocation>,
}

impl PinnedOwner for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut shared = self.heap.shared.lock();
        if let Some(allocation) = shared.buffers.remove(&self.id) {
            shared.pinned_bytes -= allocation.layout.size();
        }
    }
}

/// A part of a buffer that is known to be there, and stays there.
#[derive(Debug)]
pub(super) struct Part {
    start: NonNull<u8>,
    len_bytes: usize,
    _allocation: Arc<Allocation>,
}

impl Part {
    /// # Safety
    /// As long as the slice lives, nobody writes to the part.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the part is inside of its allocation, which is initialised; the caller excludes writers.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len_bytes) }
    }

    /// # Safety
    /// As long as the slice lives, nobody else accesses the part.
    #[allow(
        clippy::mut_from_ref,
        reason = "a part is a name; the contract excludes other accesses"
    )]
    pub(super) unsafe fn bytes_mut(&self) -> &mut [u8] {
        // SAFETY: as above; the caller excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len_bytes) }
    }
}

impl PinnedHeap {
    /// No buffers yet, and never more than `capacity_bytes` of them at a time.
    pub(super) fn new(capacity_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                buffers: BTreeMap::new(),
                next_id: 0,
                pinned_bytes: 0,
                capacity_bytes,
            })),
        }
    }

    /// A zeroed buffer.
    pub(super) fn pin(&self, len_bytes: usize) -> Result<PinnedBuffer, DeviceError> {
        let exhausted = |reason: String| DeviceError::PinnedExhausted {
            asked_bytes: len_bytes as u64,
            reason,
        };
        if len_bytes == 0 {
            return Err(invalid("0 bytes are to be pinned".to_owned()));
        }
        let mut shared = self.shared.lock();
        if len_bytes > shared.capacity_bytes - shared.pinned_bytes {
            return Err(exhausted(format!(
                "{} of {} are in use",
                shared.pinned_bytes, shared.capacity_bytes
            )));
        }
        let layout = Layout::from_size_align(len_bytes, ALIGN_BYTES)
            .map_err(|error| exhausted(error.to_string()))?;
        // SAFETY: the layout has a size, which was checked above.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })
            .ok_or_else(|| exhausted("the allocator has none left".to_owned()))?;
        let allocation = Arc::new(Allocation { start, layout });
        let id = shared.next_id;
        shared.next_id += 1;
        shared.pinned_bytes += len_bytes;
        shared.buffers.insert(id, Arc::clone(&allocation));
        let owner = Box::new(Owner {
            id,
            heap: self.clone(),
            _allocation: allocation,
        });
        // SAFETY: the memory is zeroed, as long as said, owned by `owner`, and accessed otherwise only for work that names it.
        Ok(unsafe { PinnedBuffer::new(id, start, len_bytes, owner) })
    }

    /// The part that `slice` names, if its buffer is one of this device and still there.
    pub(super) fn part(&self, slice: PinnedSlice) -> Result<Part, DeviceError> {
        let shared = self.shared.lock();
        let Some(allocation) = shared.buffers.get(&slice.buffer()) else {
            return Err(invalid(format!(
                "pinned buffer {} is gone, or was never of this device",
                slice.buffer()
            )));
        };
        let range: Range<usize> = slice.start()..slice.start().saturating_add(slice.len_bytes());
        // SAFETY: only made into an address if the range ends inside of the allocation.
        let start = (range.end <= allocation.layout.size())
            .then(|| unsafe { allocation.start.add(range.start) });
        match start {
            // The same address: so it is not a buffer of another device that has the same id.
            Some(start) if start == slice.address() => Ok(Part {
                start,
                len_bytes: slice.len_bytes(),
                _allocation: Arc::clone(allocation),
            }),
            _ => Err(invalid(format!(
                "pinned buffer {} of this device is another one",
                slice.buffer()
            ))),
        }
    }
}
