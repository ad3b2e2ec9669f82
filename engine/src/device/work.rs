//! What a device can be asked to do.

use std::ops::Range;

use super::PinnedSlice;
use crate::graph::{Form, Lane, Semiring};

/// One of the two queues of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Copies between pinned and device memory that run beside computation.
    Copy,
    /// Everything else.
    Compute,
}

impl Queue {
    /// Both, in the order of their positions.
    pub const ALL: [Self; 2] = [Self::Copy, Self::Compute];

    /// 0 for copies, 1 for computation.
    #[must_use]
    pub const fn position(self) -> usize {
        match self {
            Self::Copy => 0,
            Self::Compute => 1,
        }
    }
}

/// An elementwise combination, as [`crate::graph::Elementwise`] does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combine {
    /// The operations.
    pub semiring: Semiring,
    /// The type of a lane.
    pub lane: Lane,
    /// How parents are put together.
    pub form: Form,
}

/// One piece of work. Offsets and ranges count bytes in device memory.
///
/// Work that computes derived bytes reports which of them changed: a [`super::layout::Changed`] in the 16 pinned bytes named.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Work<'a> {
    /// Copies pinned bytes to device memory from `to` on.
    Upload {
        /// What is copied.
        from: PinnedSlice,
        /// Where it goes.
        to: u64,
    },
    /// Copies device memory from `from` on to pinned bytes.
    Download {
        /// Where it begins.
        from: u64,
        /// Where it goes; says how much.
        to: PinnedSlice,
    },
    /// Copies within device memory; the ranges do not overlap.
    Copy {
        /// What is copied.
        from: Range<u64>,
        /// Where it goes.
        to: u64,
    },
    /// Sets every byte of a range.
    Fill {
        /// Where.
        range: Range<u64>,
        /// To what.
        byte: u8,
    },
    /// Applies runs that an upload has staged in device memory; see [`super::layout`] for the tables.
    Apply {
        /// Offset of the first [`super::layout::Tile`], a multiple of 16.
        tiles: u64,
        /// How many tiles there are. No two of them are the same.
        tile_count: u32,
        /// Offset of the first [`super::layout::TileRun`], a multiple of 8.
        runs: u64,
        /// How many runs there are.
        run_count: u32,
        /// The bytes of the runs.
        payload: Range<u64>,
    },
    /// Computes `range` of an output page from pages as long as it.
    Combine {
        /// How.
        combine: Combine,
        /// Where the parents begin, in their order.
        inputs: &'a [u64],
        /// Where the output page begins.
        output: u64,
        /// Which bytes of the page, whole lanes.
        range: Range<u64>,
        /// Where to report what changed.
        changed: PinnedSlice,
    },
    /// Copies `from` over the output at `to`; the ranges do not overlap. As [`Work::Copy`], and reports what changed, counted from `to`.
    Move {
        /// What is copied.
        from: Range<u64>,
        /// Where it goes.
        to: u64,
        /// Where to report what changed.
        changed: PinnedSlice,
    },
    /// BLAKE3 of each of some ranges.
    Digest {
        /// The ranges, each of at least one byte.
        ranges: &'a [Range<u64>],
        /// Where the digests go, 32 bytes each.
        to: PinnedSlice,
    },
    /// The [`super::layout::sum64`] of a range, to see whether a copy arrived.
    Sum {
        /// The range.
        range: Range<u64>,
        /// Where the sum goes, 8 bytes, little endian.
        to: PinnedSlice,
    },
}

impl Work<'_> {
    /// The name used in messages and scenarios.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Upload { .. } => "upload",
            Self::Download { .. } => "download",
            Self::Copy { .. } => "copy",
            Self::Fill { .. } => "fill",
            Self::Apply { .. } => "apply",
            Self::Combine { .. } => "combine",
            Self::Move { .. } => "move",
            Self::Digest { .. } => "digest",
            Self::Sum { .. } => "sum",
        }
    }
}
