//! Where an arena's memory comes from: a mapped memory file, or the heap where there is none.

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) use self::heap::Backing;
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) use self::linux::Backing;

/// Granularity of the mapping, and the alignment of its base.
pub(super) const GRANULE_BYTES: usize = 4096;

/// What the operating system or the allocator refused.
pub(super) struct Refused {
    pub(super) operation: &'static str,
    pub(super) source: std::io::Error,
}

/// A memory file and its mapping.
#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::ptr::NonNull;

    use rustix::fs::{FallocateFlags, MemfdFlags};
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

    use super::Refused;
    use crate::memory::exported::{ExportedMemory, HEADER_BYTES, write_all};

    #[derive(Debug)]
    pub(in super::super) struct Backing {
        base: NonNull<u8>,
        len_bytes: usize,
        file: OwnedFd,
    }

    impl Backing {
        pub(in super::super) fn new(len_bytes: usize) -> Result<Self, Refused> {
            let refused = |operation| {
                move |errno: rustix::io::Errno| Refused {
                    operation,
                    source: errno.into(),
                }
            };
            let file = rustix::fs::memfd_create("mmsb-arena", MemfdFlags::CLOEXEC)
                .map_err(refused("create a memory file"))?;
            rustix::fs::ftruncate(&file, len_bytes as u64)
                .map_err(refused("set the length of the memory file"))?;
            // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
            let base = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    len_bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED | MapFlags::NORESERVE,
                    &file,
                    0,
                )
            }
            .map_err(refused("map the memory file"))?;
            let Some(base) = NonNull::new(base.cast()) else {
                return Err(refused("map the memory file")(rustix::io::Errno::NOMEM));
            };
            Ok(Self {
                base,
                len_bytes,
                file,
            })
        }

        pub(in super::super) fn base(&self) -> NonNull<u8> {
            self.base
        }

        /// Gives whole granules back; they read as zeros afterwards. `false`: nothing was done.
        pub(in super::super) fn punch_hole(&self, start: usize, len: usize) -> bool {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&self.file, flags, start as u64, len as u64).is_ok()
        }

        /// Puts the memory of an exported page behind whole granules, and gives what was behind them back: that is zeros
        /// afterwards. On an error everything is as it was.
        ///
        /// # Safety
        /// Nothing else accesses the range during the call, and no reference to it exists.
        pub(in super::super) unsafe fn exchange(
            &self,
            start: usize,
            len: usize,
            exported: &ExportedMemory,
        ) -> io::Result<()> {
            // SAFETY: the caller's contract is the same.
            unsafe { self.map_over(start, len, exported.as_fd(), HEADER_BYTES as u64)? };
            if let Err(error) = exported.seal() {
                // SAFETY: the caller's contract is the same.
                unsafe { self.map_over(start, len, self.file.as_fd(), start as u64)? };
                return Err(error);
            }
            // If the system does not take it back it is zeroed when it comes back.
            let _ = self.punch_hole(start, len);
            Ok(())
        }

        /// Puts the arena's own memory behind whole granules again: with the `kept` bytes in front, zeros behind.
        ///
        /// # Safety
        /// As [`Backing::exchange`]; `kept` are not in the range.
        pub(in super::super) unsafe fn take_back(
            &self,
            start: usize,
            len: usize,
            kept: &[u8],
        ) -> io::Result<()> {
            if !self.punch_hole(start, len) {
                let zeros = [0; HEADER_BYTES];
                for at in (start..start + len).step_by(zeros.len()) {
                    write_all(&self.file, &zeros, at as u64)?;
                }
            }
            write_all(&self.file, kept, start as u64)?;
            // SAFETY: the caller's contract is the same.
            unsafe { self.map_over(start, len, self.file.as_fd(), start as u64) }
        }

        /// Maps a part of `file` over whole granules of the arena. On an error the range is mapped as it was.
        ///
        /// # Safety
        /// As [`Backing::exchange`].
        unsafe fn map_over(
            &self,
            start: usize,
            len: usize,
            file: BorrowedFd<'_>,
            offset: u64,
        ) -> io::Result<()> {
            debug_assert!(start + len <= self.len_bytes);
            let over = |file, offset| {
                // SAFETY: the range is inside the mapping of the arena, which replaces nothing else, and nobody refers
                // to it, as the caller vouches.
                unsafe {
                    rustix::mm::mmap(
                        self.base.as_ptr().wrapping_add(start).cast(),
                        len,
                        ProtFlags::READ | ProtFlags::WRITE,
                        MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED,
                        file,
                        offset,
                    )
                }
            };
            let Err(error) = over(file, offset) else {
                return Ok(());
            };
            // Limits are checked before anything is unmapped. Only a system that has no memory for its own books can come
            // here with a hole in the arena: nothing could go on with that, and nothing safe could be said of it.
            // SAFETY: with this flag nothing is written; the call tells whether the range is mapped.
            let probe = unsafe {
                rustix::mm::msync(
                    self.base.as_ptr().wrapping_add(start).cast(),
                    len,
                    MsyncFlags::ASYNC,
                )
            };
            if probe.is_err() {
                std::process::abort();
            }
            Err(error.into())
        }
    }

    impl AsFd for Backing {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }

    impl Drop for Backing {
        fn drop(&mut self) {
            // SAFETY: the mapping was made by `new` with this address and length, and everything
            // that borrows from it borrows from the arena, which is being dropped. It fails only
            // for arguments that are not a mapping.
            let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len_bytes) };
            debug_assert!(unmapped.is_ok(), "unmapping failed: {unmapped:?}");
        }
    }
}

/// A heap allocation.
#[cfg(not(all(target_os = "linux", not(miri))))]
mod heap {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    use super::{GRANULE_BYTES, Refused};
    use crate::memory::exported::ExportedMemory;

    #[derive(Debug)]
    pub(in super::super) struct Backing {
        base: NonNull<u8>,
        layout: Layout,
    }

    impl Backing {
        pub(in super::super) fn new(len_bytes: usize) -> Result<Self, Refused> {
            let refused = |source| Refused {
                operation: "allocate memory",
                source,
            };
            let layout = Layout::from_size_align(len_bytes, GRANULE_BYTES)
                .map_err(|error| refused(std::io::Error::other(error)))?;
            // SAFETY: the arena refuses a capacity of zero, so the layout has a size.
            let base = NonNull::new(unsafe { alloc_zeroed(layout) })
                .ok_or_else(|| refused(std::io::ErrorKind::OutOfMemory.into()))?;
            Ok(Self { base, layout })
        }

        pub(in super::super) fn base(&self) -> NonNull<u8> {
            self.base
        }

        /// An allocation cannot give back a part of itself.
        pub(in super::super) fn punch_hole(&self, _start: usize, _len: usize) -> bool {
            false
        }

        /// # Safety
        /// None is needed: no exported memory exists.
        pub(in super::super) unsafe fn exchange(
            &self,
            _start: usize,
            _len: usize,
            exported: &ExportedMemory,
        ) -> io::Result<()> {
            exported.seal()
        }

        /// # Safety
        /// None is needed: nothing was exchanged.
        pub(in super::super) unsafe fn take_back(
            &self,
            _start: usize,
            _len: usize,
            _kept: &[u8],
        ) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Backing {
        fn drop(&mut self) {
            // SAFETY: `base` was allocated with this layout and is not used after the arena.
            unsafe { dealloc(self.base.as_ptr(), self.layout) };
        }
    }
}
