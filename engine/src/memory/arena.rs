//! The memory that pages live in: one mapping, made once, that never moves.

#[cfg(all(target_os = "linux", not(miri)))]
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use thiserror::Error;

use super::backing::{Backing, GRANULE_BYTES};
use super::exported::ExportedMemory;
use super::prefetch;
use crate::page::PageId;

/// Why an arena could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// An arena has at least one byte.
    #[error("arena capacity is zero: ask for at least 1 byte")]
    ZeroCapacity,
    /// The capacity is more than one mapping can have on this platform.
    #[error("arena capacity of {capacity_bytes} B does not fit the address space: ask for less")]
    TooLarge {
        /// The capacity asked for.
        capacity_bytes: u64,
    },
    /// The operating system refused the memory.
    #[error(
        "cannot {operation} for an arena of {capacity_bytes} B (check the limits on address space \
         and locked or shared memory)"
    )]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// The capacity asked for.
        capacity_bytes: u64,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// One linear range of zeroed memory whose addresses never change while it lives.
///
/// On Linux it is a sparse memory file (`memfd`), mapped shared and without reservation over its
/// whole length: nothing is committed until it is touched, so 256 GiB is an ordinary capacity, and
/// another process can map the same page from (descriptor, offset). Anonymous private memory was
/// rejected for that second reason. Elsewhere, and under Miri, it is one zeroed heap allocation.
///
/// The arena checks bounds and nothing else. Which ranges are live is
/// [`Placement`](super::Placement)'s business, and who may read or write one at a time is the
/// caller's: hence the unsafe methods. All of them return `None` when the range is not inside.
///
/// # AddressSanitizer
/// Built with `--cfg mmsb_asan` (together with `-Zsanitizer=address`), ranges that are not in use
/// are poisoned, so that the sanitizer sees inside the mapping: call [`Arena::unpoison`] for a page
/// that was placed and [`Arena::poison`] for one that was released. A fresh arena would have to
/// write one shadow byte for each eight bytes of its capacity, 32 GiB for 256 GiB; so fresh memory
/// is poisoned only as far as pages have come, by the first `unpoison` that reaches further, plus
/// a red zone behind. Beyond that no page has ever been. Without the `cfg`, both do nothing.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    capacity_bytes: usize,
    #[cfg(mmsb_asan)]
    shadow: asan::Shadow,
    // Owns the memory that `base` points to: dropped with the arena, after `Drop::drop`.
    backing: Backing,
}

// SAFETY: the arena owns its memory, which is bound to no thread, and has no interior state besides
// it. Every access goes through an unsafe method whose contract excludes data races.
unsafe impl Send for Arena {}
// SAFETY: as above; the safe methods read immutable fields only.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena of `capacity_bytes`, rounded up to 4 KiB, all zeros.
    ///
    /// # Errors
    /// [`ArenaError::ZeroCapacity`], [`ArenaError::TooLarge`], and [`ArenaError::Refused`] when the
    /// operating system gives no memory file, address range or (not on Linux) memory.
    pub fn new(capacity_bytes: u64) -> Result<Self, ArenaError> {
        if capacity_bytes == 0 {
            return Err(ArenaError::ZeroCapacity);
        }
        let rounded = usize::try_from(capacity_bytes)
            .ok()
            .and_then(|bytes| bytes.checked_next_multiple_of(GRANULE_BYTES))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(ArenaError::TooLarge { capacity_bytes })?;
        let backing = Backing::new(rounded).map_err(|refused| ArenaError::Refused {
            operation: refused.operation,
            capacity_bytes,
            source: refused.source,
        })?;
        Ok(Self {
            base: backing.base(),
            capacity_bytes: rounded,
            #[cfg(mmsb_asan)]
            shadow: asan::Shadow::default(),
            backing,
        })
    }

    /// Length of the arena, in bytes.
    #[must_use]
    pub const fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes as u64
    }

    /// Address of offset 0, a multiple of 4 KiB. It is the same as long as the arena lives.
    #[must_use]
    pub fn base_address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// The memory file; offsets in it are offsets in here, but for pages that were given memory of their own by
    /// exporting them. Whoever maps it sees all other pages, and without any check whether they change.
    #[cfg(all(target_os = "linux", not(miri)))]
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.backing.as_fd()
    }

    /// The bytes `[offset, offset + len)`, or `None` when they are not all inside.
    ///
    /// # Safety
    /// As long as the returned slice lives, no thread or process may write to the range.
    #[inline]
    #[must_use]
    pub unsafe fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = self.range(offset, len)?;
        // SAFETY: the range is inside the mapping, which is initialised (zeros at first) and lives
        // as long as `self`; the caller excludes writers.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// The bytes `[offset, offset + len)` for writing, or `None` when they are not all inside.
    ///
    /// # Safety
    /// As long as the returned slice lives, nothing else may read or write the range: no other
    /// slice of it may exist, in this thread or another one, and no other process may map it for
    /// writing.
    #[inline]
    #[must_use]
    #[allow(
        clippy::mut_from_ref,
        reason = "disjoint ranges of one arena are written at the same time; the contract says so"
    )]
    pub unsafe fn bytes_mut(&self, offset: u64, len: usize) -> Option<&mut [u8]> {
        let start = self.range(offset, len)?;
        // SAFETY: as in `bytes`; the caller excludes every other access to the range.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Copies `bytes` to `offset`. This is the hot path of applying a delta: a bounds check and a
    /// `memcpy`. `None`, and nothing is written, when the range is not all inside.
    ///
    /// # Safety
    /// Nothing else may read or write the range during the call, and `bytes` may not overlap it.
    #[inline]
    #[must_use = "`None` means that nothing was written"]
    pub unsafe fn copy_in(&self, offset: u64, bytes: &[u8]) -> Option<()> {
        let start = self.range(offset, bytes.len())?;
        // SAFETY: the destination is inside the mapping and the source is a valid slice of the same
        // length; the caller promises that they do not overlap and excludes other accesses.
        unsafe {
            start
                .as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        Some(())
    }

    /// Tells the processor that the range will soon be accessed. A hint: a range that is not all inside is ignored.
    #[inline]
    pub(crate) fn prefetch(&self, offset: u64, len: usize) {
        if let Some(start) = self.range(offset, len) {
            prefetch::range(start.as_ptr(), len);
        }
    }

    /// Writes zeros over the range. `None`, and nothing is written, when it is not all inside.
    ///
    /// # Safety
    /// Nothing else may read or write the range during the call.
    #[inline]
    #[must_use = "`None` means that nothing was written"]
    pub unsafe fn zero(&self, offset: u64, len: usize) -> Option<()> {
        let start = self.range(offset, len)?;
        // SAFETY: the range is inside the mapping; the caller excludes other accesses.
        unsafe { start.as_ptr().write_bytes(0, len) };
        Some(())
    }

    /// Leaves zeros in the range and gives the whole 4 KiB granules in it back to the system.
    /// `None`, and nothing happens, when the range is not all inside.
    ///
    /// Giving back costs a system call, which pays above a few granules: for short ranges
    /// [`Arena::zero`] is faster. Where the system cannot take memory back, it is zeroed in place.
    /// Call it before the range is poisoned.
    ///
    /// # Safety
    /// Nothing else may read or write the range during the call.
    #[must_use = "`None` means that nothing was discarded"]
    pub unsafe fn discard(&self, offset: u64, len: usize) -> Option<()> {
        self.range(offset, len)?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len)?;
        let whole_start = start.next_multiple_of(GRANULE_BYTES);
        let whole_end = end - end % GRANULE_BYTES;
        let whole_len = whole_end.saturating_sub(whole_start);
        if whole_len == 0 || !self.backing.punch_hole(whole_start, whole_len) {
            // SAFETY: the caller's contract is the same.
            return unsafe { self.zero(offset, len) };
        }
        // SAFETY: both are parts of the range, for which the caller's contract is the same.
        unsafe {
            self.zero(offset, whole_start - start)?;
            self.zero(whole_end as u64, end - whole_end)
        }
    }

    /// Gives a page that begins at a granule and has it to itself memory of its own, for another process to map. Its address and
    /// its bytes stay. On an error everything is as it was.
    ///
    /// # Safety
    /// Nothing else may read or write the range during the call, and no reference to it may exist.
    pub(crate) unsafe fn export(
        &self,
        offset: u64,
        len: usize,
        page: PageId,
    ) -> std::io::Result<ExportedMemory> {
        let (start, granules) = self.granules(offset, len)?;
        // SAFETY: the caller's contract is the same.
        let bytes = unsafe { self.bytes(offset, len) }.unwrap_or_default();
        let exported = ExportedMemory::new(page, bytes)?;
        // SAFETY: the caller's contract is the same.
        unsafe { self.backing.exchange(start, granules, &exported)? };
        Ok(exported)
    }

    /// Takes the memory of a page that was exported back into the arena's: with its bytes if they are `kept`, otherwise all zeros.
    /// Others have what was there last. On an error the page still has the memory that others map.
    ///
    /// # Safety
    /// As [`Arena::export`], and the range was exported by it.
    pub(crate) unsafe fn take_back(
        &self,
        offset: u64,
        len: usize,
        kept: bool,
    ) -> std::io::Result<()> {
        let (start, granules) = self.granules(offset, len)?;
        // SAFETY: the caller's contract is the same. They are in memory that is not the arena's own, until it is mapped again.
        let bytes = unsafe { self.bytes(offset, len) }.unwrap_or_default();
        let bytes = if kept { bytes } else { &[] };
        // SAFETY: the caller's contract is the same; `bytes` is used no more when the mapping changes.
        unsafe { self.backing.take_back(start, granules, bytes) }
    }

    /// Start and length of the granules of a range that begins at one.
    fn granules(&self, offset: u64, len: usize) -> std::io::Result<(usize, usize)> {
        let start = usize::try_from(offset).ok();
        let start = start.filter(|start| start.is_multiple_of(GRANULE_BYTES));
        let granules = len.next_multiple_of(GRANULE_BYTES);
        match (start, self.range(offset, granules)) {
            (Some(start), Some(_)) => Ok((start, granules)),
            _ => Err(std::io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Marks a range as not in use: under AddressSanitizer every access to it is reported from now
    /// on. A range that is not all inside is ignored. Other builds do nothing.
    #[inline]
    pub fn poison(&self, offset: u64, len: usize) {
        #[cfg(mmsb_asan)]
        if let (Some(start), Ok(offset)) = (self.range(offset, len), usize::try_from(offset)) {
            // Beyond what was ever in use there is nothing to poison.
            let reached = self.shadow.end().saturating_sub(offset);
            asan::poison(start, len.min(reached));
        }
        #[cfg(not(mmsb_asan))]
        let _ = (offset, len);
    }

    /// Marks a range as in use: under AddressSanitizer it may be accessed from now on, to the byte
    /// when it starts at a multiple of 8. A range that is not all inside is ignored. Other builds
    /// do nothing.
    #[inline]
    pub fn unpoison(&self, offset: u64, len: usize) {
        #[cfg(mmsb_asan)]
        if let (Some(start), Ok(offset)) = (self.range(offset, len), usize::try_from(offset)) {
            self.shadow
                .reach(self.base, self.capacity_bytes, offset, len);
            asan::unpoison(start, len);
        }
        #[cfg(not(mmsb_asan))]
        let _ = (offset, len);
    }

    /// Address of `offset` when `[offset, offset + len)` is all inside.
    #[inline]
    fn range(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        let room = self.capacity_bytes.checked_sub(offset)?;
        if len > room {
            return None;
        }
        // SAFETY: `offset <= capacity_bytes`, which is the length of the allocation and fits
        // `isize`, so the result is inside it or one past its end.
        Some(unsafe { self.base.add(offset) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // The system may give the addresses to somebody who knows nothing of our poison.
        #[cfg(mmsb_asan)]
        asan::unpoison(self.base, self.shadow.end());
    }
}

/// AddressSanitizer's interface for memory that is managed by hand.
#[cfg(mmsb_asan)]
mod asan {
    use std::ffi::c_void;
    use std::ptr::NonNull;

    use parking_lot::Mutex;

    /// Poisoned bytes behind the furthest page that there has been.
    const RED_ZONE_BYTES: usize = 1 << 20;

    unsafe extern "C" {
        fn __asan_poison_memory_region(address: *const c_void, len: usize);
        fn __asan_unpoison_memory_region(address: *const c_void, len: usize);
    }

    pub(super) fn poison(start: NonNull<u8>, len: usize) {
        // SAFETY: the range belongs to the arena; only the shadow memory is written.
        unsafe { __asan_poison_memory_region(start.as_ptr().cast(), len) };
    }

    pub(super) fn unpoison(start: NonNull<u8>, len: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(start.as_ptr().cast(), len) };
    }

    /// How far fresh memory has been poisoned.
    #[derive(Debug, Default)]
    pub(super) struct Shadow {
        poisoned_end: Mutex<usize>,
    }

    impl Shadow {
        /// One past the last byte that may be poisoned. Behind it the shadow has not been written,
        /// and must not be: for a large arena it would not fit in memory.
        pub(super) fn end(&self) -> usize {
            *self.poisoned_end.lock()
        }

        /// Poisons the fresh memory up to a red zone behind a range that is about to be used, but
        /// for the range itself.
        pub(super) fn reach(&self, base: NonNull<u8>, capacity: usize, offset: usize, len: usize) {
            let mut poisoned_end = self.poisoned_end.lock();
            let end = offset + len;
            if end <= *poisoned_end {
                return;
            }
            let reach_end = end.saturating_add(RED_ZONE_BYTES).min(capacity);
            for (from, to) in [(*poisoned_end, offset), (end.max(*poisoned_end), reach_end)] {
                if from < to {
                    // SAFETY: `from < to <= capacity`, the length of the mapping.
                    poison(unsafe { base.add(from) }, to - from);
                }
            }
            *poisoned_end = reach_end;
        }
    }
}
