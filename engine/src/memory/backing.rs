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
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::ptr::NonNull;

    use rustix::fs::{FallocateFlags, MemfdFlags};
    use rustix::mm::{MapFlags, ProtFlags};

    use super::Refused;

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
    use std::ptr::NonNull;

    use super::{GRANULE_BYTES, Refused};

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
    }

    impl Drop for Backing {
        fn drop(&mut self) {
            // SAFETY: `base` was allocated with this layout and is not used after the arena.
            unsafe { dealloc(self.base.as_ptr(), self.layout) };
        }
    }
}
