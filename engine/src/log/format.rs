//! The bytes of a log segment: one header, then records. `docs/FORMAT.md` says the same in tables.
//!
//! Nothing here does I/O; the writer and the reader share these functions, so that what one writes
//! the other understands.

use crate::checksum::crc32c;
use crate::lsn::Lsn;
use crate::page::PageId;

/// First bytes of every segment file.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"MMSB-LOG";
/// The version of segments without compressed records, which every build reads.
pub(crate) const PLAIN_VERSION: u32 = 1;
/// The version of segments that may hold compressed records.
pub(crate) const COMPRESSED_VERSION: u32 = 2;
/// The newest version that this build reads; newer ones are refused.
pub(crate) const NEWEST_VERSION: u32 = if cfg!(feature = "zstd") {
    COMPRESSED_VERSION
} else {
    PLAIN_VERSION
};
/// Records start here, so that they are aligned for direct transfers.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
/// Encoded part of the segment header that the checksum covers.
const SEGMENT_FIELDS_BYTES: usize = 80;

/// Every record starts at a multiple of this and has a multiple of it as its length.
pub(crate) const RECORD_ALIGN_BYTES: u64 = 16;
/// Length of the fixed part of a record.
pub(crate) const RECORD_HEADER_BYTES: usize = 32;
/// Length of the head of one run.
pub(crate) const RUN_HEAD_BYTES: usize = 16;
/// Runs of at least this length keep their destination's offset within a 4 KiB page.
pub(crate) const LARGE_RUN_BYTES: u64 = 64 * 1024;
/// What the stream of a record with a large run is aligned to in the file.
pub(crate) const LARGE_ALIGN_BYTES: u64 = 4096;
/// A record can not have more bytes of encoded operations than its header can say.
pub(crate) const MAX_OPS_BYTES: usize = (1 << 28) - 1;

/// The fields of a segment header in their order, with their lengths in bytes: what is written and
/// read below, for whoever must name the field that a byte belongs to.
pub(crate) const SEGMENT_HEADER_LAYOUT: &[(&str, u64)] = &[
    ("segment header.magic", 8),
    ("segment header.version", 4),
    ("segment header.length", 4),
    ("segment header.identity", 16),
    ("segment header.sequence", 8),
    ("segment header.first lsn", 8),
    ("segment header.durable lsn", 8),
    ("segment header.created", 8),
    ("segment header.segment length", 8),
    ("segment header.reserved", 8),
    ("segment header.checksum", 4),
    ("segment header.zeros", 4012),
];

/// The fields of the head of a record, as in [`SEGMENT_HEADER_LAYOUT`].
pub(crate) const RECORD_HEADER_LAYOUT: &[(&str, u64)] = &[
    ("record header.length", 4),
    ("record header.checksum", 4),
    ("record header.lsn", 8),
    ("record header.body checksum", 4),
    ("record header.run count", 4),
    ("record header.kind and operations length", 4),
    ("record header.durable gap", 4),
];

/// The fields of the head of a run, as in [`SEGMENT_HEADER_LAYOUT`].
pub(crate) const RUN_HEAD_LAYOUT: &[(&str, u64)] = &[
    ("record.run head.page index", 4),
    ("record.run head.page generation", 4),
    ("record.run head.offset", 4),
    ("record.run head.length", 4),
];

/// Who a log is: drawn once, when the bus is created.
pub(crate) type Identity = [u8; 16];

/// Says which log and which segment a record belongs to. Mixed into every record checksum, so that
/// what an earlier life of a recycled segment left behind never passes for a record.
///
/// A record header's checksum covers identity and sequence number, then the header. A CRC is linear: what
/// the first 24 bytes do to it depends on them and on the length of what follows, and not on what follows. So it
/// is worked out once a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    /// What identity and sequence number add to the checksum of a header.
    contribution: u32,
}

impl Seed {
    pub(crate) fn new(identity: &Identity, sequence: u64) -> Self {
        let mut covered = [0; 24 + RECORD_HEADER_BYTES];
        covered[..16].copy_from_slice(identity);
        covered[16..24].copy_from_slice(&sequence.to_le_bytes());
        Self {
            contribution: crc32c(&covered) ^ crc32c(&[0; RECORD_HEADER_BYTES]),
        }
    }
}

/// The decoded header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// What may stand in the segment: [`PLAIN_VERSION`] or [`COMPRESSED_VERSION`].
    pub version: u32,
    pub identity: Identity,
    /// Counts segments from 1; never used twice in a log, also when a file is recycled.
    pub sequence: u64,
    /// LSN of the first transaction in this segment.
    pub first_lsn: Lsn,
    /// Every LSN up to this one was durable before this header was written.
    pub durable_lsn: Lsn,
    pub created_unix_ns: u64,
    /// Length that the segment was given, this header included.
    pub segment_bytes: u64,
}

/// Why a segment header cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SegmentHeaderError {
    #[error("the file does not start as a log segment does")]
    Foreign,
    #[error("log format version {0} is newer than this build, which reads up to {NEWEST_VERSION}")]
    Newer(u32),
    #[error("the checksum of the segment header does not match")]
    Checksum,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut out = [0; SEGMENT_HEADER_BYTES as usize];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.identity);
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        out[48..56].copy_from_slice(&self.durable_lsn.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.created_unix_ns.to_le_bytes());
        out[64..72].copy_from_slice(&self.segment_bytes.to_le_bytes());
        // 72..80 stay zero: reserved.
        let crc = crc32c(&out[..SEGMENT_FIELDS_BYTES]);
        out[SEGMENT_FIELDS_BYTES..SEGMENT_FIELDS_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Whether the checksum matches, whatever the version.
    pub(crate) fn is_intact(bytes: &[u8]) -> bool {
        let fields = bytes.first_chunk::<SEGMENT_FIELDS_BYTES>();
        fields.is_some_and(|fields| u32_at(bytes, SEGMENT_FIELDS_BYTES) == Some(crc32c(fields)))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SegmentHeaderError> {
        let (Some(fields), Some(crc)) = (
            bytes.first_chunk::<SEGMENT_FIELDS_BYTES>(),
            u32_at(bytes, SEGMENT_FIELDS_BYTES),
        ) else {
            return Err(SegmentHeaderError::Foreign);
        };
        if fields[..8] != SEGMENT_MAGIC {
            return Err(SegmentHeaderError::Foreign);
        }
        let intact = crc32c(fields) == crc;
        let version = u32::from_le_bytes([fields[8], fields[9], fields[10], fields[11]]);
        // A newer version may keep its checksum elsewhere, so its word is taken first. A version
        // that rotted into a newer one is refused just the same, which is all that is needed.
        if version > NEWEST_VERSION {
            return Err(SegmentHeaderError::Newer(version));
        }
        if !intact || version == 0 {
            return Err(SegmentHeaderError::Checksum);
        }
        let word = |at: usize| u64_at(fields, at).unwrap_or_default();
        let mut identity = [0; 16];
        identity.copy_from_slice(&fields[16..32]);
        Ok(Self {
            version,
            identity,
            sequence: word(32),
            first_lsn: Lsn(word(40)),
            durable_lsn: Lsn(word(48)),
            created_unix_ns: word(56),
            segment_bytes: word(64),
        })
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// One transaction.
    Transaction = 1,
    /// Nothing: fills the file up to an alignment.
    Padding = 2,
    /// The bus was closed after its last transaction had been made durable.
    Close = 3,
    /// One transaction whose stream is compressed. Only in segments of [`COMPRESSED_VERSION`].
    CompressedTransaction = 4,
}

impl RecordKind {
    /// Whether the record is a transaction, and has a place in the order.
    #[inline]
    pub(crate) const fn is_transaction(self) -> bool {
        matches!(self, Self::Transaction | Self::CompressedTransaction)
    }
}

/// The decoded fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub kind: RecordKind,
    /// Length of the record, this header included; a multiple of [`RECORD_ALIGN_BYTES`].
    pub len_bytes: u64,
    /// For padding and close records: the LSN of the last transaction before them.
    pub lsn: Lsn,
    /// Every LSN up to this one was durable when this record was written; zero says nothing.
    pub durable_lsn: Lsn,
    pub body_crc: u32,
    pub run_count: u32,
    pub ops_bytes: u32,
}

/// Stands for "no statement" where the gap between a record and the durable LSN is stored.
const NO_STATEMENT: u32 = u32::MAX;

impl RecordHeader {
    pub(crate) fn encode(&self, seed: &Seed) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        let units = u32::try_from(self.len_bytes / RECORD_ALIGN_BYTES).unwrap_or(u32::MAX);
        let gap = self.lsn.0.saturating_sub(self.durable_lsn.0);
        let gap = u32::try_from(gap).unwrap_or(NO_STATEMENT);
        let kind_and_ops = ((self.kind as u32) << 28) | self.ops_bytes;
        out[0..4].copy_from_slice(&units.to_le_bytes());
        out[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        out[20..24].copy_from_slice(&self.run_count.to_le_bytes());
        out[24..28].copy_from_slice(&kind_and_ops.to_le_bytes());
        out[28..32].copy_from_slice(&gap.to_le_bytes());
        let crc = header_crc(&out, seed, crc32c);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in the first bytes of `bytes`, if its checksum matches.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], seed: &Seed) -> Option<Self> {
        Self::decode_with(bytes, seed, crc32c)
    }

    /// As [`RecordHeader::decode`], with the checksum of a loop, see [`Sums`](crate::checksum::Sums).
    #[inline(always)]
    pub(super) fn decode_with(
        bytes: &[u8],
        seed: &Seed,
        crc32c: impl Fn(&[u8]) -> u32,
    ) -> Option<Self> {
        let header = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        let (words, _) = header.as_chunks();
        let [first, lsn, body, last] = *words.first_chunk()?;
        // Whole words at a time: most of what a record of one small run costs to look at is here.
        let [first, lsn, body, last] = [first, lsn, body, last].map(u64::from_le_bytes);
        let len_bytes = u64::from(first as u32) * RECORD_ALIGN_BYTES;
        // Cheap refusals first: the forward search for intact records comes here every 16 bytes.
        if len_bytes < RECORD_HEADER_BYTES as u64
            || (first >> 32) as u32 != header_crc(header, seed, crc32c)
        {
            return None;
        }
        let kind_and_ops = last as u32;
        let kind = match kind_and_ops >> 28 {
            1 => RecordKind::Transaction,
            2 => RecordKind::Padding,
            3 => RecordKind::Close,
            4 => RecordKind::CompressedTransaction,
            _ => return None,
        };
        let durable_lsn = match (last >> 32) as u32 {
            NO_STATEMENT => Lsn::ZERO,
            gap => Lsn(lsn.checked_sub(u64::from(gap))?),
        };
        Some(Self {
            kind,
            len_bytes,
            lsn: Lsn(lsn),
            durable_lsn,
            body_crc: body as u32,
            run_count: (body >> 32) as u32,
            ops_bytes: kind_and_ops & MAX_OPS_BYTES as u32,
        })
    }
}

/// The checksum covers the seed and the header, with zeros where the checksum itself stands.
#[inline(always)]
fn header_crc(
    header: &[u8; RECORD_HEADER_BYTES],
    seed: &Seed,
    crc32c: impl Fn(&[u8]) -> u32,
) -> u32 {
    let mut covered = *header;
    let (words, _) = covered.as_chunks_mut::<8>();
    if let Some(first) = words.first_mut() {
        // As a word: a processor cannot take a word that was written in parts before all of them are in its cache.
        *first = (u64::from_le_bytes(*first) & u64::from(u32::MAX)).to_le_bytes();
    }
    crc32c(&covered) ^ seed.contribution
}

/// Where the bytes of a run stand: the first position from `cursor` on that is congruent to the
/// destination, modulo 16, or modulo 4096 for large runs.
#[inline]
pub(crate) const fn run_position(cursor: u64, offset: u64, len_bytes: u64) -> u64 {
    let modulus = if len_bytes >= LARGE_RUN_BYTES {
        LARGE_ALIGN_BYTES
    } else {
        RECORD_ALIGN_BYTES
    };
    cursor + (offset.wrapping_sub(cursor) & (modulus - 1))
}

/// `position` rounded up to where a record or a run may start.
#[inline]
pub(crate) const fn align_up(position: u64, align: u64) -> u64 {
    position.next_multiple_of(align)
}

/// One run of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    pub page: PageId,
    pub offset: u64,
    pub bytes: &'a [u8],
    /// Where the bytes stand in the stream.
    pub position: u64,
}

/// The head of a run as it is stored: page index, generation, offset, length less one.
#[inline]
pub(crate) fn encode_run_head(
    page: PageId,
    offset: u32,
    len_less_one: u32,
) -> [u8; RUN_HEAD_BYTES] {
    let head = u128::from(page.index())
        | (u128::from(page.generation()) << 32)
        | (u128::from(offset) << 64)
        | (u128::from(len_less_one) << 96);
    head.to_le_bytes()
}

/// Walks the runs of a record in their order. Malformed streams end in `Err` and then `None`.
#[derive(Clone, Debug)]
pub(crate) struct Runs<'a> {
    stream: &'a [u8],
    cursor: usize,
    left: u32,
}

/// The stream of runs does not have the form that its record promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run} of the record is malformed")]
pub(crate) struct MalformedRun {
    /// How many runs were still to come, this one included.
    pub run: u32,
}

impl<'a> Runs<'a> {
    pub(crate) const fn new(stream: &'a [u8], count: u32) -> Self {
        Self {
            stream,
            cursor: 0,
            left: count,
        }
    }

    /// Where the head of the next run stands in the stream.
    pub(crate) const fn position(&self) -> u64 {
        self.cursor as u64
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Result<Run<'a>, MalformedRun>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let run = self.left;
        self.left -= 1;
        let mut read = || {
            let rest = self.stream.get(self.cursor..)?;
            let head = u128::from_le_bytes(*rest.first_chunk::<RUN_HEAD_BYTES>()?);
            let offset = u64::from((head >> 64) as u32);
            let len_bytes = u64::from((head >> 96) as u32) + 1;
            let start = run_position((self.cursor + RUN_HEAD_BYTES) as u64, offset, len_bytes);
            let end = start + len_bytes;
            let bytes = self
                .stream
                .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
            self.cursor = usize::try_from(align_up(end, RECORD_ALIGN_BYTES)).ok()?;
            Some(Run {
                page: PageId::new(head as u32, (head >> 32) as u32),
                offset,
                bytes,
                position: start,
            })
        };
        match read() {
            Some(run) => Some(Ok(run)),
            None => {
                self.left = 0;
                Some(Err(MalformedRun { run }))
            }
        }
    }
}

/// Replaces the pages that the runs of a stream name, where `resolve` gives another.
pub(crate) fn rename_pages(
    stream: &mut [u8],
    count: u32,
    resolve: impl Fn(PageId) -> Option<PageId>,
) -> Result<(), MalformedRun> {
    let mut cursor = 0;
    for left in (1..=count).rev() {
        let mut rename = || {
            let head = stream
                .get_mut(cursor..)?
                .first_chunk_mut::<RUN_HEAD_BYTES>()?;
            let word = u128::from_le_bytes(*head);
            let (offset, len_less_one) = ((word >> 64) as u32, (word >> 96) as u32);
            if let Some(page) = resolve(PageId::new(word as u32, (word >> 32) as u32)) {
                *head = encode_run_head(page, offset, len_less_one);
            }
            let len_bytes = u64::from(len_less_one) + 1;
            let start = run_position(
                (cursor + RUN_HEAD_BYTES) as u64,
                u64::from(offset),
                len_bytes,
            );
            usize::try_from(align_up(start + len_bytes, RECORD_ALIGN_BYTES)).ok()
        };
        cursor = rename().ok_or(MalformedRun { run: left })?;
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 16] = *b"0123456789abcdef";

    fn header() -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Transaction,
            len_bytes: 176,
            lsn: Lsn(42),
            durable_lsn: Lsn(40),
            body_crc: 7,
            run_count: 1,
            ops_bytes: 0,
        }
    }

    #[test]
    fn segment_header_round_trips_and_every_flipped_bit_is_seen() {
        for version in PLAIN_VERSION..=NEWEST_VERSION {
            round_trip(version);
        }
    }

    fn round_trip(version: u32) {
        let header = SegmentHeader {
            version,
            identity: SEED,
            sequence: 3,
            first_lsn: Lsn(9),
            durable_lsn: Lsn(8),
            created_unix_ns: 1,
            segment_bytes: 1 << 20,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..(SEGMENT_FIELDS_BYTES + 4) * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped).is_err(), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = NEWEST_VERSION as u8 + 1;
        assert_eq!(
            SegmentHeader::decode(&newer),
            Err(SegmentHeaderError::Newer(NEWEST_VERSION + 1))
        );
    }

    #[test]
    fn the_layouts_cover_what_is_encoded() {
        let sum = |layout: &[(&str, u64)]| layout.iter().map(|(_, len)| len).sum::<u64>();
        assert_eq!(sum(SEGMENT_HEADER_LAYOUT), SEGMENT_HEADER_BYTES);
        assert_eq!(sum(RECORD_HEADER_LAYOUT), RECORD_HEADER_BYTES as u64);
        assert_eq!(sum(RUN_HEAD_LAYOUT), RUN_HEAD_BYTES as u64);
    }

    #[test]
    fn the_checksum_of_a_header_is_that_of_seed_and_header_one_after_the_other() {
        for sequence in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
            let bytes = header().encode(&Seed::new(&SEED, sequence));
            let mut covered = SEED.to_vec();
            covered.extend_from_slice(&sequence.to_le_bytes());
            covered.extend_from_slice(&bytes[..4]);
            covered.extend_from_slice(&[0; 4]);
            covered.extend_from_slice(&bytes[8..]);
            assert_eq!(bytes[4..8], crc32c(&covered).to_le_bytes());
        }
    }

    #[test]
    fn record_header_round_trips_and_every_flipped_bit_is_seen() {
        let seed = Seed::new(&SEED, 1);
        let bytes = header().encode(&seed);
        assert_eq!(RecordHeader::decode(&bytes, &seed), Some(header()));
        for bit in 0..RECORD_HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped, &seed), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none_of_ours() {
        let bytes = header().encode(&Seed::new(&SEED, 1));
        assert_eq!(RecordHeader::decode(&bytes, &Seed::new(&SEED, 2)), None);
    }

    #[test]
    fn runs_stand_congruent_to_their_destination() {
        assert_eq!(run_position(16, 0, 8), 16);
        assert_eq!(run_position(16, 5, 8), 21);
        assert_eq!(run_position(16, 4096, LARGE_RUN_BYTES), 4096);
        assert_eq!(run_position(16, 4100, LARGE_RUN_BYTES), 4100);
        assert_eq!(run_position(4101, 4, LARGE_RUN_BYTES), 8196);
    }

    #[test]
    fn a_truncated_stream_is_an_error_and_ends() {
        let mut stream = encode_run_head(PageId::new(1, 1), 0, 99).to_vec();
        stream.resize(64, 0);
        let mut runs = Runs::new(&stream, 2);
        assert!(runs.next().unwrap().is_err());
        assert!(runs.next().is_none());
    }
}
