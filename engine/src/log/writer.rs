//! Appends records and makes them durable.
//!
//! Two locks: `append` is held for the few nanoseconds that it takes to give out an LSN and copy a
//! record into the buffer; `io` by the one thread that writes and syncs. Whoever gets `io` writes all
//! that has piled up, so one sync serves every commit that waited for it (group commit). The lock
//! order is `io` before `append`, but for the rotation, which takes `append` alone.
//!
//! An error of a write or a sync poisons the writer: what did and did not reach the disk is then unknown, so nothing
//! is tried again and nothing more is accepted.

use crate::planted::planted;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::format::{
    COMPRESSED_VERSION, LARGE_ALIGN_BYTES, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader,
    RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, align_up,
};
use super::segment::{Segment, SegmentMaker, Spare, segment_name};
use crate::advice::advice;
use crate::clock::Clock;
use crate::lsn::Lsn;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, OnceLock};

/// A buffer of this length goes to the operating system without being asked for.
const FLUSH_BYTES: usize = 256 * 1024;
/// Records of at least this length are written from where they are, not copied into the buffer.
const DIRECT_RECORD_BYTES: usize = 1 << 20;
/// Zeros that follow the last record of a write, so that what a recycled segment held
/// before does not look like a torn record. The next write covers them.
const TERMINATOR: [u8; RECORD_HEADER_BYTES] = [0; RECORD_HEADER_BYTES];

/// How far a commit goes before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// In the order and visible; in the log's buffer. Lost if the process dies.
    Memory,
    /// Handed to the operating system. Survives the process, not a power cut.
    Buffered,
    /// On the disk.
    #[default]
    Sync,
}

/// The error that made a bus read-only.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{operation} of {file}{} failed {} s after 1970, with everything up to LSN {durable_lsn} durable: {cause}{}",
    offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default(),
    unix_ns / 1_000_000_000,
    advice(*kind)
)]
pub struct Poison {
    /// What was tried: `write`, `sync`, `create`, …
    pub operation: &'static str,
    /// The name of the file.
    pub file: String,
    /// Byte offset in the file, for writes.
    pub offset: Option<u64>,
    /// Every transaction up to this LSN is durable nevertheless.
    pub durable_lsn: Lsn,
    /// When it happened by the clock of the bus: nanoseconds since 1970.
    pub unix_ns: u64,
    /// The kind of the operating system's error.
    pub kind: io::ErrorKind,
    /// The operating system's message.
    pub cause: String,
}

/// What the log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStatistics {
    /// LSN of the last transaction in the order.
    pub last_lsn: Lsn,
    /// Everything up to here is on the disk.
    pub durable_lsn: Lsn,
    /// Bytes of records, padding included.
    pub appended_bytes: u64,
    /// Calls that wrote to a segment.
    pub writes: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Segments begun.
    pub rotations: u64,
    /// Rotations that found a prepared file.
    pub recycled: u64,
}

/// The parts of a record that do not depend on its place in the log.
pub(crate) struct RecordParts<'a> {
    /// Encoded operations, padded to [`RECORD_ALIGN_BYTES`].
    pub ops: &'a [u8],
    /// Length of the operations without the padding.
    pub ops_bytes: u32,
    /// The runs, or what [`super::compression::pack`] made of them.
    pub stream: &'a [u8],
    /// Whether the stream is compressed: only if [`LogWriter::takes_compressed`] said so.
    pub is_compressed: bool,
    pub run_count: u32,
    /// Checksum of `ops` followed by `stream`.
    pub body_crc: u32,
    /// Whether the stream must stand at a multiple of [`LARGE_ALIGN_BYTES`] in the file.
    pub has_large_run: bool,
}

impl RecordParts<'_> {
    fn len_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.ops.len() + self.stream.len()
    }

    const fn kind(&self) -> RecordKind {
        if self.is_compressed {
            RecordKind::CompressedTransaction
        } else {
            RecordKind::Transaction
        }
    }
}

/// Bytes that wait to be written.
struct Chunk {
    segment: Arc<Segment>,
    offset: u64,
    bytes: Vec<u8>,
}

struct Append {
    segment: Arc<Segment>,
    /// Offset in the file at which the next record starts.
    position: u64,
    buffer: Vec<u8>,
    pending: VecDeque<Chunk>,
    /// Buffers that were written and can be used again.
    free_buffers: Vec<Vec<u8>>,
    last_lsn: Lsn,
    statistics: LogStatistics,
}

struct Io {
    /// Segments with bytes that were written and not synced, oldest first.
    unsynced: Vec<Arc<Segment>>,
    writes: u64,
    syncs: u64,
}

/// The one writer of a log.
pub(crate) struct LogWriter {
    maker: SegmentMaker,
    clock: Arc<dyn Clock>,
    append: Mutex<Append>,
    io: Mutex<Io>,
    /// Whether the segments from the present one on may hold compressed records. Once true it stays so.
    takes_compressed: AtomicBool,
    durable_lsn: AtomicU64,
    written_lsn: AtomicU64,
    poison: OnceLock<Poison>,
    spares: Mutex<VecDeque<Spare>>,
    next_spare: AtomicU64,
}

/// Where a writer goes on.
pub(crate) struct Resume {
    pub segment: Arc<Segment>,
    pub position: u64,
    pub last_lsn: Lsn,
    pub spares: VecDeque<Spare>,
    pub next_spare: u64,
}

impl LogWriter {
    pub(crate) fn new(maker: SegmentMaker, clock: Arc<dyn Clock>, resume: Resume) -> Self {
        let takes_compressed =
            maker.version.min(resume.segment.header.version) >= COMPRESSED_VERSION;
        Self {
            takes_compressed: AtomicBool::new(takes_compressed),
            maker,
            clock,
            append: Mutex::new(Append {
                segment: Arc::clone(&resume.segment),
                position: resume.position,
                buffer: Vec::with_capacity(FLUSH_BYTES + FLUSH_BYTES / 4),
                pending: VecDeque::new(),
                free_buffers: Vec::new(),
                last_lsn: resume.last_lsn,
                statistics: LogStatistics::default(),
            }),
            io: Mutex::new(Io {
                unsynced: Vec::new(),
                writes: 0,
                syncs: 0,
            }),
            // All that was read at open had been synced before it was read.
            durable_lsn: AtomicU64::new(resume.last_lsn.0),
            written_lsn: AtomicU64::new(resume.last_lsn.0),
            poison: OnceLock::new(),
            spares: Mutex::new(resume.spares),
            next_spare: AtomicU64::new(resume.next_spare),
        }
    }

    /// Gives the record its place in the order. `assigned` runs under the lock, so that whatever it
    /// tells others is told in the order of LSNs.
    ///
    /// An error means that the record has no place. A disk that fails after it got one poisons the log, which
    /// the caller learns where it waits for durability: what is in the order is applied and visible in any case.
    pub(crate) fn append(
        &self,
        parts: &RecordParts<'_>,
        assigned: impl FnOnce(Lsn),
    ) -> Result<Lsn, Poison> {
        self.check()?;
        let record_bytes = parts.len_bytes();
        let mut append = self.append.lock();
        let mut padding = padding_before(append.position, parts);
        if append.position + padding + record_bytes as u64 > append.segment.header.segment_bytes {
            let first = padding_before(FIRST_POSITION, parts) + record_bytes as u64;
            self.rotate(&mut append, first)?;
            padding = padding_before(append.position, parts);
        }
        let lsn = append.last_lsn.next();
        if padding > 0 {
            let header = self.header(RecordKind::Padding, padding, append.last_lsn, None);
            let header = header.encode(&append.segment.seed);
            append.push(&header);
            append.fill(padding as usize - RECORD_HEADER_BYTES);
        }
        let header = self.header(parts.kind(), record_bytes as u64, lsn, Some(parts));
        let header = header.encode(&append.segment.seed);
        append.last_lsn = lsn;
        append.statistics.appended_bytes += padding + record_bytes as u64;
        append.push(&header);
        append.push(parts.ops);
        if record_bytes >= DIRECT_RECORD_BYTES {
            let _ = self.write_direct(append, parts.stream, lsn, assigned);
            return Ok(lsn);
        }
        append.push(parts.stream);
        assigned(lsn);
        if append.buffer.len() >= FLUSH_BYTES {
            append.seal();
            drop(append);
            let _ = self.drain(&mut self.io.lock());
        }
        Ok(lsn)
    }

    /// Whether compressed records may be appended, now and from now on.
    ///
    /// A segment that was begun without compression takes none: whoever reads version 1 must understand all of it.
    pub(crate) fn takes_compressed(&self) -> bool {
        self.takes_compressed.load(Ordering::Acquire)
    }

    /// Hands everything up to `lsn` to the operating system.
    pub(crate) fn flush(&self, lsn: Lsn) -> Result<(), Poison> {
        if planted!(FlushLeftOut) {
            return self.check();
        }
        if self.written_lsn.load(Ordering::Acquire) >= lsn.0 {
            return self.check();
        }
        let mut io = self.io.lock();
        if self.written_lsn.load(Ordering::Acquire) >= lsn.0 {
            return self.check();
        }
        self.seal_and_drain(&mut io).map(drop)
    }

    /// Makes everything up to `lsn` durable. One caller syncs for all that wait behind it.
    pub(crate) fn sync(&self, lsn: Lsn) -> Result<(), Poison> {
        if self.durable_lsn.load(Ordering::Acquire) >= lsn.0 {
            return Ok(());
        }
        while planted!(LostWakeUp) && self.io.is_locked() {
            crate::sync::hang();
        }
        let mut io = self.io.lock();
        if self.durable_lsn.load(Ordering::Acquire) >= lsn.0 {
            return Ok(());
        }
        if planted!(WaitersMissTheError) && self.check().is_err() {
            return Ok(());
        }
        let mut reached = self.seal_and_drain(&mut io)?;
        if planted!(AcknowledgedUnsynced) && reached.0.is_multiple_of(4) {
            self.durable_lsn.store(reached.0, Ordering::Release);
            return Ok(());
        }
        if planted!(RotationSkipsSync) {
            let older = io.unsynced.len().saturating_sub(1);
            io.unsynced.drain(..older);
        }
        // Oldest first: a segment must never be durable while the one before it is not.
        for segment in io.unsynced.drain(..) {
            if planted!(SyncErrorForgotten) && segment.file.sync().is_err() {
                continue;
            }
            segment
                .file
                .sync()
                .map_err(|error| self.poison("sync", &segment.name(), None, &error))?;
        }
        io.syncs += 1;
        if planted!(GroupReachesTooFar) {
            reached = self.last_lsn();
        }
        self.durable_lsn.store(reached.0, Ordering::Release);
        Ok(())
    }

    /// Makes everything durable and notes in the log that this was the end.
    pub(crate) fn close(&self) -> Result<(), Poison> {
        let last_lsn = self.last_lsn();
        self.sync(last_lsn)?;
        {
            let mut append = self.append.lock();
            let needed = append.position + RECORD_HEADER_BYTES as u64;
            if needed > append.segment.header.segment_bytes {
                // No room for the note: the end of the segment says as much.
                return Ok(());
            }
            let header = self.header(
                RecordKind::Close,
                RECORD_HEADER_BYTES as u64,
                append.last_lsn,
                None,
            );
            let header = header.encode(&append.segment.seed);
            append.push(&header);
        }
        let mut io = self.io.lock();
        self.seal_and_drain(&mut io)?;
        for segment in io.unsynced.drain(..) {
            segment
                .file
                .sync()
                .map_err(|error| self.poison("sync", &segment.name(), None, &error))?;
        }
        Ok(())
    }

    /// Prepares a segment if none is waiting, so that no commit has to. Returns whether it did.
    pub(crate) fn prepare_spare(&self) -> Result<bool, Poison> {
        self.check()?;
        if !self.spares.lock().is_empty() {
            return Ok(false);
        }
        let number = self.next_spare.fetch_add(1, Ordering::Relaxed);
        let spare = self.maker.prepare(number).map_err(|error| {
            self.poison(
                "preparation",
                &super::segment::spare_name(number),
                None,
                &error,
            )
        })?;
        self.spares.lock().push_back(spare);
        Ok(true)
    }

    /// Takes segment files out of the log. At most `keep` of them wait for use; the others are removed.
    pub(crate) fn recycle(&self, sequences: &[(u64, u64)], keep: usize) -> Result<(), Poison> {
        self.check()?;
        // Oldest first, each made durable before the next: a crash must not leave a gap.
        for &(sequence, len_bytes) in sequences {
            let name = segment_name(sequence);
            let storage = &self.maker.storage;
            let is_kept = self.spares.lock().len() < keep && len_bytes >= self.maker.segment_bytes;
            let number = self.next_spare.fetch_add(1, Ordering::Relaxed);
            let spare = Spare {
                name: super::segment::spare_name(number),
                len_bytes,
            };
            let result = if is_kept {
                storage.rename(&name, &spare.name)
            } else {
                storage.remove(&name)
            };
            result.map_err(|error| self.poison("removal", &name, None, &error))?;
            self.sync_names()?;
            if is_kept {
                self.spares.lock().push_back(spare);
            }
        }
        Ok(())
    }

    fn sync_names(&self) -> Result<(), Poison> {
        let storage = &self.maker.storage;
        storage
            .sync_names()
            .map_err(|error| self.poison("sync of names", &storage.describe(), None, &error))
    }

    /// The segment that is being written.
    pub(crate) fn current_sequence(&self) -> u64 {
        self.append.lock().segment.header.sequence
    }

    pub(crate) fn last_lsn(&self) -> Lsn {
        self.append.lock().last_lsn
    }

    pub(crate) fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable_lsn.load(Ordering::Acquire))
    }

    /// The error that poisoned the log, if one did.
    pub(crate) fn check(&self) -> Result<(), Poison> {
        self.poison
            .get()
            .map_or(Ok(()), |poison| Err(poison.clone()))
    }

    pub(crate) fn statistics(&self) -> LogStatistics {
        let io = self.io.lock();
        let append = self.append.lock();
        LogStatistics {
            last_lsn: append.last_lsn,
            durable_lsn: self.durable_lsn(),
            writes: io.writes,
            syncs: io.syncs,
            ..append.statistics
        }
    }

    /// Turns an error into the poison of this log; the first one stays.
    pub(crate) fn poison(
        &self,
        operation: &'static str,
        file: &str,
        offset: Option<u64>,
        error: &io::Error,
    ) -> Poison {
        let first = || Poison {
            operation,
            file: file.to_owned(),
            offset,
            durable_lsn: self.durable_lsn(),
            unix_ns: self.clock.now_unix_ns(),
            kind: error.kind(),
            cause: error.to_string(),
        };
        self.poison.get_or_init(first).clone()
    }

    fn header(
        &self,
        kind: RecordKind,
        len_bytes: u64,
        lsn: Lsn,
        parts: Option<&RecordParts<'_>>,
    ) -> RecordHeader {
        RecordHeader {
            kind,
            len_bytes,
            lsn,
            durable_lsn: self.durable_lsn(),
            body_crc: parts.map_or(0, |parts| parts.body_crc),
            run_count: parts.map_or(0, |parts| parts.run_count),
            ops_bytes: parts.map_or(0, |parts| parts.ops_bytes),
        }
    }

    /// Goes on in a new segment. What is left of the old one is queued, not waited for.
    fn rotate(&self, append: &mut Append, record_bytes: u64) -> Result<(), Poison> {
        append.seal();
        let header = SegmentHeader {
            version: self.maker.version,
            identity: self.maker.identity,
            sequence: append.segment.header.sequence + 1,
            first_lsn: append.last_lsn.next(),
            durable_lsn: self.durable_lsn(),
            created_unix_ns: self.clock.now_unix_ns(),
            segment_bytes: self.maker.segment_bytes_for(record_bytes),
        };
        let spare = {
            let mut spares = self.spares.lock();
            // An oversized segment has no use for a spare of the usual length.
            let fits = spares
                .front()
                .is_some_and(|spare| spare.len_bytes >= header.segment_bytes);
            if fits { spares.pop_front() } else { None }
        };
        // Nobody prepared a segment. Where commits are synced, filling it now costs less than what every sync
        // in it would cost more; where they are not, it would be wasted.
        let prefill = self.maker.prefill && self.durable_lsn() >= append.segment.header.first_lsn;
        append.statistics.recycled += u64::from(spare.is_some());
        append.statistics.rotations += 1;
        append.segment = self
            .maker
            .open(header, spare.as_ref(), prefill)
            .map_err(|error| {
                self.poison("creation", &segment_name(header.sequence), None, &error)
            })?;
        // Names must never become durable out of order, or a crash leaves a log with a gap.
        if !planted!(RotationSkipsNames) {
            self.sync_names()?;
        }
        append.position = 0;
        append.push(&header.encode());
        if header.version >= COMPRESSED_VERSION {
            self.takes_compressed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Writes a long record from where it is. Others wait meanwhile: copying it first would cost more.
    fn write_direct(
        &self,
        mut append: MutexGuard<'_, Append>,
        stream: &[u8],
        lsn: Lsn,
        assigned: impl FnOnce(Lsn),
    ) -> Result<(), Poison> {
        append.seal();
        let segment = Arc::clone(&append.segment);
        let offset = append.position;
        append.position += stream.len() as u64;
        let end = append.position;
        let terminator = terminator(end, &segment);
        assigned(lsn);
        // `io` comes before `append` in the lock order, so it may only be tried here.
        let Some(mut io) = self.io.try_lock() else {
            let mut bytes = Vec::with_capacity(stream.len() + terminator.len());
            bytes.extend_from_slice(stream);
            bytes.extend_from_slice(terminator);
            append.pending.push_back(Chunk {
                segment,
                offset,
                bytes,
            });
            drop(append);
            return self.drain(&mut self.io.lock());
        };
        self.check()?;
        // Later records can only be queued from here on, and are written once `io` is free.
        let earlier = std::mem::take(&mut append.pending);
        drop(append);
        for chunk in earlier {
            self.write(&mut io, &chunk.segment, chunk.offset, &chunk.bytes)?;
        }
        self.write(&mut io, &segment, end, terminator)?;
        self.write(&mut io, &segment, offset, stream)
    }

    fn seal_and_drain(&self, io: &mut MutexGuard<'_, Io>) -> Result<Lsn, Poison> {
        let reached = {
            let mut append = self.append.lock();
            append.seal();
            append.last_lsn
        };
        self.drain(io)?;
        self.written_lsn.fetch_max(reached.0, Ordering::AcqRel);
        Ok(reached)
    }

    /// Writes all chunks that wait, in their order.
    fn drain(&self, io: &mut MutexGuard<'_, Io>) -> Result<(), Poison> {
        self.check()?;
        loop {
            let Some(chunk) = self.append.lock().pending.pop_front() else {
                return Ok(());
            };
            self.write(io, &chunk.segment, chunk.offset, &chunk.bytes)?;
            let mut bytes = chunk.bytes;
            bytes.clear();
            let mut append = self.append.lock();
            if append.free_buffers.len() < 4 && bytes.capacity() <= 2 * FLUSH_BYTES {
                append.free_buffers.push(bytes);
            }
        }
    }

    fn write(
        &self,
        io: &mut Io,
        segment: &Arc<Segment>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Poison> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !io
            .unsynced
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, segment))
        {
            io.unsynced.push(Arc::clone(segment));
        }
        io.writes += 1;
        segment
            .file
            .write_all_at(bytes, offset)
            .map_err(|error| self.poison("write", &segment.name(), Some(offset), &error))
    }
}

/// What follows the last record of a write: zeros, as far as the segment goes.
fn terminator(end: u64, segment: &Segment) -> &'static [u8] {
    let left = segment.header.segment_bytes.saturating_sub(end);
    let len = usize::try_from(left).unwrap_or(usize::MAX);
    TERMINATOR
        .get(..len.min(TERMINATOR.len()))
        .unwrap_or(&TERMINATOR)
}

/// Bytes of padding that must precede the record at `position`: zero, or enough for a record header.
fn padding_before(position: u64, parts: &RecordParts<'_>) -> u64 {
    if !parts.has_large_run {
        return 0;
    }
    let stream = position + (RECORD_HEADER_BYTES + parts.ops.len()) as u64;
    match align_up(stream, LARGE_ALIGN_BYTES) - stream {
        0 => 0,
        gap if gap < RECORD_HEADER_BYTES as u64 => gap + LARGE_ALIGN_BYTES,
        gap => gap,
    }
}

impl Append {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
    }

    fn fill(&mut self, len_bytes: usize) {
        self.buffer.resize(self.buffer.len() + len_bytes, 0);
        self.position += len_bytes as u64;
    }

    /// Moves what is in the buffer to the queue of chunks.
    fn seal(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        debug_assert!(self.position.is_multiple_of(RECORD_ALIGN_BYTES));
        let fresh = self
            .free_buffers
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(FLUSH_BYTES + FLUSH_BYTES / 4));
        let mut bytes = std::mem::replace(&mut self.buffer, fresh);
        let offset = self.position - bytes.len() as u64;
        bytes.extend_from_slice(terminator(self.position, &self.segment));
        self.pending.push_back(Chunk {
            segment: Arc::clone(&self.segment),
            offset,
            bytes,
        });
    }
}

/// First position of a record in a segment.
pub(crate) const FIRST_POSITION: u64 = SEGMENT_HEADER_BYTES;
