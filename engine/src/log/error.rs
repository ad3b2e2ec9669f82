//! Why a log cannot be read.

use std::io;

use super::format::{COMPRESSED_VERSION, NEWEST_VERSION};
use crate::lsn::Lsn;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot read {file}: {source}")]
    Io {
        /// Name of the file or the directory.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file has the name of a segment and is none, or belongs to another log.
    #[error("{file} is not a segment of this log ({why}); move it away")]
    Foreign {
        /// Name of the file.
        file: String,
        /// What gave it away.
        why: String,
    },
    /// The header of a segment is not intact.
    #[error(
        "the header of {file} is damaged ({why}); restore the file from a copy, or salvage what can be proven good"
    )]
    DamagedHeader {
        /// Name of the file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The log was written by a newer version.
    #[error(
        "{file} has log format version {version}, this build reads up to {NEWEST_VERSION}; use a newer build{}",
        feature(*version)
    )]
    Newer {
        /// Name of the file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// A segment between two others is not there.
    #[error("segment {file} is missing; restore it from a copy, or salvage what the others hold")]
    Missing {
        /// Name of the file.
        file: String,
    },
    /// A record that is known to have been durable is not intact.
    #[error(
        "{file} is damaged at offset {offset}: LSN {lsn} is not intact, although {evidence} shows that LSN {known_durable} \
         was durable; restore the file from a copy, or salvage what can be proven good"
    )]
    Damaged {
        /// Name of the file.
        file: String,
        /// Byte offset of the record.
        offset: u64,
        /// LSN that should stand there.
        lsn: Lsn,
        /// What is known to have been durable.
        known_durable: Lsn,
        /// What says so.
        evidence: String,
    },
}

/// What else reads a version, if this build could.
const fn feature(version: u32) -> &'static str {
    if version == COMPRESSED_VERSION {
        ", or one with the feature zstd"
    } else {
        ""
    }
}
