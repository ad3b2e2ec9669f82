//! Which transaction last wrote a byte.
//!
//! `lives` follows pages through the log, `extents` says who wrote which range of one, `index` keeps the answers in a
//! file that can be made anew at any time.

mod extents;
mod index;
mod lives;

use std::collections::BTreeSet;
use std::io;

pub use index::{INDEX_MAGIC, IndexReport};

use super::error::InspectError;
use super::files::{FileKind, Head, Inspection};
use super::records::{Entry, RecordKind};
use crate::checkpoint::format::{Connection, Manifest};
use crate::checkpoint::load;
use crate::log::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind as StoredKind, Seed};
use crate::log::segment::segment_name;
use crate::lsn::Lsn;
use crate::page::PageId;
use extents::Extent;
use lives::{Life, Lives};

/// Why nobody can be named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlameError {
    /// The directory cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// No transaction that can be read made a page of this id.
    #[error(
        "there is no page {page} up to LSN {until}; ids are INDEX.GENERATION, as the log dump shows them"
    )]
    UnknownPage {
        /// The id.
        page: PageId,
        /// The last transaction that could be read.
        until: Lsn,
    },
    /// The page is shorter.
    #[error("page {page} has {len_bytes} bytes; offset {offset} is behind its end")]
    OutOfRange {
        /// The id.
        page: PageId,
        /// The offset.
        offset: u64,
        /// The length of the page.
        len_bytes: u64,
    },
    /// The index does not belong to the log as it is now.
    #[error("the index is of no use: {why}; make it anew")]
    Index {
        /// What is wrong with it.
        why: String,
    },
    /// The index cannot be read or written.
    #[error("cannot {operation} the index {file}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Name of the file.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Who last wrote a byte of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blame {
    /// The id that was asked for.
    pub page: PageId,
    /// The offset in the page.
    pub offset: u64,
    /// Who wrote the byte.
    pub origin: Origin,
    /// The ids that the page has had, oldest first, each with the transaction that gave it; `None` where that
    /// was before the log begins.
    pub ids: Vec<(PageId, Option<Lsn>)>,
    /// The transaction that freed the page, if it was: the answer is of the moment before.
    pub freed: Option<Lsn>,
    /// The last transaction that was looked at: the end of the log, or where it breaks.
    pub until: Lsn,
    /// Whether the log breaks there, so that later transactions may have written to the page.
    pub is_broken: bool,
}

/// Where the value of a byte comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A transaction wrote it.
    Written {
        /// Its LSN.
        lsn: Lsn,
        /// Name of the segment.
        file: String,
        /// Offset of the record in the segment.
        record_offset: u64,
        /// Offset of the byte in the segment; `None` if the transaction is compressed there.
        byte_offset: Option<u64>,
        /// Whether it was by a disconnect, which makes the bytes that were derived until then the page's own.
        by_disconnect: bool,
    },
    /// Nobody: it is zero since the page was allocated.
    NeverWritten {
        /// The transaction that allocated the page.
        lsn: Lsn,
        /// Name of the segment.
        file: String,
        /// Offset of the record in the segment.
        record_offset: u64,
    },
    /// It is computed from other pages.
    Derived {
        /// The transaction that connected the page; `None` if that was before the log begins.
        since: Option<Lsn>,
    },
    /// Not since the log begins; what was before is gone.
    BeforeLog {
        /// The first transaction that there is.
        first_lsn: Lsn,
    },
}

impl Inspection<'_> {
    /// Who last wrote the byte at `offset` of `page`. Reads the whole log; with an index
    /// ([`Inspection::write_blame_index`], [`Inspection::blame_with_index`]) it need not be.
    ///
    /// An id names a page for good: that of a page that was transferred or freed since is answered too.
    ///
    /// # Errors
    /// See [`BlameError`].
    pub fn blame(&self, page: PageId, offset: u64) -> Result<Blame, BlameError> {
        let read = self.follow(Lives::of_byte(page, offset));
        let until = read.until;
        let life = match read.lives.find(page) {
            Some(life) => life.clone(),
            None => self
                .before_log(page)
                .ok_or(BlameError::UnknownPage { page, until })?,
        };
        self.answer(page, offset, &life, life.extents.at(offset), &read)
    }

    /// Follows pages through what recovery would come to, from the beginning of the log.
    fn follow(&self, lives: Lives) -> Followed {
        let mut followed = Followed {
            lives,
            until: self.first_lsn().previous(),
            is_broken: false,
            end: None,
        };
        for entry in self.entries() {
            match entry {
                Entry::Record(record) if !record.in_order => {
                    followed.is_broken |= record.kind == RecordKind::Transaction;
                }
                Entry::Record(record) => {
                    if record.kind == RecordKind::Transaction {
                        followed.lives.apply(&record);
                        followed.until = record.lsn;
                    }
                    followed.end = Some((record.file, record.offset, record.len_bytes));
                }
                Entry::Segment { .. } | Entry::Missing { .. } | Entry::Gap { .. } => {}
            }
        }
        if self.first_lsn() > Lsn(1)
            && let Some(manifest) = self.oldest_manifest()
        {
            let derived: BTreeSet<u64> = manifest
                .connections
                .iter()
                .map(|connection| connection.child)
                .collect();
            followed
                .lives
                .settle(|page| derived.contains(&page.to_bits()));
        }
        followed
    }

    fn first_lsn(&self) -> Lsn {
        let heads = self.segment_files().filter_map(|file| match file.head {
            Some(Head::Segment { first_lsn, .. }) => Some(first_lsn),
            _ => None,
        });
        heads.min().unwrap_or(Lsn(1))
    }

    fn oldest_manifest(&self) -> Option<Manifest> {
        let identity = self.identity.as_ref()?;
        self.files.iter().find_map(|file| match file.kind {
            FileKind::Manifest(sequence) => load::manifest(self.storage, identity, sequence).ok(),
            _ => None,
        })
    }

    /// A page that no transaction of the log touches, if the oldest checkpoint has it.
    fn before_log(&self, page: PageId) -> Option<Life> {
        let manifest = self.oldest_manifest()?;
        let bits = page.to_bits();
        let entry = manifest.pages.iter().find(|entry| entry.page == bits)?;
        let mut life = Life::unknown(page);
        life.len_bytes = Some(entry.len_bytes);
        let is_derived = |connection: &Connection| connection.child == bits;
        if manifest.connections.iter().any(is_derived) {
            life.derived = Some(None);
        }
        Some(life)
    }

    /// Whether the record at `offset` of a segment is a compressed transaction.
    fn is_compressed(&self, sequence: u64, offset: u64) -> bool {
        let file = segment_name(sequence);
        let seed = Seed::new(&self.identity.unwrap_or_default(), sequence);
        let head = self.read(&file, offset, RECORD_HEADER_BYTES as u64).ok();
        let header = head.and_then(|head| RecordHeader::decode(&head, &seed));
        header.is_some_and(|header| header.kind == StoredKind::CompressedTransaction)
    }

    fn answer(
        &self,
        page: PageId,
        offset: u64,
        life: &Life,
        extent: Option<Extent>,
        read: &Followed,
    ) -> Result<Blame, BlameError> {
        if let Some(len_bytes) = life.len_bytes
            && offset >= len_bytes
        {
            return Err(BlameError::OutOfRange {
                page,
                offset,
                len_bytes,
            });
        }
        let origin = match (life.derived, extent, life.allocated) {
            (Some(since), ..) => Origin::Derived { since },
            (None, Some(extent), _) => Origin::Written {
                lsn: extent.lsn,
                file: segment_name(extent.sequence),
                record_offset: extent.record_offset,
                byte_offset: (!self.is_compressed(extent.sequence, extent.record_offset))
                    .then_some(extent.byte_offset + (offset - extent.start)),
                by_disconnect: extent.by_disconnect,
            },
            (None, None, Some(allocated)) => Origin::NeverWritten {
                lsn: allocated.lsn,
                file: segment_name(allocated.sequence),
                record_offset: allocated.record_offset,
            },
            (None, None, None) => Origin::BeforeLog {
                first_lsn: self.first_lsn(),
            },
        };
        Ok(Blame {
            page,
            offset,
            origin,
            ids: life.ids.clone(),
            freed: life.freed,
            until: read.until,
            is_broken: read.is_broken,
        })
    }
}

/// What following the log came to.
struct Followed {
    lives: Lives,
    until: Lsn,
    is_broken: bool,
    /// The last record: segment, offset, length.
    end: Option<(String, u64, u64)>,
}
