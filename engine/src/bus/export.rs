//! Pages shown to other processes: exported here, attached to there.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::{Bus, ReadError};
use crate::lsn::Lsn;
use crate::memory::exported::{BEHIND, STALE};
use crate::memory::{AttachError, Attached, MIN_EXPORTED_BYTES, sequence};
use crate::page::{Location, PageId};
use crate::state::detached::ViewHeld;
use crate::state::stripes::{Exclusive, Patience, StripeSet};
use crate::state::wave::StripeState;

/// Why a page cannot be exported, or its export not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The page cannot be read either.
    #[error(transparent)]
    Page(#[from] ReadError),
    /// The page is not in host memory.
    #[error("page {page} is not in host memory; only pages that are can be exported")]
    NotInHostMemory {
        /// The page.
        page: PageId,
    },
    /// The page shares its memory with other short pages, which would be exported with it.
    #[error(
        "page {page} has {len_bytes} bytes; pages from {MIN_EXPORTED_BYTES} bytes on can be exported, so allocate a longer one"
    )]
    TooShort {
        /// The page.
        page: PageId,
        /// Its length.
        len_bytes: u64,
    },
    /// The operating system refused.
    #[error(
        "cannot export page {page}: {source} (check the limits on descriptors, memory and mappings)"
    )]
    Io {
        /// The page.
        page: PageId,
        /// The operating system's error.
        source: io::Error,
    },
}

impl ExportError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Page(error) => error.kind(),
            Self::NotInHostMemory { .. } => "export.not-host",
            Self::TooShort { .. } => "export.too-short",
            Self::Io { .. } => "export.io",
        }
    }
}

impl Bus {
    /// A descriptor of the memory of `page`, for another process to map: [`SharedPage::attach`], or by hand as `docs/FFI.md`
    /// says. Nothing is copied at commits; the other process sees the page's own memory, and cannot change it.
    ///
    /// The page gets memory of its own, behind the addresses that it has anyway, so nobody sees any other page. That takes one
    /// copy of it, two mappings and a descriptor, once; every call gives another descriptor of the same memory. It ends when the
    /// page is freed, transferred or [withdrawn](Bus::withdraw_page), and when the bus is dropped.
    ///
    /// Waits for guards on the page as a commit to it does.
    ///
    /// # Errors
    /// See [`ExportError`]; [`ReadError::GuardHeld`] when this thread holds a guard, [`ReadError::ViewHeld`] when a detached view
    /// holds the lock.
    pub fn export_page(&self, page: PageId) -> Result<OwnedFd, ExportError> {
        let failed = |source| ExportError::Io { page, source };
        self.with_page_alone(page, |graph, locked| {
            let state = self.state();
            let slot = state.find(page)?;
            let len_bytes = slot.len_bytes();
            if slot.location() != Location::Host {
                return Err(ExportError::NotInHostMemory { page });
            }
            if len_bytes < MIN_EXPORTED_BYTES {
                return Err(ExportError::TooShort { page, len_bytes });
            }
            state.run_pending(graph, locked);
            let memory = state.export(graph, locked, page, slot).map_err(failed)?;
            let memory = memory.ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
            memory.descriptor().map_err(failed)
        })
    }

    /// Ends the export of `page`, if it is exported: who has mapped it keeps what was there last, and is told that it is gone.
    ///
    /// # Errors
    /// As [`Bus::export_page`].
    pub fn withdraw_page(&self, page: PageId) -> Result<(), ExportError> {
        self.with_page_alone(page, |_, locked| {
            self.state().end_export(locked, page.index(), true);
            Ok(())
        })
    }

    /// Runs `work` with the stripe of `page` locked exclusively, and nothing pending in it that it needs to know of.
    fn with_page_alone<T>(
        &self,
        page: PageId,
        work: impl FnOnce(
            &crate::graph::Graph,
            &mut Exclusive<'_, StripeState>,
        ) -> Result<T, ExportError>,
    ) -> Result<T, ExportError> {
        let state = self.state();
        let guards = crate::state::stripes::held(state.stripes.owner());
        if guards > 0 {
            return Err(ReadError::GuardHeld { page, guards }.into());
        }
        let mut patience = Patience::new(&state.stripes);
        loop {
            let structure = state.structure.read();
            let mut stripe = StripeSet::default();
            stripe.insert(state.find(page)?.stripe());
            match state.stripes.try_exclusive(stripe) {
                Ok(mut locked) => return work(&structure.graph, &mut locked),
                Err(busy) => {
                    drop(structure);
                    let refused = state.stripes.refuse_detached(busy);
                    refused.map_err(|ViewHeld { views }| ReadError::ViewHeld { page, views })?;
                    patience.wait_for(busy);
                }
            }
        }
    }
}

/// Why bytes of a page of another process cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedReadError {
    /// The page is being changed, or was while it was read.
    #[error("the page changed while it was read; try again")]
    Changing,
    /// The page was freed, transferred or withdrawn. What is mapped is what was there last.
    #[error("the page was freed, transferred or withdrawn by the process that exported it")]
    Gone,
    /// The bus was closed. What is mapped is what was there last.
    #[error("the bus that exported the page was closed")]
    Closed,
    /// A derived page that awaits a deferred wave.
    #[error("the page awaits a wave; the process that exported it has to read or propagate")]
    Behind,
    /// A derived page whose transform failed.
    #[error("the page is stale, since a transform failed")]
    Stale,
    /// The range is not in the page.
    #[error("the range {offset}..{end} is not in the page, which has {len_bytes} bytes")]
    OutOfRange {
        /// Where it begins.
        offset: u64,
        /// Where it ends.
        end: u64,
        /// Length of the page.
        len_bytes: u64,
    },
}

impl SharedReadError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Changing => "shared.changing",
            Self::Gone => "shared.gone",
            Self::Closed => "shared.closed",
            Self::Behind => "shared.behind",
            Self::Stale => "derived.stale",
            Self::OutOfRange { .. } => "read.out-of-range",
        }
    }
}

/// What a page was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// Even, and another number after each change. Says nothing across two exports.
    pub sequence: u64,
    /// As [`crate::ReadGuard::lsn`].
    pub lsn: Lsn,
    /// As [`crate::ReadGuard::epoch`].
    pub epoch: u64,
}

/// A page of another process' bus (or of this one's), mapped for reading.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use std::os::fd::AsFd;
/// use mmsb_engine::{Bus, Durability, Options, SharedPage};
/// let bus = Bus::open(directory.path(), Options::default())?;
/// let mut transaction = bus.begin();
/// let new = transaction.allocate(1 << 16)?;
/// let page = transaction.commit(Durability::Memory)?.page(new).ok_or("just allocated")?;
///
/// let descriptor = bus.export_page(page)?;
/// // The descriptor goes to another process: by fork, or through a Unix socket. There:
/// let shared = SharedPage::attach(descriptor.as_fd())?;
/// let mut bytes = [0; 5];
/// let before = shared.read(0, &mut bytes)?;
///
/// let mut transaction = bus.begin();
/// transaction.write(page, 0, b"hello")?;
/// let commit = transaction.commit(Durability::Memory)?;
/// let after = shared.read(0, &mut bytes)?;
/// assert_eq!((&bytes, after.lsn), (b"hello", commit.lsn));
/// assert!(after.sequence > before.sequence);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SharedPage {
    attached: Attached,
}

impl SharedPage {
    /// Maps an exported page. The descriptor is needed no more afterwards.
    ///
    /// # Errors
    /// See [`AttachError`]. A file that could be made shorter is refused: reading it could kill this process.
    pub fn attach(descriptor: BorrowedFd<'_>) -> Result<Self, AttachError> {
        let attached = Attached::new(descriptor)?;
        Ok(Self { attached })
    }

    /// The id that the page had when it was exported.
    #[must_use]
    pub fn page(&self) -> PageId {
        PageId::from_bits(self.attached.header().page.load(Ordering::Relaxed))
    }

    /// Length of the page in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.attached.len_bytes()
    }

    /// Where the page is mapped, as long as this lives. The bytes change at any time: what is made of them between
    /// [`SharedPage::begin`] and [`SharedPage::check`] must not be relied on before the latter agrees.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.attached.data()
    }

    /// What the page is now, before it is looked at in place.
    ///
    /// # Errors
    /// See [`SharedReadError`]. With [`SharedReadError::Changing`] try again: it takes as long as a commit to the page does, and for
    /// ever if the other process died in the middle of one.
    pub fn begin(&self) -> Result<Moment, SharedReadError> {
        let header = self.attached.header();
        let sequence = sequence::begin_read(&header.sequence);
        check_word(sequence)?;
        let moment = Moment {
            sequence,
            lsn: Lsn(header.lsn.load(Ordering::Relaxed)),
            epoch: header.epoch.load(Ordering::Relaxed),
        };
        match header.condition.load(Ordering::Relaxed) {
            // The condition is of that moment only if nothing changed meanwhile.
            BEHIND => self
                .check(moment.sequence)
                .and(Err(SharedReadError::Behind)),
            STALE => self.check(moment.sequence).and(Err(SharedReadError::Stale)),
            _ => Ok(moment),
        }
    }

    /// Whether the page is still as it was at the moment with this [`Moment::sequence`]: then everything that was read of it since is of that moment.
    ///
    /// # Errors
    /// [`SharedReadError::Changing`], [`SharedReadError::Gone`] or [`SharedReadError::Closed`].
    pub fn check(&self, sequence: u64) -> Result<(), SharedReadError> {
        let now = sequence::end_read(&self.attached.header().sequence);
        if now == sequence {
            return Ok(());
        }
        check_word(now).and(Err(SharedReadError::Changing))
    }

    /// Copies the bytes from `offset` on to `into`, as of one moment. One try; what `into` holds after an error means nothing.
    ///
    /// # Errors
    /// See [`SharedReadError`].
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<Moment, SharedReadError> {
        let end = offset.saturating_add(into.len());
        let out_of_range = || SharedReadError::OutOfRange {
            offset: offset as u64,
            end: end as u64,
            len_bytes: self.len_bytes() as u64,
        };
        // Said first: it is so whatever the page is.
        if end > self.len_bytes() {
            return Err(out_of_range());
        }
        let moment = self.begin()?;
        self.attached.copy(offset, into).ok_or_else(out_of_range)?;
        self.check(moment.sequence)?;
        Ok(moment)
    }
}

const fn check_word(word: u64) -> Result<(), SharedReadError> {
    match word {
        sequence::GONE => Err(SharedReadError::Gone),
        sequence::CLOSED => Err(SharedReadError::Closed),
        word if word % 2 == 1 => Err(SharedReadError::Changing),
        _ => Ok(()),
    }
}
