//! The log as a stream of what stands in it, going on behind damage.

use std::ops::Range;

use super::error::InspectError;
use super::files::{FileInfo, FileKind, Head, Inspection};
use super::walk::{Piece, PieceKind, Walk};
use crate::codec;
use crate::log::compression::unpack;
use crate::log::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind as Stored, Runs, Seed,
    align_up,
};
use crate::log::record::{Op, TransformId};
use crate::log::segment::{parse_segment_name, segment_name};
use crate::lsn::Lsn;
use crate::options::Progress;
use crate::page::{Location, PageId};

/// What stands in the log, in the order of files and offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A segment begins here; `fault` if its header is of no use.
    Segment {
        /// Name of the file.
        file: String,
        /// What is wrong with its header.
        fault: Option<String>,
    },
    /// A segment that should be here and is not.
    Missing {
        /// Name of the file.
        file: String,
    },
    /// A record whose checksums match.
    Record(Record),
    /// Bytes that are no record.
    Gap {
        /// Name of the file.
        file: String,
        /// Offset in the file.
        offset: u64,
        /// Length.
        len_bytes: u64,
        /// What they are.
        kind: GapKind,
    },
}

/// What bytes are that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapKind {
    /// Zeros.
    Zeros,
    /// Something else: torn, damaged, or what an earlier life of the file left.
    Unknown,
    /// The operating system refuses to read them.
    Unreadable,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// One transaction.
    Transaction,
    /// Fills the file up to an alignment.
    Padding,
    /// The bus was closed.
    Close,
}

/// A record whose checksums match.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Name of the segment.
    pub file: String,
    /// Offset in the file.
    pub offset: u64,
    /// Length, header and alignment included.
    pub len_bytes: u64,
    /// What it is.
    pub kind: RecordKind,
    /// Its LSN; for padding and the note of a close, that of the transaction before.
    pub lsn: Lsn,
    /// Everything up to this LSN was durable when it was written; [`Lsn::ZERO`] says nothing.
    pub durable_lsn: Lsn,
    /// Whether everything before it is there, so that recovery comes to it. False behind a gap.
    pub in_order: bool,
    /// Structural operations, in their order.
    pub operations: Vec<Operation>,
    /// Writes, in their order.
    pub runs: Vec<RunInfo>,
    /// If the writes of the transaction are compressed: how much that saved.
    pub compression: Option<Compressed>,
    /// What is wrong with its contents, though the checksums match: a different engine wrote it.
    pub malformed: Option<String>,
}

/// How long the writes of a transaction are, their heads and alignment included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compressed {
    /// As they stand in the segment.
    pub stored_bytes: u64,
    /// Uncompressed; zero where only the outline of a record is known, or it is malformed.
    pub stream_bytes: u64,
}

/// A structural operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A page of zeros was made.
    Allocate {
        /// Its id.
        page: PageId,
        /// Its length.
        len_bytes: u64,
        /// Where its bytes live.
        location: Location,
    },
    /// A page was given up.
    Free {
        /// Its id.
        page: PageId,
    },
    /// A page got another id.
    Transfer {
        /// The id before.
        old: PageId,
        /// The id from now on.
        new: PageId,
    },
    /// A page became derived.
    Connect {
        /// Its id.
        child: PageId,
        /// What it is computed with.
        transform: TransformId,
        /// What it is computed from.
        parents: Vec<PageId>,
    },
    /// A derived page became an ordinary one; its bytes are the first run of the record for it.
    Disconnect {
        /// Its id.
        child: PageId,
    },
    /// A key of a page's metadata was set, or removed.
    Annotate {
        /// The id of the page.
        page: PageId,
        /// The key.
        key: String,
        /// The value; `None` removes it.
        value: Option<Vec<u8>>,
    },
}

/// Bytes that a transaction wrote to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInfo {
    /// The page.
    pub page: PageId,
    /// Offset in the page.
    pub offset: u64,
    /// Length.
    pub len_bytes: u64,
    /// Where the bytes stand in the segment; `None` if they are compressed.
    pub file_offset: Option<u64>,
    /// Where the bytes stand in the stream of the record; see [`Inspection::stream`].
    pub stream_offset: u64,
    /// Where in the segment the bytes would stand if the stream were not compressed.
    pub(super) place: u64,
}

impl From<Op> for Operation {
    fn from(op: Op) -> Self {
        let id = PageId::from_bits;
        match op {
            Op::Allocate {
                page,
                len_bytes,
                location,
            } => Self::Allocate {
                page: id(page),
                len_bytes,
                location,
            },
            Op::Free { page } => Self::Free { page: id(page) },
            Op::Transfer { old, new } => Self::Transfer {
                old: id(old),
                new: id(new),
            },
            Op::Connect {
                child,
                transform,
                parents,
            } => Self::Connect {
                child: id(child),
                transform,
                parents: parents.into_iter().map(id).collect(),
            },
            Op::Disconnect { child } => Self::Disconnect { child: id(child) },
            Op::Annotate { page, key, value } => Self::Annotate {
                page: id(page),
                key,
                value,
            },
        }
    }
}

impl Operation {
    /// The page that it is about, by the id that is valid afterwards.
    #[must_use]
    pub const fn page(&self) -> PageId {
        match self {
            Self::Allocate { page, .. } | Self::Free { page } | Self::Annotate { page, .. } => {
                *page
            }
            Self::Transfer { new, .. } => *new,
            Self::Connect { child, .. } | Self::Disconnect { child } => *child,
        }
    }
}

/// Walks all segments; see [`Inspection::entries`]. Holds one window of one file in memory, or one record if
/// that is longer.
pub struct Entries<'a> {
    inspection: &'a Inspection<'a>,
    segments: Range<usize>,
    /// Number of the segment that should come next.
    next_sequence: Option<u64>,
    open: Option<Open<'a>>,
    /// What recovery would look for next; `None` before the first segment and behind a gap.
    expected: Option<Lsn>,
    is_broken: bool,
    /// Whether operations and runs are decoded.
    is_deep: bool,
    total_bytes: u64,
    /// How much was read when it was last told.
    told_bytes: u64,
}

/// Progress is told once so many bytes were read.
const TELL_BYTES: u64 = 1 << 20;

struct Open<'a> {
    info: &'a FileInfo,
    walk: Walk,
    /// A gap was passed in this segment: what follows in it is out of order.
    has_gap: bool,
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

impl<'a> Inspection<'a> {
    /// What stands in the log, from the first file on.
    #[must_use]
    pub fn entries(&'a self) -> Entries<'a> {
        self.walk_from(0, true)
    }

    /// As [`Inspection::entries`], from the segment that would hold `lsn`.
    #[must_use]
    pub fn entries_from(&'a self, lsn: Lsn) -> Entries<'a> {
        let holds = |(_, info): &(usize, &FileInfo)| matches!(info.head, Some(Head::Segment { first_lsn, .. }) if first_lsn <= lsn);
        let start = self.segment_files().enumerate().filter(holds).last();
        self.walk_from(start.map_or(0, |(index, _)| index), true)
    }

    /// As [`Inspection::entries`], without the contents of records.
    pub(super) fn outline(&'a self) -> Entries<'a> {
        self.walk_from(0, false)
    }

    fn walk_from(&'a self, first: usize, is_deep: bool) -> Entries<'a> {
        Entries {
            inspection: self,
            total_bytes: self.segment_files().skip(first).map(FileInfo::limit).sum(),
            told_bytes: 0,
            segments: first..self.segment_files().count(),
            next_sequence: None,
            open: None,
            expected: None,
            is_broken: false,
            is_deep,
        }
    }

    /// The stream of a transaction: its writes with their heads, uncompressed. The bytes of a write stand at its
    /// [`RunInfo::stream_offset`].
    ///
    /// # Errors
    /// When the record cannot be read, is no longer what it was, or cannot be decompressed.
    pub fn stream(&self, record: &Record) -> Result<Vec<u8>, InspectError> {
        let wrong = |why: String| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
            InspectError::io(&record.file)(source)
        };
        let gone = || wrong(format!("no record is at offset {} now", record.offset));
        let sequence = parse_segment_name(&record.file).ok_or_else(gone)?;
        let seed = Seed::new(&self.identity.unwrap_or_default(), sequence);
        let bytes = self.read(&record.file, record.offset, record.len_bytes)?;
        let header = RecordHeader::decode(&bytes, &seed)
            .filter(|header| header.lsn == record.lsn && header.len_bytes == record.len_bytes)
            .ok_or_else(gone)?;
        let body = bytes.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        let (_, stored) = parts(body, &header).ok_or_else(gone)?;
        if header.kind != Stored::CompressedTransaction {
            return Ok(stored.to_vec());
        }
        let mut stream = Vec::new();
        unpack(stored, &mut stream).map_err(|fault| wrong(fault.to_string()))?;
        Ok(stream)
    }

    pub(super) fn segment_files(&self) -> impl Iterator<Item = &FileInfo> {
        let is_segment = |file: &&FileInfo| matches!(file.kind, FileKind::Segment(_));
        self.files.iter().filter(is_segment)
    }
}

impl Entries<'_> {
    /// Tells how much was read, if somebody wants to know.
    fn tell(&mut self, position: u64) {
        let Some(progress) = &self.inspection.progress else {
            return;
        };
        let files = self.inspection.segment_files();
        let left: u64 = files.skip(self.segments.start).map(FileInfo::limit).sum();
        let open = self.open.as_ref().map_or(0, |open| open.info.limit());
        let left = left + open.saturating_sub(position);
        let done_bytes = self.total_bytes.saturating_sub(left);
        if done_bytes >= self.told_bytes + TELL_BYTES {
            self.told_bytes = done_bytes;
            progress(Progress {
                done_bytes,
                total_bytes: self.total_bytes,
            });
        }
    }

    /// Turns to the next segment, or says that it is missing.
    fn segment(&mut self) -> Option<Entry> {
        let info = self
            .inspection
            .segment_files()
            .nth(self.segments.clone().next()?)?;
        let FileKind::Segment(sequence) = info.kind else {
            return None;
        };
        if let Some(next) = self.next_sequence
            && next < sequence
        {
            self.is_broken = true;
            self.next_sequence = Some(sequence);
            // One entry for all of them: a rotten name could else make us count to 2^64.
            return Some(Entry::Missing {
                file: segment_name(next),
            });
        }
        self.segments.start += 1;
        self.next_sequence = sequence.checked_add(1);
        match &info.head {
            Some(Head::Segment { first_lsn, .. }) => {
                let follows = self.expected.is_none_or(|expected| expected == *first_lsn);
                self.is_broken |= !follows;
                self.expected = Some(*first_lsn);
            }
            _ => self.is_broken = true,
        }
        let opened = self.inspection.storage.open(&info.name, false);
        let seed = Seed::new(&self.inspection.identity.unwrap_or_default(), sequence);
        let walk = opened.and_then(|file| Walk::new(file, seed, info.limit()));
        let fault = info.fault.as_ref().map(ToString::to_string);
        let fault = match walk {
            Ok(walk) => {
                self.open = Some(Open {
                    info,
                    walk,
                    has_gap: false,
                });
                fault
            }
            Err(error) => {
                self.is_broken = true;
                fault.or_else(|| Some(error.to_string()))
            }
        };
        Some(Entry::Segment {
            file: info.name.clone(),
            fault,
        })
    }

    fn record(&mut self, piece: &Piece, header: &RecordHeader) -> Option<Entry> {
        let open = self.open.as_mut()?;
        let is_transaction = header.kind.is_transaction();
        let expected = self.expected.unwrap_or(Lsn::ZERO);
        let wanted = if is_transaction {
            expected
        } else {
            expected.previous()
        };
        let in_order = !self.is_broken && !open.has_gap && header.lsn == wanted;
        if in_order && is_transaction {
            self.expected = Some(expected.next());
        } else if !in_order {
            open.has_gap = true;
        }
        let mut record = Record::bare(&open.info.name, piece.offset, header);
        record.in_order = in_order;
        if is_transaction && self.is_deep {
            let body = open.walk.body(piece.offset, header).unwrap_or_default();
            let result = contents(body, header, &mut record);
            record.malformed = result.err();
        }
        Some(Entry::Record(record))
    }
}

impl Record {
    /// What the header of a record says.
    pub(super) fn bare(file: &str, offset: u64, header: &RecordHeader) -> Self {
        Self {
            file: file.to_owned(),
            offset,
            len_bytes: header.len_bytes,
            kind: match header.kind {
                Stored::Transaction | Stored::CompressedTransaction => RecordKind::Transaction,
                Stored::Padding => RecordKind::Padding,
                Stored::Close => RecordKind::Close,
            },
            lsn: header.lsn,
            durable_lsn: header.durable_lsn,
            in_order: true,
            operations: Vec::new(),
            runs: Vec::new(),
            compression: (header.kind == Stored::CompressedTransaction).then(Compressed::default),
            malformed: None,
        }
    }
}

/// Decodes operations and runs of a transaction.
pub(super) fn contents(
    body: &[u8],
    header: &RecordHeader,
    record: &mut Record,
) -> Result<(), String> {
    let (ops, stored) = parts(body, header).ok_or("its operations do not end in it")?;
    if !ops.is_empty() {
        let ops: Vec<Op> = codec::decode(ops).map_err(|error| error.to_string())?;
        record.operations = ops.into_iter().map(Operation::from).collect();
    }
    let mut unpacked = Vec::new();
    let mut stream = stored;
    if let Some(compression) = &mut record.compression {
        compression.stored_bytes = stored.len() as u64;
        unpack(stored, &mut unpacked).map_err(|fault| fault.to_string())?;
        compression.stream_bytes = unpacked.len() as u64;
        stream = &unpacked;
    }
    let start = record.offset + (RECORD_HEADER_BYTES + body.len() - stored.len()) as u64;
    for run in Runs::new(stream, header.run_count) {
        let run = run.map_err(|error| error.to_string())?;
        record.runs.push(RunInfo {
            page: run.page,
            offset: run.offset,
            len_bytes: run.bytes.len() as u64,
            file_offset: record.compression.is_none().then_some(start + run.position),
            stream_offset: run.position,
            place: start + run.position,
        });
    }
    Ok(())
}

/// The operations of a body, and its stream as it is stored.
fn parts<'b>(body: &'b [u8], header: &RecordHeader) -> Option<(&'b [u8], &'b [u8])> {
    let stream_start = align_up(u64::from(header.ops_bytes), RECORD_ALIGN_BYTES);
    let (ops, stream) = body.split_at_checked(usize::try_from(stream_start).ok()?)?;
    Some((ops.get(..header.ops_bytes as usize)?, stream))
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(open) = &mut self.open else {
            return self.segment();
        };
        let Some(piece) = open.walk.next() else {
            self.open = None;
            return self.segment();
        };
        if self.inspection.progress.is_some() {
            self.tell(piece.offset);
        }
        let kind = match piece.kind {
            PieceKind::Record(header) => return self.record(&piece, &header),
            PieceKind::Zeros => GapKind::Zeros,
            PieceKind::Unknown => GapKind::Unknown,
            PieceKind::Unreadable => GapKind::Unreadable,
        };
        let open = self.open.as_mut()?;
        open.has_gap = true;
        Some(Entry::Gap {
            file: open.info.name.clone(),
            offset: piece.offset,
            len_bytes: piece.len_bytes,
            kind,
        })
    }
}
