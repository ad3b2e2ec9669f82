//! Why a directory cannot be inspected at all.

use std::io;

/// Why an inspection cannot go on. What is wrong *with* files is never an error: it is what an inspection finds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The operating system refused.
    #[error("cannot read {file}: {source}")]
    Io {
        /// Name of the file or the directory.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// There is no file of that name.
    #[error("there is no file {file}; list the files first")]
    NoFile {
        /// The name asked for.
        file: String,
    },
}

impl InspectError {
    pub(super) fn io(file: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            file: file.to_owned(),
            source,
        }
    }
}
