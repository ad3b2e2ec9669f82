//! What derived pages hold, computed in the most straightforward way: the whole page, one lane at a time.
//!
//! Nothing here is shared with the engine, so that an error in either shows as a difference.

use mmsb_engine::TransformId;

use crate::scenario::ast::{Lane, Semiring};

/// The function by which a derived page follows from its parents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Function {
    Copy,
    Slice {
        at: u64,
    },
    Concat,
    Xor,
    Elementwise {
        semiring: Semiring,
        lane: Lane,
        pairs: bool,
    },
    Custom {
        name: String,
        version: u32,
        params: Vec<u8>,
    },
}

impl Function {
    /// How the engine and its log name it.
    pub(crate) fn transform_id(&self) -> TransformId {
        let (name, version, params) = match self {
            Self::Copy => ("copy", 1, Vec::new()),
            Self::Slice { at } => ("slice", 1, at.to_le_bytes().to_vec()),
            Self::Concat => ("concat", 1, Vec::new()),
            Self::Xor => ("xor", 1, Vec::new()),
            Self::Elementwise {
                semiring,
                lane,
                pairs,
            } => {
                let params = vec![semiring_code(*semiring), lane_code(*lane), u8::from(*pairs)];
                ("elementwise", 1, params)
            }
            Self::Custom {
                name,
                version,
                params,
            } => (name.as_str(), *version, params.clone()),
        };
        TransformId {
            name: name.to_owned(),
            version,
            params,
        }
    }

    /// The length that a page has where the scenario gives none: that which the function gives.
    pub(crate) fn natural_len(&self, parent_lens: &[u64]) -> Option<u64> {
        let first = parent_lens.first().copied()?;
        match self {
            Self::Slice { at } => first.checked_sub(*at),
            Self::Concat => parent_lens
                .iter()
                .try_fold(0u64, |sum, len| sum.checked_add(*len)),
            Self::Custom { name, .. } if name == "test.sum" => Some(8),
            _ => Some(first),
        }
    }

    /// Whether a page of `len` bytes can be computed from parents of these lengths.
    pub(crate) fn fits(&self, len: u64, parent_lens: &[u64]) -> bool {
        let all_alike = !parent_lens.is_empty() && parent_lens.iter().all(|parent| *parent == len);
        match self {
            Self::Copy => all_alike && parent_lens.len() == 1,
            Self::Slice { at } => match parent_lens {
                [parent] => at.checked_add(len).is_some_and(|end| end <= *parent),
                _ => false,
            },
            Self::Concat => !parent_lens.is_empty() && self.natural_len(parent_lens) == Some(len),
            Self::Xor => all_alike,
            Self::Elementwise {
                semiring,
                lane,
                pairs,
            } => {
                let bitwise = matches!(semiring, Semiring::OrAnd | Semiring::XorAnd);
                let float = matches!(lane, Lane::F32 | Lane::F64);
                all_alike
                    && !(bitwise && float)
                    && len.is_multiple_of(lane_len(*lane))
                    && (!pairs || parent_lens.len().is_multiple_of(2))
            }
            Self::Custom { name, .. } if name == "test.sum" => !parent_lens.is_empty() && len == 8,
            Self::Custom { .. } => all_alike && parent_lens.len() == 1,
        }
    }

    /// The bytes of the page, or `None` if the function fails on these parents.
    pub(crate) fn compute(&self, len: usize, parents: &[&[u8]]) -> Option<Vec<u8>> {
        let first = parents.first().copied()?;
        match self {
            Self::Copy => Some(first.to_vec()),
            Self::Slice { at } => Some(
                first
                    .iter()
                    .skip(usize::try_from(*at).ok()?)
                    .take(len)
                    .copied()
                    .collect(),
            ),
            Self::Concat => Some(parents.concat()),
            Self::Xor => {
                let mut out = vec![0; len];
                for parent in parents {
                    for (to, from) in out.iter_mut().zip(*parent) {
                        *to ^= from;
                    }
                }
                Some(out)
            }
            Self::Elementwise {
                semiring,
                lane,
                pairs,
            } => elementwise(*semiring, *lane, *pairs, parents),
            Self::Custom { name, params, .. } => custom(name, params, parents),
        }
    }
}

fn custom(name: &str, params: &[u8], parents: &[&[u8]]) -> Option<Vec<u8>> {
    let first = parents.first().copied()?;
    match (name, params) {
        ("test.fails-on-ff", []) => (!first.contains(&0xff)).then(|| first.to_vec()),
        ("test.counts", []) => Some(first.to_vec()),
        ("test.reverse", []) => Some(first.iter().rev().copied().collect()),
        ("test.add", [add]) => Some(first.iter().map(|byte| byte.wrapping_add(*add)).collect()),
        ("test.sum", []) => {
            let sum: u64 = parents
                .iter()
                .flat_map(|parent| parent.iter())
                .map(|byte| u64::from(*byte))
                .sum();
            Some(sum.to_le_bytes().to_vec())
        }
        _ => None,
    }
}

fn semiring_code(semiring: Semiring) -> u8 {
    match semiring {
        Semiring::PlusTimes => 0,
        Semiring::MinPlus => 1,
        Semiring::MaxPlus => 2,
        Semiring::OrAnd => 3,
        Semiring::XorAnd => 4,
    }
}

fn lane_code(lane: Lane) -> u8 {
    match lane {
        Lane::U8 => 0,
        Lane::U32 => 1,
        Lane::I64 => 2,
        Lane::F32 => 3,
        Lane::F64 => 4,
    }
}

fn lane_len(lane: Lane) -> u64 {
    match lane {
        Lane::U8 => 1,
        Lane::U32 | Lane::F32 => 4,
        Lane::I64 | Lane::F64 => 8,
    }
}

fn elementwise(semiring: Semiring, lane: Lane, pairs: bool, parents: &[&[u8]]) -> Option<Vec<u8>> {
    use Semiring::{MaxPlus, MinPlus, OrAnd, PlusTimes, XorAnd};
    macro_rules! integer {
        ($type:ty) => {{
            let add = |a: $type, b: $type| match semiring {
                PlusTimes => a.wrapping_add(b),
                MinPlus => a.min(b),
                MaxPlus => a.max(b),
                OrAnd => a | b,
                XorAnd => a ^ b,
            };
            let multiply = |a: $type, b: $type| match semiring {
                PlusTimes => a.wrapping_mul(b),
                MinPlus | MaxPlus => a.wrapping_add(b),
                OrAnd | XorAnd => a & b,
            };
            combine(
                parents,
                pairs,
                <$type>::from_le_bytes,
                <$type>::to_le_bytes,
                add,
                multiply,
            )
        }};
    }
    macro_rules! float {
        ($type:ty, $nan:expr) => {{
            let smaller = |a: $type, b: $type| if a.total_cmp(&b).is_lt() { a } else { b };
            let larger = |a: $type, b: $type| if a.total_cmp(&b).is_lt() { b } else { a };
            // A NaN wins over every number; which NaN does not matter, as all are stored as one.
            let nan_of = |a: $type, b: $type| [a, b].into_iter().find(|value| value.is_nan());
            let add = move |a: $type, b: $type| match semiring {
                MinPlus => nan_of(a, b).unwrap_or_else(|| smaller(a, b)),
                MaxPlus => nan_of(a, b).unwrap_or_else(|| larger(a, b)),
                _ => a + b,
            };
            let multiply = |a: $type, b: $type| match semiring {
                PlusTimes => a * b,
                _ => a + b,
            };
            let store = |value: $type| {
                let bits = if value.is_nan() {
                    $nan
                } else {
                    value.to_bits()
                };
                bits.to_le_bytes()
            };
            if matches!(semiring, OrAnd | XorAnd) {
                return None;
            }
            combine(parents, pairs, <$type>::from_le_bytes, store, add, multiply)
        }};
    }
    match lane {
        Lane::U8 => integer!(u8),
        Lane::U32 => integer!(u32),
        Lane::I64 => integer!(i64),
        Lane::F32 => float!(f32, 0x7fc0_0000_u32),
        Lane::F64 => float!(f64, 0x7ff8_0000_0000_0000_u64),
    }
}

/// Folds the lanes of all parents, position by position, from the first parent on.
fn combine<T: Copy, const N: usize>(
    parents: &[&[u8]],
    pairs: bool,
    load: impl Fn([u8; N]) -> T,
    store: impl Fn(T) -> [u8; N],
    add: impl Fn(T, T) -> T,
    multiply: impl Fn(T, T) -> T,
) -> Option<Vec<u8>> {
    let lanes: Vec<Vec<T>> = parents
        .iter()
        .map(|parent| {
            parent
                .as_chunks::<N>()
                .0
                .iter()
                .map(|lane| load(*lane))
                .collect()
        })
        .collect();
    let count = lanes.first()?.len();
    let mut out = Vec::with_capacity(count * N);
    for position in 0..count {
        let values: Option<Vec<T>> = lanes
            .iter()
            .map(|lane| lane.get(position).copied())
            .collect();
        let values = values?;
        let terms: Vec<T> = if pairs {
            values
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[a, b]| multiply(*a, *b))
                .collect()
        } else {
            values
        };
        out.extend_from_slice(&store(terms.into_iter().reduce(&add)?));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmsb_engine::graph::TransformRegistry;

    /// The engine's transforms and these give the same bytes, odd floats included.
    #[test]
    fn agrees_with_the_engine() {
        let registry = TransformRegistry::with_builtins();
        let specials = [
            0.0f32,
            -0.0,
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1.5,
            f32::MIN_POSITIVE,
        ];
        let parents: Vec<Vec<u8>> = (0..4u8)
            .map(|seed| {
                let mut bytes = vec![0; 64];
                crate::scenario::data::fill_random(u64::from(seed), &mut bytes);
                for (position, chunk) in bytes.chunks_exact_mut(4).take(8).enumerate() {
                    chunk.copy_from_slice(
                        &specials[(position * (seed as usize + 1)) % 8].to_le_bytes(),
                    );
                }
                bytes
            })
            .collect();
        let parents: Vec<&[u8]> = parents.iter().map(Vec::as_slice).collect();
        let mut compared = 0;
        for semiring in [
            Semiring::PlusTimes,
            Semiring::MinPlus,
            Semiring::MaxPlus,
            Semiring::OrAnd,
            Semiring::XorAnd,
        ] {
            for lane in [Lane::U8, Lane::U32, Lane::I64, Lane::F32, Lane::F64] {
                for pairs in [false, true] {
                    let function = Function::Elementwise {
                        semiring,
                        lane,
                        pairs,
                    };
                    let id = function.transform_id();
                    let fits = function.fits(64, &[64; 4]);
                    let Ok(transform) = registry.create(&id.name, id.version, &id.params) else {
                        assert!(!fits, "{function:?}");
                        continue;
                    };
                    assert_eq!(transform.check(64, &[64; 4]).is_ok(), fits);
                    let mut theirs = vec![0; 64];
                    transform.compute(&parents, 64, 0..64, &mut theirs).unwrap();
                    assert_eq!(function.compute(64, &parents), Some(theirs), "{function:?}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 42);
    }
}
