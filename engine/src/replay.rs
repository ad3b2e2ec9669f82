//! States of the past, rebuilt from the log.

use std::path::Path;

use crate::bus::{PageInfo, ReadError, ReadGuard, View};
use crate::digest::Digest;
use crate::log::error::LogError;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::page::PageId;
use crate::recovery::{RecoveryError, rebuild};
use crate::state::State;
use crate::storage::{FileStorage, Storage};

/// A state as of one LSN, to be read and compared. It has no connection to any bus.
pub struct Replayed {
    state: State,
    lsn: Lsn,
    from_checkpoint: bool,
}

impl std::fmt::Debug for Replayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayed")
            .field("lsn", &self.lsn)
            .finish_non_exhaustive()
    }
}

/// Rebuilds the state of the bus in `directory` as of `until`, or as of its end, from its log.
///
/// The directory is only read, so this works on one that cannot be written to. While a bus has it
/// open, what that bus has not handed to the operating system yet is not seen.
///
/// If its pages do not fit on the device they are in host memory, as they are where there is no device.
///
/// Where checkpoints have replaced the beginning of the log, the state starts from the oldest one that still can be used.
///
/// # Errors
/// See [`RecoveryError`].
pub fn replay(
    directory: impl AsRef<Path>,
    until: Option<Lsn>,
    options: Options,
) -> Result<Replayed, RecoveryError> {
    let storage = FileStorage::existing(directory.as_ref()).map_err(|source| LogError::Io {
        file: directory.as_ref().display().to_string(),
        source,
    })?;
    replay_from(&storage, until, &options)
}

/// As [`replay`], from any storage.
///
/// # Errors
/// See [`RecoveryError`].
pub fn replay_from(
    storage: &dyn Storage,
    until: Option<Lsn>,
    options: &Options,
) -> Result<Replayed, RecoveryError> {
    if until == Some(Lsn::ZERO) {
        return Ok(Replayed {
            state: State::new(options)?,
            lsn: Lsn::ZERO,
            from_checkpoint: false,
        });
    }
    let no_log = || RecoveryError::NoLog {
        place: storage.describe(),
    };
    let mut rebuilt = rebuild(storage, options, until, true)?.ok_or_else(no_log)?;
    if rebuilt.state.has_evicted() {
        // Nobody brings back what does not fit on the device, and a state is the same wherever its pages are.
        drop(rebuilt);
        let mut options = options.clone();
        (options.device, options.device_options.resident_bytes) = (None, None);
        rebuilt = rebuild(storage, &options, until, true)?.ok_or_else(no_log)?;
    }
    Ok(Replayed {
        state: rebuilt.state,
        lsn: rebuilt.lsn,
        from_checkpoint: rebuilt.checkpoint.is_some(),
    })
}

impl Replayed {
    /// The LSN that the state is as of.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Whether the beginning of the log was gone and a checkpoint stood in for it.
    #[must_use]
    pub const fn is_from_checkpoint(&self) -> bool {
        self.from_checkpoint
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// The bytes of a page.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, page: PageId) -> Result<ReadGuard<'_>, ReadError> {
        self.state.read(page)
    }

    /// The bytes of several pages.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn view(&self, pages: &[PageId]) -> Result<View<'_>, ReadError> {
        self.state.view(pages)
    }

    /// What is known of a page besides its bytes.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn info(&self, page: PageId) -> Result<PageInfo, ReadError> {
        self.state.info(page)
    }

    /// All pages in id order.
    #[must_use]
    pub fn pages(&self) -> Vec<PageId> {
        self.state.pages()
    }

    /// The digest of all pages.
    ///
    /// # Errors
    /// None but those of [`crate::Bus::digest`].
    pub fn digest(&self) -> Result<Digest, ReadError> {
        self.state.digest()
    }
}
