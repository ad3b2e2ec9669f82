//! The state of the driver, and how work is executed.

use std::io::Write as _;
use std::sync::LazyLock;

use parking_lot::{Mutex, MutexGuard};

use crate::clocks::Races;
use crate::codes::{self, Code, Outcome};
use crate::faults::{Effect, Kind, Plan};
use crate::memory::Memory;
use crate::module::Modules;
use crate::queue::Queues;
use crate::settings::Settings;
use crate::work::{Job, Source, Work};

/// How many more pieces of work are executed before a late copy arrives.
const LATE_BY: u32 = 4;

/// Work that may wait in queues before some of it is executed without anybody waiting.
const PENDING_LIMIT: usize = 4096;

/// The handle of the only context.
pub(crate) const CONTEXT: u64 = 0xc0;

/// Everything that the driver knows.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) settings: Settings,
    pub(crate) memory: Memory,
    pub(crate) queues: Queues,
    pub(crate) modules: Modules,
    faults: Plan,
    races: Races,
    /// How often the context was retained.
    retained: u32,
    /// What every call returns after work has failed.
    broken: Option<Code>,
    late: Vec<(u32, Job)>,
    violations: Vec<String>,
    leaked: u64,
}

static DRIVER: LazyLock<Mutex<Option<Driver>>> = LazyLock::new(|| Mutex::new(None));

std::thread_local! {
    /// The contexts of this thread; the last one is current.
    pub(crate) static CURRENT: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The driver, locked; `None` before `cuInit`.
pub(crate) fn locked() -> MutexGuard<'static, Option<Driver>> {
    DRIVER.lock()
}

/// Does something with the initialized driver, in a working context that is current on this thread.
pub(crate) fn with<T>(
    function: &'static str,
    does: impl FnOnce(&mut Driver) -> Outcome<T>,
) -> Outcome<T> {
    let mut guard = locked();
    let driver = guard.as_mut().ok_or(codes::NOT_INITIALIZED)?;
    let is_current = CURRENT.with_borrow(|stack| stack.last() == Some(&CONTEXT));
    if !is_current || driver.retained == 0 {
        driver.violate(format!("{function} was called without a current context"));
        return Err(codes::INVALID_CONTEXT);
    }
    if let Some(code) = driver.broken {
        return Err(code);
    }
    let outcome = does(driver);
    if let Err(code) = outcome
        && code != codes::NOT_READY
        && driver.broken.is_none()
    {
        driver.note(&format!("{function} returned {code}"));
    }
    outcome
}

impl Driver {
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self {
            memory: Memory::new(settings.memory_bytes, settings.pinned_bytes)?,
            queues: Queues::new(settings.seed),
            modules: Modules::default(),
            faults: Plan::parse(&settings.faults)?,
            races: Races::default(),
            retained: 0,
            broken: None,
            late: Vec::new(),
            violations: Vec::new(),
            leaked: 0,
            settings,
        })
    }

    pub(crate) fn retain(&mut self) {
        self.retained += 1;
    }

    /// Counts leaks when the last one lets go, and starts over.
    pub(crate) fn release(&mut self) -> Outcome {
        if self.retained == 0 {
            return Err(codes::INVALID_CONTEXT);
        }
        self.retained -= 1;
        if self.retained == 0 {
            let mut leaks = self.memory.leaks();
            leaks.extend(self.queues.leaks());
            leaks.extend(self.modules.leaks());
            self.leaked += leaks.len() as u64;
            for leak in &leaks {
                self.violate(format!("the context was released with {leak}"));
            }
        }
        Ok(())
    }

    /// Forgets everything, as a reset of the context does.
    pub(crate) fn reset(&mut self) -> Result<(), String> {
        self.queues = Queues::new(self.settings.seed);
        self.memory = Memory::new(self.settings.memory_bytes, self.settings.pinned_bytes)?;
        self.modules = Modules::default();
        self.races.forget();
        self.late.clear();
        self.broken = None;
        Ok(())
    }

    pub(crate) fn set_faults(&mut self, plan: Plan) {
        self.faults = plan;
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.settings.seed = seed;
        self.queues.set_seed(seed);
    }

    /// A number from the seed.
    pub(crate) fn draw(&mut self) -> u64 {
        self.queues.draw()
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) const fn leaked(&self) -> u64 {
        self.leaked
    }

    /// Notes a use of the driver that a real one might answer with anything.
    pub(crate) fn violate(&mut self, what: String) {
        self.note(&what);
        self.violations.push(what);
    }

    fn note(&self, what: &str) {
        let Some(path) = &self.settings.log else {
            return;
        };
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        if let Ok(mut file) = file {
            // There is nobody to tell that the log cannot be written.
            let _unwritten = writeln!(file, "MMSB simulated driver: {what}");
        }
    }

    /// Counts one more of a kind; an error if it is to be refused, or the device to be lost.
    pub(crate) fn strike(&mut self, kind: Kind, refusal: Code) -> Outcome<Option<Effect>> {
        match self.faults.next(kind) {
            Some(Effect::Refused) => Err(refusal),
            Some(Effect::Lost) => Err(self.lose(codes::DEVICE_UNAVAILABLE)),
            effect => Ok(effect),
        }
    }

    fn lose(&mut self, code: Code) -> Code {
        self.broken = Some(code);
        self.queues.give_up();
        self.late.clear();
        code
    }

    /// Adds a job to a queue, after the checks that a driver makes at once.
    pub(crate) fn submit(&mut self, queue: u64, job: Job) -> Outcome {
        let effect = match &job {
            Job::Launch(_) => self.strike(Kind::Launch, codes::LAUNCH_OUT_OF_RESOURCES)?,
            job if job.is_copy() => self.strike(Kind::Copy, codes::LAUNCH_OUT_OF_RESOURCES)?,
            _ => None,
        };
        for access in job.accesses() {
            if let Err(why) = self.memory.check(access.start, access.len_bytes) {
                self.violate(format!("{}: {why}", job.name()));
                return Err(codes::INVALID_VALUE);
            }
        }
        self.queues.submit(queue, job, effect)?;
        while self.queues.pending() > PENDING_LIMIT && self.step()? {}
        Ok(())
    }

    /// Executes work until `is_done`.
    pub(crate) fn run_until(
        &mut self,
        mut is_done: impl FnMut(&mut Self) -> Outcome<bool>,
    ) -> Outcome {
        while !is_done(self)? {
            if !self.step()? {
                self.violate("queues wait for each other for ever".into());
                return Err(codes::UNKNOWN);
            }
        }
        Ok(())
    }

    /// Executes all work.
    pub(crate) fn drain(&mut self) -> Outcome {
        while self.step()? {}
        Ok(())
    }

    /// Executes one piece of work; `false` when none can be.
    pub(crate) fn step(&mut self) -> Outcome<bool> {
        let Some((queue, work)) = self.queues.take_next() else {
            return Ok(false);
        };
        self.execute(queue, work)?;
        self.deliver_late();
        if self.queues.is_idle() {
            self.races.forget();
        }
        Ok(true)
    }

    fn execute(&mut self, queue: u64, work: Work) -> Outcome {
        match self.faults.next(Kind::Work) {
            Some(Effect::Lost) => return Err(self.lose(codes::DEVICE_UNAVAILABLE)),
            Some(_) => return Err(self.lose(codes::LAUNCH_FAILED)),
            None => {}
        }
        if work.effect == Some(Effect::Fails) {
            return Err(self.lose(codes::LAUNCH_FAILED));
        }
        if let Job::Record { event, version } = work.job {
            self.queues.reach(event, version);
            return Ok(());
        }
        let accesses = match &work.job {
            Job::Launch(launch) => launch.accesses(&self.memory),
            job => Ok(job.accesses()),
        };
        let checked = accesses.and_then(|accesses| {
            accesses
                .iter()
                .try_for_each(|access| self.memory.check(access.start, access.len_bytes))
                .map(|()| accesses)
        });
        let accesses = match checked {
            Ok(accesses) => accesses,
            Err(why) => {
                self.violate(format!("{}: {why}", work.job.name()));
                return Err(self.lose(codes::ILLEGAL_ADDRESS));
            }
        };
        let race = self
            .races
            .add(queue, work.time, &work.known, work.job.name(), &accesses);
        if let Some(race) = race {
            self.violate(race);
        }
        self.perform(work.job, work.effect)
    }

    fn perform(&mut self, job: Job, effect: Option<Effect>) -> Outcome {
        if let Job::Launch(launch) = &job {
            // SAFETY: every byte that the kernel touches was checked just now, under the lock that mapping takes.
            return match unsafe { launch.run() } {
                Ok(()) => Ok(()),
                Err(why) => {
                    self.violate(format!("{}: {why}", job.name()));
                    Err(self.lose(codes::LAUNCH_FAILED))
                }
            };
        }
        if effect == Some(Effect::Late) {
            self.late.push((LATE_BY, job));
            return Ok(());
        }
        // SAFETY: all accesses of the job were checked just now.
        unsafe { job.move_bytes() };
        if effect == Some(Effect::Corrupt)
            && let Some((to, len_bytes)) = job.target()
        {
            let at = to + len_bytes / 2;
            // SAFETY: the byte is one that was written just now.
            unsafe { *(at as *mut u8) ^= 0x10 };
        }
        Ok(())
    }

    fn deliver_late(&mut self) {
        for (left, _) in &mut self.late {
            *left -= 1;
        }
        let (due, later) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(left, _)| *left == 0);
        self.late = later;
        let due: Vec<(u32, Job)> = due;
        for (_, job) in due {
            let is_mapped = job
                .accesses()
                .iter()
                .all(|access| self.memory.check(access.start, access.len_bytes).is_ok());
            if is_mapped {
                // SAFETY: all accesses of the job were checked just now.
                unsafe { job.move_bytes() };
            }
        }
    }

    /// The host reads or writes nothing of its memory behind the driver's back: what it copies from is pinned, or taken now.
    ///
    /// # Safety
    /// `from` points to `len_bytes` readable bytes.
    pub(crate) unsafe fn source(&self, from: u64, len_bytes: u64) -> Source {
        if self.memory.is_pinned(from, len_bytes) {
            return Source::Pinned(from);
        }
        // SAFETY: as the caller says.
        let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, len_bytes as usize) };
        Source::Staged(bytes.to_vec())
    }
}
