//! The other side of an exported page: its file, mapped for reading by whoever got the descriptor.
//!
//! What is there is changed by another process at any time, and may have been made by one that means no good. So the
//! mapping is only read through atomics, nothing in it is believed that was not compared with the file, and a file that could
//! be made shorter is refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::exported::{HEADER_BYTES, Header, LAYOUT, MAGIC};

/// Why a descriptor is not that of an exported page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The operating system refused.
    #[error("cannot {operation} the exported page: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The descriptor is of something else.
    #[error("the descriptor is not that of an exported page: {reason}")]
    NotAPage {
        /// What is not as it should be.
        reason: &'static str,
    },
    /// A newer engine exported the page.
    #[error(
        "the page was exported with layout {layout}, and this build knows {LAYOUT}; use a newer one"
    )]
    Newer {
        /// The version in the header.
        layout: u64,
    },
}

impl AttachError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "shared.io",
            Self::NotAPage { .. } => "shared.not-a-page",
            Self::Newer { .. } => "shared.newer",
        }
    }
}

/// A mapping for reading.
#[derive(Debug)]
pub(crate) struct Attached {
    base: NonNull<u8>,
    mapped_bytes: usize,
    len_bytes: usize,
}

// SAFETY: the mapping is bound to no thread, and is read through atomics alone.
unsafe impl Send for Attached {}
// SAFETY: as above.
unsafe impl Sync for Attached {}

impl Attached {
    pub(crate) fn new(file: BorrowedFd<'_>) -> Result<Self, AttachError> {
        let failed = |operation| {
            move |errno: rustix::io::Errno| AttachError::Io {
                operation,
                source: errno.into(),
            }
        };
        let not = |reason| AttachError::NotAPage { reason };
        let seals = rustix::fs::fcntl_get_seals(file.as_fd())
            .map_err(|_| not("it is no memory file that can be sealed"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(not("it could be made shorter while it is read"));
        }
        let stat = rustix::fs::fstat(file).map_err(failed("look at"))?;
        let mapped_bytes = usize::try_from(stat.st_size).unwrap_or_default();
        if mapped_bytes <= HEADER_BYTES || isize::try_from(mapped_bytes).is_err() {
            return Err(not("it is too short"));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .map_err(failed("map"))?;
        let Some(base) = NonNull::new(base.cast()) else {
            return Err(failed("map")(rustix::io::Errno::NOMEM));
        };
        let mut attached = Self {
            base,
            mapped_bytes,
            len_bytes: 0,
        };
        let header = attached.header();
        if header.magic.load(Ordering::Relaxed) != MAGIC {
            return Err(not("it does not begin as one"));
        }
        let layout = header.layout.load(Ordering::Relaxed);
        if layout != LAYOUT {
            return Err(AttachError::Newer { layout });
        }
        let len_bytes = usize::try_from(header.len_bytes.load(Ordering::Relaxed)).ok();
        let fits = len_bytes.filter(|len| *len > 0 && *len <= mapped_bytes - HEADER_BYTES);
        let Some(len_bytes) = fits else {
            return Err(not("the page that it names does not fit in it"));
        };
        attached.len_bytes = len_bytes;
        Ok(attached)
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the mapping is longer than the header, aligned to it, lives as long as `self`, and any bits are atomics.
        unsafe { self.base.cast().as_ref() }
    }

    pub(crate) const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The first byte of the page.
    pub(crate) fn data(&self) -> *const u8 {
        self.base.as_ptr().wrapping_add(HEADER_BYTES)
    }

    /// Copies the bytes from `offset` on, which may change meanwhile, to `into`. `None`, and nothing happens, if they are not all in the page.
    pub(crate) fn copy(&self, offset: usize, into: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(into.len())?;
        if end > self.len_bytes {
            return None;
        }
        let byte = |at: usize| {
            // SAFETY: the byte is in the mapping, which is only ever read through atomics here.
            unsafe { AtomicU8::from_ptr(self.data().wrapping_add(at).cast_mut()) }
                .load(Ordering::Relaxed)
        };
        let to_word = offset.next_multiple_of(8).min(end) - offset;
        let (front, rest) = into.split_at_mut_checked(to_word)?;
        for (at, to) in (offset..).zip(front) {
            *to = byte(at);
        }
        let mut at = offset + to_word;
        let mut words = rest.chunks_exact_mut(8);
        for to in &mut words {
            // SAFETY: the word is in the mapping and aligned, as the page begins at a multiple of 4096.
            let word =
                unsafe { AtomicU64::from_ptr(self.data().wrapping_add(at).cast_mut().cast()) };
            to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            at += 8;
        }
        for (at, to) in (at..).zip(words.into_remainder()) {
            *to = byte(at);
        }
        Some(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: `new` made the mapping with this address and length, and nothing that borrows from it is left.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping failed: {unmapped:?}");
    }
}
