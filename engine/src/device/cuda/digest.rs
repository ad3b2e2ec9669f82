//! BLAKE3 of ranges: who hashes what.
//!
//! The tables are those that `engine/kernels/digest.cu` reads: a range is cut into chunks of 1 KiB; a block of threads hashes up to
//! [`BLOCK_CHUNKS`] of them, of one long range or of several short ones that follow each other in the table. A second kernel joins what
//! the blocks of one range came to.

use std::ops::Range;

use super::launch::Kernel;
use super::scratch::{DIGESTS, NODES};
use super::submit::Submission;
use super::tables::Table;
use crate::device::{DeviceError, PinnedSlice};

const CHUNK_BYTES: u64 = 1024;
const BLOCK_CHUNKS: u32 = 128;

/// Ranges of more chunks do not share blocks.
const SHARED_CHUNKS: u32 = 16;

const DIGEST_BYTES: usize = 32;
const RANGE_BYTES: usize = 16;
const GROUP_BYTES: usize = 16;
const LONG_BYTES: usize = 4;

/// How long the tables of some ranges are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    ranges: usize,
    groups: usize,
    longs: usize,
    nodes: u32,
}

impl Counts {
    const fn table_bytes(&self) -> usize {
        self.ranges * RANGE_BYTES + self.groups * GROUP_BYTES + self.longs * LONG_BYTES
    }
}

/// What is written to the tables, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// `DigestRange`: where it begins, its length less one, its slot.
    Range { from: u64, last: u32, slot: u32 },
    /// `DigestGroup`: its first range, how many share it (0: one range, perhaps a part), its first chunk, its chunks.
    Group {
        range: u32,
        range_count: u32,
        first_chunk: u32,
        chunk_count: u32,
    },
    /// The position of a range of several blocks.
    Long(u32),
}

/// Goes through ranges, one after the other.
#[derive(Debug, Default)]
struct Planner {
    counts: Counts,
    /// The short ranges that share a block so far.
    shared: Range<u32>,
    shared_chunks: u32,
}

impl Planner {
    /// Adds a range, of `len_bytes` from 1 to 4 GiB.
    fn add(&mut self, from: u64, len_bytes: u64, row: &mut impl FnMut(Row)) {
        let position = self.counts.ranges as u32;
        let chunks = len_bytes.div_ceil(CHUNK_BYTES) as u32;
        let last = (len_bytes - 1) as u32;
        self.counts.ranges += 1;
        if chunks <= SHARED_CHUNKS {
            if self.shared_chunks + chunks > BLOCK_CHUNKS {
                self.close_shared(row);
            }
            if self.shared_chunks == 0 {
                self.shared.start = position;
            }
            let slot = self.shared_chunks;
            self.shared.end = position + 1;
            self.shared_chunks += chunks;
            return row(Row::Range { from, last, slot });
        }
        self.close_shared(row);
        let blocks = chunks.div_ceil(BLOCK_CHUNKS);
        let slot = self.counts.nodes;
        row(Row::Range { from, last, slot });
        for block in 0..blocks {
            let first_chunk = block * BLOCK_CHUNKS;
            self.counts.groups += 1;
            row(Row::Group {
                range: position,
                range_count: 0,
                first_chunk,
                chunk_count: (chunks - first_chunk).min(BLOCK_CHUNKS),
            });
        }
        if blocks > 1 {
            self.counts.nodes += blocks;
            self.counts.longs += 1;
            row(Row::Long(position));
        }
    }

    /// Ends the block that short ranges share.
    fn close_shared(&mut self, row: &mut impl FnMut(Row)) {
        if self.shared_chunks > 0 {
            self.counts.groups += 1;
            row(Row::Group {
                range: self.shared.start,
                range_count: self.shared.end - self.shared.start,
                first_chunk: 0,
                chunk_count: self.shared_chunks,
            });
            self.shared_chunks = 0;
        }
    }

    /// What the tables would be if nothing was added any more.
    fn closed_counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.groups += usize::from(self.shared_chunks > 0);
        counts
    }
}

fn len_bytes(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// How many of the ranges fit into tables of `table_bytes`, and how long those are.
fn batch(ranges: &[Range<u64>], table_bytes: usize) -> (usize, Counts) {
    let mut planner = Planner::default();
    let mut fitting = (0, Counts::default());
    for range in ranges.iter().take(DIGESTS) {
        planner.add(range.start, len_bytes(range), &mut |_| {});
        let counts = planner.closed_counts();
        if counts.table_bytes() > table_bytes || counts.nodes > NODES {
            break;
        }
        fitting = (counts.ranges, counts);
    }
    fitting
}

/// Writes the tables of ranges that `counts` were counted for.
fn fill(ranges: &[Range<u64>], counts: Counts, table: &mut [u8]) {
    let mut at = [
        0,
        counts.ranges * RANGE_BYTES,
        counts.ranges * RANGE_BYTES + counts.groups * GROUP_BYTES,
    ];
    let mut write = |row: Row| {
        let (part, len, bits) = match row {
            Row::Range { from, last, slot } => (
                0,
                RANGE_BYTES,
                u128::from(from) | u128::from(last) << 64 | u128::from(slot) << 96,
            ),
            Row::Group {
                range,
                range_count,
                first_chunk,
                chunk_count,
            } => (
                1,
                GROUP_BYTES,
                u128::from(range)
                    | u128::from(range_count) << 32
                    | u128::from(first_chunk) << 64
                    | u128::from(chunk_count) << 96,
            ),
            Row::Long(position) => (2, LONG_BYTES, u128::from(position)),
        };
        if let Some(start) = at.get_mut(part) {
            let to = table.get_mut(*start..*start + len);
            if let (Some(to), Some(from)) = (to, bits.to_le_bytes().get(..len)) {
                to.copy_from_slice(from);
            }
            *start += len;
        }
    };
    let mut planner = Planner::default();
    for range in ranges {
        planner.add(range.start, len_bytes(range), &mut write);
    }
    planner.close_shared(&mut write);
}

impl Submission<'_> {
    pub(super) fn digest(
        &mut self,
        ranges: &[Range<u64>],
        to: &PinnedSlice,
    ) -> Result<(), DeviceError> {
        self.check_slice(to, ranges.len() * DIGEST_BYTES)?;
        for range in ranges {
            self.parts.memory.check(range)?;
            if !(1..=1 << 32).contains(&len_bytes(range)) {
                return Err(DeviceError::Invalid {
                    reason: format!(
                        "a digest of {} bytes; 1 byte to 4 GiB are possible",
                        len_bytes(range)
                    ),
                });
            }
        }
        let mut rest = ranges;
        let mut done = 0;
        while !rest.is_empty() {
            let (count, counts) = batch(rest, self.state.tables.half_bytes());
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            let table = self.send_digest_tables(now, counts)?;
            self.launch_digest(counts, table)?;
            let from = self.state.scratch.digests();
            self.send_part_back(from, to, done..done + count * DIGEST_BYTES, "digest")?;
            done += count * DIGEST_BYTES;
            rest = later;
        }
        Ok(())
    }

    fn send_digest_tables(
        &mut self,
        ranges: &[Range<u64>],
        counts: Counts,
    ) -> Result<u64, DeviceError> {
        let context = &self.parts.context;
        let len_bytes = counts.table_bytes();
        let table: Table = self.stream.take_table(context, self.state, len_bytes)?;
        // SAFETY: the table was taken just now, under the lock that is still held; work that reads it follows below.
        fill(ranges, counts, unsafe { table.bytes() });
        let to = self.state.scratch.table();
        self.stream
            .send_table(context, table, to, len_bytes, "digest")?;
        Ok(to)
    }

    fn launch_digest(&self, counts: Counts, table: u64) -> Result<(), DeviceError> {
        let groups = table + (counts.ranges * RANGE_BYTES) as u64;
        let longs = groups + (counts.groups * GROUP_BYTES) as u64;
        let (digests, nodes) = (self.state.scratch.digests(), self.state.scratch.nodes());
        let arguments = [
            self.address(0).into(),
            table.into(),
            groups.into(),
            digests.into(),
            nodes.into(),
        ];
        // SAFETY: `mmsb_digest_chunks(memory, ranges, groups, digests, scratch)`, a block a group; ranges are mapped until work was
        // waited for; there is room for the digest of each range and for each node, as `batch` counted.
        unsafe { self.launch(Kernel::DigestChunks, counts.groups as u32, arguments) }?;
        if counts.longs == 0 {
            return Ok(());
        }
        let arguments = [table.into(), longs.into(), digests.into(), nodes.into()];
        // SAFETY: `mmsb_digest_roots(ranges, long_ranges, digests, scratch)`, a block a long range; as above.
        unsafe { self.launch(Kernel::DigestRoots, counts.longs as u32, arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[u64]) -> (Vec<Row>, Counts) {
        let mut rows = Vec::new();
        let mut planner = Planner::default();
        for len in lengths {
            planner.add(0, *len, &mut |row| rows.push(row));
        }
        planner.close_shared(&mut |row| rows.push(row));
        (rows, planner.closed_counts())
    }

    #[test]
    fn every_chunk_of_every_range_has_one_thread() {
        let lengths = [
            1,
            1024,
            1025,
            16 << 10,
            (16 << 10) + 1,
            128 << 10,
            (128 << 10) + 1,
            5,
            1 << 20,
            7,
            7,
            16 << 10,
            16 << 10,
            16 << 10,
            16 << 10,
            16 << 10,
            16 << 10,
            16 << 10,
            16 << 10,
            3,
        ];
        let (rows, counts) = rows(&lengths);
        let mut seen = vec![0; lengths.len()];
        let mut slots = vec![0; lengths.len()];
        let mut position = 0;
        for row in &rows {
            if let Row::Range { slot, .. } = row {
                slots[position] = *slot;
                position += 1;
            }
        }
        let mut groups = 0;
        for row in &rows {
            let Row::Group {
                range,
                range_count,
                first_chunk,
                chunk_count,
            } = *row
            else {
                continue;
            };
            groups += 1;
            assert!((1..=BLOCK_CHUNKS).contains(&chunk_count));
            if range_count == 0 {
                assert_eq!(first_chunk, seen[range as usize]);
                seen[range as usize] += chunk_count;
                continue;
            }
            let mut chunks = 0;
            for shared in range..range + range_count {
                assert_eq!(slots[shared as usize], chunks);
                let own = lengths[shared as usize].div_ceil(CHUNK_BYTES) as u32;
                seen[shared as usize] += own;
                chunks += own;
            }
            assert_eq!(chunks, chunk_count);
        }
        for (chunks, len) in seen.iter().zip(lengths) {
            assert_eq!(u64::from(*chunks), len.div_ceil(CHUNK_BYTES));
        }
        assert_eq!(counts.groups, groups);
        assert_eq!((counts.longs, counts.nodes), (2, 2 + 8));
    }

    #[test]
    fn batches_fit_their_tables() {
        let ranges: Vec<Range<u64>> = (0..1000).map(|_| 0..100_000).collect();
        let (count, counts) = batch(&ranges, 4096);
        assert!(count > 10 && counts.table_bytes() <= 4096);
        let longest = [0..1 << 32];
        let (count, counts) = batch(&longest, 1 << 20);
        assert_eq!((count, counts.nodes), (1, 1 << 15));
        let short: Vec<Range<u64>> = (0..DIGESTS as u64 + 1).map(|_| 0..1).collect();
        assert_eq!(batch(&short, 1 << 20).0, DIGESTS);
    }
}
