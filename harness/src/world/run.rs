//! Runs one scenario: the interpreter.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mmsb_engine::device::Device;
use mmsb_engine::{Bus, SteppingClock};

use super::SimulatedStorage;
use super::compare;
use super::data;
use super::devices::Devices;
use super::drive::Drive;
use super::failure::{self, Failure, Fault};
use super::listen::Listener;
use super::model::{Effect, Keep, Model};
use super::open::{Disk, Settings, closed};
use super::path::Part;
use super::replay::Mark;
use super::resume::{Milestone, OnMilestone, Resume};
use super::stage::{Committed, Renamed, Stage};
use super::sweep::{Coverage, Grain};
use crate::scenario::ErrorKind;
use crate::scenario::ast::{
    Durability, Fails, NewPage, Propagation, Repeat, ReplayTo, Scenario, Snapshot, Step, Steps,
    StorageKind, Subscribe,
};
use crate::scenario::crash::Crash;
use crate::scenario::matrix::Cell;
use crate::scenario::value::Located;

/// Told now and then how far a scenario has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Steps executed so far, each round of a repetition counted.
    pub steps: u64,
    /// Bytes of the present trace that were read.
    pub done_bytes: u64,
    /// The length of the present trace.
    pub total_bytes: u64,
}

/// What a run is given from outside.
#[derive(Clone, Default)]
pub struct Context {
    /// The directory that file names in the scenario are relative to.
    pub directory: PathBuf,
    /// An empty directory for the bus of a scenario with `storage: fs`. It need not exist, and is left as it is
    /// at the end.
    pub scratch: PathBuf,
    /// The simulated storage to use, so that its files can be looked at afterwards; a new one if left out.
    pub simulated: Option<SimulatedStorage>,
    /// How closely crashes at each moment cut the writes that they tear.
    pub grain: Grain,
    /// Called now and then while a trace runs, or crashes are tried; then bytes are moments.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    /// Counted up whenever a step begins, on whichever thread, so that whoever waits can tell slow from stuck.
    pub pulse: Option<Arc<AtomicU64>>,
    /// The real directory on which the run goes on where an earlier one was killed, whatever storage its options name.
    pub resume: Option<Resume>,
    /// Told what a run that resumes comes to.
    pub on_milestone: Option<OnMilestone>,
}

impl Context {
    /// Says that a step begins.
    pub(crate) fn beat(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("directory", &self.directory)
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// Whether everything was as it should be.
    pub verdict: Verdict,
    /// Steps executed, each round of a repetition counted.
    pub steps: u64,
    /// Checks that the scenario itself asks for: expectations, expected errors, replays and drains. The comparisons
    /// with the model are not counted.
    pub checks: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Bytes that committed transactions wrote to pages.
    pub written_bytes: u64,
    /// What crashes at every moment came to.
    pub coverage: Coverage,
}

/// Whether everything was as it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was.
    Passed,
    /// It was not, and this is the first sign of it.
    Failed(Box<Failure>),
}

impl Outcome {
    /// The failure, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.verdict {
            Verdict::Passed => None,
            Verdict::Failed(failure) => Some(failure),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) steps: u64,
    pub(crate) checks: u64,
    pub(crate) commits: u64,
    pub(crate) written_bytes: u64,
    pub(crate) coverage: Coverage,
}

/// Everything that a scenario runs on.
pub(crate) struct World<'c> {
    pub(crate) context: &'c Context,
    pub(crate) settings: Settings,
    pub(crate) disk: Disk,
    pub(crate) devices: Devices,
    /// Whether the device could not be restored straight from the log the last time.
    pub(crate) took_detour: bool,
    pub(crate) clock: Arc<SteppingClock>,
    /// How often the transform `test.counts` computed.
    pub(crate) computed: Arc<AtomicU64>,
    pub(crate) bus: Option<Drive>,
    /// The bus of a directory that the steps have yet to catch up with, and its device.
    pub(crate) waiting: Option<(Bus, Option<Arc<dyn Device>>)>,
    pub(crate) model: Model,
    pub(crate) stage: Stage,
    /// Everything up to this LSN must survive a crash.
    pub(crate) safe_lsn: u64,
    /// Everything up to this LSN must survive the death of the process.
    pub(crate) handed_lsn: u64,
    /// What a crash at a certain moment may have left at most; `None` for all that was committed.
    pub(crate) issued_lsn: Option<u64>,
    /// Whether a later step wants to know everything that was done to the disk.
    pub(crate) records: bool,
    /// What names stood for before each transaction, as far back as a crash may go.
    pub(crate) renames: VecDeque<(u64, Renamed)>,
    pub(crate) keeps_all: bool,
    pub(crate) keeps_renames: bool,
    pub(crate) marks: BTreeMap<String, Mark>,
    pub(crate) snapshots: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) listeners: BTreeMap<String, Listener>,
    pub(crate) totals: Totals,
}

/// Where the clock of every scenario begins: the first second of 2026.
pub(crate) const START_UNIX_NS: u64 = 1_767_225_600_000_000_000;
/// The clock moves by a microsecond at each reading.
pub(crate) const STEP_NS: u64 = 1_000;

/// Runs a scenario in one cell of its matrix, comparing engine and model all the way.
///
/// Deterministic: on simulated storage two runs give the same outcome and write the same bytes, save where
/// `concurrent` leaves the order of commits open. Never panics; a panic of the engine is a failure like any other.
#[must_use]
pub fn run(scenario: &Scenario, cell: &Cell, context: &Context) -> Outcome {
    let applied;
    // Nothing to put in: most scenarios have no matrix, and a copy costs as much as some steps.
    let scenario = if cell.values.is_empty() && scenario.matrix.is_none() {
        scenario
    } else {
        applied = cell.apply(scenario);
        &applied
    };
    let mut world = match World::new(scenario, context) {
        Ok(world) => world,
        Err(fault) => {
            let fault = fault.at(|| {
                (
                    "options".to_owned(),
                    crate::scenario::value::Span::default(),
                )
            });
            return outcome(Totals::default(), Some(*fault));
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| world.scenario(scenario)));
    let result = result.unwrap_or_else(|panic| {
        let what = panic_text(&*panic);
        Err(Fault::new(format!("panicked: {what}"))
            .at(|| (world.stage.path.to_string(), world.stage.span)))
    });
    let outcome = outcome(world.totals, result.err().map(|fault| *fault));
    // A bus that failed may fail again when it is dropped; that would hide the first failure.
    if let Some(bus) = world.bus.take() {
        let _ = catch_unwind(AssertUnwindSafe(|| bus.abandon()));
    }
    outcome
}

fn outcome(totals: Totals, fault: Option<Fault>) -> Outcome {
    Outcome {
        verdict: fault.map_or(Verdict::Passed, |fault| {
            Verdict::Failed(Box::new(fault.into_failure()))
        }),
        steps: totals.steps,
        checks: totals.checks,
        commits: totals.commits,
        written_bytes: totals.written_bytes,
        coverage: totals.coverage,
    }
}

/// What a panic had to say.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

impl<'c> World<'c> {
    pub(crate) fn new(scenario: &Scenario, context: &'c Context) -> failure::Outcome<Self> {
        let mut stage = Stage::new(Durability::Sync);
        for (name, value) in scenario.lets.iter() {
            let value = value.eval(&stage.scope)?;
            stage.scope.set(name, value);
        }
        let mut settings = Settings::default().with(&scenario.options, &stage.scope)?;
        if context.resume.is_some() {
            settings.storage = StorageKind::Sim;
        }
        stage.durability = settings.durability;
        stage.location = settings.location;
        let devices = Devices::new(settings.device.clone(), scenario);
        let disk = match settings.storage {
            StorageKind::Sim => Disk::Simulated(context.simulated.clone().unwrap_or_default()),
            StorageKind::Fs => Disk::Directory(context.scratch.clone()),
        };
        let keep = wanted_history(&scenario.steps);
        Ok(Self {
            context,
            settings,
            disk,
            devices,
            took_detour: false,
            clock: Arc::new(SteppingClock::new(START_UNIX_NS, STEP_NS)),
            computed: Arc::default(),
            bus: None,
            waiting: None,
            model: Model::new(keep),
            stage,
            safe_lsn: 0,
            handed_lsn: 0,
            issued_lsn: None,
            records: wants_journal(&scenario.steps),
            renames: VecDeque::new(),
            keeps_all: keep == Keep::All,
            keeps_renames: keep != Keep::Nothing,
            marks: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            listeners: BTreeMap::new(),
            totals: Totals::default(),
        })
    }

    fn scenario(&mut self, scenario: &Scenario) -> failure::Outcome {
        self.create()
            .map_err(|fault| fault.at(|| ("pages".to_owned(), Default::default())))?;
        self.begin_resume()
            .map_err(|fault| fault.at(|| ("open".to_owned(), Default::default())))?;
        self.begin_and_run(scenario)?;
        self.end_resume()?;
        if self.bus.is_some() {
            self.close()?;
        }
        self.all_faults_struck()
    }

    /// Makes the pages of a scenario and executes its steps, on a bus that was just created.
    pub(crate) fn begin_and_run(&mut self, scenario: &Scenario) -> failure::Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        for (name, spec) in scenario.pages.iter() {
            let page = NewPage {
                page: name.clone(),
                size: spec.size.clone(),
                fill: spec.fill.clone(),
                meta: spec.meta.clone(),
                derive: spec.derive.clone(),
                location: spec.location,
            };
            let result = self.stage.allocate(bus, &page);
            result.map_err(|fault| fault.at(|| (format!("pages.{name}"), name.span())))?;
        }
        if !self.stage.is_empty() {
            // Whatever a scenario loses later, it begins with its pages.
            self.commit(Some(Durability::Sync))
                .map_err(|fault| fault.at(|| ("pages".to_owned(), Default::default())))?;
        }
        self.steps_of(&scenario.steps)
    }

    /// Has the model keep all of its past, whatever the steps want of it.
    pub(crate) fn remembers_everything(&mut self) {
        self.model = Model::new(Keep::All);
        (self.keeps_all, self.keeps_renames) = (true, true);
    }

    /// Executes a list of steps.
    pub(crate) fn steps_of(&mut self, steps: &Steps) -> failure::Outcome {
        steps
            .iter()
            .enumerate()
            .try_for_each(|(index, step)| self.step(index, step))
    }

    /// Executes one step, and says where it stands if it fails.
    pub(crate) fn step(&mut self, index: usize, step: &Located<Step>) -> failure::Outcome {
        self.totals.steps += 1;
        self.context.beat();
        self.stage.path.push(Part::Step(index, step.value.verb()));
        self.stage.span = step.span;
        let result = self
            .execute(&step.value)
            .and_then(|()| self.order_was_kept(&step.value))
            .and_then(|()| self.device_is_sound());
        let result = result.map_err(|fault| fault.at(|| (self.stage.path.to_string(), step.span)));
        self.stage.path.pop();
        result
    }

    fn execute(&mut self, step: &Step) -> failure::Outcome {
        if let Step::Let(lets) = step {
            return set_variables(&mut self.stage, lets);
        }
        if is_staged(step) {
            let bus = self.bus.as_ref().ok_or_else(closed)?;
            return stage_step(&mut self.stage, bus, step).unwrap_or(Ok(()));
        }
        match step {
            Step::Commit(durability) => self.commit(*durability),
            Step::Transaction(transaction) => {
                let result = self.steps_of(&transaction.steps);
                if result.is_err() {
                    self.stage.abort();
                }
                result?;
                self.commit(transaction.durability)
            }
            Step::Checkpoint => {
                let bus = self.bus.as_ref().ok_or_else(closed)?;
                self.announce(Milestone::Checkpointing);
                bus.checkpoint()?;
                let durable_lsn = bus.durable_lsn().0;
                self.safe(durable_lsn);
                self.announce(Milestone::Checkpointed { durable_lsn });
                Ok(())
            }
            Step::Close => self.close(),
            Step::Open(options) => self.open(options),
            Step::Reopen(options) => {
                self.close()?;
                self.open(options)
            }
            Step::Crash(crash) => self.crash(crash),
            Step::Fault(inject) => self.inject(inject),
            Step::Heal => self.heal(),
            Step::RestoreDevice => self.restore_device(),
            Step::Evict(pages) => {
                self.hint("`evict`", pages, |bus, pages| bus.evict(pages).map(drop))
            }
            Step::Prefetch(pages) => self.hint("`prefetch`", pages, Bus::prefetch),
            Step::Propagate => {
                let bus = self.bus.as_ref().ok_or_else(closed)?;
                bus.propagate()?;
                compare::everything(bus, &mut self.model, &self.stage.names)
            }
            Step::Maintain => {
                let bus = self.bus.as_ref().ok_or_else(closed)?;
                bus.maintain()?;
                Ok(())
            }
            Step::Mark(name) => self.mark(name),
            Step::Replay(replay) => self.replay(replay),
            Step::Snapshot(snapshot) => self.snapshot(snapshot),
            Step::Concurrent(lists) => self.concurrent(lists),
            Step::Repeat(repeat) => self.repeat(repeat),
            Step::Trace(trace) => self.trace(trace),
            Step::Subscribe(subscribe) => self.subscribe(subscribe),
            Step::Drain(drain) => {
                self.totals.checks += 1;
                let name = drain.name.resolve(&self.stage.scope)?;
                let listener = self.listeners.get_mut(name.as_ref());
                let listener = listener
                    .ok_or_else(|| Fault::new(format!("there is no subscription `{name}`")))?;
                listener.drain(&self.stage, drain)
            }
            Step::Fails(fails) => self.fails(fails),
            Step::Storm(storm) => self.storm(storm),
            Step::RemoveFile(file) => self.remove_file(file),
            Step::OverwriteFile(overwrite) => self.overwrite_file(overwrite),
            Step::TruncateFile(truncate) => self.truncate_file(truncate),
            Step::WriteFile(write) => self.write_file(write),
            Step::Expect(expect) => self.expect(expect),
            other => Err(Fault::new(format!("`{}` is not known here", other.verb()))),
        }
    }

    fn commit(&mut self, durability: Option<Durability>) -> failure::Outcome {
        self.issues(self.model.lsn() + 1);
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let mut committed = self.stage.commit(bus, durability)?;
        let (lsn, durability) = (committed.lsn, committed.durability);
        let doubt = committed.doubt.take();
        let effect = self.absorb(committed, doubt.is_some())?;
        self.compare_effect(&effect)?;
        match doubt {
            Some(fault) => Err(fault),
            None => self.note_commit(lsn, durability),
        }
    }

    /// Has the model do what the engine has committed, if only for this life of the bus where it is in doubt.
    pub(crate) fn absorb(
        &mut self,
        mut committed: Committed,
        in_doubt: bool,
    ) -> failure::Outcome<Effect> {
        let effect = self.model.apply(&committed).map_err(Fault::new)?;
        self.totals.commits += 1;
        self.totals.written_bytes += committed.written_bytes;
        for listener in self.listeners.values_mut() {
            listener.publish(committed.lsn, &effect.event);
        }
        if self.keeps_renames && !committed.renamed.is_empty() {
            self.renames
                .push_back((committed.lsn, std::mem::take(&mut committed.renamed)));
        }
        if !in_doubt {
            self.acknowledged(committed.lsn, committed.durability);
        }
        Ok(effect)
    }

    pub(crate) fn compare_effect(&mut self, effect: &Effect) -> failure::Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let eager = self.settings.propagation == Propagation::Eager;
        compare::effect(bus, &mut self.model, &self.stage.names, effect, eager)
    }

    pub(crate) fn compare_everything(&mut self) -> failure::Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        compare::everything(bus, &mut self.model, &self.stage.names)?;
        compare::figures(bus, &self.model)
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> failure::Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let ids = snapshot
            .pages
            .iter()
            .map(|name| self.stage.id(name))
            .collect::<failure::Outcome<Vec<_>>>()?;
        let names = snapshot
            .pages
            .iter()
            .map(|name| name.resolve(&self.stage.scope));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        // Copied at once: a view that stays makes commits wait.
        let view = bus.view(&ids)?;
        let pages = names
            .into_iter()
            .zip(view.pages())
            .map(|(name, (_, bytes))| (name.into_owned(), bytes.to_vec()));
        let pages: BTreeMap<String, Vec<u8>> = pages.collect();
        let seen = view
            .pages()
            .into_iter()
            .map(|(id, bytes)| (id, bytes.to_vec()));
        let seen: Vec<_> = seen.collect();
        drop(view);
        // A read below would let a wave catch up, so what the view showed is compared itself.
        for (id, bytes) in seen {
            compare::seen(&mut self.model, &self.stage.names, id, &bytes)?;
        }
        for id in ids {
            compare::page(bus, &mut self.model, &self.stage.names, id)?;
        }
        self.snapshots.insert(
            snapshot.name.resolve(&self.stage.scope)?.into_owned(),
            pages,
        );
        Ok(())
    }

    fn repeat(&mut self, repeat: &Repeat) -> failure::Outcome {
        let times = repeat.times.eval(&self.stage.scope)?;
        let shadowed = repeat
            .counter
            .as_ref()
            .and_then(|counter| self.stage.scope.get(counter));
        for round in 0..times {
            if let Some(counter) = &repeat.counter {
                self.stage.scope.set(counter, round);
            }
            self.stage.path.push(Part::Round(round));
            let result = self.steps_of(&repeat.steps);
            self.stage.path.pop();
            result?;
        }
        if let Some(counter) = &repeat.counter {
            match shadowed {
                Some(value) => self.stage.scope.set(counter, value),
                None => self.stage.scope.unset(counter),
            };
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> failure::Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let capacity = subscribe.capacity.eval(&self.stage.scope)?;
        let name = subscribe.name.resolve(&self.stage.scope)?.into_owned();
        self.listeners.insert(name, Listener::new(bus, capacity)?);
        Ok(())
    }

    /// Runs steps of which the last must be refused, and checks that nothing came of it.
    fn fails(&mut self, fails: &Fails) -> failure::Outcome {
        let (last, before) = fails
            .steps
            .split_last()
            .ok_or_else(|| Fault::new("`fails` has no steps"))?;
        before
            .iter()
            .enumerate()
            .try_for_each(|(index, step)| self.step(index, step))?;
        self.totals.checks += 1;
        let path_len = self.stage.path.0.len();
        let mut result = self.step(before.len(), last);
        // A step that failed inside of others has left their parts behind.
        self.stage.path.0.truncate(path_len);
        if result.is_ok()
            && let Some(bus) = &self.bus
        {
            result = self.stage.try_build(bus);
        }
        check_failure(fails.error, result)?;
        if self.bus.is_some() {
            self.compare_everything()?;
        }
        Ok(())
    }

    pub(crate) fn steps(&self) -> u64 {
        self.totals.steps
    }

    pub(crate) fn report(&self, progress: Progress) {
        if let Some(report) = &self.context.progress {
            report(progress);
        }
    }
}

/// Whether a step failed in the way that was expected.
pub(crate) fn check_failure(expected: ErrorKind, result: failure::Outcome) -> failure::Outcome {
    match result {
        Ok(()) => {
            let message = format!(
                "expected the error {expected}, but nothing failed; what only a commit can check needs a `commit`"
            );
            Err(Fault::new(message))
        }
        Err(fault) if fault.error == Some(expected) => Ok(()),
        Err(mut fault) => {
            let found = fault.error.map_or(
                "something that is no error of the engine".to_owned(),
                |kind| kind.to_string(),
            );
            fault.message = format!(
                "expected the error {expected}, but got {found}: {}",
                fault.message
            );
            // The failure is that of `fails`, and not the error that it caught.
            fault.error = None;
            Err(fault)
        }
    }
}

fn is_staged(step: &Step) -> bool {
    matches!(
        step,
        Step::Write(_)
            | Step::Delta(_)
            | Step::Masked(_)
            | Step::Diff(_)
            | Step::Scatter(_)
            | Step::Allocate(_)
            | Step::Free(_)
            | Step::Transfer(_)
            | Step::Connect(_)
            | Step::Disconnect(_)
            | Step::Annotate(_)
            | Step::Abort
    )
}

fn set_variables(
    stage: &mut Stage,
    lets: &crate::scenario::value::Map<crate::scenario::num::Num>,
) -> failure::Outcome {
    for (name, value) in lets.iter() {
        let value = value.eval(&stage.scope)?;
        stage.scope.set(name, value);
    }
    Ok(())
}

/// Executes a step that only stages something or sets variables; `None` for all others.
pub(crate) fn stage_step(stage: &mut Stage, bus: &Drive, step: &Step) -> Option<failure::Outcome> {
    Some(match step {
        Step::Write(write) => stage.write(bus, write),
        Step::Delta(delta) => data::delta(stage, bus, delta),
        Step::Masked(masked) => data::masked(stage, bus, masked),
        Step::Diff(diff) => data::diff(stage, bus, diff),
        Step::Scatter(scatter) => data::scatter(stage, bus, scatter),
        Step::Allocate(allocate) => allocate
            .pages
            .iter()
            .try_for_each(|page| stage.allocate(bus, page)),
        Step::Free(page) => stage.free(&page.page),
        Step::Transfer(transfer) => stage.transfer(transfer),
        Step::Connect(connect) => stage.connect(connect),
        Step::Disconnect(page) => stage.disconnect(&page.page),
        Step::Annotate(annotate) => stage.annotate(annotate),
        Step::Abort => {
            stage.abort();
            Ok(())
        }
        Step::Let(lets) => set_variables(stage, lets),
        _ => return None,
    })
}

/// Whether a step wants to crash at other moments than its own.
fn wants_journal(steps: &Steps) -> bool {
    steps.iter().any(|step| match &step.value {
        Step::Crash(crash) => !matches!(crash, Crash::Forgetful | Crash::Process),
        Step::Repeat(repeat) => wants_journal(&repeat.steps),
        Step::Fails(fails) => wants_journal(&fails.steps),
        Step::Storm(storm) => wants_journal(&storm.steps),
        _ => false,
    })
}

/// How much of its past the model has to keep for these steps.
fn wanted_history(steps: &Steps) -> Keep {
    let mut keep = Keep::Nothing;
    let mut waiting: Vec<&Steps> = vec![steps];
    while let Some(steps) = waiting.pop() {
        for step in steps {
            match &step.value {
                Step::Replay(replay) if replay.to != ReplayTo::End => return Keep::All,
                Step::Crash(Crash::Forgetful | Crash::Process | Crash::Drawn(_)) => {
                    keep = Keep::Unsafe;
                }
                Step::Crash(_) => return Keep::All,
                // A commit that met an error may or may not be there after the next open.
                Step::Fault(_) => keep = Keep::Unsafe,
                Step::Storm(storm) => {
                    keep = Keep::Unsafe;
                    waiting.push(&storm.steps);
                }
                Step::Transaction(transaction) => waiting.push(&transaction.steps),
                Step::Repeat(repeat) => waiting.push(&repeat.steps),
                Step::Fails(fails) => waiting.push(&fails.steps),
                Step::Concurrent(lists) => waiting.extend(lists),
                _ => {}
            }
        }
    }
    keep
}
