//! How the kernels in `engine/kernels` are launched: names, shapes, arguments and the tables of digests.
//!
//! Whoever launches them, on a GPU or on a simulation of one, takes it from here, so that there is one description. The kernels
//! themselves are CUDA C++, compiled to the text that [`ptx`] gives.

mod digest;

pub use digest::{DigestPlan, DigestPlanError};

use super::Combine;

/// The module with all kernels, as PTX: text that the driver of any GPU from compute capability 7.5 on compiles when it loads it.
#[must_use]
pub const fn ptx() -> &'static str {
    include_str!("../../kernels/mmsb.ptx")
}

/// A kernel of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernel {
    /// Writes the runs of tiles.
    Apply,
    /// Combines pages lane by lane.
    Combine,
    /// Copies over an output and reports what changed.
    Move,
    /// Copies.
    Copy,
    /// Sets every byte.
    Fill,
    /// Adds up words.
    Sum,
    /// Hashes chunks and joins those of one block.
    DigestChunks,
    /// Joins what the blocks of one range left.
    DigestRoots,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Apply,
        Self::Combine,
        Self::Move,
        Self::Copy,
        Self::Fill,
        Self::Sum,
        Self::DigestChunks,
        Self::DigestRoots,
    ];

    /// Its name in the module.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "mmsb_apply",
            Self::Combine => "mmsb_combine",
            Self::Move => "mmsb_move",
            Self::Copy => "mmsb_copy",
            Self::Fill => "mmsb_fill",
            Self::Sum => "mmsb_sum",
            Self::DigestChunks => "mmsb_digest_chunks",
            Self::DigestRoots => "mmsb_digest_roots",
        }
    }

    /// Its position in [`Kernel::ALL`].
    #[must_use]
    pub const fn position(self) -> usize {
        match self {
            Self::Apply => 0,
            Self::Combine => 1,
            Self::Move => 2,
            Self::Copy => 3,
            Self::Fill => 4,
            Self::Sum => 5,
            Self::DigestChunks => 6,
            Self::DigestRoots => 7,
        }
    }

    /// How many threads each of its blocks has; it is written for just that many, in one direction.
    #[must_use]
    pub const fn block_threads(self) -> u32 {
        match self {
            Self::Apply | Self::DigestChunks => 128,
            Self::Combine
            | Self::Move
            | Self::Copy
            | Self::Fill
            | Self::Sum
            | Self::DigestRoots => 256,
        }
    }

    /// The lengths of its arguments in bytes, 4 or 8.
    #[must_use]
    pub const fn argument_lens(self) -> &'static [u8] {
        match self {
            Self::Apply => &[8, 8, 4, 8, 4, 8, 8, 8, 8],
            Self::Combine => &[4, 8, 4, 8, 8, 8, 8],
            Self::Move => &[8, 8, 8, 8],
            Self::Copy | Self::Sum => &[8, 8, 8],
            Self::Fill => &[8, 8, 4],
            Self::DigestChunks => &[8, 8, 8, 8, 8],
            Self::DigestRoots => &[8, 8, 8, 8],
        }
    }
}

/// One launch of a kernel: a grid of blocks in one direction, without dynamic shared memory.
///
/// Addresses are the device's. They are not checked here: whoever launches has checked that they lead to mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    kernel: Kernel,
    grid_blocks: u32,
    arguments: [u64; Self::MAX_ARGUMENTS],
}

impl Launch {
    /// The most arguments that a kernel takes.
    pub const MAX_ARGUMENTS: usize = 9;

    fn new<const COUNT: usize>(kernel: Kernel, grid_blocks: u64, arguments: [u64; COUNT]) -> Self {
        const { assert!(COUNT <= Self::MAX_ARGUMENTS) };
        let mut all = [0; Self::MAX_ARGUMENTS];
        for (to, from) in all.iter_mut().zip(arguments) {
            *to = from;
        }
        Self {
            kernel,
            grid_blocks: u32::try_from(grid_blocks.clamp(1, MAX_GRID_BLOCKS)).unwrap_or(u32::MAX),
            arguments: all,
        }
    }

    /// What is launched.
    #[must_use]
    pub const fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// How many blocks, at least one. The threads of each: [`Kernel::block_threads`].
    #[must_use]
    pub const fn grid_blocks(&self) -> u32 {
        self.grid_blocks
    }

    /// Dynamic shared memory of a block, in bytes: none, kernels say themselves what they take.
    #[must_use]
    pub const fn shared_bytes(&self) -> u32 {
        0
    }

    /// The arguments, each in a word of its own. A 32-bit one is its lower half, so on the little-endian hosts that GPUs have, the
    /// address of the word is that of the argument, whatever its length.
    #[must_use]
    pub fn arguments(&self) -> &[u64] {
        let count = self.kernel.argument_lens().len();
        self.arguments.get(..count).unwrap_or(&self.arguments)
    }

    /// Writes the runs of tiles; see [`super::layout`] for the tables.
    #[must_use]
    pub fn apply(apply: &Apply, multiprocessors: u32) -> Self {
        // More blocks than fit at once even the load out, as tiles have different numbers of runs.
        let blocks = u64::from(apply.tile_count).min(64 * u64::from(multiprocessors));
        Self::new(
            Kernel::Apply,
            blocks,
            [
                apply.memory,
                apply.tiles,
                u64::from(apply.tile_count),
                apply.runs,
                u64::from(apply.run_count),
                apply.payload,
                apply.payload_len_bytes,
                apply.memory_len_bytes,
                apply.fault,
            ],
        )
    }

    /// Computes `len_bytes` bytes from `first` on, whole lanes, of the page at `output` from those whose addresses are in the table of
    /// `input_count` words at `inputs`. What changed is added to the [`super::layout::Changed`] at `changed`, counted from `output`;
    /// it has to start from [`super::layout::Changed::NOTHING`].
    #[must_use]
    pub fn combine(
        combine: &Combine,
        inputs: u64,
        input_count: u32,
        output: u64,
        (first, len_bytes): (u64, u64),
        changed: u64,
        multiprocessors: u32,
    ) -> Self {
        Self::new(
            Kernel::Combine,
            blocks_for(len_bytes, 1, Kernel::Combine, 16 * multiprocessors),
            [
                u64::from(combine_code(combine)),
                inputs,
                u64::from(input_count),
                output,
                first,
                len_bytes,
                changed,
            ],
        )
    }

    /// Copies over the output at `to` where it differs. What changed is added to the [`super::layout::Changed`] at `changed`, counted
    /// from `to`; it has to start from [`super::layout::Changed::NOTHING`].
    #[must_use]
    pub fn move_bytes(
        from: u64,
        to: u64,
        len_bytes: u64,
        changed: u64,
        multiprocessors: u32,
    ) -> Self {
        Self::new(
            Kernel::Move,
            blocks_for(len_bytes, 1, Kernel::Move, 16 * multiprocessors),
            [from, to, len_bytes, changed],
        )
    }

    /// Copies; the ranges do not overlap.
    #[must_use]
    pub fn copy(from: u64, to: u64, len_bytes: u64, multiprocessors: u32) -> Self {
        Self::new(
            Kernel::Copy,
            blocks_for(len_bytes, 4, Kernel::Copy, 32 * multiprocessors),
            [from, to, len_bytes],
        )
    }

    /// Sets every byte of a range.
    #[must_use]
    pub fn fill(to: u64, len_bytes: u64, byte: u8, multiprocessors: u32) -> Self {
        Self::new(
            Kernel::Fill,
            blocks_for(len_bytes, 1, Kernel::Fill, 32 * multiprocessors),
            [to, len_bytes, u64::from(byte)],
        )
    }

    /// Adds [`super::layout::sum64`] of a range to the word at `sum`, which has to start from 0.
    #[must_use]
    pub fn sum(from: u64, len_bytes: u64, sum: u64, multiprocessors: u32) -> Self {
        Self::new(
            Kernel::Sum,
            // As many as run at once: each adds to the one word at its end.
            blocks_for(len_bytes, 1, Kernel::Sum, 8 * multiprocessors),
            [from, len_bytes, sum],
        )
    }
}

/// The most blocks that a grid has in its first direction.
const MAX_GRID_BLOCKS: u64 = 0x7fff_ffff;

/// The blocks for `len_bytes` bytes when each thread takes that many units of 16 bytes at once, `most` at most; threads that are
/// left with more take turns.
fn blocks_for(len_bytes: u64, units: u64, kernel: Kernel, most: u32) -> u64 {
    let block_bytes = units * 16 * u64::from(kernel.block_threads());
    // One more for a range that begins inside of a unit.
    (len_bytes / block_bytes + 1).min(u64::from(most))
}

/// What [`Launch::apply`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Address of device memory, which tiles count from; a multiple of 4096.
    pub memory: u64,
    /// Length of device memory in bytes.
    pub memory_len_bytes: u64,
    /// Address of the first [`super::layout::Tile`], a multiple of 16.
    pub tiles: u64,
    /// How many tiles there are.
    pub tile_count: u32,
    /// Address of the first [`super::layout::TileRun`], a multiple of 8.
    pub runs: u64,
    /// How many runs there are.
    pub run_count: u32,
    /// Address of the bytes of the runs.
    pub payload: u64,
    /// Their length in bytes.
    pub payload_len_bytes: u64,
    /// Address of a 32-bit word that has to start from 0, and is left with the code of an [`ApplyFault`] if there is one.
    pub fault: u64,
}

/// What was wrong with the tables of [`Launch::apply`]. Runs that are wrong are left out, the others are written; of several faults
/// the one with the greatest code is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyFault {
    /// A tile's runs are not all in the table.
    #[error("a tile names runs beyond the table of runs")]
    Runs,
    /// A run reaches beyond its tile.
    #[error("a run reaches beyond its tile")]
    Tile,
    /// A run's bytes reach beyond the payload.
    #[error("a run takes bytes beyond the payload")]
    Payload,
    /// A run's place reaches beyond device memory.
    #[error("a run reaches beyond device memory")]
    Memory,
    /// A tile does not begin at a multiple of its length.
    #[error("a tile does not begin at a multiple of 4096")]
    Alignment,
}

impl ApplyFault {
    /// All of them, in the order of their codes, which begin at 1.
    pub const ALL: [Self; 5] = [
        Self::Runs,
        Self::Tile,
        Self::Payload,
        Self::Memory,
        Self::Alignment,
    ];

    /// What a kernel left in its word; `None` if nothing was wrong, or for a code that there is not.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        let position = usize::try_from(code.checked_sub(1)?).ok()?;
        Self::ALL.get(position).copied()
    }
}

/// Semiring, lane and form in one word, a byte each from the lowest, as the kernel takes them.
#[must_use]
pub fn combine_code(combine: &Combine) -> u32 {
    u32::from(combine.semiring.code())
        | u32::from(combine.lane.code()) << 8
        | u32::from(combine.form.code()) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Form, Lane, Semiring};

    /// Name and lengths of arguments of each kernel, from the text of the module.
    fn entries() -> Vec<(String, Vec<u8>)> {
        ptx()
            .split(".visible .entry ")
            .skip(1)
            .map(|text| {
                let (name, rest) = text.split_once('(').unwrap();
                let (params, _) = rest.split_once(')').unwrap();
                let lens = params.lines().filter_map(|line| {
                    let kind = line.trim().strip_prefix(".param ")?.split(' ').next()?;
                    Some(match kind {
                        ".u32" => 4,
                        ".u64" => 8,
                        other => panic!("{name} takes a {other}"),
                    })
                });
                (name.to_owned(), lens.collect())
            })
            .collect()
    }

    #[test]
    fn the_module_has_the_kernels_that_are_described() {
        let mut described: Vec<_> = Kernel::ALL
            .iter()
            .map(|kernel| (kernel.name().to_owned(), kernel.argument_lens().to_vec()))
            .collect();
        described.sort();
        let mut found = entries();
        found.sort();
        assert_eq!(found, described);
        for kernel in Kernel::ALL {
            let threads = format!(".maxntid {}, 1, 1", kernel.block_threads());
            let after = ptx()
                .split_once(&format!(".entry {}(", kernel.name()))
                .unwrap()
                .1;
            assert!(
                after.split_once('{').unwrap().0.contains(&threads),
                "{} has not {threads}",
                kernel.name()
            );
        }
    }

    #[test]
    fn the_module_fuses_nothing_and_needs_an_old_driver_only() {
        assert!(ptx().contains("\n.version 8.0\n.target sm_75\n"));
        for instruction in ["fma.rn", ".ftz", ".approx", "mad.rn"] {
            assert!(!ptx().contains(instruction), "{instruction}");
        }
    }

    #[test]
    fn positions_are_those_in_the_list() {
        for (position, kernel) in Kernel::ALL.iter().enumerate() {
            assert_eq!(kernel.position(), position);
            assert!(kernel.argument_lens().len() <= Launch::MAX_ARGUMENTS);
        }
    }

    #[test]
    fn grids_cover_what_there_is_and_no_more() {
        let blocks = |len_bytes| Launch::copy(0, 0, len_bytes, 100).grid_blocks();
        assert_eq!(
            [
                blocks(0),
                blocks(1),
                blocks(16 * 1024 - 1),
                blocks(16 * 1024)
            ],
            [1, 1, 1, 2]
        );
        assert_eq!(blocks(u64::MAX), 3200);
        assert_eq!(Launch::sum(0, 1 << 30, 0, 100).grid_blocks(), 800);
        assert_eq!(Launch::fill(0, 1 << 30, 0, 0).grid_blocks(), 1);
        assert_eq!(Launch::fill(7, 8, 9, 1).arguments(), [7, 8, 9]);
    }

    #[test]
    fn codes_are_those_of_the_parameters() {
        let combine = Combine {
            semiring: Semiring::XorAnd,
            lane: Lane::I64,
            form: Form::Products,
        };
        assert_eq!(combine_code(&combine), 0x01_02_04);
        let launch = Launch::combine(&combine, 1, 2, 3, (4, 5), 6, 1);
        assert_eq!(launch.arguments(), [0x01_02_04, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn faults_have_codes_from_one_on() {
        assert_eq!(ApplyFault::from_code(0), None);
        assert_eq!(ApplyFault::from_code(1), Some(ApplyFault::Runs));
        assert_eq!(ApplyFault::from_code(5), Some(ApplyFault::Alignment));
        assert_eq!(ApplyFault::from_code(6), None);
        assert_eq!(ApplyFault::from_code(u32::MAX), None);
    }
}
