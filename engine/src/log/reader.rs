//! Finds the segments of a log and reads its records, checked, in order.

use std::io;
use std::ops::{Range, RangeInclusive};

use super::compression::{UnpackFault, unpack};
use super::format::{
    COMPRESSED_VERSION, Identity, NEWEST_VERSION, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES,
    RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, Seed, SegmentHeader,
    SegmentHeaderError, align_up,
};
use super::record::Record;
use super::segment::{parse_segment_name, segment_name};
use super::tail::{self, Tail};
use crate::checksum::crc32c;
use crate::lsn::Lsn;
use crate::storage::{Storage, StorageFile};

/// How much is read at once; a record that is longer is read whole. It stays in the processor's second-level cache.
const WINDOW_BYTES: u64 = 256 << 10;
/// How much of that is checked before it is applied, where one thread does both: it stays in the first-level cache.
const PORTION_BYTES: usize = 16 << 10;

/// How much is decompressed for one batch where others apply it: what is compressed well would else fill the memory.
const MAX_UNPACKED_BYTES: usize = 1 << 20;
/// Longer buffers for what was decompressed are given back to the system.
const KEPT_UNPACKED_BYTES: usize = 4 << 20;

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

/// A segment file with a good header.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub name: String,
    pub header: SegmentHeader,
    pub len_bytes: u64,
}

/// The segments of a log, oldest first, without gaps.
#[derive(Debug)]
pub(crate) struct LogMap {
    pub identity: Identity,
    pub segments: Vec<SegmentFile>,
    /// Files after the last usable segment, oldest first: their headers never got to the disk, or a file
    /// before them did not. Whether that is the work of a crash is for `tail` to judge.
    pub stranded: Vec<Stranded>,
    /// What is wrong with the first of them, if it turns out to be damage.
    pub obstacle: Option<Obstacle>,
}

/// A segment file that cannot be read in order.
#[derive(Clone, Debug)]
pub(crate) struct Stranded {
    pub name: String,
    pub sequence: u64,
    pub len_bytes: u64,
    /// Its header, if that is good.
    pub header: Option<SegmentHeader>,
}

/// Why the log cannot be read on after its last usable segment.
#[derive(Clone, Debug)]
pub(crate) enum Obstacle {
    /// The file is not there.
    Missing(String),
    /// Its header is not good.
    Header(String, String),
}

/// Looks at the directory. `None`: there is no log (a first file whose header never arrived counts as none).
pub(crate) fn discover(storage: &dyn Storage) -> Result<Option<LogMap>, LogError> {
    let names = storage.list().map_err(|source| LogError::Io {
        file: storage.describe(),
        source,
    })?;
    let mut sequences: Vec<u64> = names
        .iter()
        .filter_map(|name| parse_segment_name(name))
        .collect();
    sequences.sort_unstable();
    let mut segments: Vec<SegmentFile> = Vec::with_capacity(sequences.len());
    let mut stranded = Vec::new();
    let mut obstacle = None;
    for &sequence in &sequences {
        let name = segment_name(sequence);
        let (inspected, len_bytes) = inspect(storage, &name)?;
        let Some(last) = segments.last() else {
            match inspected {
                Inspected::Good(header) => {
                    check_kinship(&name, sequence, &header, None)?;
                    segments.push(segment(name, header, len_bytes));
                }
                // A log that is being created has its header before anything else: without it, and without
                // anything behind it, there is nothing that could have been lost.
                Inspected::Blank | Inspected::Bad(_)
                    if sequences == [1] && is_zero(storage, &name, len_bytes)? =>
                {
                    return Ok(None);
                }
                Inspected::Blank => {
                    return Err(LogError::DamagedHeader {
                        file: name,
                        why: "it is zeros".to_owned(),
                    });
                }
                Inspected::Bad(why) => return Err(LogError::DamagedHeader { file: name, why }),
            }
            continue;
        };
        let expected = last.header.sequence.saturating_add(1);
        let (header, fault) = match inspected {
            // A recycled file keeps the header of its earlier life until the new one is written.
            Inspected::Good(old)
                if old.identity == last.header.identity && old.sequence < sequence =>
            {
                (None, Some("it is that of an earlier segment".to_owned()))
            }
            Inspected::Good(header) => {
                check_kinship(&name, sequence, &header, Some(last))?;
                (Some(header), None)
            }
            Inspected::Blank => (None, Some("it is zeros".to_owned())),
            Inspected::Bad(why) => (None, Some(why)),
        };
        match (header, fault) {
            (Some(header), None) if stranded.is_empty() && sequence == expected => {
                segments.push(segment(name, header, len_bytes));
            }
            (header, fault) => {
                obstacle.get_or_insert_with(|| match fault {
                    Some(why) if sequence == expected => Obstacle::Header(name.clone(), why),
                    _ => Obstacle::Missing(segment_name(expected)),
                });
                stranded.push(Stranded {
                    name,
                    sequence,
                    len_bytes,
                    header,
                });
            }
        }
    }
    Ok(segments
        .first()
        .map(|first| first.header.identity)
        .map(|identity| LogMap {
            identity,
            segments,
            stranded,
            obstacle,
        }))
}

fn segment(name: String, header: SegmentHeader, len_bytes: u64) -> SegmentFile {
    SegmentFile {
        name,
        header,
        // A recycled file may be longer than the segment; what follows is of its earlier life.
        len_bytes: len_bytes.min(header.segment_bytes),
    }
}

enum Inspected {
    Good(SegmentHeader),
    /// Not intact, and why.
    Bad(String),
    /// Too short for a header, or zeros where it should be.
    Blank,
}

/// Reads the header of a segment file, and the length of the file.
fn inspect(storage: &dyn Storage, name: &str) -> Result<(Inspected, u64), LogError> {
    let failed = |source| LogError::Io {
        file: name.to_owned(),
        source,
    };
    let file = storage.open(name, false).map_err(failed)?;
    let len_bytes = file.len_bytes().map_err(failed)?;
    let mut header =
        vec![0; usize::try_from(len_bytes.min(SEGMENT_HEADER_BYTES)).unwrap_or_default()];
    file.read_exact_at(&mut header, 0).map_err(failed)?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok((Inspected::Blank, len_bytes));
    }
    let inspected = match SegmentHeader::decode(&header) {
        Ok(header) => Inspected::Good(header),
        Err(SegmentHeaderError::Newer(version)) => {
            return Err(LogError::Newer {
                file: name.to_owned(),
                version,
            });
        }
        Err(SegmentHeaderError::Foreign) if is_torn_magic(&header) => {
            Inspected::Bad("only a part of it is there".to_owned())
        }
        Err(error @ SegmentHeaderError::Foreign) => {
            return Err(LogError::Foreign {
                file: name.to_owned(),
                why: error.to_string(),
            });
        }
        Err(error @ SegmentHeaderError::Checksum) => Inspected::Bad(error.to_string()),
    };
    Ok((inspected, len_bytes))
}

/// Whether zeros stand where some bytes of the magic should, and nothing else does: so a crash leaves it.
fn is_torn_magic(header: &[u8]) -> bool {
    let mut magic = SEGMENT_MAGIC.iter().zip(header);
    magic.all(|(magic, byte)| byte == magic || *byte == 0)
}

/// Whether a file holds nothing but zeros behind its header, as one does whose creation a crash interrupted.
fn is_zero(storage: &dyn Storage, name: &str, len_bytes: u64) -> Result<bool, LogError> {
    let failed = |source| LogError::Io {
        file: name.to_owned(),
        source,
    };
    let file = storage.open(name, false).map_err(failed)?;
    let mut window = vec![0; usize::try_from(len_bytes.min(WINDOW_BYTES)).unwrap_or_default()];
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < len_bytes {
        let left = usize::try_from(len_bytes - offset).unwrap_or(usize::MAX);
        let len = left.min(window.len());
        let part = window.get_mut(..len).unwrap_or_default();
        file.read_exact_at(part, offset).map_err(failed)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += len as u64;
    }
    Ok(true)
}

fn check_kinship(
    name: &str,
    sequence: u64,
    header: &SegmentHeader,
    previous: Option<&SegmentFile>,
) -> Result<(), LogError> {
    let foreign = |why: &str| {
        Err(LogError::Foreign {
            file: name.to_owned(),
            why: why.to_owned(),
        })
    };
    if header.sequence != sequence {
        return foreign("its header has another sequence number");
    }
    if let Some(previous) = previous {
        if previous.header.identity != header.identity {
            return foreign("its header has another identity");
        }
        if header.first_lsn < previous.header.first_lsn {
            return foreign("its first LSN is below that of the segment before");
        }
    }
    Ok(())
}

/// Where a record stands in its batch.
#[derive(Clone, Copy, Debug)]
struct Place {
    lsn: Lsn,
    /// Where the operations begin.
    ops_start: usize,
    /// Where the stored stream begins, and where the record ends.
    stream_start: usize,
    end: usize,
    ops_bytes: u32,
    run_count: u32,
    stream: Stream,
}

/// Where the stream of a record is.
#[derive(Clone, Copy, Debug)]
enum Stream {
    /// In the record.
    Plain,
    /// In the record, compressed.
    Packed,
    /// Among what was decompressed.
    Unpacked { start: usize, end: usize },
    /// Nowhere.
    Faulty(UnpackFault),
}

impl Place {
    /// The operations and the stored stream of the record in its buffer.
    #[inline]
    fn split<'b>(&self, buffer: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let stream = buffer.get(self.stream_start..self.end)?;
        if self.ops_bytes == 0 {
            return Some((&[], stream));
        }
        let ops = buffer.get(self.ops_start..self.ops_start + self.ops_bytes as usize)?;
        Some((ops, stream))
    }
}

/// Checked records, with the buffer that they stand in.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    buffer: Vec<u8>,
    places: Vec<Place>,
    /// How many of the records have operations.
    with_ops: usize,
    /// The streams of compressed records.
    unpacked: Vec<u8>,
    unchecked: Option<Unchecked>,
}

/// What was read and not looked at yet.
#[derive(Clone, Copy, Debug)]
struct Unchecked {
    segment: usize,
    /// Where it stands in the file.
    position: u64,
    /// Where it stands in the buffer.
    at: usize,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The first and the last LSN, if no record has operations: all there is to do is to apply their streams.
    pub(crate) fn plain_lsns(&self) -> Option<RangeInclusive<Lsn>> {
        let (first, last) = (self.places.first()?, self.places.last()?);
        (self.with_ops == 0).then_some(first.lsn..=last.lsn)
    }

    /// The records at `range`, in order.
    pub(crate) fn records(&self, range: Range<usize>) -> impl Iterator<Item = Record<'_>> {
        self.places
            .get(range)
            .unwrap_or_default()
            .iter()
            .filter_map(|place| {
                let (ops, stored) = place.split(&self.buffer)?;
                let (stream, fault) = match place.stream {
                    Stream::Plain => (stored, None),
                    Stream::Unpacked { start, end } => (self.unpacked.get(start..end)?, None),
                    Stream::Faulty(fault) => (&[][..], Some(fault)),
                    // Nobody wants it.
                    Stream::Packed => (&[][..], None),
                };
                Some(Record {
                    lsn: place.lsn,
                    ops,
                    run_count: place.run_count,
                    stream,
                    fault,
                })
            })
    }

    /// Decompresses the stream of a record, if it is compressed.
    fn unpack(&mut self, place: &mut Place) {
        let Stream::Packed = place.stream else {
            return;
        };
        let start = self.unpacked.len();
        let stored = place
            .split(&self.buffer)
            .map_or(&[][..], |(_, stored)| stored);
        place.stream = match unpack(stored, &mut self.unpacked) {
            Ok(()) => Stream::Unpacked {
                start,
                end: self.unpacked.len(),
            },
            Err(fault) => Stream::Faulty(fault),
        };
    }
}

/// Reads a log from front to back.
pub(crate) struct Scanner<'a> {
    storage: &'a dyn Storage,
    map: &'a LogMap,
    /// What else is known to have been durable, besides what the log says itself.
    known_durable: Lsn,
    segment: usize,
    open: Option<(Box<dyn StorageFile>, Seed)>,
    position: u64,
    expected: Lsn,
    /// Records before this one are passed over: their streams stay compressed.
    from: Lsn,
    /// Batches whose buffers can be used again.
    spares: Vec<Batch>,
    /// How much is checked for one batch.
    portion_bytes: usize,
    /// How much is decompressed for one batch before it is delivered.
    unpacked_bytes: usize,
    /// Bytes of all segments, and of those before the present one.
    total_bytes: u64,
    done_bytes: u64,
}

/// What reading on came to.
pub(crate) enum Scanned {
    /// More records.
    Batch(Batch),
    /// The end of what is good.
    End(Tail),
}

impl<'a> Scanner<'a> {
    /// A scanner that starts with the first record of the segment that holds `from`.
    /// Records before `from` are delivered too: they are cheap to pass over.
    pub(crate) fn new(
        storage: &'a dyn Storage,
        map: &'a LogMap,
        from: Lsn,
        known_durable: Lsn,
    ) -> Self {
        let segment = map
            .segments
            .partition_point(|segment| segment.header.first_lsn <= from)
            .saturating_sub(1);
        Self {
            storage,
            map,
            known_durable,
            segment,
            open: None,
            position: SEGMENT_HEADER_BYTES,
            expected: map
                .segments
                .get(segment)
                .map_or(Lsn(1), |segment| segment.header.first_lsn),
            from,
            spares: Vec::new(),
            portion_bytes: usize::MAX,
            unpacked_bytes: MAX_UNPACKED_BYTES,
            total_bytes: segment_bytes(&map.segments),
            done_bytes: segment_bytes(map.segments.get(..segment).unwrap_or_default()),
        }
    }

    /// Delivers short batches, for a caller who applies each and gives it back before the next.
    pub(crate) fn in_portions(mut self) -> Self {
        self.portion_bytes = PORTION_BYTES;
        self.unpacked_bytes = PORTION_BYTES;
        self
    }

    /// Gives a batch back, so that its buffer is used again, and what is in it and was not looked at yet.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        self.spares.push(batch);
    }

    /// Bytes of segments before the current position, and in all.
    pub(crate) fn progress_bytes(&self) -> (u64, u64) {
        let done = self.done_bytes + self.position;
        (done.min(self.total_bytes), self.total_bytes)
    }

    /// Reads on. After `End` nothing more comes.
    pub(crate) fn next(&mut self) -> Result<Scanned, LogError> {
        loop {
            let Some(segment) = self.map.segments.get(self.segment) else {
                return Ok(Scanned::End(tail::nothing(self.map, self.expected)));
            };
            let (file, seed) = match self.open.take() {
                Some(open) => open,
                None => {
                    let file =
                        self.storage
                            .open(&segment.name, false)
                            .map_err(|source| LogError::Io {
                                file: segment.name.clone(),
                                source,
                            })?;
                    (
                        file,
                        Seed::new(&segment.header.identity, segment.header.sequence),
                    )
                }
            };
            let batch = self.read_batch(segment, &*file, &seed)?;
            if batch.len() > 0 {
                self.open = Some((file, seed));
                return Ok(Scanned::Batch(batch));
            }
            self.spares.push(batch);
            let follows = self.map.segments.get(self.segment + 1);
            if follows.is_some_and(|next| next.header.first_lsn == self.expected) {
                self.segment += 1;
                self.done_bytes += segment.len_bytes;
                self.position = SEGMENT_HEADER_BYTES;
                continue;
            }
            let verdict = tail::judge(&tail::Break {
                storage: self.storage,
                map: self.map,
                segment: self.segment,
                file: &*file,
                position: self.position,
                expected: self.expected,
                known_durable: self.known_durable,
            });
            if verdict.is_err() {
                // Where a bus is writing to the log, the record may have come since it was looked for.
                let batch = self.read_batch(segment, &*file, &seed)?;
                if batch.len() > 0 {
                    self.open = Some((file, seed));
                    return Ok(Scanned::Batch(batch));
                }
            }
            return verdict.map(Scanned::End);
        }
    }

    /// Reads the records from `position` on that fit a window. None: there is no good record there.
    fn read_batch(
        &mut self,
        segment: &SegmentFile,
        file: &dyn StorageFile,
        seed: &Seed,
    ) -> Result<Batch, LogError> {
        let mut batch = self.spares.pop().unwrap_or_default();
        batch.places.clear();
        batch.with_ops = 0;
        batch.unpacked.clear();
        batch.unpacked.shrink_to(KEPT_UNPACKED_BYTES);
        if let Some(unchecked) = batch.unchecked.take()
            && (unchecked.segment, unchecked.position) == (self.segment, self.position)
        {
            self.check(&mut batch, unchecked.at, seed);
            if batch.len() > 0 {
                return Ok(batch);
            }
        }
        let failed = |source| LogError::Io {
            file: segment.name.clone(),
            source,
        };
        let mut window = WINDOW_BYTES;
        loop {
            let left = segment.len_bytes.saturating_sub(self.position);
            let len = usize::try_from(window.min(left)).unwrap_or(usize::MAX);
            batch.buffer.resize(len, 0);
            file.read_exact_at(&mut batch.buffer, self.position)
                .map_err(failed)?;
            match self.check(&mut batch, 0, seed) {
                // The window ended inside a record; if it held others, those come first.
                Some(len_bytes)
                    if batch.places.is_empty()
                        && len_bytes <= segment.len_bytes.saturating_sub(self.position) =>
                {
                    window = len_bytes.max(WINDOW_BYTES);
                }
                _ => return Ok(batch),
            }
        }
    }

    /// Checks the records of the buffer from `start` on, until a portion is done or none follows. If the next one is
    /// not whole in the buffer, its length.
    fn check(&mut self, batch: &mut Batch, start: usize, seed: &Seed) -> Option<u64> {
        let mut at = start;
        let wanted = loop {
            match parse(&batch.buffer, at, seed, self.expected) {
                Parsed::Record { mut place, next } => {
                    if place.lsn >= self.from {
                        batch.unpack(&mut place);
                    }
                    batch.with_ops += usize::from(place.ops_bytes > 0);
                    batch.places.push(place);
                    self.expected = self.expected.next();
                    at = next;
                    if at - start >= self.portion_bytes
                        || batch.unpacked.len() >= self.unpacked_bytes
                    {
                        batch.unchecked = Some(Unchecked {
                            segment: self.segment,
                            position: self.position + (at - start) as u64,
                            at,
                        });
                        break None;
                    }
                }
                Parsed::Other { next } => at = next,
                Parsed::Longer { len_bytes } => break Some(len_bytes),
                Parsed::Nothing => break None,
            }
        };
        self.position += (at - start) as u64;
        wanted
    }
}

fn segment_bytes(segments: &[SegmentFile]) -> u64 {
    segments.iter().map(|segment| segment.len_bytes).sum()
}

enum Parsed {
    Record {
        place: Place,
        next: usize,
    },
    /// Padding, or the note of a close.
    Other {
        next: usize,
    },
    /// A good header whose record does not end in the buffer.
    Longer {
        len_bytes: u64,
    },
    Nothing,
}

fn parse(buffer: &[u8], at: usize, seed: &Seed, expected: Lsn) -> Parsed {
    let Some(rest) = buffer.get(at..) else {
        return Parsed::Nothing;
    };
    if rest.len() < RECORD_HEADER_BYTES {
        // Too little left to tell; more may follow in the file.
        return Parsed::Longer {
            len_bytes: RECORD_HEADER_BYTES as u64,
        };
    }
    let Some(header) = RecordHeader::decode(rest, seed) else {
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
        return Parsed::Other { next: at + len };
    }
    let body = rest.get(RECORD_HEADER_BYTES..len).unwrap_or_default();
    let Ok(stream_start) =
        usize::try_from(align_up(u64::from(header.ops_bytes), RECORD_ALIGN_BYTES))
    else {
        return Parsed::Nothing;
    };
    if stream_start > body.len() || crc32c(body) != header.body_crc {
        return Parsed::Nothing;
    }
    let ops_start = at + RECORD_HEADER_BYTES;
    Parsed::Record {
        place: Place {
            lsn,
            ops_start,
            stream_start: ops_start + stream_start,
            end: at + len,
            ops_bytes: header.ops_bytes,
            run_count: header.run_count,
            stream: match header.kind {
                RecordKind::CompressedTransaction => Stream::Packed,
                _ => Stream::Plain,
            },
        },
        next: at + len,
    }
}
