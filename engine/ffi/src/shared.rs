//! Pages shown to other processes, and pages of other processes looked at.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::time::{Duration, Instant};

use mmsb_engine::memory::AttachError;
use mmsb_engine::{ExportError, Moment, PageId, SharedPage, SharedReadError};

use crate::border::{Out, Sized64, call, check_sized, optional, slice_mut, write_sized};
use crate::failure::{Failure, Outcome};
use crate::lookup::{BUSES, SHARED};
use crate::status;
use crate::view::mmsb_bytes;

/// What a page of another process was when it was looked at.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_moment {
    /// `sizeof(mmsb_moment)`, set by the caller.
    pub size: u64,
    /// Even, and another number after each change.
    pub sequence: u64,
    /// LSN of the last transaction that wrote to the page; 0 for none.
    pub lsn: u64,
    /// How many transactions wrote to it; of a derived page, how many waves changed it.
    pub epoch: u64,
}

// SAFETY: `repr(C)`, integers of 64 bits alone.
unsafe impl Sized64 for mmsb_moment {
    const FIRST_SIZE: usize = 32;
}

impl From<Moment> for mmsb_moment {
    fn from(moment: Moment) -> Self {
        Self {
            size: 0,
            sequence: moment.sequence,
            lsn: moment.lsn.0,
            epoch: moment.epoch,
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let kind = error.kind();
        let status = match &error {
            ExportError::Io { .. } => status::MMSB_IO,
            _ => status::of_kind(kind),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let status = match &error {
            AttachError::Io { .. } => status::MMSB_IO,
            AttachError::Newer { .. } => status::MMSB_UNSUPPORTED,
            _ => status::MMSB_INVALID_ARGUMENT,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}

impl From<SharedReadError> for Failure {
    fn from(error: SharedReadError) -> Self {
        let status = match &error {
            SharedReadError::Changing | SharedReadError::Behind => status::MMSB_BUSY,
            SharedReadError::Closed => status::MMSB_STATE,
            SharedReadError::Stale => status::MMSB_GRAPH,
            _ => status::MMSB_PAGE,
        };
        Self::new(status, error.kind(), error.to_string())
    }
}

/// A descriptor of the memory of a page in host memory, from 4033 bytes on, for another process to map with `mmsb_shared_open`. Pass it
/// on by `fork` or through a Unix socket. It is the caller's to close; every call gives another one of the same memory.
///
/// The other process sees the page's own memory and no other, and cannot change it. It ends, and is told, when the page is
/// freed, transferred or withdrawn, or the bus closed. Views of the page must not be held (`MMSB_VIEW_HELD`).
///
/// # Safety
/// `descriptor` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_page_export(bus: u64, page: u64, descriptor: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(descriptor, "descriptor")? };
        let exported = BUSES.share(bus)?.export_page(PageId::from_bits(page))?;
        out.set(exported.into_raw_fd());
        Ok(())
    })
}

/// Ends the export of a page, if there is one. Who has mapped it keeps what was there last, and is told `shared.gone`.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_page_withdraw(bus: u64, page: u64) -> i32 {
    call(|| Ok(BUSES.share(bus)?.withdraw_page(PageId::from_bits(page))?))
}

/// Maps a page that another process exported. The descriptor stays the caller's, and is needed no more. `page` (may be null) is
/// its id there; `bytes` (may be null) where it is mapped until `mmsb_shared_close`: these bytes change at any time, see
/// `mmsb_shared_begin`.
///
/// # Safety
/// `shared` may be written to, `page` and `bytes` are null or may be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_shared_open(
    descriptor: i32,
    shared: *mut u64,
    page: *mut u64,
    bytes: *mut mmsb_bytes,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (out, page, bytes) = unsafe {
            (
                Out::new(shared, "shared")?,
                optional(page, "page")?,
                optional(bytes, "bytes")?,
            )
        };
        if descriptor < 0 {
            return Err(Failure::argument(format!(
                "the descriptor is {descriptor}, which is none"
            )));
        }
        // SAFETY: it is no negative number; one that is not open is refused by the first call that is made with it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        debug_assert_eq!(borrowed.as_raw_fd(), descriptor);
        let attached = SharedPage::attach(borrowed)?;
        if let Some(page) = page {
            page.set(attached.page().to_bits());
        }
        let place = mmsb_bytes {
            data: attached.as_ptr(),
            len: attached.len_bytes() as u64,
        };
        out.set(SHARED.insert(attached)?);
        if let Some(bytes) = bytes {
            bytes.set(place);
        }
        Ok(())
    })
}

/// Longest time between two looks.
const LONGEST_NAP: Duration = Duration::from_micros(100);
/// So often it is looked again at once: a commit takes less than a microsecond.
const SPINS: u32 = 200;

/// Tries until it works, fails for good, or the time is up. Nobody wakes a reader: the bus does not know of it.
fn within<T>(wait_ns: u64, mut attempt: impl FnMut() -> Result<T, SharedReadError>) -> Outcome<T> {
    let mut deadline = None;
    let mut tries = 0_u32;
    loop {
        match attempt() {
            Err(SharedReadError::Changing | SharedReadError::Behind) if wait_ns > 0 => {}
            result => return Ok(result?),
        }
        tries = tries.saturating_add(1);
        if tries < SPINS {
            std::hint::spin_loop();
            continue;
        }
        let now = Instant::now();
        let until = *deadline.get_or_insert_with(|| now.checked_add(Duration::from_nanos(wait_ns)));
        if until.is_some_and(|until| now >= until) {
            return Ok(attempt()?);
        }
        std::thread::sleep(LONGEST_NAP.min(Duration::from_micros(u64::from(tries - SPINS))));
    }
}

/// Copies `len` bytes of the page, from `offset` on, to `bytes`, as of one moment: `moment` (may be null) says which.
///
/// It tries again for `wait_ns` while a commit changes the page: then `MMSB_BUSY` (`shared.changing`), also if the other process died
/// in the middle of one. A derived page that awaits a wave is `MMSB_BUSY` (`shared.behind`) until the other process reads it or
/// propagates, and `MMSB_GRAPH` if its transform failed. `MMSB_PAGE` (`shared.gone`) if the page is gone, `MMSB_STATE`
/// (`shared.closed`) if the bus was closed. A process that was killed closes nothing: what it committed last stays.
///
/// # Safety
/// `len` bytes may be written to `bytes`; `moment` is null or a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_shared_read(
    shared: u64,
    offset: u64,
    bytes: *mut u8,
    len: usize,
    wait_ns: u64,
    moment: *mut mmsb_moment,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let to = unsafe {
            if !moment.is_null() {
                check_sized(moment, "moment")?;
            }
            slice_mut(bytes, len, "bytes")?
        };
        let shared = SHARED.share(shared)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = within(wait_ns, || shared.read(offset, to))?;
        if moment.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's contract.
        unsafe { write_sized(moment, &found.into(), "moment") }
    })
}

/// Begins to read in place: what is read of the page between this and an `mmsb_shared_check` that agrees is of that moment. What
/// it does not agree to must not have been relied on. Errors and `wait_ns` as of `mmsb_shared_read`.
///
/// # Safety
/// `moment` is a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_shared_begin(
    shared: u64,
    wait_ns: u64,
    moment: *mut mmsb_moment,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        unsafe { check_sized(moment, "moment")? };
        let shared = SHARED.share(shared)?;
        let found = within(wait_ns, || shared.begin())?;
        // SAFETY: the caller's contract.
        unsafe { write_sized(moment, &found.into(), "moment") }
    })
}

/// Whether the page is still as it was when `mmsb_shared_begin` gave `sequence`: `MMSB_BUSY` (`shared.changing`) if not.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_shared_check(shared: u64, sequence: u64) -> i32 {
    call(|| Ok(SHARED.share(shared)?.check(sequence)?))
}

/// Unmaps a page of another process. Its pointers are invalid from here on.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_shared_close(shared: u64) -> i32 {
    call(|| SHARED.remove(shared).map(drop))
}
