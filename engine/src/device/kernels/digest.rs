//! Who hashes what: the tables of the digest kernels.

use std::ops::Range;

use super::{Kernel, Launch};

/// BLAKE3 hashes this many bytes on their own, and joins the results in a tree.
const CHUNK_BYTES: u64 = 1024;

/// The chunks of one block of threads, one a thread.
const GROUP_CHUNKS: u32 = 128;

/// Ranges of up to this many chunks share blocks. A longer one gets its own, in which threads may be left without work, but whole
/// warps of them, which cost nothing; sharing costs a longer range more, as its nodes are joined with fewer and fewer lanes of a warp.
const SHARED_CHUNKS: u32 = 16;

/// The longest range, in bytes: 4 GiB, the longest page.
const MAX_RANGE_BYTES: u64 = 1 << 32;

const RANGE_LEN_BYTES: usize = 16;
const GROUP_LEN_BYTES: usize = 16;
const LONG_LEN_BYTES: usize = 4;
const NODE_LEN_BYTES: u64 = 32;

/// How digests of ranges are computed: by one launch that hashes chunks, and a second one if there are ranges of more than 128 KiB.
///
/// ```
/// use mmsb_engine::device::kernels::{DigestPlan, DigestPlanError};
/// let ranges = [0..64, 4096..4096 + (1 << 20)];
/// let plan = DigestPlan::new(&ranges)?;
/// assert_eq!(plan.scratch_bytes(), 8 * 32);
/// let mut tables = vec![0; plan.table_bytes()];
/// plan.write_tables(&ranges, &mut tables)?;
/// // With device memory from address 0 on, the tables at 1 << 30, and digests and scratch memory behind them:
/// let (chunks, roots) = plan.launches(0, 1 << 30, 1 << 31, 1 << 32);
/// assert_eq!(chunks.grid_blocks(), 1 + 8);
/// assert_eq!(roots.map(|roots| roots.grid_blocks()), Some(1));
/// # Ok::<(), DigestPlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestPlan {
    range_count: u32,
    group_count: u32,
    long_count: u32,
    node_count: u32,
}

/// Why digests cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestPlanError {
    /// A range is empty, ends before it begins, or is longer than a page can be.
    #[error(
        "range {position} has the length of no page: from {start} to {end}, where 1 byte to 4 GiB can be digested"
    )]
    Length {
        /// Its position.
        position: usize,
        /// Where it begins.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// There are more ranges, or more bytes in them, than one launch takes.
    #[error("there is too much to digest at once: do it in several pieces")]
    TooMuch,
    /// The ranges are not those that were planned, or the place for the tables has not the length that was said.
    #[error("the plan is for other ranges, or its tables have another length")]
    OtherRanges,
}

/// The work of one block; `DigestGroup` in `engine/kernels/digest.cu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    range: u32,
    /// How many ranges share the block; 0 if it is a part of one.
    range_count: u32,
    first_chunk: u32,
    chunk_count: u32,
}

/// One entry of the tables.
enum Entry {
    /// `DigestRange` in `engine/kernels/digest.cu`.
    Range {
        from: u64,
        last: u32,
        slot: u32,
    },
    Group(Group),
    Long(u32),
}

impl DigestPlan {
    /// The plan for `ranges`, at least one.
    ///
    /// # Errors
    /// [`DigestPlanError::Length`] and [`DigestPlanError::TooMuch`].
    pub fn new(ranges: &[Range<u64>]) -> Result<Self, DigestPlanError> {
        let mut plan = Self {
            range_count: 0,
            group_count: 0,
            long_count: 0,
            node_count: 0,
        };
        let node_count = walk(ranges, |entry| {
            let count = match entry {
                Entry::Range { .. } => &mut plan.range_count,
                Entry::Group(_) => &mut plan.group_count,
                Entry::Long(_) => &mut plan.long_count,
            };
            *count = count.checked_add(1).ok_or(DigestPlanError::TooMuch)?;
            Ok(())
        })?;
        plan.node_count = node_count;
        if plan.group_count > i32::MAX.unsigned_abs() {
            return Err(DigestPlanError::TooMuch);
        }
        Ok(plan)
    }

    /// The length of the tables in bytes.
    #[must_use]
    pub const fn table_bytes(&self) -> usize {
        self.range_count as usize * RANGE_LEN_BYTES
            + self.group_count as usize * GROUP_LEN_BYTES
            + self.long_count as usize * LONG_LEN_BYTES
    }

    /// The device memory that the kernels use between them, in bytes; its contents need not be defined. May be 0.
    #[must_use]
    pub const fn scratch_bytes(&self) -> u64 {
        self.node_count as u64 * NODE_LEN_BYTES
    }

    /// The length of the digests in bytes, 32 for each range, in the order of the ranges.
    #[must_use]
    pub const fn digest_bytes(&self) -> u64 {
        self.range_count as u64 * NODE_LEN_BYTES
    }

    /// Writes the tables to `out`, which is [`DigestPlan::table_bytes`] long.
    ///
    /// # Errors
    /// [`DigestPlanError::OtherRanges`] if `ranges` or the length of `out` are not those of the plan.
    pub fn write_tables(
        &self,
        ranges: &[Range<u64>],
        out: &mut [u8],
    ) -> Result<(), DigestPlanError> {
        if out.len() != self.table_bytes() {
            return Err(DigestPlanError::OtherRanges);
        }
        let (mut range_table, rest) = out.split_at_mut(self.range_count as usize * RANGE_LEN_BYTES);
        let (mut group_table, mut long_table) =
            rest.split_at_mut(self.group_count as usize * GROUP_LEN_BYTES);
        walk(ranges, |entry| match entry {
            Entry::Range { from, last, slot } => {
                let place = u64::from(last) | u64::from(slot) << 32;
                let entry = u128::from(from) | u128::from(place) << 64;
                put(&mut range_table, entry.to_le_bytes())
            }
            Entry::Group(group) => {
                let words = [
                    group.range,
                    group.range_count,
                    group.first_chunk,
                    group.chunk_count,
                ];
                let entry = words
                    .iter()
                    .rev()
                    .fold(0, |bits: u128, word| bits << 32 | u128::from(*word));
                put(&mut group_table, entry.to_le_bytes())
            }
            Entry::Long(range) => put(&mut long_table, range.to_le_bytes()),
        })?;
        let is_full = range_table.is_empty() && group_table.is_empty() && long_table.is_empty();
        is_full.then_some(()).ok_or(DigestPlanError::OtherRanges)
    }

    /// The launches, to be done one after the other. Ranges count from `memory`; the other addresses are those of the tables, a
    /// multiple of 16, of the digests, a multiple of 4, and of the scratch memory, a multiple of 4.
    #[must_use]
    pub fn launches(
        &self,
        memory: u64,
        tables: u64,
        digests: u64,
        scratch: u64,
    ) -> (Launch, Option<Launch>) {
        let groups = tables + u64::from(self.range_count) * RANGE_LEN_BYTES as u64;
        let long = groups + u64::from(self.group_count) * GROUP_LEN_BYTES as u64;
        let chunks = Launch::new(
            Kernel::DigestChunks,
            u64::from(self.group_count),
            [memory, tables, groups, digests, scratch],
        );
        let roots = (self.long_count != 0).then(|| {
            Launch::new(
                Kernel::DigestRoots,
                u64::from(self.long_count),
                [tables, long, digests, scratch],
            )
        });
        (chunks, roots)
    }
}

/// Writes an entry and goes on behind it.
fn put<const LEN: usize>(table: &mut &mut [u8], entry: [u8; LEN]) -> Result<(), DigestPlanError> {
    let (to, rest) = std::mem::take(table)
        .split_first_chunk_mut::<LEN>()
        .ok_or(DigestPlanError::OtherRanges)?;
    *to = entry;
    *table = rest;
    Ok(())
}

/// Gives `sink` all entries of the tables, each table in its order, and returns how many nodes the scratch memory holds.
fn walk(
    ranges: &[Range<u64>],
    mut sink: impl FnMut(Entry) -> Result<(), DigestPlanError>,
) -> Result<u32, DigestPlanError> {
    if ranges.is_empty() || u32::try_from(ranges.len()).is_err() {
        return Err(DigestPlanError::TooMuch);
    }
    let mut node_count = 0_u32;
    let mut shared = Group::default();
    for (position, range) in ranges.iter().enumerate() {
        let index = u32::try_from(position).map_err(|_| DigestPlanError::TooMuch)?;
        let last = last_of(position, range)?;
        let chunk_count = last / CHUNK_BYTES as u32 + 1;
        let mut entry = |slot| {
            sink(Entry::Range {
                from: range.start,
                last,
                slot,
            })
        };
        if chunk_count <= SHARED_CHUNKS {
            if shared.range_count != 0 && shared.chunk_count + chunk_count > GROUP_CHUNKS {
                let full = std::mem::take(&mut shared);
                entry(0)?;
                sink(Entry::Group(full))?;
            } else {
                entry(shared.chunk_count)?;
            }
            if shared.range_count == 0 {
                shared.range = index;
            }
            shared.range_count += 1;
            shared.chunk_count += chunk_count;
            continue;
        }
        entry(node_count)?;
        if shared.range_count != 0 {
            sink(Entry::Group(std::mem::take(&mut shared)))?;
        }
        let groups = chunk_count.div_ceil(GROUP_CHUNKS);
        for group in 0..groups {
            let first_chunk = group * GROUP_CHUNKS;
            sink(Entry::Group(Group {
                range: index,
                range_count: 0,
                first_chunk,
                chunk_count: (chunk_count - first_chunk).min(GROUP_CHUNKS),
            }))?;
        }
        if groups > 1 {
            sink(Entry::Long(index))?;
            node_count = node_count
                .checked_add(groups)
                .ok_or(DigestPlanError::TooMuch)?;
        }
    }
    if shared.range_count != 0 {
        sink(Entry::Group(shared))?;
    }
    Ok(node_count)
}

/// The length of a range less one.
fn last_of(position: usize, range: &Range<u64>) -> Result<u32, DigestPlanError> {
    let len_bytes = range.end.saturating_sub(range.start);
    len_bytes
        .checked_sub(1)
        .filter(|_| len_bytes <= MAX_RANGE_BYTES)
        .and_then(|last| u32::try_from(last).ok())
        .ok_or(DigestPlanError::Length {
            position,
            start: range.start,
            end: range.end,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect()
    }

    #[test]
    fn small_ranges_share_blocks_and_long_ones_have_several() {
        let kib = 1024;
        let ranges = [
            0..1,
            8 * kib..24 * kib,
            32 * kib..49 * kib,
            64 * kib..64 * kib + 128 * kib,
            256 * kib..256 * kib + 128 * kib + 1,
            (1 << 40)..(1 << 40) + (1 << 32),
            5..6,
        ];
        let plan = DigestPlan::new(&ranges).unwrap();
        assert_eq!(plan.long_count, 2);
        assert_eq!(plan.node_count, 2 + (1 << 15));
        assert_eq!(plan.group_count, 1 + 1 + 1 + 2 + (1 << 15) + 1);
        let mut tables = vec![0; plan.table_bytes()];
        plan.write_tables(&ranges, &mut tables).unwrap();
        let words = words(&tables);
        let slots: Vec<u32> = (0..7).map(|range| words[range * 4 + 3]).collect();
        assert_eq!(slots, [0, 1, 0, 0, 0, 2, 0]);
        assert_eq!(words[5 * 4..5 * 4 + 3], [0, 1 << 8, u32::MAX]);
        let group = |index: usize| &words[7 * 4 + index * 4..][..4];
        assert_eq!(group(0), [0, 2, 0, 17]);
        assert_eq!(group(1), [2, 0, 0, 17]);
        assert_eq!(group(2), [3, 0, 0, 128]);
        assert_eq!(group(3), [4, 0, 0, 128]);
        assert_eq!(group(4), [4, 0, 128, 1]);
        assert_eq!(group(5 + (1 << 15)), [6, 1, 0, 1]);
        assert_eq!(words[words.len() - 2..], [4, 5]);
    }

    #[test]
    fn a_shared_block_is_filled_up_to_its_threads() {
        let ranges: Vec<_> = (0..300_u64).map(|i| i * 64..i * 64 + 64).collect();
        let plan = DigestPlan::new(&ranges).unwrap();
        assert_eq!(plan.group_count, 3);
        let mut tables = vec![0; plan.table_bytes()];
        plan.write_tables(&ranges, &mut tables).unwrap();
        let words = words(&tables);
        assert_eq!(words[300 * 4..300 * 4 + 4], [0, 128, 0, 128]);
        assert_eq!(words[302 * 4..302 * 4 + 4], [256, 44, 0, 44]);
        assert_eq!((words[127 * 4 + 3], words[128 * 4 + 3]), (127, 0));
    }

    #[test]
    fn what_cannot_be_digested_is_refused() {
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is tested")]
        for bad in [5..5, 6..5, 0..(1 << 32) + 1, 0..u64::MAX] {
            let error = DigestPlan::new(&[0..1, bad]).unwrap_err();
            assert!(
                matches!(error, DigestPlanError::Length { position: 1, .. }),
                "{error}"
            );
        }
        assert_eq!(DigestPlan::new(&[]), Err(DigestPlanError::TooMuch));
        let ranges = [0..1, 1..2];
        let plan = DigestPlan::new(&ranges).unwrap();
        let mut tables = vec![0; plan.table_bytes()];
        let other = Err(DigestPlanError::OtherRanges);
        assert_eq!(plan.write_tables(&ranges[..1], &mut tables), other);
        assert_eq!(plan.write_tables(&[0..1, 1..2, 2..3], &mut tables), other);
        assert_eq!(plan.write_tables(&[0..1, 1..2], &mut tables[1..]), other);
        assert_eq!(plan.write_tables(&[0..1, 1..2], &mut tables), Ok(()));
    }
}
