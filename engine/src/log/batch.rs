//! Checked records, some at a time, with the buffer that they stand in.

use std::ops::{Range, RangeInclusive};

use super::compression::{UnpackFault, unpack};
use super::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind, Seed, align_up,
};
use super::record::Record;
use crate::checksum::{Sums, with_crc32c};
use crate::lsn::Lsn;

/// Longer buffers for what was decompressed are given back to the system.
const KEPT_UNPACKED_BYTES: usize = 4 << 20;

/// Where a record stands in its batch. Its LSN follows from which one of the batch it is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where the stored stream begins, and where the record ends.
    stream_start: usize,
    end: usize,
    ops_bytes: u32,
    run_count: u32,
    /// Zero, or one more than the index of what became of its compressed stream.
    packed: u32,
}

impl Place {
    /// The operations and the stored stream of the record in its buffer.
    #[inline(always)]
    fn split<'b>(&self, buffer: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let stream = buffer.get(self.stream_start..self.end)?;
        if self.ops_bytes == 0 {
            return Some((&[], stream));
        }
        let padded = align_up(u64::from(self.ops_bytes), RECORD_ALIGN_BYTES);
        let start = self
            .stream_start
            .checked_sub(usize::try_from(padded).ok()?)?;
        let ops = buffer.get(start..start + self.ops_bytes as usize)?;
        Some((ops, stream))
    }
}

/// What became of a compressed stream.
#[derive(Clone, Debug)]
enum Packed {
    /// Where it is among what was decompressed.
    Unpacked(Range<usize>),
    /// Nowhere.
    Faulty(UnpackFault),
    /// Nobody wants it.
    Skipped,
}

/// Where to stop checking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Records before this one are passed over: their streams stay compressed.
    pub from: Lsn,
    /// How much is checked for one batch.
    pub portion_bytes: usize,
    /// How much is decompressed for one batch.
    pub unpacked_bytes: usize,
}

/// Why checking stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A limit was reached; more may follow.
    Limit,
    /// A record begins here, and does not end in the buffer.
    Longer { len_bytes: u64 },
    /// No good record follows.
    Nothing,
}

/// Checked records, with the buffer that they stand in.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What was read of the file.
    pub(super) buffer: Vec<u8>,
    /// What of it was not looked at yet.
    pub(super) unchecked: Option<Unchecked>,
    /// The LSN of the first record; the others follow without a gap.
    first_lsn: Lsn,
    places: Vec<Place>,
    /// How many of the records have operations.
    with_ops: usize,
    packed: Vec<Packed>,
    /// The streams of compressed records.
    unpacked: Vec<u8>,
}

/// What was read and not looked at yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unchecked {
    pub segment: usize,
    /// Where it stands in the file.
    pub position: u64,
    /// Where it stands in the buffer.
    pub at: usize,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn lsn(&self, at: usize) -> Lsn {
        Lsn(self.first_lsn.0.saturating_add(at as u64))
    }

    /// The first and the last LSN, if no record has operations: all there is to do is to apply their streams.
    pub(crate) fn plain_lsns(&self) -> Option<RangeInclusive<Lsn>> {
        let last = self.places.len().checked_sub(1)?;
        (self.with_ops == 0).then_some(self.first_lsn..=self.lsn(last))
    }

    /// The records at `range`, in order.
    pub(crate) fn records(&self, range: Range<usize>) -> impl Iterator<Item = Record<'_>> {
        let first = self.lsn(range.start).0;
        let places = self.places.get(range).unwrap_or_default();
        places
            .iter()
            .zip(first..)
            .filter_map(|(place, lsn)| self.record(place, Lsn(lsn)))
    }

    #[inline(always)]
    fn record(&self, place: &Place, lsn: Lsn) -> Option<Record<'_>> {
        let (ops, stored) = place.split(&self.buffer)?;
        let (stream, fault) = if place.packed == 0 {
            (stored, None)
        } else {
            self.unpacked(place.packed)?
        };
        Some(Record {
            lsn,
            ops,
            run_count: place.run_count,
            stream,
            fault,
        })
    }

    #[cold]
    fn unpacked(&self, packed: u32) -> Option<(&[u8], Option<UnpackFault>)> {
        match self.packed.get(packed.checked_sub(1)? as usize)? {
            Packed::Unpacked(range) => Some((self.unpacked.get(range.clone())?, None)),
            Packed::Faulty(fault) => Some((&[], Some(*fault))),
            Packed::Skipped => Some((&[], None)),
        }
    }

    /// Forgets the records. The next one to come is `first_lsn`.
    pub(super) fn clear(&mut self, first_lsn: Lsn) {
        self.first_lsn = first_lsn;
        self.places.clear();
        self.with_ops = 0;
        self.packed.clear();
        self.unpacked.clear();
        self.unpacked.shrink_to(KEPT_UNPACKED_BYTES);
    }

    /// Checks the records of the buffer from `start` on, until there is a reason to stop. Returns where that was.
    pub(super) fn check(&mut self, start: usize, seed: &Seed, limits: &Limits) -> (usize, Stop) {
        with_crc32c(Check {
            batch: self,
            start,
            seed,
            limits,
        })
    }

    /// Decompresses the stream of a record, if it is wanted.
    #[cold]
    fn unpack(&mut self, place: &mut Place, wanted: bool) {
        let stored = place.split(&self.buffer);
        let stored = stored.map_or(&[][..], |(_, stored)| stored);
        let start = self.unpacked.len();
        self.packed.push(if !wanted {
            Packed::Skipped
        } else if let Err(fault) = unpack(stored, &mut self.unpacked) {
            Packed::Faulty(fault)
        } else {
            Packed::Unpacked(start..self.unpacked.len())
        });
        place.packed = u32::try_from(self.packed.len()).unwrap_or(u32::MAX);
    }
}

struct Check<'a> {
    batch: &'a mut Batch,
    start: usize,
    seed: &'a Seed,
    limits: &'a Limits,
}

impl Sums for Check<'_> {
    type Output = (usize, Stop);

    #[inline(always)]
    fn run(self, crc32c: impl Fn(&[u8]) -> u32 + Copy) -> (usize, Stop) {
        let Self { batch, limits, .. } = self;
        let enough = self.start.saturating_add(limits.portion_bytes);
        let mut at = self.start;
        let mut lsn = batch.lsn(batch.places.len());
        loop {
            match parse(&batch.buffer, at, self.seed, lsn, crc32c) {
                Parsed::Record { mut place, packed } => {
                    if packed {
                        batch.unpack(&mut place, lsn >= limits.from);
                    }
                    batch.with_ops += usize::from(place.ops_bytes > 0);
                    at = place.end;
                    lsn = lsn.next();
                    batch.places.push(place);
                    if at >= enough || batch.unpacked.len() >= limits.unpacked_bytes {
                        return (at, Stop::Limit);
                    }
                }
                Parsed::Other { end } => at = end,
                Parsed::Longer { len_bytes } => return (at, Stop::Longer { len_bytes }),
                Parsed::Nothing => return (at, Stop::Nothing),
            }
        }
    }
}

/// What stands at a place of a log.
enum Parsed {
    Record {
        place: Place,
        /// Whether its stream is compressed.
        packed: bool,
    },
    /// Padding, or the note of a close.
    Other {
        end: usize,
    },
    /// A good header whose record does not end in the buffer.
    Longer {
        len_bytes: u64,
    },
    Nothing,
}

#[inline(always)]
fn parse(
    buffer: &[u8],
    at: usize,
    seed: &Seed,
    expected: Lsn,
    crc32c: impl Fn(&[u8]) -> u32 + Copy,
) -> Parsed {
    let Some(rest) = buffer.get(at..) else {
        return Parsed::Nothing;
    };
    if rest.len() < RECORD_HEADER_BYTES {
        // Too little left to tell; more may follow in the file.
        return Parsed::Longer {
            len_bytes: RECORD_HEADER_BYTES as u64,
        };
    }
    let Some(header) = RecordHeader::decode_with(rest, seed, crc32c) else {
        return Parsed::Nothing;
    };
    let lsn = match header.kind {
        RecordKind::Transaction | RecordKind::CompressedTransaction => expected,
        RecordKind::Padding | RecordKind::Close => expected.previous(),
    };
    if header.lsn != lsn {
        return Parsed::Nothing;
    }
    let len = match usize::try_from(header.len_bytes) {
        Ok(len) if len <= rest.len() => len,
        _ => {
            return Parsed::Longer {
                len_bytes: header.len_bytes,
            };
        }
    };
    if !header.kind.is_transaction() {
        return Parsed::Other { end: at + len };
    }
    let body = rest.get(RECORD_HEADER_BYTES..len).unwrap_or_default();
    let padded = align_up(u64::from(header.ops_bytes), RECORD_ALIGN_BYTES);
    if padded > body.len() as u64 || crc32c(body) != header.body_crc {
        return Parsed::Nothing;
    }
    Parsed::Record {
        place: Place {
            stream_start: at + RECORD_HEADER_BYTES + padded as usize,
            end: at + len,
            ops_bytes: header.ops_bytes,
            run_count: header.run_count,
            packed: 0,
        },
        packed: header.kind == RecordKind::CompressedTransaction,
    }
}
