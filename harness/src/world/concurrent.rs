//! Several lists of steps at once, each on a thread of its own, all on one bus.
//!
//! A thread knows the engine only. It records what it committed; when all have ended the model applies the
//! records in the order of their LSNs, which is the order that the engine claims to have worked in.

use std::collections::BTreeMap;

use super::drive::Drive;
use super::expect;
use super::failure::{Fault, Outcome};
use super::path::Part;
use super::run::{Context, World, check_failure, stage_step};
use super::stage::{Committed, Stage};
use crate::scenario::ast::{Repeat, Step, Steps};
use crate::scenario::value::Located;

/// One thread at work.
struct Worker<'a> {
    stage: Stage,
    bus: &'a Drive,
    context: &'a Context,
    committed: Vec<Committed>,
    steps: u64,
    checks: u64,
}

/// What a thread leaves behind.
struct Done {
    stage: Stage,
    committed: Vec<Committed>,
    steps: u64,
    checks: u64,
    result: Outcome,
}

impl World<'_> {
    pub(crate) fn concurrent(&mut self, lists: &[Steps]) -> Outcome {
        if !self.stage.is_empty() {
            return Err(Fault::new(
                "commit or abort what is staged before threads start",
            ));
        }
        // Whatever its threads commit may be on the disk at any moment from here on.
        self.issues(u64::MAX);
        let bus = self.bus.as_ref().ok_or_else(super::open::closed)?;
        let (stage, context) = (&self.stage, self.context);
        bus.shared_by_threads(true);
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = lists
                .iter()
                .zip(0u64..)
                .map(|(steps, number)| {
                    scope.spawn(move || work(stage.clone(), bus, context, number, steps))
                })
                .collect();
            threads
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect()
        });
        bus.shared_by_threads(false);
        let mut committed = Vec::new();
        let mut first_fault = None;
        for result in results {
            let Ok(done) = result else {
                first_fault.get_or_insert_with(|| Fault::new("a thread panicked"));
                continue;
            };
            self.totals.steps += done.steps;
            self.totals.checks += done.checks;
            self.adopt_names(&done.stage);
            committed.extend(done.committed);
            if let Err(fault) = done.result {
                first_fault.get_or_insert(fault);
            }
        }
        if let Some(fault) = first_fault {
            return Err(fault);
        }
        committed.sort_by_key(|committed| committed.lsn);
        let mut effects = Vec::with_capacity(committed.len());
        for committed in committed {
            let in_doubt = committed.doubt.is_some();
            effects.push(self.absorb(committed, in_doubt)?);
        }
        self.issues(self.model.lsn());
        // Compared only now: each state in between was gone before its turn came.
        for effect in &effects {
            self.compare_effect(effect)?;
        }
        Ok(())
    }

    /// Takes over the names that a thread has given a meaning.
    fn adopt_names(&mut self, worker: &Stage) {
        let changed: BTreeMap<_, _> = worker
            .names
            .iter()
            .filter(|(name, key)| self.stage.names.get(*name) != Some(key))
            .map(|(name, key)| (name.clone(), *key))
            .collect();
        self.stage.names.extend(changed);
    }
}

fn work(mut stage: Stage, bus: &Drive, context: &Context, number: u64, steps: &Steps) -> Done {
    stage.path.push(Part::Round(number));
    let mut worker = Worker {
        stage,
        bus,
        context,
        committed: Vec::new(),
        steps: 0,
        checks: 0,
    };
    let mut result = worker.run(steps);
    if result.is_ok() && !worker.stage.is_empty() {
        result = Err(Fault::new(
            "a thread of `concurrent` ends with staged changes; commit or abort them",
        ));
    }
    worker.stage.abort();
    let Worker {
        stage,
        committed,
        steps,
        checks,
        ..
    } = worker;
    Done {
        stage,
        committed,
        steps,
        checks,
        result,
    }
}

impl Worker<'_> {
    fn run(&mut self, steps: &Steps) -> Outcome {
        steps
            .iter()
            .enumerate()
            .try_for_each(|(index, step)| self.step(index, step))
    }

    fn step(&mut self, index: usize, step: &Located<Step>) -> Outcome {
        self.steps += 1;
        self.context.beat();
        self.stage.path.push(Part::Step(index, step.value.verb()));
        self.stage.span = step.span;
        let result = self.execute(&step.value);
        let result = result.map_err(|fault| fault.at(|| (self.stage.path.to_string(), step.span)));
        self.stage.path.pop();
        result
    }

    fn execute(&mut self, step: &Step) -> Outcome {
        if let Some(result) = stage_step(&mut self.stage, self.bus, step) {
            return result;
        }
        match step {
            Step::Commit(durability) => self.commit(*durability),
            Step::Transaction(transaction) => {
                self.run(&transaction.steps)?;
                self.commit(transaction.durability)
            }
            Step::Repeat(repeat) => self.repeat(repeat),
            Step::Checkpoint => Ok(self.bus.checkpoint()?),
            Step::Maintain => Ok(self.bus.maintain()?),
            Step::Propagate => Ok(self.bus.propagate()?),
            Step::Fails(fails) => {
                let (last, before) = fails
                    .steps
                    .split_last()
                    .ok_or_else(|| Fault::new("`fails` has no steps"))?;
                before
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, step)| self.step(index, step))?;
                self.checks += 1;
                let result = self
                    .step(before.len(), last)
                    .and_then(|()| self.stage.try_build(self.bus));
                check_failure(fails.error, result)
            }
            Step::Expect(expect) => {
                self.checks += 1;
                expect::of_bytes(&self.stage, self.bus, expect).unwrap_or_else(|| {
                    Err(Fault::new(
                        "in a thread of `concurrent` only bytes of pages can be checked",
                    ))
                })
            }
            other => Err(Fault::new(format!(
                "`{}` cannot run in a thread of `concurrent`",
                other.verb()
            ))),
        }
    }

    fn repeat(&mut self, repeat: &Repeat) -> Outcome {
        for round in 0..repeat.times.eval(&self.stage.scope)? {
            if let Some(counter) = &repeat.counter {
                self.stage.scope.set(counter, round);
            }
            self.stage.path.push(Part::Round(round));
            let result = self.run(&repeat.steps);
            self.stage.path.pop();
            result?;
        }
        Ok(())
    }

    fn commit(&mut self, durability: Option<crate::scenario::ast::Durability>) -> Outcome {
        let committed = self.stage.commit(self.bus, durability)?;
        let doubt = committed.doubt.clone();
        self.committed.push(committed);
        doubt.map_or(Ok(()), Err)
    }
}
