//! The memory of the device, and the mappings of it into this process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// The unit in which memory is handed out.
pub(crate) const GRANULE_BYTES: u64 = 2 << 20;

/// What memory holds before anybody wrote to it.
pub(crate) const POISON: u8 = 0xa5;

/// Memory of the device: a sparse file, parts of which are mapped.
#[derive(Debug)]
pub(crate) struct Physical {
    file: OwnedFd,
    capacity_bytes: u64,
    /// Free ranges, by their start; neighbours are joined.
    free: BTreeMap<u64, u64>,
}

impl Physical {
    pub(crate) fn new(capacity_bytes: u64) -> Result<Self, String> {
        let capacity_bytes = capacity_bytes / GRANULE_BYTES * GRANULE_BYTES;
        let file = rustix::fs::memfd_create("mmsb-simulated-gpu", MemfdFlags::CLOEXEC)
            .map_err(|error| format!("cannot create the memory of the device: {error}"))?;
        rustix::fs::ftruncate(&file, capacity_bytes)
            .map_err(|error| format!("cannot size the memory of the device: {error}"))?;
        let mut free = BTreeMap::new();
        if capacity_bytes > 0 {
            free.insert(0, capacity_bytes);
        }
        Ok(Self {
            file,
            capacity_bytes,
            free,
        })
    }

    pub(crate) const fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free.values().sum()
    }

    /// Takes a range, poisoned; `None` when there is none that long.
    pub(crate) fn take(&mut self, len_bytes: u64) -> Option<u64> {
        let (&start, &len) = self.free.iter().find(|(_, len)| **len >= len_bytes)?;
        self.poison(start, len_bytes)?;
        self.free.remove(&start);
        if len > len_bytes {
            self.free.insert(start + len_bytes, len - len_bytes);
        }
        Some(start)
    }

    /// Takes a range back, and gives its memory to the system.
    pub(crate) fn give_back(&mut self, start: u64, len_bytes: u64) {
        let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Only memory is saved by this: the range is poisoned again when it is taken.
        let _unsaved = rustix::fs::fallocate(&self.file, holes, start, len_bytes);
        let mut start = start;
        let mut len = len_bytes;
        if let Some((&before, &before_len)) = self.free.range(..start).next_back()
            && before + before_len == start
        {
            self.free.remove(&before);
            start = before;
            len += before_len;
        }
        if let Some(after_len) = self.free.remove(&(start + len)) {
            len += after_len;
        }
        self.free.insert(start, len);
    }

    fn poison(&self, start: u64, len_bytes: u64) -> Option<()> {
        let page = [POISON; 4096];
        let mut at = start;
        while at < start + len_bytes {
            let written = rustix::io::pwrite(&self.file, &page, at).ok()?;
            at += written as u64;
        }
        Some(())
    }

    /// Maps a range of the device's memory at `address`, over part of a reservation.
    pub(crate) fn map(&self, address: u64, len_bytes: u64, offset: u64) -> Result<(), String> {
        // SAFETY: the caller replaces part of a reservation of its own, which nothing but checked work goes to; no access yet.
        unsafe {
            rustix::mm::mmap(
                address as *mut _,
                len_bytes as usize,
                ProtFlags::empty(),
                MapFlags::SHARED | MapFlags::FIXED,
                &self.file,
                offset,
            )
        }
        .map(drop)
        .map_err(|error| format!("cannot map: {error}"))
    }
}

/// Reserves addresses without memory.
pub(crate) fn reserve(len_bytes: u64, alignment: u64) -> Option<u64> {
    let padded = len_bytes.checked_add(alignment)?;
    // SAFETY: a new mapping at an address of the system's choice replaces nothing.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            usize::try_from(padded).ok()?,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .ok()? as u64;
    let aligned = start.next_multiple_of(alignment);
    drop_addresses(start, aligned - start);
    drop_addresses(aligned + len_bytes, start + padded - aligned - len_bytes);
    Some(aligned)
}

/// Turns a mapped range into a reserved one again.
pub(crate) fn unmap(address: u64, len_bytes: u64) -> Result<(), String> {
    // SAFETY: the caller names a part of its own reservation, where no work is under way.
    unsafe {
        rustix::mm::mmap_anonymous(
            address as *mut _,
            len_bytes as usize,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
        )
    }
    .map(drop)
    .map_err(|error| format!("cannot unmap: {error}"))
}

/// Lets the process access a range that is mapped.
pub(crate) fn allow_access(address: u64, len_bytes: u64) -> Result<(), String> {
    // SAFETY: the range is mapped by this crate; more access breaks nobody's assumptions.
    unsafe {
        rustix::mm::mprotect(
            address as *mut _,
            len_bytes as usize,
            rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
        )
    }
    .map_err(|error| format!("cannot give access: {error}"))
}

/// Memory of this process alone, poisoned; `None` when there is none.
pub(crate) fn allocate(len_bytes: u64, poison: u8) -> Option<u64> {
    let len = usize::try_from(len_bytes).ok()?;
    // SAFETY: a new mapping at an address of the system's choice replaces nothing.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the mapping is new, `len` bytes long and writable.
    unsafe { std::ptr::write_bytes(start.cast::<u8>(), poison, len) };
    Some(start as u64)
}

/// Gives a range of addresses back to the system.
pub(crate) fn drop_addresses(address: u64, len_bytes: u64) {
    if len_bytes > 0 {
        // SAFETY: the range was mapped by this crate, and the caller has forgotten it.
        let unmapped = unsafe { rustix::mm::munmap(address as *mut _, len_bytes as usize) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
