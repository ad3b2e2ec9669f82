//! Host memory that a device copies from and to.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

/// Keeps pinned memory alive, and gives it back when dropped.
pub trait PinnedOwner: Send + Sync {}

/// A range of pinned host memory. It stays where it is until it is dropped, which waits for nothing: see [`PinnedBuffer::bytes_mut`].
pub struct PinnedBuffer {
    id: u64,
    start: NonNull<u8>,
    len_bytes: usize,
    _owner: Box<dyn PinnedOwner>,
}

// SAFETY: the memory is owned by the buffer and bound to no thread; every access goes through unsafe methods whose contract
// excludes data races.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above; the safe methods read immutable fields only.
unsafe impl Sync for PinnedBuffer {}

impl fmt::Debug for PinnedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedBuffer")
            .field("id", &self.id)
            .field("len_bytes", &self.len_bytes)
            .finish_non_exhaustive()
    }
}

impl PinnedBuffer {
    /// The buffer at `start`, for implementations of [`super::Device`]. `id` tells the buffers of one device apart.
    ///
    /// # Safety
    /// `start` points to `len_bytes` initialised bytes that nobody else accesses, but the device when it was asked to, until `owner`
    /// is dropped.
    #[must_use]
    pub unsafe fn new(
        id: u64,
        start: NonNull<u8>,
        len_bytes: usize,
        owner: Box<dyn PinnedOwner>,
    ) -> Self {
        Self {
            id,
            start,
            len_bytes,
            _owner: owner,
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// A part of it, to name in work; `None` when it is not all inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<PinnedSlice> {
        let is_inside = range.start <= range.end && range.end <= self.len_bytes;
        is_inside.then_some(PinnedSlice {
            buffer: self.id,
            start: range.start,
            len_bytes: range.end - range.start,
            // SAFETY: the start of the range is inside the buffer, or one past its end.
            address: unsafe { self.start.add(range.start) },
        })
    }

    /// The bytes of a part of it; `None` when it is not all inside.
    ///
    /// # Safety
    /// As long as the slice lives, no work that writes to the part is under way, and nobody writes to it.
    #[must_use]
    pub unsafe fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let slice = self.slice(range)?;
        // SAFETY: the part is inside the buffer, which is initialised; the caller excludes writers.
        Some(unsafe { std::slice::from_raw_parts(slice.address.as_ptr(), slice.len_bytes) })
    }

    /// The bytes of a part of it, for writing; `None` when it is not all inside.
    ///
    /// # Safety
    /// As long as the slice lives, no work that reads or writes the part is under way (a fence after it was waited for), and nobody
    /// else accesses it.
    #[allow(
        clippy::mut_from_ref,
        reason = "disjoint parts of one buffer are filled at the same time; the contract says so"
    )]
    #[must_use]
    pub unsafe fn bytes_mut(&self, range: Range<usize>) -> Option<&mut [u8]> {
        let slice = self.slice(range)?;
        // SAFETY: as in `bytes`; the caller excludes every other access.
        Some(unsafe { std::slice::from_raw_parts_mut(slice.address.as_ptr(), slice.len_bytes) })
    }
}

/// Names a part of a pinned buffer in work. It may outlive the buffer; a device refuses one of a buffer that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PinnedSlice {
    buffer: u64,
    start: usize,
    len_bytes: usize,
    address: NonNull<u8>,
}

// SAFETY: it is a name; only the device, which checks it against the buffers that it knows, goes to the address.
unsafe impl Send for PinnedSlice {}
// SAFETY: as above.
unsafe impl Sync for PinnedSlice {}

impl PinnedSlice {
    /// The buffer that it is a part of.
    #[must_use]
    pub const fn buffer(&self) -> u64 {
        self.buffer
    }

    /// Where it begins in the buffer, in bytes.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Its address, for the implementation of a device.
    #[must_use]
    pub const fn address(&self) -> NonNull<u8> {
        self.address
    }
}
