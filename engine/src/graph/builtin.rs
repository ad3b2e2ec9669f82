//! The built-in transforms that move bytes: copy, slice, concat and xor, all at version 1.

use std::{ops::Range, sync::Arc};

use super::{
    diff::LINE_BYTES,
    elementwise::{Elementwise, Form},
    registry::{RegistryError, TransformRegistry},
    semiring::{Lane, Semiring},
    transform::{DeviceKernel, Mapping, Transform, TransformError, Window},
};

/// Version of every built-in transform.
pub(super) const VERSION: u32 = 1;

/// Registers `copy`, `slice`, `concat`, `xor` and `elementwise` at version 1.
///
/// # Errors
/// [`RegistryError::Duplicate`] if one of them is registered already.
pub fn register_builtins(registry: &mut TransformRegistry) -> Result<(), RegistryError> {
    registry.register(Copy::NAME, VERSION, |params| {
        no_params(Copy::NAME, params)?;
        Ok(Arc::new(Copy))
    })?;
    registry.register(Slice::NAME, VERSION, |params| {
        Ok(Arc::new(Slice::from_params(params)?))
    })?;
    registry.register(Concat::NAME, VERSION, |params| {
        no_params(Concat::NAME, params)?;
        Ok(Arc::new(Concat))
    })?;
    registry.register(Xor::NAME, VERSION, |params| {
        no_params(Xor::NAME, params)?;
        Ok(Arc::new(Xor))
    })?;
    registry.register(Elementwise::NAME, VERSION, |params| {
        Ok(Arc::new(Elementwise::from_params(params)?))
    })
}

fn no_params(transform: &'static str, params: &[u8]) -> Result<(), TransformError> {
    if params.is_empty() {
        return Ok(());
    }
    Err(TransformError::Params {
        transform,
        reason: format!("{} bytes where it takes none", params.len()),
    })
}

/// Bytes `range`, shifted by `shift`, of `input`; the error names the range of the page.
pub(super) fn cut<'a>(
    transform: &'static str,
    input: Option<&&'a [u8]>,
    range: &Range<u64>,
    shift: u64,
) -> Result<&'a [u8], TransformError> {
    let bytes = || {
        let start = usize::try_from(range.start.checked_add(shift)?).ok()?;
        let end = usize::try_from(range.end.checked_add(shift)?).ok()?;
        input?.get(start..end)
    };
    bytes().ok_or(TransformError::Range {
        transform,
        start: range.start,
        end: range.end,
    })
}

/// `copy_from_slice` that refuses unequal lengths instead of panicking.
fn copy_exact(
    transform: &'static str,
    out: &mut [u8],
    from: &[u8],
    range: &Range<u64>,
) -> Result<(), TransformError> {
    if let (Ok(out), Ok(from)) = (
        <&mut [u8; LINE_BYTES]>::try_from(&mut *out),
        <&[u8; LINE_BYTES]>::try_from(from),
    ) {
        copy_line(out, from);
        return Ok(());
    }
    if out.len() != from.len() {
        return Err(TransformError::Range {
            transform,
            start: range.start,
            end: range.end,
        });
    }
    out.copy_from_slice(from);
    Ok(())
}

/// Not inlined, because the compiler would make one copy of unknown length of this and the other.
/// That is a call too, and its wide loads cannot be forwarded from the stores that a chain of short
/// pages made just before, which costs more than the copy.
#[inline(never)]
fn copy_line(out: &mut [u8; LINE_BYTES], from: &[u8; LINE_BYTES]) {
    *out = *from;
}

/// The page equals its one parent, which has the same length. No parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copy;

impl Copy {
    const NAME: &'static str = "copy";
}

impl Transform for Copy {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        one_parent(Self::NAME, parent_lens).and_then(|len| same_length(Self::NAME, output_len, len))
    }

    fn kernel(&self) -> Option<DeviceKernel> {
        Some(DeviceKernel::Moves)
    }

    fn mapping(&self, _parent: usize, _parent_lens: &[u64], output_len: u64) -> Mapping {
        aligned(output_len)
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        _output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        let from = cut(Self::NAME, inputs.first(), &range, 0)?;
        copy_exact(Self::NAME, out, from, &range)
    }
}

/// The page is a part of its one parent: `page[i] = parent[offset + i]`.
///
/// Parameters, 8 bytes:
///
/// | bytes | meaning |
/// | --- | --- |
/// | 0..8 | offset in bytes, u64 little endian |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    offset_bytes: u64,
}

impl Slice {
    const NAME: &'static str = "slice";

    /// The part that begins `offset_bytes` into the parent and is as long as the page.
    #[must_use]
    pub const fn new(offset_bytes: u64) -> Self {
        Self { offset_bytes }
    }

    /// Reads what [`Transform::params`] wrote.
    ///
    /// # Errors
    /// [`TransformError::Params`] unless there are exactly 8 bytes.
    pub fn from_params(params: &[u8]) -> Result<Self, TransformError> {
        match <[u8; 8]>::try_from(params) {
            Ok(bytes) => Ok(Self::new(u64::from_le_bytes(bytes))),
            Err(_) => Err(TransformError::Params {
                transform: Self::NAME,
                reason: format!("{} bytes where it takes 8, an offset", params.len()),
            }),
        }
    }
}

impl Transform for Slice {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn params(&self) -> Vec<u8> {
        self.offset_bytes.to_le_bytes().to_vec()
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        let parent_len = one_parent(Self::NAME, parent_lens)?;
        // Saturated, the need is still more than any parent has.
        let needed_bytes = self.offset_bytes.saturating_add(output_len);
        if needed_bytes <= parent_len {
            return Ok(());
        }
        Err(TransformError::Length {
            transform: Self::NAME,
            what: "a parent of at least offset + page length, that is",
            needed_bytes,
            got_bytes: parent_len,
        })
    }

    fn kernel(&self) -> Option<DeviceKernel> {
        Some(DeviceKernel::Moves)
    }

    fn mapping(&self, _parent: usize, _parent_lens: &[u64], output_len: u64) -> Mapping {
        Mapping::Window(Window {
            parent_start: self.offset_bytes,
            output_start: 0,
            len_bytes: output_len,
        })
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        _output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        let from = cut(Self::NAME, inputs.first(), &range, self.offset_bytes)?;
        copy_exact(Self::NAME, out, from, &range)
    }
}

/// The page is its parents one after another, in order. No parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Concat;

impl Concat {
    const NAME: &'static str = "concat";
}

impl Transform for Concat {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        some_parents(Self::NAME, parent_lens)?;
        let sum = parent_lens
            .iter()
            .fold(0_u64, |sum, len| sum.saturating_add(*len));
        if sum == output_len {
            return Ok(());
        }
        Err(TransformError::Length {
            transform: Self::NAME,
            what: "a page as long as all parents together, that is",
            needed_bytes: sum,
            got_bytes: output_len,
        })
    }

    fn kernel(&self) -> Option<DeviceKernel> {
        Some(DeviceKernel::Moves)
    }

    fn mapping(&self, parent: usize, parent_lens: &[u64], _output_len: u64) -> Mapping {
        let before = parent_lens
            .iter()
            .take(parent)
            .fold(0_u64, |sum, n| sum.saturating_add(*n));
        Mapping::Window(Window {
            parent_start: 0,
            output_start: before,
            len_bytes: parent_lens.get(parent).copied().unwrap_or(0),
        })
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        _output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        let error = || TransformError::Range {
            transform: Self::NAME,
            start: range.start,
            end: range.end,
        };
        let mut skip = usize::try_from(range.start).map_err(|_| error())?;
        let mut rest = out;
        for input in inputs {
            let Some(part) = input.get(skip..) else {
                skip -= input.len();
                continue;
            };
            skip = 0;
            let len = part.len().min(rest.len());
            let (to, after) = rest.split_at_mut_checked(len).ok_or_else(error)?;
            to.copy_from_slice(part.get(..len).ok_or_else(error)?);
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(error())
        }
    }
}

/// The page is the exclusive or of its parents, all of its length. No parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Xor;

impl Xor {
    const NAME: &'static str = "xor";
}

impl Transform for Xor {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        some_parents(Self::NAME, parent_lens)?;
        parent_lens
            .iter()
            .try_for_each(|len| same_length(Self::NAME, output_len, *len))
    }

    fn kernel(&self) -> Option<DeviceKernel> {
        Some(DeviceKernel::Combine {
            semiring: Semiring::XorAnd,
            lane: Lane::U8,
            form: Form::Sum,
        })
    }

    fn mapping(&self, _parent: usize, _parent_lens: &[u64], output_len: u64) -> Mapping {
        aligned(output_len)
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        _output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        let (first, others) = match inputs {
            // The first two in one pass: most pages have two parents, and a pass over a short page
            // costs more in calls than in bytes.
            [a, b, others @ ..] => {
                let a = cut(Self::NAME, Some(a), &range, 0)?;
                let b = cut(Self::NAME, Some(b), &range, 0)?;
                for (to, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                    *to = a ^ b;
                }
                (a, others)
            }
            _ => {
                let from = cut(Self::NAME, inputs.first(), &range, 0)?;
                return copy_exact(Self::NAME, out, from, &range);
            }
        };
        if first.len() != out.len() {
            let Range { start, end } = range;
            return Err(TransformError::Range {
                transform: Self::NAME,
                start,
                end,
            });
        }
        for input in others {
            for (to, from) in out.iter_mut().zip(cut(Self::NAME, Some(input), &range, 0)?) {
                *to ^= from;
            }
        }
        Ok(())
    }
}

/// Byte `i` of a parent reaches byte `i` of the page.
pub(super) fn aligned(len_bytes: u64) -> Mapping {
    Mapping::Window(Window {
        parent_start: 0,
        output_start: 0,
        len_bytes,
    })
}

pub(super) fn some_parents(
    transform: &'static str,
    parent_lens: &[u64],
) -> Result<(), TransformError> {
    if parent_lens.is_empty() {
        return Err(TransformError::ParentCount {
            transform,
            takes: "one or more",
            got: 0,
        });
    }
    Ok(())
}

fn one_parent(transform: &'static str, parent_lens: &[u64]) -> Result<u64, TransformError> {
    match parent_lens {
        [len] => Ok(*len),
        _ => Err(TransformError::ParentCount {
            transform,
            takes: "exactly one",
            got: parent_lens.len(),
        }),
    }
}

pub(super) fn same_length(
    transform: &'static str,
    output_len: u64,
    parent_len: u64,
) -> Result<(), TransformError> {
    if output_len == parent_len {
        return Ok(());
    }
    Err(TransformError::Length {
        transform,
        what: "parents as long as the page, that is",
        needed_bytes: output_len,
        got_bytes: parent_len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(
        transform: &dyn Transform,
        inputs: &[&[u8]],
        range: Range<u64>,
    ) -> Result<Vec<u8>, TransformError> {
        let mut out = vec![0xee; (range.end - range.start) as usize];
        transform.compute(inputs, range.end, range, &mut out)?;
        Ok(out)
    }

    #[test]
    fn each_moves_the_bytes_it_says() {
        let (a, b, c) = ([1_u8, 2, 3, 4], [5_u8, 6, 7, 8], [16_u8, 32, 64, 128]);
        assert_eq!(compute(&Copy, &[&a], 1..3).unwrap(), [2, 3]);
        assert_eq!(compute(&Slice::new(2), &[&a], 0..2).unwrap(), [3, 4]);
        assert_eq!(
            compute(&Concat, &[&a, &b, &c], 0..12).unwrap(),
            [a, b, c].concat()
        );
        assert_eq!(
            compute(&Concat, &[&a, &b, &c], 3..9).unwrap(),
            [4, 5, 6, 7, 8, 16]
        );
        assert_eq!(compute(&Concat, &[&a, &b, &c], 4..5).unwrap(), [5]);
        assert_eq!(compute(&Xor, &[&a], 0..4).unwrap(), a);
        assert_eq!(
            compute(&Xor, &[&a, &b, &c], 1..3).unwrap(),
            [2 ^ 6 ^ 32, 3 ^ 7 ^ 64]
        );
    }

    #[test]
    fn ranges_beyond_the_inputs_are_errors() {
        let a = [1_u8, 2, 3, 4];
        assert!(compute(&Copy, &[&a], 3..5).is_err());
        assert!(compute(&Copy, &[], 0..1).is_err());
        assert!(compute(&Slice::new(u64::MAX), &[&a], 0..2).is_err());
        assert!(compute(&Concat, &[&a, &a], 6..9).is_err());
        assert!(compute(&Xor, &[&a, &[1, 2]], 0..4).is_err());
        assert!(compute(&Xor, &[], 0..1).is_err());
    }

    #[test]
    fn shapes_are_checked() {
        assert!(Copy.check(4, &[4]).is_ok());
        assert!(Copy.check(4, &[5]).is_err());
        assert!(Copy.check(4, &[4, 4]).is_err());
        assert!(Slice::new(4).check(4, &[8]).is_ok());
        assert!(Slice::new(5).check(4, &[8]).is_err());
        assert!(Slice::new(u64::MAX).check(4, &[8]).is_err());
        assert!(Concat.check(8, &[3, 5]).is_ok());
        assert!(Concat.check(8, &[3, 4]).is_err());
        assert!(Concat.check(8, &[u64::MAX, 9]).is_err());
        assert!(Xor.check(8, &[8, 8, 8]).is_ok());
        assert!(Xor.check(8, &[8, 8, 7]).is_err());
        assert!(Xor.check(8, &[]).is_err());
    }

    #[test]
    fn parameters_survive_and_strays_are_refused() {
        let registry = TransformRegistry::with_builtins();
        let params = Slice::new(0x0102_0304).params();
        assert_eq!(params, [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(Slice::from_params(&params), Ok(Slice::new(0x0102_0304)));
        assert!(registry.create("slice", 1, &params[..7]).is_err());
        for name in ["copy", "concat", "xor"] {
            assert!(registry.create(name, 1, &[]).is_ok());
            assert!(registry.create(name, 1, &[0]).is_err());
        }
    }
}
