//! Reads the records of a log, checked, in order.

use super::batch::{Batch, Limits, Stop, Unchecked};
use super::discover::{LogMap, SegmentFile};
use super::error::LogError;
use super::format::{SEGMENT_HEADER_BYTES, Seed};
use super::tail::{self, Tail};
use crate::lsn::Lsn;
use crate::storage::{Storage, StorageFile};

/// How much is read at once; a record that is longer is read whole. It stays in the processor's second-level cache.
const WINDOW_BYTES: u64 = 256 << 10;
/// How much of that is checked before it is applied, where one thread does both: it stays in the first-level cache.
const PORTION_BYTES: usize = 16 << 10;
/// How much is decompressed for one batch where others apply it: what is compressed well would else fill the memory.
const MAX_UNPACKED_BYTES: usize = 1 << 20;

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
    /// Batches whose buffers can be used again.
    spares: Vec<Batch>,
    /// What one batch may hold.
    limits: Limits,
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
            spares: Vec::new(),
            limits: Limits {
                from,
                portion_bytes: usize::MAX,
                unpacked_bytes: MAX_UNPACKED_BYTES,
            },
            total_bytes: segment_bytes(&map.segments),
            done_bytes: segment_bytes(map.segments.get(..segment).unwrap_or_default()),
        }
    }

    /// Delivers short batches, for a caller who applies each and gives it back before the next.
    pub(crate) fn in_portions(mut self) -> Self {
        self.limits.portion_bytes = PORTION_BYTES;
        self.limits.unpacked_bytes = PORTION_BYTES;
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
        batch.clear(self.expected);
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
                    if batch.len() == 0
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
        let (at, stop) = batch.check(start, seed, &self.limits);
        self.position += (at - start) as u64;
        self.expected = Lsn(self.expected.0.saturating_add(batch.len() as u64));
        match stop {
            Stop::Limit => {
                batch.unchecked = Some(Unchecked {
                    segment: self.segment,
                    position: self.position,
                    at,
                });
                None
            }
            Stop::Longer { len_bytes } => Some(len_bytes),
            Stop::Nothing => None,
        }
    }
}

fn segment_bytes(segments: &[SegmentFile]) -> u64 {
    segments.iter().map(|segment| segment.len_bytes).sum()
}
