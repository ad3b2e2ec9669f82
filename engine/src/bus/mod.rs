//! The bus: everything that a user of the engine holds.
//!
//! `open` recovers or creates, `guard` gives guards and views, `export` shows pages to other processes, `inspect` tells about pages and figures.
//! Changes go through [`crate::Transaction`].

mod detached;
mod device;
#[cfg(all(target_os = "linux", not(miri)))]
mod export;
mod guard;
mod inspect;
mod open;
mod residency;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use detached::{DetachedDevicePage, DetachedPage, DetachedView};
pub use device::{DevicePage, DeviceRestored, RestoreDeviceError};
#[cfg(all(target_os = "linux", not(miri)))]
pub use export::{ExportError, Moment, SharedPage, SharedReadError};
pub use guard::{ReadError, ReadGuard, View};
pub use inspect::{PageInfo, Statistics};
pub use open::{OpenError, OpenReport};
pub use residency::Residency;

use crate::checkpoint::{CheckpointError, CheckpointReport, Checkpoints};
use crate::clock::Clock;
use crate::event::{Publisher, Subscription, WakeFn};
use crate::log::Poison;
use crate::log::mark::{self, MARK_NAME};
use crate::log::writer::LogWriter;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::page::PageId;
use crate::state::State;
use crate::storage::{Storage, StorageLock};
use crate::sync::{Mutex, RwLock, RwLockWriteGuard};
use crate::transaction::{Transaction, TransactionError};

/// A state bus: pages that change only through transactions, totally ordered in one log.
///
/// It is `Send + Sync`; share it by reference or in an [`Arc`]. Commits that touch different pages run in parallel,
/// and the order of their LSNs is one in which they could have run one after the other.
///
/// Dropping it hands what is buffered to the operating system; [`Bus::close`] also makes it durable.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use mmsb_engine::{Bus, Durability, Options, replay};
/// let options = Options { segment_bytes: 1 << 16, ..Options::default() };
///
/// let bus = Bus::open(directory.path(), options.clone())?;
/// let mut transaction = bus.begin();
/// let new = transaction.allocate(64)?;
/// transaction.write(new, 0, b"state")?;
/// let page = transaction.commit(Durability::Sync)?.page(new).ok_or("just allocated")?;
/// let digest = bus.digest()?;
/// bus.close()?;
///
/// let bus = Bus::open(directory.path(), options.clone())?;
/// assert_eq!(&bus.read(page)?[..5], b"state");
/// bus.close()?;
/// assert_eq!(replay(directory.path(), None, options)?.digest()?, digest);
/// # Ok(()) }
/// ```
pub struct Bus {
    state: Arc<State>,
    log: Arc<LogWriter>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    options: Options,
    publisher: Publisher,
    checkpoints: Mutex<Checkpoints>,
    report: OpenReport,
    /// The LSN that the mark of the last close names.
    marked_lsn: Lsn,
    /// Held exclusively by who removes files of the log, and shared by who reads them while the bus is open.
    files: Arc<RwLock<()>>,
    abandoned: bool,
    // Last, so that the next owner comes in when everything else is gone.
    _lock: Box<dyn StorageLock>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus")
            .field("storage", &self.storage.describe())
            .field("last_lsn", &self.log.last_lsn())
            .finish_non_exhaustive()
    }
}

impl Bus {
    /// Begins a transaction. Nothing happens until it is committed.
    pub fn begin(&self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// What opening found and did.
    #[must_use]
    pub const fn opened(&self) -> &OpenReport {
        &self.report
    }

    /// LSN of the last commit.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.log.last_lsn()
    }

    /// Everything up to this LSN is durable.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.log.durable_lsn()
    }

    /// The error that made the bus read-only, if one did.
    #[must_use]
    pub fn poisoned(&self) -> Option<Poison> {
        self.log.check().err()
    }

    /// Makes every commit so far durable.
    ///
    /// # Errors
    /// When the disk fails; the bus is read-only then.
    pub fn sync(&self) -> Result<Lsn, TransactionError> {
        let lsn = self.log.last_lsn();
        self.log.sync(lsn)?;
        Ok(lsn)
    }

    /// Prepares the next segment of the log if none is waiting, and says whether it had to.
    ///
    /// The engine starts no threads, so this is for a thread of yours to call now and then: a commit that
    /// comes to the end of a segment then finds the next one filled with zeros. Without it the commit creates one itself,
    /// and syncs in it cost more.
    ///
    /// # Errors
    /// When the disk fails; the bus is read-only then.
    pub fn maintain(&self) -> Result<bool, TransactionError> {
        Ok(self.log.prepare_spare()?)
    }

    /// Recomputes the derived pages whose parents changed since the last wave. Nothing to do where waves are eager.
    ///
    /// # Errors
    /// [`TransactionError::GuardHeld`] when this thread holds a guard or a view, [`TransactionError::ViewHeld`] when a detached
    /// one holds a lock that is needed.
    pub fn propagate(&self) -> Result<(), TransactionError> {
        let guards = crate::state::stripes::held(self.state.stripes.owner());
        if guards > 0 {
            return Err(TransactionError::GuardHeld { guards });
        }
        Ok(self.state.run_all_pending()?)
    }

    /// Writes a checkpoint: recovery then starts from it instead of from the beginning of the log.
    /// Commits go on meanwhile; one checkpoint runs at a time.
    ///
    /// # Errors
    /// When the disk fails, the bus is read-only then; or when this thread holds a guard or a view.
    pub fn checkpoint(&self) -> Result<CheckpointReport, CheckpointError> {
        self.checkpoints.lock().take(self)
    }

    /// Subscribes to commits. At most `capacity` events (at least 1) wait to be taken; then the oldest is lost, and counted.
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.publisher.subscribe(capacity, None)
    }

    /// As [`Bus::subscribe`]; `wake` is called by a commit that puts an event into an empty queue. It runs under locks of the
    /// commit: it must not wait, nor use the bus.
    pub fn subscribe_with(&self, capacity: usize, wake: WakeFn) -> Subscription {
        self.publisher.subscribe(capacity, Some(wake))
    }

    /// Makes everything durable, notes in the log and in a file of its own that this was the end, and lets the next
    /// owner in.
    ///
    /// # Errors
    /// When the disk fails. The directory is released all the same.
    pub fn close(self) -> Result<(), TransactionError> {
        self.log.check()?;
        self.log.close()?;
        let last_lsn = self.log.last_lsn();
        if last_lsn > self.marked_lsn {
            let identity = self.checkpoints.lock().identity;
            mark::write(&*self.storage, &identity, last_lsn)
                .map_err(|error| self.log.poison("write", MARK_NAME, None, &error))?;
        }
        Ok(())
    }

    /// Lets go of the directory without writing what is buffered, as if the process had died here.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn log(&self) -> &LogWriter {
        &self.log
    }

    /// Nobody reads files of the log until the result is dropped.
    pub(crate) fn own_files(&self) -> RwLockWriteGuard<'_, ()> {
        self.files.write()
    }

    pub(crate) const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) const fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Tells subscribers of a commit. Called in the order of LSNs.
    pub(crate) fn publish(&self, pages: Option<BTreeSet<PageId>>, lsn: Lsn) {
        if let Some(pages) = pages {
            self.publisher
                .publish(&crate::transaction::event_of(pages, lsn));
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        if !self.abandoned {
            // Best effort: whoever needs to know whether it worked calls `close`.
            let _ = self.log.flush(self.log.last_lsn());
        }
    }
}
