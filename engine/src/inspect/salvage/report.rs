//! What salvaging comes to.

use std::fmt;
use std::io;

use crate::digest::Digest;
use crate::inspect::InspectError;
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::recovery::RecoveryError;

/// So many pages are named in a message; [`Loss::Stranded`] has them all.
const NAMED_PAGES: usize = 8;

/// Why nothing could be salvaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// The source cannot be read at all.
    #[error(transparent)]
    Source(#[from] InspectError),
    /// The target holds something.
    #[error("{place} is not empty ({file} is there); give a new directory")]
    NotEmpty {
        /// Where it is.
        place: String,
        /// A file in it.
        file: String,
    },
    /// The operating system refused to read the source a second time, or to write the target.
    #[error("cannot {operation} {file}: {source}; what was written is of no use, remove it")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Name of the file or the directory.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// There is neither a record nor a checkpoint that says which log this is.
    #[error("nothing intact says which log this is: there is nothing to salvage")]
    NothingProven,
    /// What was salvaged cannot be recovered.
    #[error("what was salvaged does not open: {0}")]
    Unproven(#[source] RecoveryError),
}

/// What was salvaged, and what was not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// What the salvaged state starts from.
    pub start: Start,
    /// First transaction in the salvaged log; one more than `last_lsn` if it holds none.
    pub first_lsn: Lsn,
    /// The salvaged state is as of this LSN.
    pub last_lsn: Lsn,
    /// The digest of the salvaged state. `None` if it could not be computed.
    pub digest: Option<Digest>,
    /// Why the salvaged directory could not be tried, if it could not: it uses transforms that the options do not have.
    pub unverified: Option<String>,
    /// What is not in the target. Empty if the source was whole.
    pub losses: Vec<Loss>,
    /// What is in the target other than it was in the source, without loss.
    pub repairs: Vec<String>,
    /// The files that were written.
    pub files: Vec<String>,
}

/// What a salvaged state starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The empty state before the first transaction.
    Beginning,
    /// A checkpoint.
    Checkpoint {
        /// Its number.
        sequence: u64,
        /// The log is applied after this LSN.
        replay_after: Lsn,
    },
}

/// Something of the source that is not in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Transactions of which no intact record is left, although something intact names them or what is after them.
    Transactions {
        /// The first.
        first: Lsn,
        /// The last.
        last: Lsn,
    },
    /// Transactions whose records are intact, but cannot be applied because one before them is lost.
    /// What these pages held after them cannot be proven.
    Stranded {
        /// The first.
        first: Lsn,
        /// The last.
        last: Lsn,
        /// The segment that the first is in.
        file: String,
        /// The pages that they wrote to, made or gave up, by id.
        pages: Vec<PageId>,
    },
    /// Transactions whose effect is in the salvaged state, by way of a checkpoint, but which can no longer be replayed.
    History {
        /// The first.
        first: Lsn,
        /// The last.
        last: Lsn,
    },
    /// Bytes behind the last transaction that are no record. A crash leaves such; nothing intact says
    /// that they were ever acknowledged.
    Tail {
        /// The segment.
        file: String,
        /// Offset of the first of them.
        offset: u64,
    },
    /// A file that is of no use.
    File {
        /// Its name.
        file: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |f: &mut fmt::Formatter<'_>, first: &Lsn, last: &Lsn| {
            if first == last {
                write!(f, "LSN {first}")
            } else {
                write!(f, "LSN {first} to {last}")
            }
        };
        match self {
            Self::Transactions { first, last } => {
                range(f, first, last)?;
                f.write_str(": no intact record is left")
            }
            Self::Stranded {
                first,
                last,
                file,
                pages,
            } => {
                range(f, first, last)?;
                write!(f, ": intact in {file}, but what was before is lost; page")?;
                for (number, page) in pages.iter().take(NAMED_PAGES).enumerate() {
                    let separator = if number == 0 { "" } else { "," };
                    write!(f, "{separator} {page}")?;
                }
                match pages.len().saturating_sub(NAMED_PAGES) {
                    0 => f.write_str(" changed"),
                    more => write!(f, " and {more} more changed"),
                }
            }
            Self::History { first, last } => {
                range(f, first, last)?;
                f.write_str(": in the state by way of a checkpoint, but no longer to be replayed")
            }
            Self::Tail { file, offset } => {
                write!(
                    f,
                    "{file} from offset {offset} on: no record, never known to be durable"
                )
            }
            Self::File { file, why } => write!(f, "{file} {why}"),
        }
    }
}
