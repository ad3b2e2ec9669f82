//! What can go wrong while a history is imported.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a history cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GitImportError {
    /// The `git` executable cannot be started.
    #[error("`git` cannot be started: {source}; install git 2.31 or newer, or put it in PATH")]
    Start {
        /// The cause.
        source: io::Error,
    },
    /// The directory is no repository that git would read.
    #[error("{} is not a readable git repository: {message}", path.display())]
    Repository {
        /// The directory.
        path: PathBuf,
        /// What git says.
        message: String,
    },
    /// The revision names no commit.
    #[error("revision `{revision}` names no commit: {message}")]
    Revision {
        /// The revision as given.
        revision: String,
        /// What git says.
        message: String,
    },
    /// Blob ids are not SHA-1, so a scenario cannot check them.
    #[error("the repository names objects by {format}; only sha1 can be imported")]
    ObjectFormat {
        /// The format as git names it.
        format: String,
    },
    /// Nothing in the history touches the path.
    #[error(
        "no commit of `{revision}` touches a file under `{path}`; give a path of the repository"
    )]
    Nothing {
        /// The revision as given.
        revision: String,
        /// The path as given.
        path: String,
    },
    /// An object is not in the repository.
    #[error("object {id} is missing; fetch it first (a partial clone lacks some)")]
    MissingObject {
        /// Its id.
        id: String,
    },
    /// A file is longer than the longest page.
    #[error("`{path}` has {len_bytes} bytes, more than a page can have; leave it out by `--path`")]
    TooLarge {
        /// The path of the file.
        path: String,
        /// Its length.
        len_bytes: u64,
    },
    /// Git wrote something unexpected.
    #[error("`git {command}` wrote something unexpected: {what}")]
    Malformed {
        /// The subcommand.
        command: &'static str,
        /// What was not understood.
        what: String,
    },
    /// Git failed half-way.
    #[error("`git {command}` failed: {message}")]
    Failed {
        /// The subcommand.
        command: &'static str,
        /// Its exit status, or what it says.
        message: String,
    },
    /// The exchange with git broke off.
    #[error("the exchange with `git {command}` broke off: {source}")]
    Exchange {
        /// The subcommand.
        command: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Two versions cannot be compared.
    #[error("`{path}` cannot be compared with its earlier version: {source}")]
    Diff {
        /// The path of the file.
        path: String,
        /// The cause.
        source: mmsb_engine::DeltaError,
    },
    /// The trace cannot be written.
    #[error("the trace cannot be written: {source}")]
    Write {
        /// The cause.
        #[from]
        source: io::Error,
    },
}
