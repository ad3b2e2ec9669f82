//! Keeps workers busy until the time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mmsb_harness::scenario::{Scenario, parse_str, print};
use mmsb_harness::world::Signature;
use parking_lot::Mutex;

use super::error::RunError;
use super::finding::{self, Case, Finding, Reproduction, found};
use super::options::Options;
use super::schedule::{self, Turn};
use super::state::{STATE_FILE, State};
use crate::campaign::{Campaign, Done, Found, Job};
use crate::monitor::{self, Sample};
use crate::worker::{Answer, Limits, Request, Worker};
use crate::workload::CANARY_PAGE;

/// How a run stands, for whoever watches.
#[derive(Debug)]
pub struct Now<'a> {
    /// What it has come to.
    pub state: &'a State,
    /// What is under way.
    pub running: Vec<Job>,
    /// How long the whole run lasts.
    pub duration: Duration,
    /// Whether something found is being made small.
    pub minimising: bool,
}

/// How often whoever watches is told.
const TICK: Duration = Duration::from_millis(200);
/// How often the state is kept.
const SAVE: Duration = Duration::from_secs(5);
/// Kills may take so many times as long as other scenarios.
const KILL_PATIENCE: u32 = 10;

/// Runs scenarios until the time is over, `stop` is set, or too much was found. What is found is in the state.
///
/// # Errors
/// When it cannot be carried out.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    on_tick: &mut dyn FnMut(&Now<'_>),
) -> Result<State, RunError> {
    let state = prepare(options)?;
    let pool = Pool {
        options,
        stop,
        ended: AtomicBool::new(false),
        base_s: state.elapsed_s,
        start: Instant::now(),
        shared: Mutex::new(Shared {
            known: state
                .findings
                .iter()
                .map(|finding| finding.signature.clone())
                .collect(),
            state,
            running: BTreeMap::new(),
            processes: BTreeMap::new(),
            resting: BTreeMap::new(),
            minimising: 0,
            meanwhile: BTreeMap::new(),
            error: None,
        }),
    };
    thread::scope(|scope| {
        let pool = &pool;
        for number in 0..options.jobs.max(1) {
            scope.spawn(move || pool.work(number));
        }
        pool.watch(on_tick)
    })?;
    let mut shared = pool.shared.into_inner();
    if let Some(error) = shared.error {
        return Err(error);
    }
    shared.state.elapsed_s = pool.base_s + pool.start.elapsed().as_secs_f64();
    shared.state.finished = !stop.load(Ordering::Relaxed);
    shared.state.save(&options.out)?;
    Ok(shared.state)
}

fn prepare(options: &Options) -> Result<State, RunError> {
    if options.resume {
        return State::load(&options.out);
    }
    if options.out.join(STATE_FILE).exists() {
        return Err(RunError::Exists(options.out.clone()));
    }
    fs::create_dir_all(&options.out).map_err(RunError::file("make", &options.out))?;
    let mut state = State::new(&options.seed_from, options.shard, options.canary_every);
    state.min_steady_s = options.steady.as_secs_f64();
    state.save(&options.out)?;
    Ok(state)
}

struct Shared {
    state: State,
    known: BTreeSet<Signature>,
    running: BTreeMap<usize, Job>,
    processes: BTreeMap<usize, u32>,
    /// What each worker keeps between scenarios.
    resting: BTreeMap<usize, Resting>,
    minimising: usize,
    /// How often a failure came again while it was being made small.
    meanwhile: BTreeMap<Signature, u64>,
    error: Option<RunError>,
}

/// Memory that a worker keeps between scenarios, in bytes.
#[derive(Clone, Copy)]
struct Resting {
    /// The least since the last sample.
    least: u64,
    last: u64,
}

impl Shared {
    /// Takes note of what a scenario came to; `is_news` says that what it found is noted as a finding of its own.
    fn note(
        &mut self,
        turn: Turn,
        done: &Done,
        took: Duration,
        found: Option<&Found>,
        is_news: bool,
    ) {
        let job = turn.job;
        let state = &mut self.state;
        let of = state.campaigns.entry(job.campaign).or_default();
        of.pending.remove(&turn.nth);
        of.scenarios += 1;
        of.steps += done.steps;
        of.commits += done.commits;
        of.written_bytes += done.written_bytes;
        of.kills += done.kills;
        of.busy_s += took.as_secs_f64();
        of.latency
            .record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        let sang = job.canary && found.is_some_and(is_canary);
        of.canaries += u64::from(sang);
        if !done.workload.is_empty() {
            *state.workloads.entry(done.workload.clone()).or_default() += 1;
        }
        state.coverage.add(&done.coverage);
        if job.canary && found.is_none() {
            state.silent.push((job.campaign, job.seed));
        }
        let Some(found) = found.filter(|_| !sang && !is_news) else {
            return;
        };
        let mut known = state.findings.iter_mut();
        match known.find(|finding| finding.signature == found.signature) {
            Some(finding) => finding.count += 1,
            // It is still being made small.
            None => *self.meanwhile.entry(found.signature.clone()).or_default() += 1,
        }
    }
}

struct Pool<'a> {
    options: &'a Options,
    /// Somebody wants it to end now.
    stop: &'a AtomicBool,
    /// No more scenarios; what is being made small goes on.
    ended: AtomicBool,
    base_s: f64,
    start: Instant,
    shared: Mutex<Shared>,
}

impl Pool<'_> {
    fn elapsed_s(&self) -> f64 {
        self.base_s + self.start.elapsed().as_secs_f64()
    }

    /// Tells how it stands, keeps the state, and says when it is over.
    fn watch(&self, on_tick: &mut dyn FnMut(&Now<'_>)) -> Result<(), RunError> {
        let mut saved = Instant::now();
        loop {
            thread::sleep(TICK);
            let mut shared = self.shared.lock();
            shared.state.elapsed_s = self.elapsed_s();
            self.sample(&mut shared);
            let over = self.is_over(&shared);
            if over {
                self.ended.store(true, Ordering::Relaxed);
            }
            let busy = !shared.running.is_empty() || shared.minimising > 0;
            on_tick(&Now {
                state: &shared.state,
                running: shared.running.values().copied().collect(),
                duration: self.options.duration,
                minimising: shared.minimising > 0,
            });
            if saved.elapsed() >= SAVE {
                saved = Instant::now();
                if let Err(error) = shared.state.save(&self.options.out) {
                    self.ended.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            if over && !busy {
                return Ok(());
            }
        }
    }

    fn is_over(&self, shared: &Shared) -> bool {
        self.stop.load(Ordering::Relaxed)
            || shared.error.is_some()
            || shared.state.elapsed_s >= self.options.duration.as_secs_f64()
            || shared.known.len() >= self.options.max_findings
            || self
                .options
                .max_scenarios
                .is_some_and(|max| shared.state.scenarios() >= max)
    }

    fn sample(&self, shared: &mut Shared) {
        let at_s = shared.state.elapsed_s;
        if !self.options.monitor {
            return;
        }
        let own = std::process::id();
        // Looked at each time, as a peak may be short.
        let workers = shared.processes.values().copied();
        let all_bytes = monitor::rss_bytes(own).unwrap_or_default()
            + workers.map(monitor::family_rss_bytes).sum::<u64>();
        shared.state.peak_rss_bytes = shared.state.peak_rss_bytes.max(all_bytes);
        if !shared.state.series.is_due(at_s) {
            return;
        }
        let of_workers = |figure: fn(u32) -> Option<u64>| {
            let figures = shared.processes.values().filter_map(|id| figure(*id));
            figures.max().unwrap_or_default()
        };
        let sample = Sample {
            at_s,
            steps: shared.state.steps(),
            scenarios: shared.state.scenarios(),
            own_rss_bytes: monitor::rss_bytes(own).unwrap_or_default(),
            worker_rss_bytes: of_workers(monitor::rss_bytes),
            resting_rss_bytes: shared
                .resting
                .values()
                .map(|of| of.least)
                .max()
                .unwrap_or(0),
            descriptors: monitor::descriptors(own).unwrap_or_default(),
            worker_descriptors: of_workers(monitor::descriptors),
        };
        shared.state.series.push(sample);
        shared
            .resting
            .values_mut()
            .for_each(|of| of.least = of.last);
    }

    /// One worker's turns.
    fn work(&self, number: usize) {
        let mut worker = Worker::new(Limits {
            program: self.options.program.clone(),
            scratch: self.options.out.join("work").join(number.to_string()),
            max_rss_bytes: self.options.max_rss_bytes,
            planted: self.options.planted.clone(),
        });
        while !self.ended.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.turn(number, &mut worker) {
                self.shared.lock().error.get_or_insert(error);
                break;
            }
        }
        let mut shared = self.shared.lock();
        shared.running.remove(&number);
        shared.processes.remove(&number);
    }

    fn turn(&self, number: usize, worker: &mut Worker) -> Result<(), RunError> {
        let turn = {
            let mut shared = self.shared.lock();
            let turn = schedule::next(&mut shared.state, &self.options.campaigns);
            let Some(turn) = turn else {
                self.ended.store(true, Ordering::Relaxed);
                return Ok(());
            };
            shared.running.insert(number, turn.job);
            turn
        };
        let campaign = turn.job.campaign;
        let patience = if campaign == Campaign::Kill {
            KILL_PATIENCE
        } else {
            1
        };
        let timeout = self.options.scenario_timeout * patience;
        let request = Request {
            job: turn.job,
            scenario: None,
        };
        let start = Instant::now();
        let before = worker.id();
        let answer = worker.ask(&request, timeout, &self.ended)?;
        let took = start.elapsed();
        {
            let mut shared = self.shared.lock();
            shared.running.remove(&number);
            // At the end of a run they are ended, and not replaced.
            let is_replaced = before.is_some() && worker.id() != before;
            if is_replaced && answer != Answer::Stopped {
                shared.state.replaced_workers += 1;
            }
            match worker.id() {
                Some(id) => shared.processes.insert(number, id),
                None => shared.processes.remove(&number),
            };
            if let Some(last) = worker.resting_bytes() {
                let of = shared.resting.entry(number);
                let of = of.or_insert(Resting { least: last, last });
                *of = Resting {
                    least: of.least.min(last),
                    last,
                };
            }
        }
        match &answer {
            // It stays among those under way, and comes first if the run goes on.
            Answer::Stopped => return Ok(()),
            Answer::Failed(why) => return Err(RunError::Job(why.clone())),
            Answer::Done(_) | Answer::Hung | Answer::Died(_) => {}
        }
        let done = match &answer {
            Answer::Done(done) => (**done).clone(),
            _ => Done::default(),
        };
        let found = found(campaign, &answer);
        let news = found.as_ref().filter(|found| self.is_news(turn.job, found));
        // Counted when it is settled and not before: a run that dies until then does it again when it goes on.
        let finding = news.map(|found| self.settle(turn, &done, found, timeout, worker));
        let mut shared = self.shared.lock();
        shared.minimising -= usize::from(finding.is_some());
        let finding = finding.transpose()?;
        shared.note(turn, &done, took, found.as_ref(), finding.is_some());
        if let Some(mut finding) = finding {
            finding.count += shared.meanwhile.remove(&finding.signature).unwrap_or(0);
            shared.state.findings.push(finding);
        }
        Ok(())
    }

    /// Whether a failure is none that was known. Then whoever asks has to settle it.
    fn is_news(&self, job: Job, found: &Found) -> bool {
        if job.canary && is_canary(found) {
            return false;
        }
        let mut shared = self.shared.lock();
        let is_news = shared.known.insert(found.signature.clone());
        shared.minimising += usize::from(is_news);
        is_news
    }

    /// What a kill found may show without one, and then can be made small in a moment.
    fn without_kill(
        &self,
        job: Job,
        scenario: &Scenario,
        found: &Found,
        timeout: Duration,
        worker: &mut Worker,
    ) -> Result<(Job, Found), RunError> {
        if job.campaign != Campaign::Kill {
            return Ok((job, found.clone()));
        }
        let simulated = Job {
            campaign: Campaign::Sim,
            ..job
        };
        let request = Request {
            job: simulated,
            scenario: Some(print(scenario)),
        };
        let answer = worker.ask(&request, timeout, self.stop)?;
        Ok(match finding::found(Campaign::Sim, &answer) {
            Some(found) => {
                self.shared.lock().known.insert(found.signature.clone());
                (simulated, found)
            }
            None => (job, found.clone()),
        })
    }

    /// Makes a finding small and writes it down.
    fn settle(
        &self,
        turn: Turn,
        done: &Done,
        found: &Found,
        timeout: Duration,
        worker: &mut Worker,
    ) -> Result<Finding, RunError> {
        let made =
            crate::workload::make(turn.job.campaign.flavour(), turn.job.seed, turn.job.canary);
        let scenario = done
            .scenario
            .as_ref()
            .and_then(|text| parse_str("found", text).ok())
            .unwrap_or(made.scenario);
        let (job, found) = self.without_kill(turn.job, &scenario, found, timeout, worker)?;
        let case = Case {
            job,
            workload: made.kind.as_str(),
            scenario: &scenario,
            found: &found,
            at_s: self.elapsed_s(),
            timeout,
            budget: self.options.budget,
            seed_from: &self.options.seed_from,
        };
        let mut finding = case.settle(worker, &self.options.out, self.stop)?;
        if self.stop.load(Ordering::Relaxed) && finding.reproduction == Reproduction::Never {
            // It was not given the time to show itself again.
            finding
                .message
                .push_str("\n(the run was stopped before this was tried again)");
        }
        Ok(finding)
    }
}

/// Whether a failure is that of a canary, and not of something before it.
fn is_canary(found: &Found) -> bool {
    found.signature.place == "expect" && found.message.contains(CANARY_PAGE)
}
