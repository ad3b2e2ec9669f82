//! Steps that run beside each other.

use super::{Choice, Generator, num, random, wrap};
use crate::scenario::ast::{Allocate, Durability, NewPage, PageArg, Repeat, Step, Steps, Write};
use crate::scenario::num::{Expr, Num, Op};
use crate::scenario::value::{Located, Map, Name};

/// Threads at most.
const MAX_THREADS: u64 = 4;

impl Generator {
    /// A few threads that write to the same pages, make pages of their own, and let the bus work.
    pub(super) fn concurrent(&mut self, choice: Choice) -> Option<()> {
        self.settle();
        let count = 2 + wrap(choice.a, MAX_THREADS - 1);
        let mut state = choice.c;
        let mut lists: Vec<Steps> = Vec::new();
        for _ in 0..count {
            self.threads += 1;
            let mut draw = |below: u64| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                wrap(state >> 8, below)
            };
            let rounds = 1 + draw(12);
            let number = u32::try_from(draw(u64::from(u32::MAX))).unwrap_or_default();
            let (_, page, len) = self.base(number)?;
            let durability = [
                Durability::Sync,
                Durability::Sync,
                Durability::Buffered,
                Durability::Memory,
            ]
            .get(usize::try_from(draw(4)).ok()?)
            .copied()?;
            let counter = Name::new("round");
            let write_len = 1 + draw(len.min(64));
            let mut body: Steps = Vec::new();
            let mut push = |step: Step| body.push(Located::new(step));
            // Somewhere else in each round.
            let places = (len - write_len) + 1;
            let at = Expr::Binary(
                Op::Rem,
                Box::new(Expr::Binary(
                    Op::Mul,
                    Box::new(Expr::Var("round".to_owned())),
                    Box::new(Expr::Int(1 + draw(40))),
                )),
                Box::new(Expr::Int(places)),
            );
            push(Step::Write(Write {
                page,
                at: Num::new(at),
                data: random(number, write_len),
            }));
            push(Step::Commit(Some(durability)));
            match draw(6) {
                0 => push(Step::Checkpoint),
                1 => push(Step::Maintain),
                2 => {
                    let own = Name::new(format!("t{}_{{round}}", self.threads));
                    push(Step::Allocate(Allocate {
                        pages: vec![NewPage {
                            location: None,
                            page: own.clone(),
                            size: Some(num(1 + draw(300))),
                            fill: Some(crate::scenario::data::Data::Random(
                                crate::scenario::data::Random {
                                    seed: num(draw(1000)),
                                    len: None,
                                },
                            )),
                            meta: Map::default(),
                            derive: None,
                        }],
                    }));
                    push(Step::Commit(Some(Durability::Sync)));
                    push(Step::Free(PageArg { page: own }));
                    push(Step::Commit(Some(Durability::Sync)));
                }
                _ => {}
            }
            lists.push(vec![Located::new(Step::Repeat(Repeat {
                times: num(rounds),
                counter: Some(counter),
                steps: body,
            }))]);
        }
        self.push(Step::Concurrent(lists));
        Some(())
    }
}
