//! Finding the records, by their headers alone.

use std::sync::Arc;

use super::{Source, Stop};
use crate::log::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RUN_HEAD_BYTES, RecordHeader, RecordKind,
    SEGMENT_HEADER_BYTES, Seed, align_up, run_position,
};
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::storage::StorageFile;

/// What is read to see whether a record is long, after one that was: long ones come together.
const PEEK_BYTES: u64 = 4096;
/// A record whose runs are shorter than this on average is none that can be taken piece by piece.
const LEAST_RUN_BYTES: u64 = 32 << 10;

/// What one slot is filled with.
pub(super) enum Job {
    /// Whole records, which the slot holds already.
    Records(Vec<(usize, RecordHeader)>),
    /// A part of a long record, which is to be read.
    Piece(Piece),
}

/// A part of a long record.
pub(super) struct Piece {
    pub(super) file: Arc<dyn StorageFile>,
    /// Where it is in the file.
    pub(super) position: u64,
    pub(super) len_bytes: usize,
    /// What of it is written where on the device: position in the piece, place, length.
    pub(super) writes: Vec<(usize, u64, usize)>,
    /// Whether it is the first of its record.
    pub(super) is_first: bool,
    /// The checksum of the body of the record, if this is the last.
    pub(super) body_crc: Option<u32>,
}

/// A long record of which parts are still to be taken.
struct Long {
    position: u64,
    end: u64,
    body_crc: u32,
    is_first: bool,
    /// Position in the file, place on the device and length of what is needed, in order.
    writes: Vec<(u64, u64, u64)>,
    /// The first of them that does not end before `position`.
    next_write: usize,
}

pub(super) struct Walker<'a> {
    source: &'a Source<'a>,
    segment: usize,
    file: Arc<dyn StorageFile>,
    seed: Seed,
    position: u64,
    lsn: Lsn,
    long: Option<Long>,
    /// What is read of records that are short: half a slot. Their tables take three quarters of that at most.
    records_bytes: u64,
    /// How much of a long record is taken at a time at most: leaves room for the tables, 32 B for each 4 KiB and each run.
    piece_bytes: u64,
    /// Whether the record before was long.
    peeks: bool,
    records: u64,
}

impl<'a> Walker<'a> {
    pub(super) fn new(source: &'a Source<'a>, slot_bytes: usize) -> Result<Self, Stop> {
        let segments = &source.map.segments;
        let after =
            segments.partition_point(|segment| segment.header.first_lsn <= source.first_lsn);
        let segment = after
            .checked_sub(1)
            .ok_or(Stop::Irregular("the log begins after the first page"))?;
        let (file, seed, first_lsn) = open(source, segment)?;
        Ok(Self {
            source,
            segment,
            file,
            seed,
            position: SEGMENT_HEADER_BYTES,
            lsn: Lsn(first_lsn.0.saturating_sub(1)),
            long: None,
            records_bytes: slot_bytes as u64 / 2,
            piece_bytes: (slot_bytes - slot_bytes / 16) as u64 & !4095,
            peeks: true,
            records: 0,
        })
    }

    /// Transactions seen.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// What comes next; `slot` holds it afterwards, or is to be filled with it. `None` at the end.
    pub(super) fn next(&mut self, slot: &mut [u8]) -> Result<Option<Job>, Stop> {
        loop {
            if let Some(long) = &mut self.long {
                let piece = long.next_piece(&self.file, self.piece_bytes);
                if piece.body_crc.is_some() {
                    self.position = long.end;
                    self.long = None;
                }
                return Ok(Some(Job::Piece(piece)));
            }
            if self.lsn >= self.source.last_lsn {
                return Ok(None);
            }
            let file_bytes = self.segment_len_bytes();
            let wanted = if self.peeks {
                PEEK_BYTES
            } else {
                self.records_bytes
            };
            let len = wanted.min(file_bytes.saturating_sub(self.position));
            let window = slot
                .get_mut(..len as usize)
                .ok_or(Stop::Irregular("a slot is too short"))?;
            read(&*self.file, window, self.position)?;
            let Some(header) = RecordHeader::decode(window, &self.seed) else {
                self.next_segment()?;
                continue;
            };
            if header.len_bytes > self.records_bytes {
                self.peeks = true;
                self.begin_long(&header)?;
                continue;
            }
            if header.len_bytes > len {
                if std::mem::take(&mut self.peeks) {
                    continue;
                }
                return Err(Stop::Irregular("a record reaches past its segment"));
            }
            let records = self.take_whole(window)?;
            if !records.is_empty() {
                self.peeks = false;
                return Ok(Some(Job::Records(records)));
            }
        }
    }

    fn segment_len_bytes(&self) -> u64 {
        let segment = self.source.map.segments.get(self.segment);
        segment.map_or(0, |segment| segment.len_bytes)
    }

    fn next_segment(&mut self) -> Result<(), Stop> {
        self.segment += 1;
        let (file, seed, first_lsn) = open(self.source, self.segment)?;
        if first_lsn != self.lsn.next() {
            return Err(Stop::Irregular("a segment ends early"));
        }
        (self.file, self.seed, self.position) = (file, seed, SEGMENT_HEADER_BYTES);
        Ok(())
    }

    /// The records that lie in `window` as a whole, but for those that hold nothing.
    fn take_whole(&mut self, window: &[u8]) -> Result<Vec<(usize, RecordHeader)>, Stop> {
        let mut records = Vec::new();
        let mut at = 0;
        while self.lsn < self.source.last_lsn
            && let Some(header) = window
                .get(at..)
                .and_then(|rest| RecordHeader::decode(rest, &self.seed))
        {
            let end = at as u64 + header.len_bytes;
            if end > window.len() as u64 {
                break;
            }
            if header.kind.is_transaction() {
                self.follow(&header)?;
                if header.run_count > 0 {
                    records.push((at, header));
                }
            }
            at = end as usize;
        }
        self.position += at as u64;
        Ok(records)
    }

    fn follow(&mut self, header: &RecordHeader) -> Result<(), Stop> {
        if header.kind == RecordKind::CompressedTransaction {
            return Err(Stop::Irregular("a record is compressed"));
        }
        if header.lsn != self.lsn.next() {
            return Err(Stop::Irregular("a record is missing"));
        }
        self.lsn = header.lsn;
        self.records += 1;
        Ok(())
    }

    /// Looks at the heads of the runs of a record that is longer than a window.
    fn begin_long(&mut self, header: &RecordHeader) -> Result<(), Stop> {
        let end = self.position + header.len_bytes;
        if end > self.segment_len_bytes() {
            return Err(Stop::Irregular("a record reaches past its segment"));
        }
        if !header.kind.is_transaction() {
            self.position = end;
            return Ok(());
        }
        self.follow(header)?;
        if header.len_bytes / u64::from(header.run_count.max(1)) < LEAST_RUN_BYTES {
            return Err(Stop::Irregular("a long record has short runs"));
        }
        let body = self.position + RECORD_HEADER_BYTES as u64;
        let stream = body + align_up(u64::from(header.ops_bytes), RECORD_ALIGN_BYTES);
        let mut writes = Vec::new();
        let mut cursor = 0;
        for _ in 0..header.run_count {
            if stream + cursor + RUN_HEAD_BYTES as u64 > end {
                return Err(Stop::Irregular("a run reaches past its record"));
            }
            let mut head = [0; RUN_HEAD_BYTES];
            read(&*self.file, &mut head, stream + cursor)?;
            let head = u128::from_le_bytes(head);
            let page = PageId::new(head as u32, (head >> 32) as u32);
            let offset = u64::from((head >> 64) as u32);
            let len_bytes = u64::from((head >> 96) as u32) + 1;
            let start = run_position(cursor + RUN_HEAD_BYTES as u64, offset, len_bytes);
            if stream + start + len_bytes > end {
                return Err(Stop::Irregular("a run reaches past its record"));
            }
            if let Some(place) = self.source.place(page, header.lsn, offset, len_bytes)? {
                writes.push((stream + start, place, len_bytes));
            }
            cursor = align_up(start + len_bytes, RECORD_ALIGN_BYTES);
        }
        self.long = Some(Long {
            position: body,
            end,
            body_crc: header.body_crc,
            is_first: true,
            writes,
            next_write: 0,
        });
        Ok(())
    }
}

impl Long {
    fn next_piece(&mut self, file: &Arc<dyn StorageFile>, piece_bytes: u64) -> Piece {
        // Pieces of one length, so that none is a slot of its own for the little that is left.
        let left = self.end - self.position;
        let pieces = (left + 4095).div_ceil(piece_bytes).max(1);
        // Cut where the file's pages are, so that payloads keep their alignment.
        let cut = (self.position + left.div_ceil(pieces)).next_multiple_of(4096);
        let cut = cut.min((self.position + piece_bytes) & !4095);
        let end = cut.min(self.end);
        let start = self.position;
        let mut writes = Vec::new();
        let mut next = self.next_write;
        while let Some((from, place, len_bytes)) = self.writes.get(next).copied()
            && from < end
        {
            let (first, last) = (from.max(start), (from + len_bytes).min(end));
            if first < last {
                let at = (first - start) as usize;
                writes.push((at, place + (first - from), (last - first) as usize));
            }
            if from + len_bytes > end {
                break;
            }
            next += 1;
        }
        self.next_write = next;
        self.position = end;
        Piece {
            file: Arc::clone(file),
            position: start,
            len_bytes: (end - start) as usize,
            writes,
            is_first: std::mem::take(&mut self.is_first),
            body_crc: (end == self.end).then_some(self.body_crc),
        }
    }
}

fn open(source: &Source<'_>, segment: usize) -> Result<(Arc<dyn StorageFile>, Seed, Lsn), Stop> {
    let segment = source.map.segments.get(segment);
    let segment = segment.ok_or(Stop::Irregular("the log ends early"))?;
    let file = source.storage.open(&segment.name, false);
    let file = file.map_err(|_| Stop::Irregular("a segment cannot be opened"))?;
    let seed = Seed::new(&source.map.identity, segment.header.sequence);
    Ok((Arc::from(file), seed, segment.header.first_lsn))
}

pub(super) fn read(file: &dyn StorageFile, into: &mut [u8], position: u64) -> Result<(), Stop> {
    file.read_exact_at(into, position)
        .map_err(|_| Stop::Irregular("a segment cannot be read"))
}
