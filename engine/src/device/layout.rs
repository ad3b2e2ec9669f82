//! The tables that kernels read and write, byte for byte; all numbers are little endian.
//!
//! Runs are applied tile by tile: one block of threads owns one tile of [`TILE_BYTES`] and writes its runs one after another in the
//! order of the log, so the last writer wins by construction and no two blocks write to one byte.

/// Length of a tile in bytes. Tiles begin at multiples of it.
pub const TILE_BYTES: u64 = 4096;

/// One tile that runs write to. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tile {
    /// Offset of the tile in device memory.
    pub to: u64,
    /// Position of its first run in the table of runs.
    pub first_run: u32,
    /// How many runs it has, at least one; they follow each other.
    pub run_count: u32,
}

/// Bytes that are written to one tile. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TileRun {
    /// Where its bytes begin in the payload.
    pub from: u32,
    /// Where they go, counted from the start of the tile.
    pub at: u16,
    /// Their number less one. `at + last` is less than [`TILE_BYTES`].
    pub last: u16,
}

/// Which bytes of an output changed: from `first` to `last`, both included. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The first byte that changed, counted from the start of the output; [`u64::MAX`] if none did.
    pub first: u64,
    /// The last byte that changed; 0 if none did.
    pub last: u64,
}

impl Changed {
    /// Nothing changed: what a kernel starts from.
    pub const NOTHING: Self = Self {
        first: u64::MAX,
        last: 0,
    };
}

impl Tile {
    /// Its length in a table, in bytes.
    pub const LEN_BYTES: usize = 16;

    /// As it lies in a table.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        let runs = (self.first_run as u128) | (self.run_count as u128) << 32;
        (self.to as u128 | runs << 64).to_le_bytes()
    }

    /// From a table.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self {
            to: bits as u64,
            first_run: (bits >> 64) as u32,
            run_count: (bits >> 96) as u32,
        }
    }
}

impl TileRun {
    /// Its length in a table, in bytes.
    pub const LEN_BYTES: usize = 8;

    /// As it lies in a table.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let place = (self.at as u64) | (self.last as u64) << 16;
        (self.from as u64 | place << 32).to_le_bytes()
    }

    /// From a table.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let bits = u64::from_le_bytes(bytes);
        Self {
            from: bits as u32,
            at: (bits >> 32) as u16,
            last: (bits >> 48) as u16,
        }
    }
}

impl Changed {
    /// Its length in a table, in bytes.
    pub const LEN_BYTES: usize = 16;

    /// As it lies in a table.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        (self.first as u128 | (self.last as u128) << 64).to_le_bytes()
    }

    /// From a table.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self {
            first: bits as u64,
            last: (bits >> 64) as u64,
        }
    }
}

/// A sum that tells whether bytes arrived as they were sent: over words of 8 bytes, little endian, the last one filled up with
/// zeros, `Σ (wordᵢ + 1) · (2·i + 1)` modulo 2⁶⁴.
///
/// Each factor is odd, hence invertible, so no change of a single word goes unseen, and words that change places are seen unless
/// their difference times twice their distance is a multiple of 2⁶⁴. It guards against faults, not against malice, and runs at the
/// bandwidth of memory on either side, which a CRC does not on a GPU. It does not see a different number of zeros in the last word:
/// lengths are compared by whoever knows them.
///
/// Products are slow where the processor has no instruction for several at once. With `S = Σ wordᵢ` and `T = Σ (n − i) · wordᵢ`, which is
/// the sum of the running sums, `Σ wordᵢ · (2·i + 1) = (2·n + 1) · S − 2 · T`, and the ones add up to `n²`: so additions do, in as many
/// lanes as there are.
#[must_use]
pub fn sum64(bytes: &[u8]) -> u64 {
    let (rows, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    let (mut sums, mut running) = ([0u64; LANES], [0u64; LANES]);
    for row in rows {
        let (words, _) = row.as_chunks::<8>();
        for ((sum, running), word) in sums.iter_mut().zip(&mut running).zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            *running = running.wrapping_add(*sum);
        }
    }
    // In lane `j` the word of row `m` has position `LANES · m + j`.
    let count = rows.len() as u64;
    let mut total = 0u64;
    for (lane, (sum, running)) in (0u64..).zip(sums.iter().zip(&running)) {
        let by_row = count.wrapping_mul(*sum).wrapping_sub(*running);
        let by_position = by_row
            .wrapping_mul(LANES as u64)
            .wrapping_add(lane.wrapping_mul(*sum));
        total = total.wrapping_add(by_position.wrapping_mul(2).wrapping_add(*sum));
    }
    let ones = count * LANES as u64;
    total = total.wrapping_add(ones.wrapping_mul(ones));
    for (position, part) in (ones..).zip(rest.chunks(8)) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(part) {
            *to = *from;
        }
        let term = u64::from_le_bytes(word).wrapping_add(1);
        total = total.wrapping_add(term.wrapping_mul(position.wrapping_mul(2) | 1));
    }
    total
}

/// Words that are added side by side.
const LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_long_as_kernels_read_them() {
        assert_eq!(size_of::<Tile>(), Tile::LEN_BYTES);
        assert_eq!(size_of::<TileRun>(), TileRun::LEN_BYTES);
        assert_eq!(size_of::<Changed>(), Changed::LEN_BYTES);
    }

    #[test]
    fn tables_survive() {
        let tile = Tile {
            to: 0x0102_0304_0506_0708,
            first_run: 9,
            run_count: 10,
        };
        assert_eq!(
            tile.to_bytes(),
            [8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 10, 0, 0, 0]
        );
        assert_eq!(Tile::from_bytes(tile.to_bytes()), tile);
        let run = TileRun {
            from: 1,
            at: 2,
            last: 4093,
        };
        assert_eq!(TileRun::from_bytes(run.to_bytes()), run);
        let changed = Changed::NOTHING;
        assert_eq!(Changed::from_bytes(changed.to_bytes()), changed);
    }

    #[test]
    fn a_sum_is_what_its_formula_says() {
        let bytes: Vec<u8> = (0..1500u32).map(|i| (i * i + i / 7) as u8).collect();
        for len in (0..300).chain([511, 512, 513, 1024, 1499, 1500]) {
            let mut expected = 0u64;
            for (position, part) in bytes[..len].chunks(8).enumerate() {
                let mut word = [0; 8];
                word[..part.len()].copy_from_slice(part);
                let term = u64::from_le_bytes(word).wrapping_add(1);
                expected = expected.wrapping_add(term.wrapping_mul(2 * position as u64 + 1));
            }
            assert_eq!(sum64(&bytes[..len]), expected, "{len} bytes");
        }
    }

    #[test]
    fn a_sum_sees_one_flipped_bit_and_two_swapped_words() {
        let mut bytes: Vec<u8> = (0..100u8).map(|byte| byte.wrapping_mul(7)).collect();
        let sum = sum64(&bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum64(&bytes), sum, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for word in 1..12 {
            let mut swapped = bytes.clone();
            for byte in 0..8 {
                swapped.swap(byte, word * 8 + byte);
            }
            assert_ne!(sum64(&swapped), sum, "word {word}");
        }
        assert_eq!(sum64(&[]), 0);
        assert_eq!(sum64(&[1]), 2);
        assert_eq!(sum64(&[0; 16]), 1 + 3);
    }
}
