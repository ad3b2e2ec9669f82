//! Reading: views that stay until they are released, and copies.

use std::sync::Arc;

use mmsb_engine::{Bus, DetachedDevicePage, DetachedPage, DetachedView, Lsn, PageId, ReadError};

use crate::border::{Out, Sized64, call, check_sized, optional, slice, slice_mut, write_sized};
use crate::failure::{Failure, Outcome};
use crate::lookup::{BUSES, Owned, VIEWS, View};
use crate::status;

/// Bytes of a page, or of anything else: `len` of them from `data` on. It never gets other fields.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct mmsb_bytes {
    /// The first one.
    pub data: *const u8,
    /// How many.
    pub len: u64,
}

/// What a view holds.
pub(crate) enum Held<'a> {
    One(PageId, DetachedPage<'a>),
    Many(DetachedView<'a>),
    Device(DetachedDevicePage<'a>),
}

impl Held<'_> {
    fn lsn(&self) -> Lsn {
        match self {
            Self::One(_, page) => page.lsn(),
            Self::Many(view) => view.lsn(),
            Self::Device(page) => page.lsn(),
        }
    }

    fn at(&self, position: usize) -> Option<(PageId, &[u8])> {
        match self {
            Self::One(page, bytes) => (position == 0).then(|| (*page, bytes.bytes())),
            Self::Many(view) => view.at(position),
            Self::Device(_) => None,
        }
    }
}

#[inline]
fn bytes_of(bytes: &[u8]) -> mmsb_bytes {
    mmsb_bytes {
        data: bytes.as_ptr(),
        len: bytes.len() as u64,
    }
}

fn open_view(
    bus: &Arc<Bus>,
    make: impl FnOnce(&'static Bus) -> Result<Held<'static>, ReadError>,
) -> Outcome<View> {
    // SAFETY: the view stays in the table until it is dropped there.
    Ok(View::Live(unsafe { Owned::new(bus, make)? }))
}

/// Opens a view of one page. `*bytes` are the page's own, not a copy (but for pages on a device), and stay valid and unchanged until
/// the view is released, by `mmsb_view_release` on any thread. Until then nobody waits for it: commits to the page, and to the
/// few others that share its lock, are refused with `MMSB_VIEW_HELD`, and closing the bus with `MMSB_BUSY`.
///
/// # Safety
/// `view` and `bytes` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_view_one(
    bus: u64,
    page: u64,
    view: *mut u64,
    bytes: *mut mmsb_bytes,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (view, bytes) = unsafe { (Out::new(view, "view")?, Out::new(bytes, "bytes")?) };
        let id = PageId::from_bits(page);
        let bus = BUSES.share(bus)?;
        let opened = open_view(&bus, |bus| Ok(Held::One(id, bus.read_detached(id)?)))?;
        let found = opened.held().at(0).map(|(_, found)| bytes_of(found));
        let found = found.ok_or_else(|| Failure::state("the view is empty"))?;
        view.set(VIEWS.insert(opened)?);
        bytes.set(found);
        Ok(())
    })
}

/// Opens a view of several pages as of one moment: no commit is in it in part. Otherwise as `mmsb_view_one`;
/// `mmsb_view_page` tells where the pages are.
///
/// # Safety
/// `count` ids can be read from `pages`; `view` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_view_open(
    bus: u64,
    pages: *const u64,
    count: usize,
    view: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (pages, out) = unsafe { (slice(pages, count, "pages")?, Out::new(view, "view")?) };
        let pages: Vec<PageId> = pages.iter().map(|page| PageId::from_bits(*page)).collect();
        let bus = BUSES.share(bus)?;
        let opened = open_view(&bus, |bus| Ok(Held::Many(bus.view_detached(&pages)?)))?;
        out.set(VIEWS.insert(opened)?);
        Ok(())
    })
}

/// The page at `position` of a view. `page` (may be null) is its id, `bytes` (may be null) where it is.
///
/// # Safety
/// `page` and `bytes` are null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_view_page(
    view: u64,
    position: usize,
    page: *mut u64,
    bytes: *mut mmsb_bytes,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (page, bytes) = unsafe { (optional(page, "page")?, optional(bytes, "bytes")?) };
        let view = VIEWS.share(view)?;
        let (id, found) = view.held().at(position).ok_or_else(|| {
            let message = format!("the view has no bytes at position {position}");
            Failure::new(status::MMSB_NOTHING, "view.position", message)
        })?;
        if let Some(page) = page {
            page.set(id.to_bits());
        }
        if let Some(bytes) = bytes {
            bytes.set(bytes_of(found));
        }
        Ok(())
    })
}

/// The highest LSN among the transactions that wrote to the pages of a view; 0 for none.
///
/// # Safety
/// `lsn` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_view_lsn(view: u64, lsn: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(lsn, "lsn")? };
        out.set(VIEWS.share(view)?.held().lsn().0);
        Ok(())
    })
}

/// Releases a view, on any thread. Its pointers are invalid from here on.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_view_release(view: u64) -> i32 {
    call(|| VIEWS.remove(view).map(drop))
}

/// A page where it lies on a device.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_device_page {
    /// `sizeof(mmsb_device_page)`, set by the caller.
    pub size: u64,
    /// Address of the first byte for code on the device; for a CUDA device a `CUdeviceptr` of its primary context.
    pub address: u64,
    /// Length of the page in bytes.
    pub len: u64,
    /// `MMSB_DEVICE_HOST`, `MMSB_DEVICE_SIMULATED` or `MMSB_DEVICE_CUDA`. Only with the last can anybody use the address.
    pub device: u64,
}

// SAFETY: `repr(C)`, integers of 64 bits alone.
unsafe impl Sized64 for mmsb_device_page {
    const FIRST_SIZE: usize = 32;
}

/// Opens a view of a page where it lies on the device: nothing is copied. Otherwise as `mmsb_view_one`. Code on the
/// device must have finished reading before the view is released, and must not write.
///
/// # Safety
/// `view` may be written to; `device_page` is a structure that says its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_view_device(
    bus: u64,
    page: u64,
    view: *mut u64,
    device_page: *mut mmsb_device_page,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe {
            check_sized(device_page, "device_page")?;
            Out::new(view, "view")?
        };
        let bus = BUSES.share(bus)?;
        let id = PageId::from_bits(page);
        let opened = open_view(&bus, |bus| Ok(Held::Device(bus.device_page_detached(id)?)))?;
        let Held::Device(held) = opened.held() else {
            return Err(Failure::state("the view is of no device"));
        };
        let kind = bus.device().map(|device| device.kind.name());
        let found = mmsb_device_page {
            size: 0,
            address: held.address(),
            len: held.len_bytes(),
            device: u64::from(match kind {
                Some("simulated") => crate::options::MMSB_DEVICE_SIMULATED,
                Some("cuda") => crate::options::MMSB_DEVICE_CUDA,
                _ => crate::options::MMSB_DEVICE_HOST,
            }),
        };
        let handle = VIEWS.insert(opened)?;
        // SAFETY: the caller's contract.
        let written = unsafe { write_sized(device_page, &found, "device_page") };
        out.set(handle);
        written
    })
}

/// Copies `len` bytes of a page, from `offset` on, to `bytes`. It waits for commits to the page that are under way, and for nothing
/// else.
///
/// # Safety
/// `len` bytes may be written to `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_read_into(
    bus: u64,
    page: u64,
    offset: u64,
    bytes: *mut u8,
    len: usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let to = unsafe { slice_mut(bytes, len, "bytes")? };
        let bus = BUSES.share(bus)?;
        let guard = bus.read(PageId::from_bits(page))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = guard.get(start..start.saturating_add(len)).ok_or_else(|| {
            let message = format!(
                "{len} bytes from offset {offset} on are not in page {}, which has {}",
                PageId::from_bits(page),
                guard.len()
            );
            Failure::new(status::MMSB_PAGE, "read.out-of-range", message)
        })?;
        to.copy_from_slice(from);
        Ok(())
    })
}
