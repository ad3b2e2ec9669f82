//! Why a campaign cannot be carried out. That it found something is not an error.

use std::io;
use std::path::PathBuf;

/// Why a campaign cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// A step of the scenario cannot be resumed.
    #[error("a killed process cannot go on with `{verb}` (line {line}): {why}")]
    Unsuitable {
        /// The verb of the step.
        verb: String,
        /// The line it stands in.
        line: u32,
        /// What is in the way.
        why: &'static str,
    },
    /// The directory holds something else.
    #[error("{} is not empty and holds no campaign; choose an empty directory", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds the campaign of another scenario.
    #[error("{} holds a campaign of `{found}`, not of `{wanted}`; choose another directory", directory.display())]
    OtherCampaign {
        /// The directory.
        directory: PathBuf,
        /// Whose campaign it holds.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The notes of the campaign cannot be read.
    #[error("{} is not readable as the notes of a campaign ({why}); remove the directory to begin again", path.display())]
    Notes {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A child could not be started.
    #[error("cannot start a child process: {0}")]
    Spawn(io::Error),
}

impl KillError {
    pub(super) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
