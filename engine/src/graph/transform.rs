//! What a derived page is computed by: the [`Transform`] trait and how ranges map through it.

use std::ops::Range;

use thiserror::Error;

use super::{
    elementwise::Form,
    semiring::{Lane, Semiring},
};

/// A pure function from the bytes of the parents of a page to the bytes of the page.
///
/// The log stores `name`, `version` and `params`, never code, so the three together must determine
/// the result: whoever changes what a transform computes gives it a new version.
///
/// A transform must be *pure* (the output depends on the inputs alone, not on a clock, a thread or
/// an earlier call) and *splittable*: computing a range gives the same bytes as computing the whole
/// and cutting the range out. It may be called from several threads at once, and a panic inside it
/// is taken for a failure.
///
/// ```
/// use std::ops::Range;
/// use mmsb_engine::graph::{Mapping, Transform, TransformError, Window};
///
/// /// Adds one to every byte of its only parent.
/// struct Increment;
///
/// impl Transform for Increment {
///     fn name(&self) -> &str {
///         "increment"
///     }
///     fn version(&self) -> u32 {
///         1
///     }
///     fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
///         match parent_lens {
///             [len] if *len == output_len => Ok(()),
///             _ => Err(TransformError::failed("increment takes one parent as long as the page")),
///         }
///     }
///     fn mapping(&self, _parent: usize, _lens: &[u64], output_len: u64) -> Mapping {
///         Mapping::Window(Window { parent_start: 0, output_start: 0, len_bytes: output_len })
///     }
///     fn compute(
///         &self,
///         inputs: &[&[u8]],
///         _output_len: u64,
///         range: Range<u64>,
///         out: &mut [u8],
///     ) -> Result<(), TransformError> {
///         let input = inputs
///             .first()
///             .and_then(|bytes| bytes.get(range.start as usize..range.end as usize))
///             .ok_or_else(|| TransformError::failed("range outside of the parent"))?;
///         for (to, from) in out.iter_mut().zip(input) {
///             *to = from.wrapping_add(1);
///         }
///         Ok(())
///     }
/// }
///
/// let mut out = [0; 2];
/// Increment.compute(&[&[1, 2, 3]], 3, 1..3, &mut out)?;
/// assert_eq!(out, [3, 4]);
/// # Ok::<(), TransformError>(())
/// ```
pub trait Transform: Send + Sync + 'static {
    /// The name it is registered by.
    fn name(&self) -> &str;

    /// The version of what it computes, from 1.
    fn version(&self) -> u32;

    /// Its parameters, as the registered factory takes them; empty if it has none.
    fn params(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Whether it can compute a page of `output_len` bytes from parents of these lengths.
    ///
    /// # Errors
    /// What does not fit, and what would.
    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError>;

    /// Which bytes of the page depend on which bytes of the parent at position `parent`.
    ///
    /// It is asked once for each edge, when the page is connected; a wave then maps ranges without
    /// a call. The default says that every byte depends on every byte.
    fn mapping(&self, parent: usize, parent_lens: &[u64], output_len: u64) -> Mapping {
        let _ = (parent, parent_lens, output_len);
        Mapping::Whole
    }

    /// The bytes of the page that may alter when `changed` of the parent at position `parent` did.
    ///
    /// It is asked in every wave, and only about edges mapped as [`Mapping::Custom`]. An empty
    /// range says that none can; what reaches past the page is cut.
    fn affected(
        &self,
        parent: usize,
        changed: Range<u64>,
        parent_lens: &[u64],
        output_len: u64,
    ) -> Range<u64> {
        let _ = (parent, changed, parent_lens);
        0..output_len
    }

    /// The unit of its output in bytes, a power of two: ranges to compute are rounded outwards to
    /// multiples of it, and cut at the end of the page. Pages of up to 64 bytes are computed whole.
    fn granule_bytes(&self) -> u32 {
        1
    }

    /// How a device can compute it without running its code; `None` where the processor must. What it says must come to the very
    /// bytes that [`Transform::compute`] does.
    fn kernel(&self) -> Option<DeviceKernel> {
        None
    }

    /// Writes bytes `range` of the page, and nothing else, to `out`, which is as long as `range`.
    ///
    /// `inputs` are the whole parents in order. What `out` holds before is undefined, and after a
    /// failure it is thrown away, so a page never holds half a result.
    ///
    /// # Errors
    /// Any error makes the page and all that depends on it stale.
    fn compute(
        &self,
        inputs: &[&[u8]],
        output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError>;
}

/// A transform in words that a device understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceKernel {
    /// Every byte of the page is a copy of the byte of a parent that lies at the same distance in their windows, see
    /// [`Transform::mapping`]. The windows in the page do not overlap, and cover it.
    Moves,
    /// As [`crate::graph::Elementwise`].
    Combine {
        /// The operations.
        semiring: Semiring,
        /// The type of a lane.
        lane: Lane,
        /// How parents are put together.
        form: Form,
    },
}

/// How a change of one parent reaches the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Any byte of the parent may alter any byte of the page.
    Whole,
    /// Bytes of a window of the parent alter bytes at the same distance in a window of the page,
    /// up to the rounding to [`Transform::granule_bytes`]. What lies outside alters nothing.
    Window(Window),
    /// [`Transform::affected`] says, change by change.
    Custom,
}

/// Two windows of equal length, one in a parent and one in the page, that correspond byte by byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Where it begins in the parent, in bytes.
    pub parent_start: u64,
    /// Where it begins in the page, in bytes.
    pub output_start: u64,
    /// Its length in bytes; 0 says that the parent alters nothing.
    pub len_bytes: u64,
}

/// Why a transform does not fit, or did not compute.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TransformError {
    /// The number of parents is not one that it takes.
    #[error("{transform} takes {takes}, got {got} parents; connect as many as it takes")]
    ParentCount {
        /// Name of the transform.
        transform: &'static str,
        /// What it takes, in words.
        takes: &'static str,
        /// How many there are.
        got: usize,
    },
    /// A parent or the page has a length that it cannot work with.
    #[error(
        "{transform} needs {what} of {needed_bytes} bytes, got {got_bytes}; allocate it that long"
    )]
    Length {
        /// Name of the transform.
        transform: &'static str,
        /// What is too short or too long.
        what: &'static str,
        /// The length that would fit.
        needed_bytes: u64,
        /// The length there is.
        got_bytes: u64,
    },
    /// The length of the page is no whole number of lanes.
    #[error("a page of {len_bytes} bytes is no whole number of lanes of {lane_bytes} bytes")]
    PartialLane {
        /// Length of the page.
        len_bytes: u64,
        /// Length of a lane.
        lane_bytes: u32,
    },
    /// The operation is not defined for the lane type.
    #[error("semiring {semiring} is bitwise and not defined on {lane} lanes; use u8, u32 or i64")]
    BitwiseOnFloat {
        /// Name of the semiring.
        semiring: &'static str,
        /// Name of the lane type.
        lane: &'static str,
    },
    /// Stored parameters cannot be read.
    #[error("cannot read the parameters of {transform}: {reason}")]
    Params {
        /// Name of the transform.
        transform: &'static str,
        /// Which byte is wrong, and what is allowed.
        reason: String,
    },
    /// It was asked for bytes that the page or a parent does not have.
    #[error("{transform} was asked for bytes {start}..{end}, which its inputs do not determine")]
    Range {
        /// Name of the transform.
        transform: &'static str,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// A registered transform failed in its own way.
    #[error("{0}")]
    Failed(String),
}

impl TransformError {
    /// An error in the transform's own words.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }
}
