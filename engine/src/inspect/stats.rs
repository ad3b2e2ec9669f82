//! Figures of a log.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::files::{FileKind, Head, Inspection};
use super::records::{Entry, Operation, Record, RecordKind};
use crate::lsn::Lsn;
use crate::page::PageId;

/// Figures of a directory. Only what is intact is counted, also behind damage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Files by kind, in a fixed order; kinds of which there are none are left out.
    pub kinds: Vec<KindStats>,
    /// Records of all kinds.
    pub records: u64,
    /// Records that are transactions.
    pub transactions: u64,
    /// Bytes of transactions, their heads included.
    pub transaction_bytes: u64,
    /// Transactions whose writes are compressed.
    pub compressed: u64,
    /// Their writes, heads and alignment included, as they are stored.
    pub compressed_bytes: u64,
    /// The same, uncompressed.
    pub uncompressed_bytes: u64,
    /// Bytes of padding records.
    pub padding_bytes: u64,
    /// Writes.
    pub runs: u64,
    /// Bytes that were written to pages.
    pub payload_bytes: u64,
    /// Structural operations.
    pub operations: OperationStats,
    /// The first and the last transaction.
    pub lsns: Option<(Lsn, Lsn)>,
    /// The highest LSN that a record names as durable.
    pub durable_lsn: Lsn,
    /// The longest transaction: LSN, segment, offset, length in bytes.
    pub largest: Option<(Lsn, String, u64, u64)>,
    /// Lengths of writes.
    pub run_lengths: Histogram,
    /// Lengths of transactions, their heads included.
    pub record_lengths: Histogram,
    /// Pages that were written to; counted by id, so a page that was transferred counts twice.
    pub written_pages: u64,
    /// Those that were written to most: by bytes, then by writes, then by id.
    pub top_pages: Vec<PageStats>,
    /// Checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointStats>,
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindStats {
    /// `segments`, `spares`, `manifests`, `images`, `unfinished`, or `other`.
    pub kind: &'static str,
    /// How many there are.
    pub files: u64,
    /// How long they are together.
    pub bytes: u64,
}

/// How often each operation occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationStats {
    /// Pages allocated.
    pub allocate: u64,
    /// Pages freed.
    pub free: u64,
    /// Pages transferred.
    pub transfer: u64,
    /// Pages connected.
    pub connect: u64,
    /// Pages disconnected.
    pub disconnect: u64,
    /// Annotations set or removed.
    pub annotate: u64,
}

/// What was written to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageStats {
    /// Its id.
    pub page: PageId,
    /// How many runs.
    pub writes: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// A checkpoint that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointStats {
    /// Its number.
    pub sequence: u64,
    /// The log is applied after this LSN.
    pub replay_after: Lsn,
    /// Pages that there were.
    pub pages: u64,
    /// Image files that it needs.
    pub chain_files: u64,
    /// Bytes of them that it needs.
    pub chain_bytes: u64,
}

/// Counts by powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: BTreeMap<u32, u64>,
}

impl Histogram {
    fn add(&mut self, value: u64) {
        if let Some(bucket) = value.checked_ilog2() {
            *self.buckets.entry(bucket).or_default() += 1;
        }
    }

    /// The buckets that are not empty: the lowest value of each (a power of two; it goes up to twice that), and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets
            .iter()
            .map(|(bucket, count)| (1 << bucket, *count))
    }
}

impl Inspection<'_> {
    /// Counts what there is. At most `top` pages are listed. Reads the log; takes memory in proportion to the pages.
    #[must_use]
    pub fn stats(&self, top: usize) -> Stats {
        let mut stats = Stats::default();
        self.count_files(&mut stats);
        let mut pages: BTreeMap<PageId, (u64, u64)> = BTreeMap::new();
        for entry in self.entries() {
            if let Entry::Record(record) = entry {
                stats.record(&record, &mut pages);
            }
        }
        stats.written_pages = pages.len() as u64;
        let mut pages: Vec<_> = pages.into_iter().collect();
        pages.sort_by_key(|(page, (writes, bytes))| (Reverse(*bytes), Reverse(*writes), *page));
        pages.truncate(top);
        let pages = pages.into_iter();
        stats.top_pages = pages
            .map(|(page, (writes, bytes))| PageStats {
                page,
                writes,
                bytes,
            })
            .collect();
        stats
    }

    fn count_files(&self, stats: &mut Stats) {
        let kinds = [
            "segments",
            "spares",
            "manifests",
            "images",
            "close mark",
            "unfinished",
            "other",
        ];
        for kind in kinds {
            let of_kind = || self.files.iter().filter(|file| name_of(file.kind) == kind);
            let files = of_kind().count() as u64;
            if files > 0 {
                let bytes = of_kind().map(|file| file.len_bytes).sum();
                stats.kinds.push(KindStats { kind, files, bytes });
            }
        }
        for file in &self.files {
            if let (
                FileKind::Manifest(sequence),
                Some(Head::Manifest {
                    replay_after,
                    pages,
                    images,
                    ..
                }),
            ) = (file.kind, &file.head)
            {
                stats.checkpoints.push(CheckpointStats {
                    sequence,
                    replay_after: *replay_after,
                    pages: *pages,
                    chain_files: images.len() as u64,
                    chain_bytes: images.iter().map(|(_, len_bytes)| len_bytes).sum(),
                });
            }
        }
    }
}

const fn name_of(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Segment(_) => "segments",
        FileKind::Spare(_) => "spares",
        FileKind::Manifest(_) => "manifests",
        FileKind::Images(_) => "images",
        FileKind::CloseMark => "close mark",
        FileKind::Unfinished => "unfinished",
        FileKind::Other => "other",
    }
}

impl Stats {
    fn record(&mut self, record: &Record, pages: &mut BTreeMap<PageId, (u64, u64)>) {
        self.records += 1;
        self.durable_lsn = self.durable_lsn.max(record.durable_lsn);
        match record.kind {
            RecordKind::Transaction => {}
            RecordKind::Padding => {
                self.padding_bytes += record.len_bytes;
                return;
            }
            RecordKind::Close => return,
        }
        self.transactions += 1;
        self.transaction_bytes += record.len_bytes;
        self.record_lengths.add(record.len_bytes);
        if let Some(compression) = record.compression {
            self.compressed += 1;
            self.compressed_bytes += compression.stored_bytes;
            self.uncompressed_bytes += compression.stream_bytes;
        }
        self.lsns = Some(self.lsns.map_or((record.lsn, record.lsn), |(first, last)| {
            (first.min(record.lsn), last.max(record.lsn))
        }));
        let largest = self
            .largest
            .as_ref()
            .map_or(0, |(.., len_bytes)| *len_bytes);
        if record.len_bytes > largest {
            self.largest = Some((
                record.lsn,
                record.file.clone(),
                record.offset,
                record.len_bytes,
            ));
        }
        for run in &record.runs {
            self.runs += 1;
            self.payload_bytes += run.len_bytes;
            self.run_lengths.add(run.len_bytes);
            let (writes, bytes) = pages.entry(run.page).or_default();
            *writes += 1;
            *bytes += run.len_bytes;
        }
        for operation in &record.operations {
            let counts = &mut self.operations;
            *match operation {
                Operation::Allocate { .. } => &mut counts.allocate,
                Operation::Free { .. } => &mut counts.free,
                Operation::Transfer { .. } => &mut counts.transfer,
                Operation::Connect { .. } => &mut counts.connect,
                Operation::Disconnect { .. } => &mut counts.disconnect,
                Operation::Annotate { .. } => &mut counts.annotate,
            } += 1;
        }
    }
}
