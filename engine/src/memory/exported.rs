//! Pages that other processes map: each has a memory file of its own, in the place of its part of the arena's.
//!
//! The mapping of the arena never moves, but what is behind a part of it can be exchanged: the bytes are copied once to a
//! new file, which is mapped over the addresses that the page has anyway. From then on both processes have the same memory.
//! Rejected: giving the arena's own file away (whoever has it can read every page of the bus), and copying what changed to
//! a second place at each commit (a commit of 64 MiB would write them twice).
//!
//! The file is sealed: nobody can make it shorter, which would kill whoever reads beyond the end, and nobody but who has it
//! mapped already can write to it.

use std::io;
use std::sync::atomic::AtomicU64;

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use self::linux::ExportedMemory;
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) use self::none::ExportedMemory;

/// The first words of the file. The page begins at [`HEADER_BYTES`].
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"MMSBPAGE");
/// Version of the layout of the header.
pub(crate) const LAYOUT: u64 = 1;
/// Length of the header, and where the page begins.
pub(crate) const HEADER_BYTES: usize = 4096;

/// The bytes are what the last commit left.
pub(crate) const FRESH: u64 = 0;
/// A derived page that awaits a deferred wave.
pub(crate) const BEHIND: u64 = 1;
/// A derived page whose transform failed.
pub(crate) const STALE: u64 = 2;

/// What stands in front of the page, in the order of the machine. What never changes is in the first cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Header {
    pub magic: AtomicU64,
    pub layout: AtomicU64,
    pub page: AtomicU64,
    pub len_bytes: AtomicU64,
    pub data_offset: AtomicU64,
    _unused: [AtomicU64; 3],
    pub sequence: AtomicU64,
    pub lsn: AtomicU64,
    pub epoch: AtomicU64,
    pub condition: AtomicU64,
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::ptr::NonNull;
    use std::sync::atomic::Ordering;

    use rustix::fs::{MemfdFlags, SealFlags};
    use rustix::mm::{MapFlags, ProtFlags};

    use super::super::sequence;
    use super::{FRESH, HEADER_BYTES, Header, LAYOUT, MAGIC, io};
    use crate::page::PageId;

    /// The file of one exported page, and its header.
    #[derive(Debug)]
    pub(crate) struct ExportedMemory {
        file: OwnedFd,
        header: NonNull<Header>,
    }

    // SAFETY: the header is memory of the process, bound to no thread, and consists of atomics.
    unsafe impl Send for ExportedMemory {}
    // SAFETY: as above.
    unsafe impl Sync for ExportedMemory {}

    impl ExportedMemory {
        /// A file with a header and a copy of `bytes`, which is not sealed yet.
        pub(crate) fn new(page: PageId, bytes: &[u8]) -> io::Result<Self> {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = rustix::fs::memfd_create("mmsb-page", flags)?;
            let mapped_bytes = bytes.len().next_multiple_of(HEADER_BYTES);
            rustix::fs::ftruncate(&file, (HEADER_BYTES + mapped_bytes) as u64)?;
            write_all(&file, bytes, HEADER_BYTES as u64)?;
            // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
            let header = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    HEADER_BYTES,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    &file,
                    0,
                )?
            };
            let header = NonNull::new(header.cast::<Header>()).ok_or(io::ErrorKind::OutOfMemory)?;
            let exported = Self { file, header };
            let fields = exported.header();
            let set = |field: &std::sync::atomic::AtomicU64, value| {
                field.store(value, Ordering::Relaxed);
            };
            set(&fields.layout, LAYOUT);
            set(&fields.page, page.to_bits());
            set(&fields.len_bytes, bytes.len() as u64);
            set(&fields.data_offset, HEADER_BYTES as u64);
            set(&fields.condition, FRESH);
            fields.magic.store(MAGIC, Ordering::Release);
            Ok(exported)
        }

        /// Allows no change of the length, and no mapping for writing but those that there are.
        pub(crate) fn seal(&self) -> io::Result<()> {
            let seals =
                SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
            Ok(rustix::fs::fcntl_add_seals(&self.file, seals)?)
        }

        pub(crate) fn header(&self) -> &Header {
            // SAFETY: the mapping lives as long as `self`, is at least as long as the header and aligned to it, and only
            // atomics refer to it.
            unsafe { self.header.as_ref() }
        }

        /// Another descriptor of the file.
        pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
            Ok(rustix::io::fcntl_dupfd_cloexec(&self.file, 0)?)
        }
    }

    impl AsFd for ExportedMemory {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.file.as_fd()
        }
    }

    impl Drop for ExportedMemory {
        fn drop(&mut self) {
            sequence::end_unless_ended(&self.header().sequence, sequence::CLOSED);
            // SAFETY: `new` made the mapping with this address and length, and nothing that borrows from it is left.
            let unmapped = unsafe { rustix::mm::munmap(self.header.as_ptr().cast(), HEADER_BYTES) };
            debug_assert!(unmapped.is_ok(), "unmapping failed: {unmapped:?}");
        }
    }

    /// Writes all of `bytes` to `file` at `offset`.
    pub(in super::super) fn write_all(
        file: impl AsFd,
        mut bytes: &[u8],
        mut offset: u64,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, bytes, offset))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
            offset += written as u64;
        }
        Ok(())
    }
}
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) use linux::write_all;

/// Where there are no memory files.
#[cfg(not(all(target_os = "linux", not(miri))))]
mod none {
    use super::{Header, io};
    use crate::page::PageId;

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum ExportedMemory {}

    impl ExportedMemory {
        pub(crate) fn new(_page: PageId, _bytes: &[u8]) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn seal(&self) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn header(&self) -> &Header {
            match *self {}
        }
    }
}
