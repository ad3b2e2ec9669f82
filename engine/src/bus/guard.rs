//! Reading pages: guards of one, views of several, digests of all.

use crate::planted::planted;
use std::borrow::Cow;
use std::ops::Deref;

use super::Bus;
use crate::device::DeviceError;
use crate::digest::{Digest, StateDigester};
use crate::graph::StaleReason;
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::state::State;
use crate::state::content::SharedLock;
use crate::state::detached::ViewHeld;
use crate::state::memory::DEVICE_START;
use crate::state::stripes::{Held, Patience, StripeSet};
use crate::state::structure::Structure;
use crate::state::table::{PageFault, Slot};
use crate::state::wave::StripeState;

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No page ever had this id.
    #[error("page {page} does not exist")]
    UnknownPage {
        /// The id that was given.
        page: PageId,
    },
    /// The page was freed, or transferred to a new id.
    #[error("page {page} was freed or transferred; the id is stale")]
    StalePage {
        /// The id that was given.
        page: PageId,
    },
    /// A transform failed, so the page has no bytes that mean anything.
    #[error("page {page} is stale since the transform of page {origin} failed: {reason}")]
    StaleDerived {
        /// The page that was to be read.
        page: PageId,
        /// The page whose transform failed.
        origin: PageId,
        /// Why.
        reason: StaleReason,
    },
    /// The page is on a device that failed; the bus has to restore it from the log.
    #[error("page {page} is on a device that failed: {fault}")]
    Device {
        /// The page that was to be read.
        page: PageId,
        /// What went wrong.
        fault: DeviceError,
    },
    /// The page is in host memory, and was asked for as one on a device.
    #[error("page {page} is not on a device; read it where it is")]
    NotOnDevice {
        /// The page.
        page: PageId,
    },
    /// A deferred wave has to run before the page can be read, and this thread holds a guard that it may have to wait for.
    #[error(
        "page {page} awaits a wave, but this thread holds {guards} guards; call propagate before taking them"
    )]
    GuardHeld {
        /// The page that was to be read.
        page: PageId,
        /// How many guards there are.
        guards: usize,
    },
    /// A deferred wave has to run before the page can be read, and detached views keep it from the lock.
    #[error(
        "page {page} awaits a wave, but {views} detached views hold its lock; release them first"
    )]
    ViewHeld {
        /// The page that was to be read.
        page: PageId,
        /// How many views there are.
        views: usize,
    },
}

impl ReadError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Device { fault, .. } => fault.kind(),
            Self::NotOnDevice { .. } => "page.not-on-device",
            Self::UnknownPage { .. } => "page.unknown",
            Self::StalePage { .. } => "page.stale",
            Self::StaleDerived { .. } => "derived.stale",
            Self::GuardHeld { .. } => "guard.held",
            Self::ViewHeld { .. } => "view.held",
        }
    }
}

/// The bytes of a page, where they are: nothing is copied, unless the page is on a device. Commits to the page wait until it
/// is dropped.
#[derive(Debug)]
pub struct ReadGuard<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) lsn: Lsn,
    pub(super) epoch: u64,
    _held: Held,
    pub(super) _lock: SharedLock<'a>,
}

impl ReadGuard<'_> {
    /// LSN of the last transaction that wrote to the page; zero for none. Of a derived page it says nothing.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// How many transactions have written to the page; for a derived page, how many waves of this process changed it.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Deref for ReadGuard<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes of several pages as of one moment: no commit is in it in part.
#[derive(Debug)]
pub struct View<'a> {
    pub(super) pages: Vec<(PageId, Cow<'a, [u8]>)>,
    pub(super) lsn: Lsn,
    _held: Held,
    pub(super) _locks: Vec<SharedLock<'a>>,
}

impl View<'_> {
    /// The bytes of a page of the view.
    #[must_use]
    pub fn page(&self, page: PageId) -> Option<&[u8]> {
        self.pages
            .iter()
            .find_map(|(id, bytes)| (*id == page).then_some(&**bytes))
    }

    /// All pages, in the order in which they were asked for.
    pub fn pages(&self) -> impl Iterator<Item = (PageId, &[u8])> {
        self.pages.iter().map(|(page, bytes)| (*page, &**bytes))
    }

    /// The highest LSN among the transactions that wrote to these pages.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }
}

impl Bus {
    /// The bytes of `page`, as the last commit left them. Of a derived page, recomputed if need be.
    ///
    /// Waits for commits to the page that are under way. As long as the guard lives, commits to the page, and to the few that share its
    /// lock, wait; a commit on the same thread is refused.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, page: PageId) -> Result<ReadGuard<'_>, ReadError> {
        self.state().read(page)
    }

    /// The bytes of all `pages`, as of one moment.
    ///
    /// # Errors
    /// See [`ReadError`]; it names the first page that cannot be read.
    pub fn view(&self, pages: &[PageId]) -> Result<View<'_>, ReadError> {
        self.state().view(pages)
    }

    /// The digest of all pages, as of one moment. Reads every byte, and commits wait meanwhile.
    ///
    /// # Errors
    /// [`ReadError::GuardHeld`] when a wave is pending and this thread holds a guard.
    pub fn digest(&self) -> Result<Digest, ReadError> {
        self.state().digest()
    }
}

impl State {
    pub(crate) fn read(&self, page: PageId) -> Result<ReadGuard<'_>, ReadError> {
        loop {
            let Some((slot, lock)) = self.lock_shared(page) else {
                self.confirm_missing(page)?;
                continue;
            };
            if slot.is_derived() {
                if !lock.pending.is_empty() {
                    drop(lock);
                    self.catch_up(page)?;
                    continue;
                }
                self.check_fresh(page, &lock)?;
            }
            return Ok(ReadGuard {
                // SAFETY: the lock of the stripe goes with the bytes.
                bytes: unsafe { self.bytes(slot) }
                    .map_err(|fault| ReadError::Device { page, fault })?,
                lsn: Lsn(slot.lsn()),
                epoch: slot.epoch(),
                _held: self.count_guard(),
                _lock: lock,
            });
        }
    }

    pub(crate) fn view(&self, pages: &[PageId]) -> Result<View<'_>, ReadError> {
        if planted!(ViewPageByPage) {
            return self.view_page_by_page(pages);
        }
        self.view_with_stripes(pages).map(|(view, _)| view)
    }

    /// A view, and the stripes that it holds.
    pub(super) fn view_with_stripes(
        &self,
        pages: &[PageId],
    ) -> Result<(View<'_>, StripeSet), ReadError> {
        'again: loop {
            let mut stripes = StripeSet::default();
            for page in pages {
                let Some(slot) = self.table.live(*page) else {
                    self.confirm_missing(*page)?;
                    continue 'again;
                };
                stripes.insert(slot.stripe());
            }
            let is_reader = self.stripes.is_reader();
            if !is_reader {
                self.stripes.pass();
            }
            // Whoever holds the first of these locks must not queue behind a writer for the next.
            let held = self.count_guard();
            let mut locks = Vec::new();
            for (position, stripe) in stripes.iter().enumerate() {
                let recursively = position > 0 || is_reader;
                locks.extend(self.stripes.shared(stripe, recursively));
            }
            let mut found = Vec::with_capacity(pages.len());
            let mut lsn = 0;
            for page in pages {
                let Some(slot) = self.table.live(*page) else {
                    continue 'again;
                };
                let position = stripes.iter().position(|stripe| stripe == slot.stripe());
                let Some(lock) = position.and_then(|position| locks.get(position)) else {
                    // The page moved to another stripe before its lock was taken.
                    continue 'again;
                };
                if slot.is_derived() {
                    if !lock.pending.is_empty() && !planted!(ViewBehind) {
                        drop((locks, held));
                        self.catch_up(*page)?;
                        continue 'again;
                    }
                    self.check_fresh(*page, lock)?;
                }
                lsn = lsn.max(slot.lsn());
                // SAFETY: the lock of the stripe goes with the bytes.
                let bytes = unsafe { self.bytes(slot) };
                let bytes = bytes.map_err(|fault| ReadError::Device { page: *page, fault })?;
                found.push((*page, bytes));
            }
            let view = View {
                pages: found,
                lsn: Lsn(lsn),
                _held: held,
                _locks: locks,
            };
            return Ok((view, stripes));
        }
    }

    /// A planted bug.
    fn view_page_by_page(&self, pages: &[PageId]) -> Result<View<'_>, ReadError> {
        let mut found = Vec::new();
        for page in pages {
            let guard = self.read(*page)?;
            found.push((*page, Cow::Owned(guard.to_vec())));
        }
        Ok(View {
            pages: found,
            lsn: Lsn::ZERO,
            _held: self.count_guard(),
            _locks: Vec::new(),
        })
    }

    pub(crate) fn digest(&self) -> Result<Digest, ReadError> {
        let guards = crate::state::stripes::held(self.stripes.owner());
        let is_reader = self.stripes.is_reader();
        if !is_reader {
            self.stripes.pass();
        }
        let structure = if is_reader {
            self.structure.read_recursive()
        } else {
            self.structure.read()
        };
        let locks: Vec<_> = StripeSet::ALL
            .iter()
            .filter_map(|stripe| self.stripes.shared(stripe, true))
            .collect();
        if locks.iter().all(|lock| lock.pending.is_empty()) {
            return self.digest_locked(&structure, |stripe| {
                locks.get(stripe as usize).map(|lock| &**lock)
            });
        }
        drop((locks, structure));
        if guards > 0 {
            let page = PageId::new(0, 0);
            return Err(ReadError::GuardHeld { page, guards });
        }
        self.digest_exclusively()
    }

    /// Runs what is pending and digests without letting go in between: else other commits could go on
    /// making something pending for ever.
    fn digest_exclusively(&self) -> Result<Digest, ReadError> {
        let mut patience = Patience::new(&self.stripes);
        loop {
            let structure = self.structure.write();
            match self.stripes.try_exclusive(StripeSet::ALL) {
                Ok(mut locked) => {
                    self.run_pending(&structure.graph, &mut locked);
                    return self.digest_locked(&structure, |stripe| locked.get(stripe));
                }
                Err(busy) => {
                    drop(structure);
                    self.refuse_detached(busy, PageId::new(0, 0))?;
                    patience.wait_for(busy);
                }
            }
        }
    }

    /// Digests all pages. The caller holds all stripes; `stripe` gives what they protect.
    fn digest_locked<'a>(
        &self,
        structure: &Structure,
        stripe: impl Fn(u32) -> Option<&'a StripeState>,
    ) -> Result<Digest, ReadError> {
        let mut digester = StateDigester::new();
        let mut of_device = self.digest_device(structure)?.into_iter();
        for index in 0..structure.used {
            let Some(slot) = self.table.slot(index).filter(|slot| slot.is_live()) else {
                continue;
            };
            let page = PageId::new(index, slot.generation());
            let is_stale = slot.is_derived()
                && stripe(slot.stripe()).is_some_and(|state| {
                    self.stale_reason(&structure.graph, page, state).is_some()
                });
            let digest = if slot.offset() >= DEVICE_START {
                of_device.next().unwrap_or_else(|| Digest::of(&[]))
            } else {
                // SAFETY: all stripes are locked.
                let bytes = unsafe { self.bytes(slot) };
                Digest::of(&bytes.map_err(|fault| ReadError::Device { page, fault })?)
            };
            digester.page(page, slot.len_bytes(), (!is_stale).then_some(digest));
        }
        Ok(digester.finish())
    }

    /// The digests of all pages on the device, which computes them, in id order. The caller holds all stripes.
    fn digest_device(&self, structure: &Structure) -> Result<Vec<Digest>, ReadError> {
        let pages: Vec<(PageId, &Slot)> = self.device_slots(structure).collect();
        let slots: Vec<&Slot> = pages.iter().map(|(_, slot)| *slot).collect();
        self.device_digests(&slots)
            .map_err(|fault| ReadError::Device {
                page: pages.first().map_or(PageId::new(0, 0), |(page, _)| *page),
                fault,
            })
    }

    /// Runs the deferred wave that `page` waits for.
    pub(super) fn catch_up(&self, page: PageId) -> Result<(), ReadError> {
        let guards = crate::state::stripes::held(self.stripes.owner());
        if guards > 0 {
            return Err(ReadError::GuardHeld { page, guards });
        }
        loop {
            let structure = self.structure.read();
            let Some(slot) = self.table.live(page) else {
                return Ok(());
            };
            let mut stripe = StripeSet::default();
            stripe.insert(slot.stripe());
            match self.stripes.try_exclusive(stripe) {
                Ok(mut locked) => {
                    self.run_pending(&structure.graph, &mut locked);
                    return Ok(());
                }
                Err(busy) => {
                    drop(structure);
                    self.refuse_detached(busy, page)?;
                    self.stripes.wait_for(busy);
                }
            }
        }
    }

    /// Runs all deferred waves, one stripe at a time. The thread holds no guard.
    pub(crate) fn run_all_pending(&self) -> Result<(), ViewHeld> {
        for number in StripeSet::ALL.iter() {
            let mut stripe = StripeSet::default();
            stripe.insert(number);
            loop {
                let structure = self.structure.read();
                match self.stripes.try_exclusive(stripe) {
                    Ok(mut locked) => {
                        self.run_pending(&structure.graph, &mut locked);
                        break;
                    }
                    Err(busy) => {
                        drop(structure);
                        self.stripes.refuse_detached(busy)?;
                        self.stripes.wait_for(busy);
                    }
                }
            }
        }
        Ok(())
    }

    fn refuse_detached(&self, busy: u32, page: PageId) -> Result<(), ReadError> {
        let refused = self.stripes.refuse_detached(busy);
        refused.map_err(|ViewHeld { views }| ReadError::ViewHeld { page, views })
    }

    pub(super) fn check_fresh(&self, page: PageId, lock: &SharedLock<'_>) -> Result<(), ReadError> {
        if lock.stale.is_empty() {
            return Ok(());
        }
        // The graph does not change while a stripe is locked, but for pages of other stripes; a reader that
        // holds a lock must not queue for this one.
        let structure = self.structure.read_recursive();
        match self.stale_reason(&structure.graph, page, lock) {
            None => Ok(()),
            Some((origin, reason)) => Err(ReadError::StaleDerived {
                page,
                origin,
                reason,
            }),
        }
    }

    /// What to do where a page was not found without a lock: it may be in the middle of a structural commit, which may yet be
    /// taken back. So this waits until none is under way. `Ok` means that the page is there, and to be looked for again.
    pub(super) fn confirm_missing(&self, page: PageId) -> Result<(), ReadError> {
        // Whoever holds the structure exclusively waits for no stripe meanwhile, so a thread with guards may wait for it.
        let _structure = self.structure.read_recursive();
        self.find(page).map(drop)
    }

    /// Why a page is not there. The caller holds the structure lock.
    fn missing(&self, page: PageId) -> ReadError {
        match self.table.explain(page) {
            PageFault::Stale => ReadError::StalePage { page },
            PageFault::Unknown => ReadError::UnknownPage { page },
        }
    }

    /// The slot of a live page. The caller holds the structure lock.
    pub(crate) fn find(&self, page: PageId) -> Result<&Slot, ReadError> {
        self.table.live(page).ok_or_else(|| self.missing(page))
    }
}
