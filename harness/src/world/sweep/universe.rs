//! A small world in which every sequence of a few operations is tried, and none left to chance.

use std::sync::Arc;

use crate::scenario::ast::{
    Allocate, Derive, Durability, NewPage, Options, PageArg, PageSpec, Scenario, Step, Transfer,
    VERSION, Write,
};
use crate::scenario::crash::Crash;
use crate::scenario::data::{Data, Random};
use crate::scenario::num::Num;
use crate::scenario::value::{Located, Map, Name, Names};

/// The shortest segment that the engine takes, so that a single large write begins a new one.
const SEGMENT_BYTES: u64 = 8 * 1024;
/// Longer than what is left of a segment, shorter than a segment.
const LARGE_BYTES: u64 = 5_000;

/// The operations, each of which has its letter in the name of a sequence.
const OPERATIONS: &[(char, Operation)] = &[
    ('s', Operation::Write(Durability::Sync)),
    ('b', Operation::Write(Durability::Buffered)),
    ('m', Operation::Write(Durability::Memory)),
    ('l', Operation::Large),
    ('a', Operation::Allocate),
    ('f', Operation::Free),
    ('t', Operation::Transfer),
    ('d', Operation::Derive),
    ('c', Operation::Checkpoint),
    ('p', Operation::Prepare),
    ('r', Operation::Reopen),
];

#[derive(Clone, Copy)]
enum Operation {
    Write(Durability),
    Large,
    Allocate,
    Free,
    Transfer,
    Derive,
    Checkpoint,
    Prepare,
    Reopen,
}

/// Every sequence of at most so many operations, shorter ones first, each as a scenario that ends with a crash
/// at each moment.
///
/// ```
/// use mmsb_harness::world::universe;
/// let names: Vec<String> = universe(2).map(|(name, _)| name).collect();
/// assert_eq!(names.len(), 11 + 11 * 11);
/// assert_eq!(names[0], "s");
/// ```
pub fn universe(max_len: usize) -> impl Iterator<Item = (String, Arc<Scenario>)> {
    (1..=max_len).flat_map(|len| {
        let count = OPERATIONS.len().pow(u32::try_from(len).unwrap_or(u32::MAX));
        (0..count).map(move |number| sequence(number, len))
    })
}

fn sequence(mut number: usize, len: usize) -> (String, Arc<Scenario>) {
    let mut picked = Vec::with_capacity(len);
    for _ in 0..len {
        picked.extend(OPERATIONS.get(number % OPERATIONS.len()));
        number /= OPERATIONS.len();
    }
    picked.reverse();
    let name: String = picked.iter().map(|(letter, _)| *letter).collect();
    let mut maker = Maker::default();
    for (_, operation) in picked {
        maker.add(operation);
    }
    maker.push(Step::Crash(Crash::Each { again: true }));
    let page = |size: u64| PageSpec {
        size: Some(Num::from(size)),
        ..PageSpec::default()
    };
    let pages = Map(vec![
        (Name::new("small"), page(64)),
        (Name::new("large"), page(LARGE_BYTES)),
    ]);
    let scenario = Scenario {
        version: Located::new(VERSION),
        about: format!("The sequence {name} of the small universe."),
        options: Options {
            segment: Some(Num::from(SEGMENT_BYTES)),
            ..Options::default()
        },
        pages,
        steps: maker.steps,
        ..Scenario::default()
    };
    (name, Arc::new(scenario))
}

/// Makes steps that are always possible, whatever came before.
#[derive(Default)]
struct Maker {
    steps: Vec<Located<Step>>,
    /// Pages that may be freed, newest last.
    own: Vec<Name>,
    made: u64,
    seed: u64,
}

impl Maker {
    fn push(&mut self, step: Step) {
        self.steps.push(Located::new(step));
    }

    fn random(&mut self, len: u64) -> Data {
        self.seed += 1;
        Data::Random(Random {
            seed: Num::from(self.seed),
            len: Some(Num::from(len)),
        })
    }

    fn allocate(&mut self, derived: bool) {
        let page = Name::new(format!("own{}", self.made));
        self.made += 1;
        let derive = derived.then(|| Derive::Copy(Names(vec![Name::new("small")])));
        let fill = (!derived).then(|| self.random(96));
        self.push(Step::Allocate(Allocate {
            pages: vec![NewPage {
                page: page.clone(),
                size: (!derived).then(|| Num::from(96)),
                fill,
                meta: Map::default(),
                derive,
                location: None,
            }],
        }));
        self.own.push(page);
    }

    fn add(&mut self, operation: Operation) {
        let commit = |durability| Step::Commit(Some(durability));
        match operation {
            Operation::Write(durability) => {
                let data = self.random(24);
                self.push(Step::Write(Write {
                    page: Name::new("small"),
                    at: Num::from(8),
                    data,
                }));
                self.push(commit(durability));
            }
            Operation::Large => {
                let data = self.random(LARGE_BYTES);
                self.push(Step::Write(Write {
                    page: Name::new("large"),
                    at: Num::ZERO,
                    data,
                }));
                self.push(commit(Durability::Sync));
            }
            Operation::Allocate => {
                self.allocate(false);
                self.push(commit(Durability::Buffered));
            }
            Operation::Free | Operation::Transfer if self.own.is_empty() => {
                // Nothing to free yet: it is made first, in a transaction of its own.
                self.allocate(false);
                self.push(commit(Durability::Memory));
                self.add(operation);
            }
            Operation::Free => {
                if let Some(page) = self.own.pop() {
                    self.push(Step::Free(PageArg { page }));
                    self.push(commit(Durability::Sync));
                }
            }
            Operation::Transfer => {
                if let Some(page) = self.own.last().cloned() {
                    self.push(Step::Transfer(Transfer { page, old: None }));
                    self.push(commit(Durability::Buffered));
                }
            }
            Operation::Derive => {
                self.allocate(true);
                self.push(commit(Durability::Sync));
            }
            Operation::Checkpoint => self.push(Step::Checkpoint),
            Operation::Prepare => self.push(Step::Maintain),
            Operation::Reopen => self.push(Step::Reopen(Options::default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_is_there_once_and_is_a_scenario() {
        let all: Vec<_> = universe(2).collect();
        let mut names: Vec<&String> = all.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for (name, scenario) in &all {
            let text = crate::scenario::print(scenario);
            let read = crate::scenario::parse_str(name, &text);
            assert_eq!(read.as_ref(), Ok(&**scenario), "{text}");
        }
    }
}
