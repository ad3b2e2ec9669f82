//! Pinned host memory, and which of it there is.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::api;
use super::context::Context;
use crate::device::{DeviceError, PinnedBuffer, PinnedOwner, PinnedSlice};

/// The pinned buffers of a device.
#[derive(Debug)]
pub(super) struct Pinning {
    context: Arc<Context>,
    /// By id, which only grows.
    live: RwLock<Vec<Live>>,
    next_id: Mutex<u64>,
    /// Buffers that were dropped; work that uses them may be under way.
    dropped: Mutex<Vec<usize>>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    id: u64,
    start: usize,
    len_bytes: usize,
}

impl Pinning {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            live: RwLock::new(Vec::new()),
            next_id: Mutex::new(1),
            dropped: Mutex::new(Vec::new()),
        }
    }

    /// Pins zeroed memory. The context is current.
    pub(super) fn pin(self: &Arc<Self>, len_bytes: usize) -> Result<PinnedBuffer, DeviceError> {
        let start = allocate(&self.context, len_bytes)?;
        let mut next_id = self.next_id.lock();
        let id = *next_id;
        *next_id += 1;
        self.live.write().push(Live {
            id,
            start: start.addr().get(),
            len_bytes,
        });
        drop(next_id);
        let owner = Owner {
            pinning: Arc::clone(self),
            id,
        };
        // SAFETY: the memory is initialised, `len_bytes` long, known to nobody else, and freed after the owner was dropped.
        Ok(unsafe { PinnedBuffer::new(id, start, len_bytes, Box::new(owner)) })
    }

    /// Refuses a slice of a buffer that is gone, or of another device.
    #[inline]
    pub(super) fn check(&self, slice: &PinnedSlice) -> Result<(), DeviceError> {
        let live = self.live.read();
        let found = live
            .binary_search_by_key(&slice.buffer(), |buffer| buffer.id)
            .ok()
            .and_then(|position| live.get(position));
        let is_inside = found.is_some_and(|buffer| {
            slice
                .start()
                .checked_add(slice.len_bytes())
                .is_some_and(|end| end <= buffer.len_bytes)
                && slice.address().addr().get() == buffer.start + slice.start()
        });
        if is_inside {
            return Ok(());
        }
        Err(DeviceError::Invalid {
            reason: format!(
                "pinned buffer {} is gone, or of another device",
                slice.buffer()
            ),
        })
    }

    /// Frees what was dropped. No work that was submitted before it was dropped is under way.
    pub(super) fn free_dropped(&self) {
        let dropped = std::mem::take(&mut *self.dropped.lock());
        for start in dropped {
            free(&self.context, start);
        }
    }

    /// Whether there is something to free.
    pub(super) fn has_dropped(&self) -> bool {
        !self.dropped.lock().is_empty()
    }
}

/// Pins zeroed memory.
fn allocate(context: &Context, len_bytes: usize) -> Result<NonNull<u8>, DeviceError> {
    let exhausted = |reason: String| DeviceError::PinnedExhausted {
        asked_bytes: len_bytes as u64,
        reason,
    };
    if len_bytes == 0 {
        return Err(DeviceError::Invalid {
            reason: "no bytes to pin".into(),
        });
    }
    let mut start: *mut c_void = std::ptr::null_mut();
    // Flags 0: memory that the processor caches. Write-combined memory is a little faster to copy from, and many times slower to read.
    // SAFETY: the driver writes an address to a place that is valid.
    let code = unsafe { (context.api.host_allocate)(&raw mut start, len_bytes, 0) };
    let Some(start) = NonNull::new(start.cast::<u8>()).filter(|_| code == api::SUCCESS) else {
        return Err(exhausted(context.api.describe(code)));
    };
    // SAFETY: the memory is new and `len_bytes` long.
    unsafe { start.write_bytes(0, len_bytes) };
    Ok(start)
}

/// Frees what `allocate` gave, and nobody uses.
fn free(context: &Context, start: usize) {
    context.give_back("freeing pinned memory", |api| {
        // SAFETY: the driver gave the memory out at this address, and everybody has forgotten it.
        unsafe { (api.host_free)(std::ptr::without_provenance_mut(start)) }
    });
}

/// Pinned memory of this implementation.
#[derive(Debug)]
pub(super) struct Block {
    context: Arc<Context>,
    start: usize,
}

impl Block {
    /// Zeroed. The context is current.
    pub(super) fn new(context: &Arc<Context>, len_bytes: usize) -> Result<Self, DeviceError> {
        let start = allocate(context, len_bytes)?;
        Ok(Self {
            context: Arc::clone(context),
            start: start.expose_provenance().get(),
        })
    }

    /// Its address, of which the provenance is exposed.
    pub(super) const fn start(&self) -> usize {
        self.start
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        free(&self.context, self.start);
    }
}

/// Gives a buffer up. Waits for nothing: the memory is freed when work has been waited for, or with the device.
struct Owner {
    pinning: Arc<Pinning>,
    id: u64,
}

impl PinnedOwner for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut live = self.pinning.live.write();
        if let Ok(position) = live.binary_search_by_key(&self.id, |buffer| buffer.id) {
            let buffer = live.remove(position);
            self.pinning.dropped.lock().push(buffer.start);
        }
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        // The device, which waited for all work, and all owners are gone.
        self.free_dropped();
    }
}
