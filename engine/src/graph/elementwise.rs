//! Lane by lane combination of parents in a [`Semiring`].

use std::ops::Range;

use super::{
    builtin::{VERSION, aligned, cut, same_length, some_parents},
    diff::LINE_BYTES,
    semiring::{BitLane, Lane, LaneValue, Semiring},
    transform::{DeviceKernel, Mapping, Transform, TransformError},
};

/// Lanes are combined this many bytes at a time over all parents, so that the output stays in the
/// nearest cache however many parents there are. A multiple of every lane length.
const BLOCK_BYTES: usize = 4096;

/// How parents are put together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Form {
    /// `page[i] = p0[i] ⊕ p1[i] ⊕ …`, from the left, of one or more parents.
    Sum,
    /// `page[i] = (p0[i] ⊗ p1[i]) ⊕ (p2[i] ⊗ p3[i]) ⊕ …`, from the left, of an even number of
    /// parents, at least two.
    Products,
}

impl Form {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 2] = [Self::Sum, Self::Products];

    /// The byte that stands for it in parameters.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Sum => 0,
            Self::Products => 1,
        }
    }
}

/// Combines parents lane by lane; all are as long as the page, a whole number of lanes.
///
/// Operands are taken in the order of the parents, so float results are the same in every run; see
/// [`Semiring`] for what the operations do with overflow, zeros and NaN. A NaN is canonical in the
/// page even where one parent alone is passed through.
///
/// Parameters, 3 bytes:
///
/// | byte | meaning |
/// | --- | --- |
/// | 0 | semiring: 0 `plus-times`, 1 `min-plus`, 2 `max-plus`, 3 `or-and`, 4 `xor-and` |
/// | 1 | lane: 0 `u8`, 1 `u32`, 2 `i64`, 3 `f32`, 4 `f64` |
/// | 2 | form: 0 sum, 1 products |
///
/// ```
/// use mmsb_engine::graph::{Elementwise, Form, Lane, Semiring, Transform, TransformError};
/// let least = Elementwise::new(Semiring::MinPlus, Lane::U8, Form::Products)?;
/// let mut out = [0; 2];
/// least.compute(&[&[1, 9], &[2, 9], &[4, 3], &[0, 3]], 2, 0..2, &mut out)?;
/// assert_eq!(out, [3, 6]);
/// assert!(Elementwise::new(Semiring::OrAnd, Lane::F32, Form::Sum).is_err());
/// # Ok::<(), TransformError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Elementwise {
    semiring: Semiring,
    lane: Lane,
    form: Form,
    kernel: Kernel,
}

type Kernel = fn(&[&[u8]], &Range<u64>, &mut [u8]) -> Result<(), TransformError>;

impl Elementwise {
    pub(super) const NAME: &'static str = "elementwise";

    /// The combination of that semiring on those lanes.
    ///
    /// # Errors
    /// [`TransformError::BitwiseOnFloat`] for a bitwise semiring on float lanes.
    pub fn new(semiring: Semiring, lane: Lane, form: Form) -> Result<Self, TransformError> {
        let kernel = match lane {
            Lane::U8 => integer_kernel::<u8>(semiring, form),
            Lane::U32 => integer_kernel::<u32>(semiring, form),
            Lane::I64 => integer_kernel::<i64>(semiring, form),
            Lane::F32 => float_kernel::<f32>(semiring, lane, form)?,
            Lane::F64 => float_kernel::<f64>(semiring, lane, form)?,
        };
        Ok(Self {
            semiring,
            lane,
            form,
            kernel,
        })
    }

    /// Reads what [`Transform::params`] wrote.
    ///
    /// # Errors
    /// [`TransformError::Params`] for a length other than 3 and for unknown codes;
    /// [`TransformError::BitwiseOnFloat`] as [`Elementwise::new`].
    pub fn from_params(params: &[u8]) -> Result<Self, TransformError> {
        let error = |reason: String| TransformError::Params {
            transform: Self::NAME,
            reason,
        };
        let [semiring, lane, form] = *params else {
            return Err(error(format!("{} bytes where it takes 3", params.len())));
        };
        let semiring = Semiring::ALL
            .into_iter()
            .find(|known| known.code() == semiring)
            .ok_or_else(|| {
                error(format!(
                    "semiring code {semiring} in byte 0, known are 0 to 4"
                ))
            })?;
        let lane = Lane::ALL
            .into_iter()
            .find(|known| known.code() == lane)
            .ok_or_else(|| error(format!("lane code {lane} in byte 1, known are 0 to 4")))?;
        let form = Form::ALL
            .into_iter()
            .find(|known| known.code() == form)
            .ok_or_else(|| error(format!("form code {form} in byte 2, known are 0 and 1")))?;
        Self::new(semiring, lane, form)
    }

    /// The operations.
    #[must_use]
    pub const fn semiring(&self) -> Semiring {
        self.semiring
    }

    /// The lane type.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// How parents are put together.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }
}

impl Transform for Elementwise {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn params(&self) -> Vec<u8> {
        vec![self.semiring.code(), self.lane.code(), self.form.code()]
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        some_parents(Self::NAME, parent_lens)?;
        if self.form == Form::Products && !parent_lens.len().is_multiple_of(2) {
            return Err(TransformError::ParentCount {
                transform: Self::NAME,
                takes: "an even number of parents, two for each product",
                got: parent_lens.len(),
            });
        }
        parent_lens
            .iter()
            .try_for_each(|len| same_length(Self::NAME, output_len, *len))?;
        let lane_bytes = self.lane.len_bytes();
        if !output_len.is_multiple_of(u64::from(lane_bytes)) {
            return Err(TransformError::PartialLane {
                len_bytes: output_len,
                lane_bytes,
            });
        }
        Ok(())
    }

    fn kernel(&self) -> Option<DeviceKernel> {
        Some(DeviceKernel::Combine {
            semiring: self.semiring,
            lane: self.lane,
            form: self.form,
        })
    }

    fn mapping(&self, _parent: usize, _parent_lens: &[u64], output_len: u64) -> Mapping {
        aligned(output_len)
    }

    fn granule_bytes(&self) -> u32 {
        self.lane.len_bytes()
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        _output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        (self.kernel)(inputs, &range, out)
    }
}

fn integer_kernel<L: BitLane>(semiring: Semiring, form: Form) -> Kernel {
    match semiring {
        Semiring::PlusTimes => kernel_of::<L, PlusTimes>(form),
        Semiring::MinPlus => kernel_of::<L, MinPlus>(form),
        Semiring::MaxPlus => kernel_of::<L, MaxPlus>(form),
        Semiring::OrAnd => kernel_of::<L, OrAnd>(form),
        Semiring::XorAnd => kernel_of::<L, XorAnd>(form),
    }
}

fn float_kernel<L: LaneValue>(
    semiring: Semiring,
    lane: Lane,
    form: Form,
) -> Result<Kernel, TransformError> {
    match semiring {
        Semiring::PlusTimes => Ok(kernel_of::<L, PlusTimes>(form)),
        Semiring::MinPlus => Ok(kernel_of::<L, MinPlus>(form)),
        Semiring::MaxPlus => Ok(kernel_of::<L, MaxPlus>(form)),
        Semiring::OrAnd | Semiring::XorAnd => Err(TransformError::BitwiseOnFloat {
            semiring: semiring.name(),
            lane: lane.name(),
        }),
    }
}

fn kernel_of<L: LaneValue, O: Operations<L>>(form: Form) -> Kernel {
    match form {
        Form::Sum => sum::<L, O>,
        Form::Products => products::<L, O>,
    }
}

/// ⊕ and ⊗, chosen at compile time so that each inner loop is one vectorised operation.
trait Operations<L> {
    fn combine(a: L, b: L) -> L;
    fn pair(a: L, b: L) -> L;
}

macro_rules! operations {
    ($name:ident, $lane:ident, $combine:ident, $pair:ident) => {
        struct $name;
        impl<L: $lane> Operations<L> for $name {
            #[inline(always)]
            fn combine(a: L, b: L) -> L {
                a.$combine(b)
            }
            #[inline(always)]
            fn pair(a: L, b: L) -> L {
                a.$pair(b)
            }
        }
    };
}

operations!(PlusTimes, LaneValue, plus, times);
operations!(MinPlus, LaneValue, least, plus);
operations!(MaxPlus, LaneValue, greatest, plus);
operations!(OrAnd, BitLane, or, and);
operations!(XorAnd, BitLane, xor, and);

fn sum<L: LaneValue, O: Operations<L>>(
    inputs: &[&[u8]],
    range: &Range<u64>,
    out: &mut [u8],
) -> Result<(), TransformError> {
    let (first, others) = inputs.split_first().ok_or_else(|| range_error(range))?;
    for_each_block(range, out, L::LEN, |block, out| {
        let first = cut(Elementwise::NAME, Some(first), block, 0)?;
        // The first two in one pass: most pages have two parents.
        let others = if let Some((second, others)) = others.split_first() {
            let second = cut(Elementwise::NAME, Some(second), block, 0)?;
            set_two::<L>(out, first, second, O::combine);
            others
        } else {
            load::<L>(out, first);
            others
        };
        for other in others {
            let other = cut(Elementwise::NAME, Some(other), block, 0)?;
            fold_one::<L>(out, other, O::combine);
        }
        Ok(())
    })
}

fn products<L: LaneValue, O: Operations<L>>(
    inputs: &[&[u8]],
    range: &Range<u64>,
    out: &mut [u8],
) -> Result<(), TransformError> {
    let (pairs, []) = inputs.as_chunks::<2>() else {
        return Err(range_error(range));
    };
    let (first, others) = pairs.split_first().ok_or_else(|| range_error(range))?;
    for_each_block(range, out, L::LEN, |block, out| {
        let [a, b] = first;
        let a = cut(Elementwise::NAME, Some(a), block, 0)?;
        let b = cut(Elementwise::NAME, Some(b), block, 0)?;
        set_two::<L>(out, a, b, O::pair);
        for [a, b] in others {
            let a = cut(Elementwise::NAME, Some(a), block, 0)?;
            let b = cut(Elementwise::NAME, Some(b), block, 0)?;
            fold_two::<L>(out, a, b, |sum, a, b| O::combine(sum, O::pair(a, b)));
        }
        Ok(())
    })
}

/// Calls `work` for consecutive blocks of `out` with the range of the page that each holds.
#[inline(always)]
fn for_each_block(
    range: &Range<u64>,
    out: &mut [u8],
    lane_bytes: usize,
    work: impl Fn(&Range<u64>, &mut [u8]) -> Result<(), TransformError>,
) -> Result<(), TransformError> {
    let lane = lane_bytes as u64;
    let is_whole = range.start.is_multiple_of(lane) && range.end.is_multiple_of(lane);
    if !is_whole || range.end.checked_sub(range.start) != Some(out.len() as u64) {
        return Err(range_error(range));
    }
    let mut start = range.start;
    for block in out.chunks_mut(BLOCK_BYTES) {
        let end = start + block.len() as u64;
        work(&(start..end), block)?;
        start = end;
    }
    Ok(())
}

fn range_error(range: &Range<u64>) -> TransformError {
    TransformError::Range {
        transform: Elementwise::NAME,
        start: range.start,
        end: range.end,
    }
}

/// `out = first`, making NaNs canonical.
#[inline(always)]
fn load<L: LaneValue>(out: &mut [u8], first: &[u8]) {
    for (to, from) in out.chunks_exact_mut(L::LEN).zip(first.chunks_exact(L::LEN)) {
        if let Some(from) = L::read(from) {
            from.write(to);
        }
    }
}

/// `out = operation(a, b)`.
#[inline(always)]
fn set_two<L: LaneValue>(out: &mut [u8], a: &[u8], b: &[u8], operation: impl Fn(L, L) -> L) {
    let set = |out: &mut [u8], a: &[u8], b: &[u8]| {
        let pairs = a.chunks_exact(L::LEN).zip(b.chunks_exact(L::LEN));
        for (to, (a, b)) in out.chunks_exact_mut(L::LEN).zip(pairs) {
            if let (Some(a), Some(b)) = (L::read(a), L::read(b)) {
                operation(a, b).write(to);
            }
        }
    };
    // The same twice; with the length known the compiler leaves out the loop.
    if let (Ok(out), Ok(a), Ok(b)) = (
        <&mut [u8; LINE_BYTES]>::try_from(&mut *out),
        <&[u8; LINE_BYTES]>::try_from(a),
        <&[u8; LINE_BYTES]>::try_from(b),
    ) {
        set(out, a, b);
    } else {
        set(out, a, b);
    }
}

/// `out = operation(out, from)`.
#[inline(always)]
fn fold_one<L: LaneValue>(out: &mut [u8], from: &[u8], operation: impl Fn(L, L) -> L) {
    for (to, from) in out.chunks_exact_mut(L::LEN).zip(from.chunks_exact(L::LEN)) {
        if let (Some(old), Some(from)) = (L::read(to), L::read(from)) {
            operation(old, from).write(to);
        }
    }
}

/// `out = operation(out, a, b)`.
#[inline(always)]
fn fold_two<L: LaneValue>(out: &mut [u8], a: &[u8], b: &[u8], operation: impl Fn(L, L, L) -> L) {
    let pairs = a.chunks_exact(L::LEN).zip(b.chunks_exact(L::LEN));
    for (to, (a, b)) in out.chunks_exact_mut(L::LEN).zip(pairs) {
        if let (Some(old), Some(a), Some(b)) = (L::read(to), L::read(a), L::read(b)) {
            operation(old, a, b).write(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(t: &Elementwise, inputs: &[&[u8]], range: Range<u64>) -> Vec<u8> {
        let mut out = vec![0xee; (range.end - range.start) as usize];
        t.compute(inputs, range.end, range, &mut out).unwrap();
        out
    }

    fn f64s(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn every_semiring_on_bytes() {
        let (a, b) = ([200_u8, 3, 0b1100, 7], [100_u8, 5, 0b1010, 7]);
        let expected = [
            (Semiring::PlusTimes, [44, 8, 22, 14], [32, 15, 120, 49]),
            (Semiring::MinPlus, [100, 3, 10, 7], [44, 8, 22, 14]),
            (Semiring::MaxPlus, [200, 5, 12, 7], [44, 8, 22, 14]),
            (Semiring::OrAnd, [236, 7, 14, 7], [64, 1, 8, 7]),
            (Semiring::XorAnd, [172, 6, 6, 0], [64, 1, 8, 7]),
        ];
        for (semiring, sum, product) in expected {
            let form = Elementwise::new(semiring, Lane::U8, Form::Sum).unwrap();
            assert_eq!(compute(&form, &[&a, &b], 0..4), sum, "{semiring:?}");
            let form = Elementwise::new(semiring, Lane::U8, Form::Products).unwrap();
            assert_eq!(compute(&form, &[&a, &b], 0..4), product, "{semiring:?}");
        }
    }

    #[test]
    fn products_are_summed() {
        let t = Elementwise::new(Semiring::PlusTimes, Lane::F64, Form::Products).unwrap();
        let inputs = [
            f64s(&[2.0, 3.0]),
            f64s(&[5.0, 7.0]),
            f64s(&[11.0, 0.5]),
            f64s(&[1.0, 2.0]),
        ];
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        assert_eq!(compute(&t, &inputs, 0..16), f64s(&[21.0, 22.0]));
        assert_eq!(compute(&t, &inputs, 8..16), f64s(&[22.0]));
    }

    #[test]
    fn floats_fold_from_the_left() {
        let t = Elementwise::new(Semiring::PlusTimes, Lane::F64, Form::Sum).unwrap();
        let (a, b, c) = (f64s(&[1e16]), f64s(&[1.0]), f64s(&[-1e16]));
        assert_eq!(compute(&t, &[&a, &b, &c], 0..8), f64s(&[0.0]));
        assert_eq!(compute(&t, &[&a, &c, &b], 0..8), f64s(&[1.0]));
    }

    #[test]
    fn blocks_join_without_a_seam() {
        let len = 3 * BLOCK_BYTES + 8;
        let a: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let b: Vec<u8> = (0..len).map(|i| (i % 241) as u8).collect();
        let t = Elementwise::new(Semiring::XorAnd, Lane::I64, Form::Sum).unwrap();
        let whole = compute(&t, &[&a, &b], 0..len as u64);
        let expected: Vec<u8> = a.iter().zip(&b).map(|(a, b)| a ^ b).collect();
        assert_eq!(whole, expected);
        assert_eq!(compute(&t, &[&a, &b], 4088..8200), expected[4088..8200]);
    }

    #[test]
    fn a_lone_nan_becomes_canonical() {
        let t = Elementwise::new(Semiring::MinPlus, Lane::F64, Form::Sum).unwrap();
        let input = 0xfff8_0000_0000_0001_u64.to_le_bytes();
        assert_eq!(
            compute(&t, &[&input], 0..8),
            0x7ff8_0000_0000_0000_u64.to_le_bytes()
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let t = Elementwise::new(Semiring::PlusTimes, Lane::U32, Form::Products).unwrap();
        assert!(t.check(8, &[8, 8]).is_ok());
        assert!(matches!(
            t.check(8, &[8; 3]),
            Err(TransformError::ParentCount { got: 3, .. })
        ));
        assert!(matches!(
            t.check(6, &[6; 2]),
            Err(TransformError::PartialLane { .. })
        ));
        assert!(matches!(
            t.check(8, &[8, 12]),
            Err(TransformError::Length { .. })
        ));
        let mut out = [0; 3];
        assert!(t.compute(&[&[0; 8], &[0; 8]], 8, 1..4, &mut out).is_err());
        let error = Elementwise::new(Semiring::XorAnd, Lane::F64, Form::Sum).unwrap_err();
        assert!(error.to_string().contains("use u8, u32 or i64"), "{error}");
    }

    #[test]
    fn parameters_survive_and_strays_are_refused() {
        for semiring in Semiring::ALL {
            for lane in Lane::ALL {
                for form in Form::ALL {
                    let Ok(made) = Elementwise::new(semiring, lane, form) else {
                        assert!(semiring.is_bitwise() && lane.is_float());
                        continue;
                    };
                    let read = Elementwise::from_params(&made.params()).unwrap();
                    assert_eq!(
                        (read.semiring, read.lane, read.form),
                        (semiring, lane, form)
                    );
                }
            }
        }
        for bad in [
            &[][..],
            &[0, 0],
            &[0, 0, 0, 0],
            &[5, 0, 0],
            &[0, 5, 0],
            &[0, 0, 2],
        ] {
            assert!(Elementwise::from_params(bad).is_err(), "{bad:?}");
        }
    }
}
