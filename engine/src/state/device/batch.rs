//! Runs of the log, sorted by the tile that they write to.

use crate::device::layout::{TILE_BYTES, Tile, TileRun};

/// What a piece of a run takes in the tables at most: its own entry, and that of a tile of which it is the only run.
const PIECE_BYTES: usize = Tile::LEN_BYTES + TileRun::LEN_BYTES;

/// A part of a run that lies in one tile.
#[derive(Clone, Copy, Debug)]
struct Piece {
    tile: u64,
    run: TileRun,
}

/// Runs in the order of the log, and how long their bytes are.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pieces: Vec<Piece>,
    payload_bytes: usize,
    /// Whether the pieces are in the order of their tiles as they came.
    is_sorted: bool,
}

/// Where the tables of a batch are, counted from the start of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) payload_bytes: usize,
    pub(crate) tiles_at: usize,
    pub(crate) tile_count: u32,
    pub(crate) runs_at: usize,
    pub(crate) run_count: u32,
    /// Payload and tables.
    pub(crate) len_bytes: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Where in the payload the bytes of a run to device offset `to` go, if they and their tables fit in `capacity_bytes`. The
    /// place has the alignment of the destination, so that the kernel copies 16 bytes at a time.
    pub(crate) fn place(&self, to: u64, len_bytes: usize, capacity_bytes: usize) -> Option<usize> {
        let mut at = self.payload_bytes - self.payload_bytes % 16 + (to % 16) as usize;
        if at < self.payload_bytes {
            at += 16;
        }
        let end = at.checked_add(len_bytes)?;
        let pieces = self.pieces.len() + pieces_of(to, len_bytes);
        // The tables start at a multiple of 16.
        (end + 16 + pieces * PIECE_BYTES <= capacity_bytes).then_some(at)
    }

    /// Notes a run whose bytes are at `at` in the payload, as [`Batch::place`] said.
    pub(crate) fn push(&mut self, to: u64, at: usize, len_bytes: usize) {
        if self.pieces.is_empty() {
            self.is_sorted = true;
        }
        let (mut to, mut from, mut left) = (to, at as u64, len_bytes as u64);
        while left > 0 {
            let in_tile = to % TILE_BYTES;
            let len = left.min(TILE_BYTES - in_tile);
            let tile = to - in_tile;
            self.is_sorted &= self.pieces.last().is_none_or(|last| last.tile <= tile);
            self.pieces.push(Piece {
                tile,
                run: TileRun {
                    from: from as u32,
                    at: in_tile as u16,
                    last: (len - 1) as u16,
                },
            });
            (to, from, left) = (to + len, from + len, left - len);
        }
        self.payload_bytes = at + len_bytes;
    }

    /// Writes the tables behind the payload and empties the batch. `bytes` is what [`Batch::place`] was told of.
    pub(crate) fn finish(&mut self, bytes: &mut [u8]) -> Option<Tables> {
        if !self.is_sorted {
            // Stable: the runs of a tile stay in the order of the log.
            self.pieces.sort_by_key(|piece| piece.tile);
        }
        let runs_at = self.payload_bytes.next_multiple_of(16);
        let mut at = runs_at;
        for piece in &self.pieces {
            put(bytes, &mut at, &piece.run.to_bytes())?;
        }
        let tiles_at = at.next_multiple_of(16);
        at = tiles_at;
        let mut tile_count = 0;
        let mut first_run = 0;
        for runs in self.pieces.chunk_by(|a, b| a.tile == b.tile) {
            let run_count = runs.len() as u32;
            let tile = Tile {
                to: runs.first()?.tile,
                first_run,
                run_count,
            };
            put(bytes, &mut at, &tile.to_bytes())?;
            first_run += run_count;
            tile_count += 1;
        }
        let tables = Tables {
            payload_bytes: self.payload_bytes,
            tiles_at,
            tile_count,
            runs_at,
            run_count: first_run,
            len_bytes: at,
        };
        self.clear();
        Some(tables)
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.payload_bytes = 0;
    }
}

fn put(bytes: &mut [u8], at: &mut usize, entry: &[u8]) -> Option<()> {
    let end = *at + entry.len();
    bytes.get_mut(*at..end)?.copy_from_slice(entry);
    *at = end;
    Some(())
}

/// In how many tiles a run lies. `len_bytes` is not zero.
fn pieces_of(to: u64, len_bytes: usize) -> usize {
    let last = to + len_bytes as u64 - 1;
    (last / TILE_BYTES - to / TILE_BYTES + 1) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a kernel does with the tables.
    fn apply(memory: &mut [u8], bytes: &[u8], tables: Tables) {
        let mut seen = std::collections::BTreeSet::new();
        let mut next_run = 0;
        for tile in 0..tables.tile_count as usize {
            let at = tables.tiles_at + tile * Tile::LEN_BYTES;
            let tile = Tile::from_bytes(*bytes[at..].first_chunk().unwrap());
            assert_eq!(tile.to % TILE_BYTES, 0);
            assert!(seen.insert(tile.to), "a tile has one owner");
            assert_eq!(tile.first_run, next_run, "tables have no gaps");
            assert!(tile.run_count > 0);
            next_run += tile.run_count;
            for run in tile.first_run..next_run {
                let at = tables.runs_at + run as usize * TileRun::LEN_BYTES;
                let run = TileRun::from_bytes(*bytes[at..].first_chunk().unwrap());
                let len = usize::from(run.last) + 1;
                assert!(usize::from(run.at) + len <= TILE_BYTES as usize);
                let from = run.from as usize;
                assert!(from + len <= tables.payload_bytes);
                let to = tile.to as usize + usize::from(run.at);
                memory[to..to + len].copy_from_slice(&bytes[from..from + len]);
            }
        }
        assert_eq!(next_run, tables.run_count);
        assert!(tables.len_bytes <= bytes.len());
    }

    proptest! {
        #[test]
        fn tables_do_what_the_runs_say(
            runs in prop::collection::vec((0..20_000u64, 1..9_000usize, any::<u8>()), 1..40),
        ) {
            let mut expected = vec![0; 1 << 15];
            let mut memory = expected.clone();
            let mut bytes = vec![0xee; 64 << 10];
            let mut batch = Batch::default();
            for (to, len, seed) in runs {
                let data: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(7) ^ seed).collect();
                let at = match batch.place(to, len, bytes.len()) {
                    Some(at) => at,
                    None => {
                        let tables = batch.finish(&mut bytes).unwrap();
                        apply(&mut memory, &bytes, tables);
                        batch.place(to, len, bytes.len()).unwrap()
                    }
                };
                prop_assert_eq!(at as u64 % 16, to % 16);
                bytes[at..at + len].copy_from_slice(&data);
                batch.push(to, at, len);
                expected[to as usize..to as usize + len].copy_from_slice(&data);
            }
            let tables = batch.finish(&mut bytes).unwrap();
            prop_assert!(batch.is_empty());
            apply(&mut memory, &bytes, tables);
            prop_assert!(memory == expected);
        }
    }

    #[test]
    fn a_batch_is_full_before_its_tables_do_not_fit() {
        let mut batch = Batch::default();
        let mut bytes = vec![0; 4096];
        let mut count = 0;
        while let Some(at) = batch.place(count * 4096, 1, bytes.len()) {
            batch.push(count * 4096, at, 1);
            count += 1;
        }
        let tables = batch.finish(&mut bytes).unwrap();
        assert_eq!(u64::from(tables.tile_count), count);
        assert!(count > 90, "{count}");
        assert!(batch.place(0, 5000, bytes.len()).is_none());
    }
}
