//! The transforms that scenarios may use besides the built-in ones: each shows the engine one habit that
//! user transforms can have.
//!
//! | name | the page | parents |
//! | --- | --- | --- |
//! | `test.fails-on-ff` | a copy, or a failure if any byte is `ff` | one, as long as the page |
//! | `test.counts` | a copy; each computation counts as `transforms.computed` | one, as long as the page |
//! | `test.reverse` | the bytes in reverse order | one, as long as the page |
//! | `test.add` | each byte plus the parameter byte, wrapping | one, as long as the page |
//! | `test.sum` | the sum of all bytes, in 8 bytes little endian | any number; the page has 8 bytes |

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmsb_engine::graph::{
    Mapping, RegistryError, Transform, TransformError, TransformRegistry, Window,
};

/// The names of all test transforms; each has version 1.
pub const NAMES: [&str; 5] = [
    "test.fails-on-ff",
    "test.counts",
    "test.reverse",
    "test.add",
    "test.sum",
];

/// Which of the test transforms, with what it needs.
#[derive(Clone, Debug)]
enum Kind {
    FailsOnFf,
    Counts(Arc<AtomicU64>),
    Reverse,
    Add(u8),
    Sum,
}

struct TestTransform {
    kind: Kind,
}

/// The built-in transforms and those of this module. `computed` counts how often `test.counts` computed.
///
/// # Errors
/// When a built-in transform has one of the names.
pub(crate) fn registry(computed: &Arc<AtomicU64>) -> Result<TransformRegistry, RegistryError> {
    let mut registry = TransformRegistry::with_builtins();
    for name in NAMES {
        let computed = Arc::clone(computed);
        registry.register(name, 1, move |params| {
            let kind = match (name, params) {
                ("test.fails-on-ff", []) => Kind::FailsOnFf,
                ("test.counts", []) => Kind::Counts(Arc::clone(&computed)),
                ("test.reverse", []) => Kind::Reverse,
                ("test.sum", []) => Kind::Sum,
                ("test.add", [byte]) => Kind::Add(*byte),
                _ => {
                    let message = format!(
                        "{} bytes of parameters are not what {name} takes",
                        params.len()
                    );
                    return Err(TransformError::failed(message));
                }
            };
            Ok(Arc::new(TestTransform { kind }))
        })?;
    }
    Ok(registry)
}

impl Transform for TestTransform {
    fn name(&self) -> &str {
        match self.kind {
            Kind::FailsOnFf => "test.fails-on-ff",
            Kind::Counts(_) => "test.counts",
            Kind::Reverse => "test.reverse",
            Kind::Add(_) => "test.add",
            Kind::Sum => "test.sum",
        }
    }

    fn version(&self) -> u32 {
        1
    }

    fn params(&self) -> Vec<u8> {
        match self.kind {
            Kind::Add(byte) => vec![byte],
            _ => Vec::new(),
        }
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        match (&self.kind, parent_lens) {
            (Kind::Sum, [_, ..]) if output_len == 8 => Ok(()),
            (Kind::Sum, _) => Err(TransformError::failed(
                "test.sum takes parents and gives a page of 8 bytes",
            )),
            (_, [len]) if *len == output_len => Ok(()),
            _ => Err(TransformError::failed(
                "one parent as long as the page is needed",
            )),
        }
    }

    fn mapping(&self, _parent: usize, _parent_lens: &[u64], output_len: u64) -> Mapping {
        match self.kind {
            // A failure depends on bytes outside of the range that is computed.
            Kind::FailsOnFf | Kind::Sum => Mapping::Whole,
            Kind::Reverse => Mapping::Custom,
            Kind::Counts(_) | Kind::Add(_) => Mapping::Window(Window {
                parent_start: 0,
                output_start: 0,
                len_bytes: output_len,
            }),
        }
    }

    fn affected(
        &self,
        _parent: usize,
        changed: Range<u64>,
        _parent_lens: &[u64],
        output_len: u64,
    ) -> Range<u64> {
        output_len.saturating_sub(changed.end)..output_len.saturating_sub(changed.start)
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        let input = inputs.first().copied().unwrap_or_default();
        let outside = || TransformError::failed(format!("{range:?} is outside of the parent"));
        match &self.kind {
            Kind::Sum => {
                let sum: u64 = inputs
                    .iter()
                    .flat_map(|input| input.iter())
                    .map(|byte| u64::from(*byte))
                    .sum();
                out.copy_from_slice(part(&sum.to_le_bytes(), &range).ok_or_else(outside)?);
            }
            Kind::Reverse => {
                let mirrored =
                    output_len.saturating_sub(range.end)..output_len.saturating_sub(range.start);
                let from = part(input, &mirrored).ok_or_else(outside)?;
                for (to, from) in out.iter_mut().zip(from.iter().rev()) {
                    *to = *from;
                }
            }
            Kind::FailsOnFf | Kind::Counts(_) | Kind::Add(_) => {
                if matches!(self.kind, Kind::FailsOnFf) && input.contains(&0xff) {
                    return Err(TransformError::failed("the parent has a byte ff"));
                }
                if let Kind::Counts(computed) = &self.kind {
                    computed.fetch_add(1, Ordering::Relaxed);
                }
                let add = if let Kind::Add(byte) = self.kind {
                    byte
                } else {
                    0
                };
                for (to, from) in out.iter_mut().zip(part(input, &range).ok_or_else(outside)?) {
                    *to = from.wrapping_add(add);
                }
            }
        }
        Ok(())
    }
}

fn part<'a>(bytes: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_and_parts_agree() {
        let registry = registry(&Arc::default()).unwrap();
        let parent: Vec<u8> = (0..64).collect();
        for name in NAMES {
            let params: &[u8] = if name == "test.add" { &[250] } else { &[] };
            let transform = registry.create(name, 1, params).unwrap();
            assert_eq!(transform.params(), params);
            let len = if name == "test.sum" { 8 } else { 64 };
            let mut whole = vec![0; len];
            transform
                .compute(&[&parent], len as u64, 0..len as u64, &mut whole)
                .unwrap();
            let mut rest = vec![0; len - 3];
            transform
                .compute(&[&parent], len as u64, 3..len as u64, &mut rest)
                .unwrap();
            assert_eq!(whole[3..], rest, "{name}");
        }
    }

    #[test]
    fn wrong_parameters_are_refused() {
        let registry = registry(&Arc::default()).unwrap();
        assert!(registry.create("test.add", 1, &[]).is_err());
        assert!(registry.create("test.sum", 1, &[1]).is_err());
        assert!(registry.create("test.sum", 2, &[]).is_err());
    }
}
