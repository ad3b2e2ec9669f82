//! A bus across the C ABI: every verb is a call of the function that C calls, with pointers, statuses and handles.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mmsb_engine::{Bus, Digest, Location, Lsn, PageId};
use mmsb_ffi::bus::{
    MMSB_DEVICE_MEMORY, MMSB_UNIFIED, mmsb_bus_abandon, mmsb_bus_checkpoint, mmsb_bus_close,
    mmsb_bus_digest, mmsb_bus_maintain, mmsb_bus_opened, mmsb_bus_pages, mmsb_bus_propagate,
    mmsb_bus_restore_device, mmsb_bus_statistics, mmsb_bus_sync, mmsb_checkpoint_report,
    mmsb_open_report, mmsb_page_annotation, mmsb_page_describe, mmsb_page_info, mmsb_page_parents,
    mmsb_statistics,
};
use mmsb_ffi::events::mmsb_events_open;
use mmsb_ffi::host::{adopt_bus, let_go_of_bus, look_at};
use mmsb_ffi::status::{MMSB_BUFFER_TOO_SMALL, MMSB_NOTHING, MMSB_OK, MMSB_VIEW_HELD};
use mmsb_ffi::view::{mmsb_read_into, mmsb_view_one, mmsb_view_open};

use super::Info;
use super::refused::Refused;
use super::shown::{Bytes, Held, Queue, Subscribed, nowhere};

/// How long a verb is tried again while views of other threads are in its way. Theirs are short.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A bus behind a handle. One that is neither closed nor abandoned is dropped with this.
pub(crate) struct Across {
    pub(super) handle: u64,
    by_copy: AtomicBool,
}

impl Drop for Across {
    fn drop(&mut self) {
        let_go_of_bus(self.handle);
    }
}

pub(super) fn too_many() -> Refused {
    Refused::absent("so many handles at a time")
}

/// Calls again as long as a view of another thread is in the way.
fn patiently(mut call: impl FnMut() -> i32) -> Result<(), Refused> {
    let mut deadline = None;
    loop {
        let status = call();
        let until = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
        if status != MMSB_VIEW_HELD || Instant::now() > until {
            return Refused::check(status);
        }
        std::thread::yield_now();
    }
}

/// All ids that a call has, with a buffer that is too small at first.
pub(super) fn ids(
    mut call: impl FnMut(*mut u64, usize, *mut usize) -> i32,
) -> Result<Vec<PageId>, Refused> {
    let mut room = vec![0_u64; 8];
    loop {
        let mut needed = 0;
        let status = call(room.as_mut_ptr(), room.len(), &mut needed);
        if status != MMSB_BUFFER_TOO_SMALL {
            Refused::check(status)?;
            let found = room.iter().take(needed).copied();
            return Ok(found.map(PageId::from_bits).collect());
        }
        room.resize(needed, 0);
    }
}

impl Across {
    pub(super) fn adopt(bus: Bus) -> Result<Self, Refused> {
        Ok(Self {
            handle: adopt_bus(bus).ok_or_else(too_many)?,
            by_copy: AtomicBool::new(false),
        })
    }

    pub(super) fn shared_by_threads(&self, are_there: bool) {
        self.by_copy.store(are_there, Ordering::Relaxed);
    }

    /// What the world watches, and no scenario asks for.
    pub(super) fn watch<T>(&self, look: impl FnOnce(&Bus) -> T) -> Option<T> {
        look_at(self.handle, look)
    }

    pub(crate) fn statistics(&self) -> mmsb_statistics {
        let mut statistics = mmsb_statistics {
            size: size_of::<mmsb_statistics>() as u64,
            ..mmsb_statistics::default()
        };
        // SAFETY: the structure says its size. A call that fails leaves zeros, which the model contradicts.
        unsafe { mmsb_bus_statistics(self.handle, &mut statistics) };
        statistics
    }

    pub(crate) fn opened(&self) -> mmsb_open_report {
        let mut report = mmsb_open_report {
            size: size_of::<mmsb_open_report>() as u64,
            ..mmsb_open_report::default()
        };
        // SAFETY: the structure says its size. A call that fails leaves zeros, which scenarios contradict.
        unsafe { mmsb_bus_opened(self.handle, &mut report) };
        report
    }

    pub(super) fn read(&self, page: PageId) -> Result<Bytes<'_>, Refused> {
        if self.by_copy.load(Ordering::Relaxed) {
            let len_bytes = self.describe(page)?.len as usize;
            let mut bytes = vec![0; len_bytes];
            patiently(|| {
                // SAFETY: the buffer has that length.
                unsafe {
                    mmsb_read_into(
                        self.handle,
                        page.to_bits(),
                        0,
                        bytes.as_mut_ptr(),
                        len_bytes,
                    )
                }
            })?;
            return Ok(Bytes::Copied(bytes));
        }
        let (mut view, mut bytes) = (0, nowhere());
        // SAFETY: both pointers are to variables of their types.
        let status = unsafe { mmsb_view_one(self.handle, page.to_bits(), &mut view, &mut bytes) };
        Refused::check(status)?;
        Ok(Bytes::Held(Held::of_one(view, page, bytes)))
    }

    pub(super) fn view(&self, pages: &[PageId]) -> Result<Held<'_>, Refused> {
        let pages: Vec<u64> = pages.iter().map(|page| page.to_bits()).collect();
        let mut view = 0;
        patiently(|| {
            // SAFETY: so many ids are there, and the pointer is to a variable of its type.
            unsafe { mmsb_view_open(self.handle, pages.as_ptr(), pages.len(), &mut view) }
        })?;
        Held::new(view, pages.len())
    }

    fn describe(&self, page: PageId) -> Result<mmsb_page_info, Refused> {
        let mut info = mmsb_page_info {
            size: size_of::<mmsb_page_info>() as u64,
            ..mmsb_page_info::default()
        };
        // SAFETY: the structure says its size.
        Refused::check(unsafe { mmsb_page_describe(self.handle, page.to_bits(), &mut info) })?;
        Ok(info)
    }

    pub(super) fn info(&self, page: PageId) -> Result<Info, Refused> {
        let info = self.describe(page)?;
        let parents = ids(|room, capacity, needed| {
            // SAFETY: the buffer has that length.
            unsafe { mmsb_page_parents(self.handle, page.to_bits(), room, capacity, needed) }
        })?;
        Ok(Info {
            len_bytes: info.len,
            location: match info.location {
                MMSB_DEVICE_MEMORY => Location::Device,
                MMSB_UNIFIED => Location::Unified,
                _ => Location::Host,
            },
            epoch: info.epoch,
            is_derived: info.is_derived == 1,
            parents,
            metadata: None,
        })
    }

    pub(super) fn annotation(&self, page: PageId, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        let Ok(key) = CString::new(key) else {
            return Err(Refused::absent("keys with a zero byte"));
        };
        let mut value = vec![0; 8];
        loop {
            let mut needed = 0;
            // SAFETY: the key is a string, and the buffer has that length.
            let status = unsafe {
                mmsb_page_annotation(
                    self.handle,
                    page.to_bits(),
                    key.as_ptr(),
                    value.as_mut_ptr(),
                    value.len(),
                    &mut needed,
                )
            };
            match status {
                MMSB_OK => {
                    value.truncate(needed);
                    return Ok(Some(value));
                }
                MMSB_NOTHING => return Ok(None),
                MMSB_BUFFER_TOO_SMALL => value.resize(needed, 0),
                _ => return Err(Refused::last()),
            }
        }
    }

    pub(super) fn pages(&self) -> Vec<PageId> {
        ids(|room, capacity, needed| {
            // SAFETY: the buffer has that length.
            unsafe { mmsb_bus_pages(self.handle, room, capacity, needed) }
        })
        .unwrap_or_default()
    }

    pub(super) fn digest(&self) -> Result<Digest, Refused> {
        let mut digest = [0; 32];
        // SAFETY: there are 32 bytes.
        patiently(|| unsafe { mmsb_bus_digest(self.handle, digest.as_mut_ptr()) })?;
        Ok(Digest::from(digest))
    }

    pub(super) fn sync(&self) -> Result<Lsn, Refused> {
        let mut lsn = 0;
        // SAFETY: the pointer is to a variable of its type.
        Refused::check(unsafe { mmsb_bus_sync(self.handle, &mut lsn) })?;
        Ok(Lsn(lsn))
    }

    pub(super) fn checkpoint(&self) -> Result<(), Refused> {
        let mut report = mmsb_checkpoint_report {
            size: size_of::<mmsb_checkpoint_report>() as u64,
            ..mmsb_checkpoint_report::default()
        };
        // SAFETY: the structure says its size.
        patiently(|| unsafe { mmsb_bus_checkpoint(self.handle, &mut report) })
    }

    pub(super) fn maintain(&self) -> Result<(), Refused> {
        let mut prepared = 0;
        // SAFETY: the pointer is to a variable of its type.
        Refused::check(unsafe { mmsb_bus_maintain(self.handle, &mut prepared) })
    }

    pub(super) fn propagate(&self) -> Result<(), Refused> {
        patiently(|| mmsb_bus_propagate(self.handle))
    }

    pub(super) fn restore_device(&self) -> Result<(), Refused> {
        patiently(|| mmsb_bus_restore_device(self.handle))
    }

    pub(super) fn subscribe(&self, capacity: usize) -> Result<Queue, Refused> {
        let mut events = 0;
        // SAFETY: the pointer is to a variable of its type.
        Refused::check(unsafe { mmsb_events_open(self.handle, capacity, &mut events) })?;
        Ok(Queue::C(Subscribed(events)))
    }

    pub(super) fn close(self) -> Result<(), Refused> {
        Refused::check(mmsb_bus_close(self.handle))
    }

    pub(super) fn abandon(self) {
        mmsb_bus_abandon(self.handle);
    }
}
