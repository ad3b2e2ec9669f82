//! What each piece of [`Work`] means, computed by the processor.
//!
//! The host and the simulated device run this; kernels are compared with it. Everything is checked before the first byte is
//! written, so a faulty request changes nothing.

use std::ops::Range;

use super::layout::{Changed, TILE_BYTES, Tile, TileRun, sum64};
use super::work::{Combine, Work};
use super::{DeviceError, PinnedSlice};
use crate::graph::{Elementwise, Form, Transform, write_difference};

/// Bytes that are moved or combined at a time: few enough to stay in the processor's cache.
const BLOCK_BYTES: u64 = 32 * 1024;
/// Length of a digest in bytes.
const DIGEST_BYTES: u64 = 32;
/// Length of a sum in bytes.
const SUM_BYTES: u64 = 8;

/// Memory that work is computed in: bytes by their offsets, of which some may not be there.
pub trait Space {
    /// The bytes of `range`.
    ///
    /// # Errors
    /// [`DeviceError::Invalid`] when not all of it is there.
    fn bytes(&self, range: &Range<u64>) -> Result<&[u8], DeviceError>;

    /// The bytes of `range`, for writing.
    ///
    /// # Errors
    /// As [`Space::bytes`].
    fn bytes_mut(&mut self, range: &Range<u64>) -> Result<&mut [u8], DeviceError>;
}

impl Space for [u8] {
    fn bytes(&self, range: &Range<u64>) -> Result<&[u8], DeviceError> {
        let len_bytes = self.len();
        slice_range(range)
            .and_then(|slice| self.get(slice))
            .ok_or_else(|| outside(range, len_bytes))
    }

    fn bytes_mut(&mut self, range: &Range<u64>) -> Result<&mut [u8], DeviceError> {
        let len_bytes = self.len();
        slice_range(range)
            .and_then(|slice| self.get_mut(slice))
            .ok_or_else(|| outside(range, len_bytes))
    }
}

/// What work does with the pinned memory that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedUse {
    /// It names none.
    None,
    /// It reads this.
    Read(PinnedSlice),
    /// It writes all of this.
    Write(PinnedSlice),
}

/// The pinned memory that `work` names.
#[must_use]
pub const fn pinned_use(work: &Work<'_>) -> PinnedUse {
    match work {
        Work::Upload { from, .. } => PinnedUse::Read(*from),
        Work::Download { to, .. }
        | Work::Combine { changed: to, .. }
        | Work::Move { changed: to, .. }
        | Work::Digest { to, .. }
        | Work::Sum { to, .. } => PinnedUse::Write(*to),
        Work::Copy { .. } | Work::Fill { .. } | Work::Apply { .. } => PinnedUse::None,
    }
}

/// Does `work` in `space`. `from_host` are the pinned bytes that it reads, `to_host` those that it writes, see [`pinned_use`]; each
/// is empty if it has none.
///
/// # Errors
/// [`DeviceError::Invalid`] for ranges that are not there or overlap, pinned parts of another length than the result, combinations
/// that do not exist, and tables that contradict themselves. Nothing has been written then.
pub fn execute<S: Space + ?Sized>(
    space: &mut S,
    work: &Work<'_>,
    from_host: &[u8],
    to_host: &mut [u8],
) -> Result<(), DeviceError> {
    match work {
        Work::Upload { to, .. } => {
            let range = range_at(*to, from_host.len() as u64)?;
            space.bytes_mut(&range)?.copy_from_slice(from_host);
            Ok(())
        }
        Work::Download { from, .. } => {
            let range = range_at(*from, to_host.len() as u64)?;
            to_host.copy_from_slice(space.bytes(&range)?);
            Ok(())
        }
        Work::Copy { from, to } => move_bytes(space, from, *to).map(|_| ()),
        Work::Fill { range, byte } => {
            space.bytes_mut(range)?.fill(*byte);
            Ok(())
        }
        Work::Apply { .. } => Batch::of(work, space)?.apply(space),
        Work::Combine {
            combine: how,
            inputs,
            output,
            range,
            ..
        } => {
            expect_len(work, to_host, Changed::LEN_BYTES as u64)?;
            let changed = combine(space, *how, inputs, *output, range)?;
            to_host.copy_from_slice(&changed.to_bytes());
            Ok(())
        }
        Work::Move { from, to, .. } => {
            expect_len(work, to_host, Changed::LEN_BYTES as u64)?;
            let changed = move_bytes(space, from, *to)?;
            to_host.copy_from_slice(&changed.to_bytes());
            Ok(())
        }
        Work::Digest { ranges, .. } => digest(space, work, ranges, to_host),
        Work::Sum { range, .. } => {
            expect_len(work, to_host, SUM_BYTES)?;
            let sum = sum64(space.bytes(range)?);
            to_host.copy_from_slice(&sum.to_le_bytes());
            Ok(())
        }
    }
}

/// Calls `each` with every range of device memory that `work` reads (`false`) or writes (`true`). What [`execute`] refuses is
/// refused here too where it depends on tables.
///
/// # Errors
/// [`DeviceError::Invalid`] for ranges that end beyond all offsets, and for faulty tables.
pub fn accesses<S: Space + ?Sized>(
    space: &S,
    work: &Work<'_>,
    mut each: impl FnMut(Range<u64>, bool),
) -> Result<(), DeviceError> {
    match work {
        Work::Upload { from, to } => each(range_at(*to, from.len_bytes() as u64)?, true),
        Work::Download { from, to } => each(range_at(*from, to.len_bytes() as u64)?, false),
        Work::Copy { from, to } | Work::Move { from, to, .. } => {
            each(from.clone(), false);
            each(range_at(*to, len_of(from)?)?, true);
        }
        Work::Fill { range, .. } => each(range.clone(), true),
        Work::Apply { .. } => {
            let batch = Batch::of(work, space)?;
            for read in batch.reads() {
                each(read, false);
            }
            batch.for_each_run(space, |to, _| {
                each(to, true);
                Ok(())
            })?;
        }
        Work::Combine {
            inputs,
            output,
            range,
            ..
        } => {
            for input in *inputs {
                each(shifted(range, *input)?, false);
            }
            each(shifted(range, *output)?, true);
        }
        Work::Digest { ranges, .. } => {
            for range in *ranges {
                each(range.clone(), false);
            }
        }
        Work::Sum { range, .. } => each(range.clone(), false),
    }
    Ok(())
}

/// The tables of one [`Work::Apply`].
struct Batch {
    tiles: Range<u64>,
    runs: Range<u64>,
    run_count: u32,
    payload: Range<u64>,
}

impl Batch {
    /// The tables, of which so far only the place is checked.
    fn of<S: Space + ?Sized>(work: &Work<'_>, space: &S) -> Result<Self, DeviceError> {
        let Work::Apply {
            tiles,
            tile_count,
            runs,
            run_count,
            payload,
        } = work
        else {
            return Err(invalid(format!("{} has no tables", work.name())));
        };
        for (table, start, align) in [
            ("tiles", *tiles, Tile::LEN_BYTES),
            ("runs", *runs, TileRun::LEN_BYTES),
        ] {
            if !start.is_multiple_of(align as u64) {
                return Err(invalid(format!(
                    "apply: the table of {table} is at offset {start}, which is no multiple of {align}"
                )));
            }
        }
        let table =
            |start: u64, count: u32, len: usize| range_at(start, u64::from(count) * len as u64);
        let batch = Self {
            tiles: table(*tiles, *tile_count, Tile::LEN_BYTES)?,
            runs: table(*runs, *run_count, TileRun::LEN_BYTES)?,
            run_count: *run_count,
            payload: payload.clone(),
        };
        for read in batch.reads() {
            space.bytes(&read)?;
        }
        Ok(batch)
    }

    /// What the batch reads.
    fn reads(&self) -> [Range<u64>; 3] {
        [self.tiles.clone(), self.runs.clone(), self.payload.clone()]
    }

    /// Calls `each` with every run: where it goes and where its bytes come from. Stops at the first one that is faulty.
    fn for_each_run<S: Space + ?Sized>(
        &self,
        space: &S,
        mut each: impl FnMut(Range<u64>, Range<u64>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let (tiles, _) = space.bytes(&self.tiles)?.as_chunks::<{ Tile::LEN_BYTES }>();
        for (position, tile) in tiles.iter().enumerate() {
            let tile = Tile::from_bytes(*tile);
            self.check_tile(position, tile)?;
            let first = self.runs.start + u64::from(tile.first_run) * TileRun::LEN_BYTES as u64;
            let len = u64::from(tile.run_count) * TileRun::LEN_BYTES as u64;
            let (runs, _) = space
                .bytes(&range_at(first, len)?)?
                .as_chunks::<{ TileRun::LEN_BYTES }>();
            for run in runs {
                let (to, from) = self.run(tile, TileRun::from_bytes(*run))?;
                each(to, from)?;
            }
        }
        Ok(())
    }

    fn check_tile(&self, position: usize, tile: Tile) -> Result<(), DeviceError> {
        let faulty = |what: String| Err(invalid(format!("apply: tile {position} {what}")));
        if !tile.to.is_multiple_of(TILE_BYTES) {
            return faulty(format!(
                "begins at {}, which is no multiple of {TILE_BYTES}",
                tile.to
            ));
        }
        if tile.run_count == 0 {
            return faulty("has no runs".to_owned());
        }
        let end = u64::from(tile.first_run) + u64::from(tile.run_count);
        if end > u64::from(self.run_count) {
            return faulty(format!(
                "has runs {} to {end} of a table of {}",
                tile.first_run, self.run_count
            ));
        }
        Ok(())
    }

    /// Where a run goes, and where its bytes come from.
    fn run(&self, tile: Tile, run: TileRun) -> Result<(Range<u64>, Range<u64>), DeviceError> {
        let len = u64::from(run.last) + 1;
        if u64::from(run.at) + len > TILE_BYTES {
            return Err(invalid(format!(
                "apply: a run of {len} bytes at {} leaves its tile at {}",
                run.at, tile.to
            )));
        }
        let from = range_at(self.payload.start, u64::from(run.from) + len)?.end;
        if from > self.payload.end {
            return Err(invalid(format!(
                "apply: a run of {len} bytes from byte {} leaves a payload of {} bytes",
                run.from,
                self.payload.end.saturating_sub(self.payload.start)
            )));
        }
        let to = tile.to.checked_add(u64::from(run.at)).ok_or_else(too_far)?;
        Ok((range_at(to, len)?, from - len..from))
    }

    /// Whether the tables are right, and what they lead to is there.
    fn check<S: Space + ?Sized>(&self, space: &S) -> Result<(), DeviceError> {
        let (tiles, _) = space.bytes(&self.tiles)?.as_chunks::<{ Tile::LEN_BYTES }>();
        let mut places: Vec<u64> = tiles
            .iter()
            .map(|tile| Tile::from_bytes(*tile).to)
            .collect();
        if !places.is_sorted() {
            places.sort_unstable();
        }
        if let Some(&[twice, _]) = places.array_windows().find(|[a, b]| a == b) {
            return Err(invalid(format!("apply: two tiles are the one at {twice}")));
        }
        let reads = self.reads();
        self.for_each_run(space, |to, _| {
            if let Some(read) = reads.iter().find(|read| overlap(read, &to)) {
                return Err(invalid(format!(
                    "apply: a run to {}..{} writes over {}..{}, which the batch reads",
                    to.start, to.end, read.start, read.end
                )));
            }
            space.bytes(&to).map(|_| ())
        })
    }

    fn apply<S: Space + ?Sized>(&self, space: &mut S) -> Result<(), DeviceError> {
        self.check(space)?;
        let mut buffer = [0; TILE_BYTES as usize];
        let tile_count = len_of(&self.tiles)? / Tile::LEN_BYTES as u64;
        for position in 0..tile_count {
            let at = self.tiles.start + position * Tile::LEN_BYTES as u64;
            let tile = Tile::from_bytes(array(space, at)?);
            for run in 0..u64::from(tile.run_count) {
                let run = u64::from(tile.first_run) + run;
                let at = self.runs.start + run * TileRun::LEN_BYTES as u64;
                let (to, from) = self.run(tile, TileRun::from_bytes(array(space, at)?))?;
                let payload = space.bytes(&from)?;
                let Some(copy) = buffer.get_mut(..payload.len()) else {
                    return Err(invalid("apply: a run is longer than a tile".to_owned()));
                };
                copy.copy_from_slice(payload);
                space.bytes_mut(&to)?.copy_from_slice(copy);
            }
        }
        Ok(())
    }
}

/// Copies `from` to `to`, and tells what changed, counted from `to`.
fn move_bytes<S: Space + ?Sized>(
    space: &mut S,
    from: &Range<u64>,
    to: u64,
) -> Result<Changed, DeviceError> {
    let into = range_at(to, len_of(from)?)?;
    if overlap(from, &into) {
        return Err(invalid(format!(
            "a copy from {}..{} to {}..{}, which overlap",
            from.start, from.end, into.start, into.end
        )));
    }
    space.bytes(from)?;
    replace(space, &into, |space, block, new| {
        let from = from.start + (block.start - into.start);
        new.copy_from_slice(space.bytes(&range_at(from, new.len() as u64)?)?);
        Ok(())
    })
}

/// Computes `range` of the page at `output`, and tells what changed, counted from `output`.
fn combine<S: Space + ?Sized>(
    space: &mut S,
    how: Combine,
    inputs: &[u64],
    output: u64,
    range: &Range<u64>,
) -> Result<Changed, DeviceError> {
    let refused = |error: &dyn std::fmt::Display| invalid(format!("combine: {error}"));
    let transform =
        Elementwise::new(how.semiring, how.lane, how.form).map_err(|error| refused(&error))?;
    let lane_bytes = u64::from(how.lane.len_bytes());
    if !(range.start.is_multiple_of(lane_bytes) && range.end.is_multiple_of(lane_bytes)) {
        return Err(refused(&format_args!(
            "{}..{} is not of whole lanes of {lane_bytes} bytes",
            range.start, range.end
        )));
    }
    if inputs.is_empty() || (how.form == Form::Products && !inputs.len().is_multiple_of(2)) {
        return Err(refused(&format_args!("{} parents", inputs.len())));
    }
    let into = shifted(range, output)?;
    for input in inputs {
        let input = shifted(range, *input)?;
        if overlap(&input, &into) {
            return Err(refused(&format_args!(
                "the parent's bytes {}..{} and the output's overlap",
                input.start, input.end
            )));
        }
        space.bytes(&input)?;
    }
    let changed = replace(space, &into, |space, block, new| {
        let len = new.len() as u64;
        let parents = inputs
            .iter()
            .map(|input| {
                let start = input + range.start + (block.start - into.start);
                space.bytes(&(start..start + len))
            })
            .collect::<Result<Vec<_>, _>>()?;
        transform
            .compute(&parents, len, 0..len, new)
            .map_err(|error| refused(&error))
    })?;
    Ok(if changed == Changed::NOTHING {
        changed
    } else {
        Changed {
            first: changed.first + range.start,
            last: changed.last + range.start,
        }
    })
}

/// Puts what `compute` makes of each block into `into`, and tells what changed, counted from the start of `into`.
fn replace<S: Space + ?Sized>(
    space: &mut S,
    into: &Range<u64>,
    compute: impl Fn(&S, &Range<u64>, &mut [u8]) -> Result<(), DeviceError>,
) -> Result<Changed, DeviceError> {
    space.bytes(into)?;
    let len = len_of(into)?;
    let mut new = vec![0; usize::try_from(len.min(BLOCK_BYTES)).unwrap_or(0)];
    let mut changed = Changed::NOTHING;
    let mut start = into.start;
    while start < into.end {
        let block = start..into.end.min(start + BLOCK_BYTES);
        let block_bytes = usize::try_from(block.end - block.start).unwrap_or(0);
        let Some(new) = new.get_mut(..block_bytes) else {
            return Err(too_far());
        };
        compute(space, &block, new)?;
        if let Some((first, last)) = write_difference(space.bytes_mut(&block)?, new) {
            let base = block.start - into.start;
            changed.first = changed.first.min(base + first as u64);
            changed.last = base + last as u64;
        }
        start = block.end;
    }
    Ok(changed)
}

fn digest<S: Space + ?Sized>(
    space: &S,
    work: &Work<'_>,
    ranges: &[Range<u64>],
    to_host: &mut [u8],
) -> Result<(), DeviceError> {
    expect_len(work, to_host, ranges.len() as u64 * DIGEST_BYTES)?;
    for range in ranges {
        if space.bytes(range)?.is_empty() {
            return Err(invalid("digest: of no bytes".to_owned()));
        }
    }
    let (digests, _) = to_host.as_chunks_mut::<{ DIGEST_BYTES as usize }>();
    for (range, digest) in ranges.iter().zip(digests) {
        *digest = blake3::hash(space.bytes(range)?).into();
    }
    Ok(())
}

fn array<S: Space + ?Sized, const N: usize>(space: &S, at: u64) -> Result<[u8; N], DeviceError> {
    let bytes = space.bytes(&range_at(at, N as u64)?)?;
    <[u8; N]>::try_from(bytes).map_err(|_| too_far())
}

fn expect_len(work: &Work<'_>, to_host: &[u8], len_bytes: u64) -> Result<(), DeviceError> {
    if to_host.len() as u64 == len_bytes {
        return Ok(());
    }
    Err(invalid(format!(
        "{} was given {} pinned bytes for a result of {len_bytes}",
        work.name(),
        to_host.len()
    )))
}

/// Whether two ranges have a byte in common.
#[must_use]
pub(super) const fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end && a.start < a.end && b.start < b.end
}

/// The range of `len_bytes` from `start` on.
pub(super) fn range_at(start: u64, len_bytes: u64) -> Result<Range<u64>, DeviceError> {
    let end = start.checked_add(len_bytes).ok_or_else(too_far)?;
    Ok(start..end)
}

fn shifted(range: &Range<u64>, by: u64) -> Result<Range<u64>, DeviceError> {
    let shift = |offset: u64| offset.checked_add(by).ok_or_else(too_far);
    Ok(shift(range.start)?..shift(range.end)?)
}

fn len_of(range: &Range<u64>) -> Result<u64, DeviceError> {
    range.end.checked_sub(range.start).ok_or_else(|| {
        invalid(format!(
            "a range from {} to {}, which is before it",
            range.start, range.end
        ))
    })
}

fn slice_range(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn outside(range: &Range<u64>, len_bytes: usize) -> DeviceError {
    invalid(format!(
        "{}..{} is not inside of {len_bytes} bytes",
        range.start, range.end
    ))
}

fn too_far() -> DeviceError {
    invalid("a range ends beyond the last offset there is".to_owned())
}

pub(super) const fn invalid(reason: String) -> DeviceError {
    DeviceError::Invalid { reason }
}
