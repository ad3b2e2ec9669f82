//! Views for code that no thread of this process stands for: they may move to another thread, and nobody waits for them.

use std::borrow::Cow;

use super::device::Resident;
use super::{Bus, DevicePage, ReadError};
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::replay::Replayed;
use crate::state::State;
use crate::state::content::SharedLock;
use crate::state::detached::Mark;

/// The bytes of pages as of one moment, as [`crate::View`], for a caller whose threads are not known: it may be released on any
/// thread. In return nobody waits for it: whatever needs its pages exclusively (a commit to them, or to the few that share
/// their locks; a change of the graph) is refused with the kind `view.held` until it is dropped.
#[derive(Debug)]
pub struct DetachedView<'a> {
    pages: Vec<(PageId, Cow<'a, [u8]>)>,
    lsn: Lsn,
    _locks: Vec<SharedLock<'a>>,
    _mark: Mark<'a>,
}

impl DetachedView<'_> {
    /// All pages, in the order in which they were asked for.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = (PageId, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (*page, &**bytes))
    }

    /// The page that was asked for at `position`.
    #[must_use]
    pub fn at(&self, position: usize) -> Option<(PageId, &[u8])> {
        self.pages
            .get(position)
            .map(|(page, bytes)| (*page, &**bytes))
    }

    /// The highest LSN among the transactions that wrote to these pages.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// The bytes of one page, as [`crate::ReadGuard`], under the terms of [`DetachedView`].
#[derive(Debug)]
pub struct DetachedPage<'a> {
    bytes: Cow<'a, [u8]>,
    lsn: Lsn,
    epoch: u64,
    _lock: SharedLock<'a>,
    _mark: Mark<'a>,
}

impl DetachedPage<'_> {
    /// The bytes of the page, where they are; a copy if it is on a device.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As [`crate::ReadGuard::lsn`].
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// As [`crate::ReadGuard::epoch`].
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A page where it lies on the device, as [`DevicePage`], under the terms of [`DetachedView`].
#[derive(Debug)]
pub struct DetachedDevicePage<'a> {
    address: u64,
    len_bytes: u64,
    lsn: Lsn,
    _resident: Resident<'a>,
    _lock: SharedLock<'a>,
    _mark: Mark<'a>,
}

impl DetachedDevicePage<'_> {
    /// As [`DevicePage::address`].
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// As [`DevicePage::len_bytes`].
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// As [`DevicePage::lsn`].
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }
}

impl Bus {
    /// As [`Bus::view`], for a caller whose threads are not known.
    ///
    /// # Errors
    /// As [`Bus::view`].
    pub fn view_detached(&self, pages: &[PageId]) -> Result<DetachedView<'_>, ReadError> {
        self.state().view_detached(pages)
    }

    /// As [`Bus::read`], for a caller whose threads are not known.
    ///
    /// # Errors
    /// As [`Bus::read`].
    pub fn read_detached(&self, page: PageId) -> Result<DetachedPage<'_>, ReadError> {
        self.state().read_detached(page)
    }

    /// As [`Bus::device_page`], for a caller whose threads are not known.
    ///
    /// # Errors
    /// As [`Bus::device_page`].
    pub fn device_page_detached(&self, page: PageId) -> Result<DetachedDevicePage<'_>, ReadError> {
        let held: DevicePage<'_> = self.device_page(page)?;
        let stripe = self.state().find(page)?.stripe();
        Ok(DetachedDevicePage {
            address: held.address,
            len_bytes: held.len_bytes,
            lsn: held.lsn,
            _resident: held._resident,
            _mark: self.state().stripes.detached.mark_one(stripe),
            _lock: held._lock,
        })
    }
}

impl Replayed {
    /// As [`Replayed::view`], for a caller whose threads are not known.
    ///
    /// # Errors
    /// As [`Replayed::view`].
    pub fn view_detached(&self, pages: &[PageId]) -> Result<DetachedView<'_>, ReadError> {
        self.state().view_detached(pages)
    }
}

impl State {
    fn view_detached(&self, pages: &[PageId]) -> Result<DetachedView<'_>, ReadError> {
        // Counted while its locks are held: a writer that finds one taken in between notices within a millisecond.
        let (view, stripes) = self.view_with_stripes(pages)?;
        Ok(DetachedView {
            pages: view.pages,
            lsn: view.lsn,
            _mark: self.stripes.detached.mark(stripes),
            _locks: view._locks,
        })
    }

    fn read_detached(&self, page: PageId) -> Result<DetachedPage<'_>, ReadError> {
        let guard = self.read(page)?;
        // The page cannot move to another stripe while this one is locked.
        let stripe = self.find(page)?.stripe();
        Ok(DetachedPage {
            bytes: guard.bytes,
            lsn: guard.lsn,
            epoch: guard.epoch,
            _mark: self.stripes.detached.mark_one(stripe),
            _lock: guard._lock,
        })
    }
}
