//! Why a run could not be carried out.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::worker::WorkerError;

/// Why a run could not be carried out; what it finds wrong is no such error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// Something with a file.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What could not be done.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A worker could not be started.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The directory holds a run already.
    #[error("{} holds a run already; go on with it with --resume, or name another directory", .0.display())]
    Exists(PathBuf),
    /// The directory holds no run, or one of another version.
    #[error("{} is not the state of a run that this program can go on with: {why}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Shards that do not belong together.
    #[error("{} and {} are no shards of one run: {why}", one.display(), other.display())]
    Apart {
        /// The first directory.
        one: PathBuf,
        /// The other.
        other: PathBuf,
        /// What differs.
        why: &'static str,
    },
    /// A worker could not do what it was asked for.
    #[error("a worker could not do its job: {0}")]
    Job(String),
}

impl RunError {
    pub(super) fn file<'a>(
        what: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<'a> {
        move |source| Self::File {
            what,
            path: path.to_owned(),
            source,
        }
    }
}
