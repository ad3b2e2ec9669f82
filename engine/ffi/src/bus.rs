//! Opening, closing, and what a bus tells about itself and its pages.

use std::ffi::c_char;
use std::sync::Arc;

use mmsb_engine::{Bus, CheckpointError, Location, Lsn, PageId, PageInfo};

use crate::border::{Out, Sized64, call, check_sized, fill, text, write_sized};
use crate::failure::{Failure, Outcome};
use crate::lookup::BUSES;
use crate::options::{mmsb_options, read_options};
use crate::status;

/// What a checkpoint came to.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_checkpoint_report {
    /// `sizeof(mmsb_checkpoint_report)`, set by the caller.
    pub size: u64,
    /// Recovery applies the log after this LSN.
    pub replay_after: u64,
    /// Its number.
    pub sequence: u64,
    /// 1 if it has images of all pages, 0 if only of those that changed.
    pub is_full: u64,
    /// Page images written.
    pub images: u64,
    /// Bytes of the file that they are in.
    pub image_bytes: u64,
    /// Segments of the log that it made unnecessary.
    pub freed_segments: u64,
}

/// Figures of a bus.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_statistics {
    /// `sizeof(mmsb_statistics)`, set by the caller.
    pub size: u64,
    /// LSN of the last commit.
    pub last_lsn: u64,
    /// Everything up to this LSN is durable.
    pub durable_lsn: u64,
    /// Pages in host memory.
    pub live_pages: u64,
    /// Sum of their lengths.
    pub live_bytes: u64,
    /// Those among them that are computed from others.
    pub derived_pages: u64,
    /// Bytes of host memory that no other page can get.
    pub reserved_bytes: u64,
    /// Length of the arena.
    pub capacity_bytes: u64,
    /// Bytes appended to the log since it was opened.
    pub log_bytes: u64,
    /// Syncs of the log since it was opened.
    pub syncs: u64,
    /// Segments of the log begun since it was opened.
    pub rotations: u64,
    /// Handles that were opened from the bus and not released: transactions and views.
    pub open_handles: u64,
    /// Writes to the log since it was opened.
    pub log_writes: u64,
    /// Segments of the log that were used again since it was opened.
    pub recycled: u64,
    /// Bytes of host memory that pages take, what they share with no other page included.
    pub footprint_bytes: u64,
    /// The most that it ever was.
    pub peak_footprint_bytes: u64,
    /// What pages take beyond their lengths.
    pub waste_bytes: u64,
    /// Length of the longest page that there is room for.
    pub largest_free_range_bytes: u64,
    /// Pages that were ever allocated in host memory.
    pub allocations_total: u64,
    /// Those that were freed.
    pub releases_total: u64,
}

/// What opening a bus found and did.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_open_report {
    /// `sizeof(mmsb_open_report)`, set by the caller.
    pub size: u64,
    /// 1 if there was nothing: the bus is new.
    pub created: u64,
    /// The state was as of this LSN.
    pub last_lsn: u64,
    /// 1 if a checkpoint was used.
    pub has_checkpoint: u64,
    /// The LSN after which the log was applied, if one was.
    pub checkpoint_lsn: u64,
    /// Transactions applied from the log.
    pub applied: u64,
    /// 1 if what a crash had left behind the end of the log was cut off.
    pub torn: u64,
    /// LSN of the first transaction that was lost by that.
    pub torn_lsn: u64,
    /// Segments that were dropped by that.
    pub dropped_segments: u64,
    /// How many things were found wrong and could be done without; `mmsb_doctor` says which.
    pub warnings: u64,
}

/// What is known of a page besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_page_info {
    /// `sizeof(mmsb_page_info)`, set by the caller.
    pub size: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Its place in the memory of its location, in bytes.
    pub offset: u64,
    /// How many transactions wrote to it; of a derived page, how many waves of this process changed it.
    pub epoch: u64,
    /// `MMSB_HOST`, `MMSB_DEVICE_MEMORY` or `MMSB_UNIFIED`.
    pub location: u32,
    /// 1 if its bytes are computed from other pages.
    pub is_derived: u32,
    /// From how many; see `mmsb_page_parents`.
    pub parents: u64,
}

/// A page in host memory.
pub const MMSB_HOST: u32 = 0;
/// A page in memory of a device.
pub const MMSB_DEVICE_MEMORY: u32 = 1;
/// A page in memory that host and device both address.
pub const MMSB_UNIFIED: u32 = 2;

// SAFETY: `repr(C)`, integers of 64 bits alone.
unsafe impl Sized64 for mmsb_checkpoint_report {
    const FIRST_SIZE: usize = 56;
}
// SAFETY: `repr(C)`, integers of 64 bits alone.
unsafe impl Sized64 for mmsb_open_report {
    const FIRST_SIZE: usize = 80;
}
// SAFETY: `repr(C)`, integers of 64 bits alone.
unsafe impl Sized64 for mmsb_statistics {
    const FIRST_SIZE: usize = 96;
}
// SAFETY: `repr(C)`, integers alone, no padding (checked in tests/abi.rs).
unsafe impl Sized64 for mmsb_page_info {
    const FIRST_SIZE: usize = 48;
}

/// Opens the bus in `directory`, which is created if need be, and recovers its state. `options` may be null.
///
/// # Safety
/// `directory` is a string, `options` null or a structure that says its size; `bus` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_open(
    directory: *const c_char,
    options: *const mmsb_options,
    bus: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (directory, options, out) = unsafe {
            (
                text(directory, "directory")?,
                read_options(options)?,
                Out::new(bus, "bus")?,
            )
        };
        out.set(BUSES.insert(Arc::new(Bus::open(directory, options)?))?);
        Ok(())
    })
}

/// Takes a bus that nothing else was opened from, or says what still is.
fn take(bus: u64) -> Outcome<Bus> {
    let alone = BUSES.alone(bus)?;
    // Everything that has a share gets it from the table, so no more come while this call has the entry alone.
    let others = Arc::strong_count(&alone) - 1;
    if others > 0 {
        let message =
            format!("{others} transactions or views of the bus are open; release them first");
        return Err(Failure::new(status::MMSB_BUSY, "bus.busy", message));
    }
    let taken = alone.remove().and_then(Arc::into_inner);
    taken.ok_or_else(|| Failure::state("the bus is gone"))
}

/// Closes a bus: makes everything durable and releases the directory and the handle, also if that fails.
/// `MMSB_BUSY`, and the bus stays open, as long as a transaction or view of it is open. It never waits for one.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_bus_close(bus: u64) -> i32 {
    call(|| Ok(take(bus)?.close()?))
}

/// As `mmsb_bus_close`, but writes nothing that is buffered, as if the process had died here.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_bus_abandon(bus: u64) -> i32 {
    call(|| {
        take(bus)?.abandon();
        Ok(())
    })
}

/// Makes every commit so far durable. `lsn` (may be null) is up to where.
///
/// # Safety
/// `lsn` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_sync(bus: u64, lsn: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { crate::border::optional(lsn, "lsn")? };
        let Lsn(lsn) = BUSES.share(bus)?.sync()?;
        if let Some(out) = out {
            out.set(lsn);
        }
        Ok(())
    })
}

/// Prepares the next segment of the log if none is waiting; `*prepared` (may be null) is 1 if it had to. The library starts no
/// threads, so this is for a thread of yours to call now and then.
///
/// # Safety
/// `prepared` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_maintain(bus: u64, prepared: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { crate::border::optional(prepared, "prepared")? };
        let had_to = BUSES.share(bus)?.maintain()?;
        if let Some(out) = out {
            out.set(i32::from(had_to));
        }
        Ok(())
    })
}

/// Computes the derived pages whose parents changed. Nothing to do unless waves are deferred.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_bus_propagate(bus: u64) -> i32 {
    call(|| Ok(BUSES.share(bus)?.propagate()?))
}

/// Writes a checkpoint; commits go on meanwhile, and views may be held. `report` may be null.
///
/// # Safety
/// `report` is null or a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_checkpoint(bus: u64, report: *mut mmsb_checkpoint_report) -> i32 {
    call(|| {
        if !report.is_null() {
            // SAFETY: the caller's contract.
            unsafe { check_sized(report, "report")? };
        }
        let done = BUSES.share(bus)?.checkpoint()?;
        if report.is_null() {
            return Ok(());
        }
        let value = mmsb_checkpoint_report {
            size: 0,
            replay_after: done.replay_after.0,
            sequence: done.sequence,
            is_full: u64::from(done.is_full),
            images: done.images,
            image_bytes: done.image_bytes,
            freed_segments: done.freed_segments,
        };
        // SAFETY: the caller's contract.
        unsafe { write_sized(report, &value, "report") }
    })
}

/// Fills the device of the bus anew from the log, after it failed.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_bus_restore_device(bus: u64) -> i32 {
    call(|| Ok(BUSES.share(bus)?.restore_device().map(drop)?))
}

/// The digest of all pages, as of one moment: 32 bytes to `digest`.
///
/// # Safety
/// 32 bytes may be written to `digest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_digest(bus: u64, digest: *mut u8) -> i32 {
    call(|| {
        // SAFETY: an array of bytes is as a pointer to the first one.
        let out = unsafe { Out::new(digest.cast::<[u8; 32]>(), "digest")? };
        out.set(*BUSES.share(bus)?.digest()?.as_bytes());
        Ok(())
    })
}

/// The ids of all pages in order. `needed` (may be null) is how many there are, also if they do not fit.
///
/// # Safety
/// `pages` has room for `capacity` ids; `needed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_pages(
    bus: u64,
    pages: *mut u64,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    call(|| {
        let all: Vec<u64> = BUSES
            .share(bus)?
            .pages()
            .iter()
            .map(|page| page.to_bits())
            .collect();
        // SAFETY: the caller's contract.
        unsafe { fill(&all, pages, capacity, needed) }
    })
}

/// Figures of the bus.
///
/// # Safety
/// `statistics` is a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_statistics(bus: u64, statistics: *mut mmsb_statistics) -> i32 {
    call(|| {
        let bus = BUSES.share(bus)?;
        let now = bus.statistics();
        let value = mmsb_statistics {
            size: 0,
            last_lsn: now.log.last_lsn.0,
            durable_lsn: now.log.durable_lsn.0,
            live_pages: now.memory.live_pages,
            live_bytes: now.memory.live_bytes,
            derived_pages: now.derived_pages,
            reserved_bytes: now.memory.reserved_bytes,
            capacity_bytes: now.memory.capacity_bytes,
            log_bytes: now.log.appended_bytes,
            syncs: now.log.syncs,
            rotations: now.log.rotations,
            open_handles: Arc::strong_count(&bus) as u64 - 1,
            log_writes: now.log.writes,
            recycled: now.log.recycled,
            footprint_bytes: now.memory.footprint_bytes,
            peak_footprint_bytes: now.memory.peak_footprint_bytes,
            waste_bytes: now.memory.waste_bytes,
            largest_free_range_bytes: now.memory.largest_free_range_bytes,
            allocations_total: now.memory.allocations_total,
            releases_total: now.memory.releases_total,
        };
        // SAFETY: the caller's contract.
        unsafe { write_sized(statistics, &value, "statistics") }
    })
}

/// What opening the bus found and did.
///
/// # Safety
/// `report` is a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_bus_opened(bus: u64, report: *mut mmsb_open_report) -> i32 {
    call(|| {
        let bus = BUSES.share(bus)?;
        let found = bus.opened();
        let torn = found.torn.as_ref();
        let value = mmsb_open_report {
            size: 0,
            created: u64::from(found.created),
            last_lsn: found.last_lsn.0,
            has_checkpoint: u64::from(found.checkpoint.is_some()),
            checkpoint_lsn: found.checkpoint.map_or(0, |lsn| lsn.0),
            applied: found.applied,
            torn: u64::from(torn.is_some()),
            torn_lsn: torn.map_or(0, |torn| torn.lsn.0),
            dropped_segments: torn.map_or(0, |torn| torn.dropped_segments),
            warnings: found.warnings.len() as u64,
        };
        // SAFETY: the caller's contract.
        unsafe { write_sized(report, &value, "report") }
    })
}

fn info_of(bus: u64, page: u64) -> Outcome<PageInfo> {
    Ok(BUSES.share(bus)?.info(PageId::from_bits(page))?)
}

/// What is known of a page besides its bytes.
///
/// # Safety
/// `info` is a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_page_describe(bus: u64, page: u64, info: *mut mmsb_page_info) -> i32 {
    call(|| {
        let known = info_of(bus, page)?;
        let value = mmsb_page_info {
            size: 0,
            len: known.len_bytes,
            offset: known.offset,
            epoch: known.epoch,
            location: match known.location {
                Location::Device => MMSB_DEVICE_MEMORY,
                Location::Unified => MMSB_UNIFIED,
                _ => MMSB_HOST,
            },
            is_derived: u32::from(known.is_derived),
            parents: known.parents.len() as u64,
        };
        // SAFETY: the caller's contract.
        unsafe { write_sized(info, &value, "info") }
    })
}

/// The pages that a page is computed from, in order. `needed` (may be null) is how many there are, also if they do not fit.
///
/// # Safety
/// `parents` has room for `capacity` ids; `needed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_page_parents(
    bus: u64,
    page: u64,
    parents: *mut u64,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    call(|| {
        let known = info_of(bus, page)?;
        let all: Vec<u64> = known.parents.iter().map(|page| page.to_bits()).collect();
        // SAFETY: the caller's contract.
        unsafe { fill(&all, parents, capacity, needed) }
    })
}

/// The value of a page's metadata `key`; `MMSB_NOTHING` if it has none. `needed` (may be null) is its length, also if it does not fit.
///
/// # Safety
/// `key` is a string; `value` has room for `capacity` bytes; `needed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_page_annotation(
    bus: u64,
    page: u64,
    key: *const c_char,
    value: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let key = unsafe { text(key, "key")? };
        let found = BUSES.share(bus)?.annotation(PageId::from_bits(page), key)?;
        let found = found.ok_or_else(|| {
            let message = format!("the page has no metadata {key}");
            Failure::new(status::MMSB_NOTHING, "metadata.none", message)
        })?;
        // SAFETY: the caller's contract.
        unsafe { fill(&found, value, capacity, needed) }
    })
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        let kind = match &error {
            CheckpointError::Poisoned(_) => "bus.poisoned",
            CheckpointError::Device(error) => error.kind(),
            CheckpointError::GuardHeld { .. } => "guard.held",
            _ => "checkpoint.failed",
        };
        Self::new(status::of_kind(kind), kind, error.to_string())
    }
}
