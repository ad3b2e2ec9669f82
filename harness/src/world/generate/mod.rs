//! Makes scenarios out of numbers: what property tests, the fuzzer and soak runs draw their steps from.
//!
//! A scenario follows from a list of [`Choice`]s, each of which becomes a step, or none where it does not apply. Whatever
//! the numbers are, the result is valid: the generator knows which pages there are and what the engine would refuse.
//! So removing choices and lowering their numbers, which is how property tests shrink, always gives a
//! scenario again, and a shorter one.

mod crashes;
mod device;
mod pages;
mod threads;
mod verb;
mod writes;

pub use verb::Verb;

use crate::scenario::ErrorKind;
use crate::scenario::ast::{
    Allocate, Drain, Durability, Fails, Location, NewPage, Options, PageSpec, Propagation, Replay,
    ReplayTo, Scenario, Snapshot, Step, StorageKind, Subscribe, VERSION, Write,
};
use crate::scenario::crash::Crash;
use crate::scenario::data::{Data, Random, Region};
use crate::scenario::expect::Expect;
use crate::scenario::num::{Expr, Num, Unit};
use crate::scenario::value::{Hex, Located, Map, Name, Names};

/// One choice: what to do, and three numbers for its details. All of them are taken modulo what is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What to do.
    pub verb: u16,
    /// Mostly, to which page.
    pub a: u32,
    /// Mostly, where in the page.
    pub b: u32,
    /// Mostly, with what bytes.
    pub c: u32,
}

/// What generated scenarios may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Where the bus lives.
    pub storage: StorageKind,
    /// Whether there are crashes.
    pub crashes: bool,
    /// Pages at most at one time.
    pub max_pages: usize,
    /// Whether one scenario in four has pages on a simulated device.
    pub devices: bool,
    /// Device memory that pages may take, which the options must say too: pages are placed so that none is refused for want of it.
    pub resident_bytes: Option<u64>,
    /// The lengths that pages are drawn from, in bytes; lengths that stand there often meet in transforms.
    pub lens: &'static [u64],
    /// How long a single write is at most, in bytes.
    pub max_write_bytes: u64,
    /// Whether the log alone is asked for the state. It cannot be where old segments go.
    pub replays: bool,
    /// Whether commits that must be synced say so, as they must where the options make another durability the usual.
    pub says_sync: bool,
    /// Whether an open or a replay may ask for several threads, which cost more to start than most opens take.
    pub parallel: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            storage: StorageKind::Sim,
            crashes: true,
            max_pages: 12,
            devices: true,
            resident_bytes: None,
            lens: &LENS,
            max_write_bytes: 100,
            replays: true,
            says_sync: false,
            parallel: true,
        }
    }
}

/// Lengths of pages, so few that pages of one length meet in a transform.
const LENS: [u64; 8] = [64, 64, 64, 8, 1, 200, 4096, 20_000];
/// The length of the first page, which every scenario has.
const FIRST_LEN: u64 = 64;

/// The scenario that follows from these choices.
#[must_use]
pub fn scenario(choices: &[Choice], profile: Profile) -> Scenario {
    let (head, rest) = choices
        .split_first()
        .map_or((Choice::default(), choices), |(head, rest)| (*head, rest));
    let mut generator = Generator::new(Profile {
        devices: profile.devices && head.verb % 8 >= 6,
        ..profile
    });
    for choice in rest {
        let verb = Verb::of(*choice);
        let verb = if generator.profile.devices {
            verb.with_device(*choice)
        } else {
            verb
        };
        generator.apply(verb, *choice);
    }
    let options = generator.options(head);
    generator.finish(options)
}

#[derive(Clone, Debug, PartialEq)]
struct Page {
    name: Name,
    len: u64,
    location: Option<Location>,
    /// Of a derived page; those of its parents that were freed cannot be: they have children.
    parents: Vec<usize>,
    derived: bool,
    fails: bool,
    live: bool,
    /// Allocated in the open transaction, and so without an id.
    fresh: bool,
    /// Freed or transferred in the open transaction.
    given_up: bool,
    /// Written in the open transaction.
    written: bool,
    /// Disconnected in the open transaction, whatever it is connected to since.
    disconnected: bool,
    /// Its allocation was dropped, so nothing ever knew its name.
    unborn: bool,
    /// A storm left open what became of it, so nothing is done with it any more.
    limbo: bool,
    /// The open storm changed more of it than its bytes, whatever it is again since.
    unsettled: bool,
    /// Parents that the open storm took from it: what is found afterwards may be the state of any commit in between.
    had_parents: Vec<usize>,
}

/// Makes a scenario, verb by verb.
///
/// ```
/// use mmsb_harness::scenario::ast::Options;
/// use mmsb_harness::world::generate::{Choice, Generator, Profile, Verb};
/// let mut generator = Generator::new(Profile::default());
/// assert!(generator.apply(Verb::Write, Choice { a: 0, b: 3, c: 5, verb: 0 }));
/// let scenario = generator.finish(Options::default());
/// assert_eq!(scenario.steps.len(), 3); // the write, the commit that it needs, and a replay
/// ```
#[derive(Clone, Debug)]
pub struct Generator {
    profile: Profile,
    pages: Vec<Page>,
    /// The pages as of the last commit.
    committed: Vec<Page>,
    /// Pages that may differ from that: a commit looks at no others, however many there are.
    touched: Vec<usize>,
    steps: Vec<Located<Step>>,
    /// Whether anything is staged, and whether it changes which pages there are.
    staged: bool,
    structural: bool,
    marks: u32,
    subscribed: bool,
    subscriptions: u32,
    snapshots: u32,
    threads: u32,
    storm: Option<crashes::OpenStorm>,
    /// Whether a storm has left open how many pages there are.
    unsure: bool,
}

fn num(value: u64) -> Num {
    match value {
        0 => Num::ZERO,
        _ if value.is_multiple_of(1024) => Num::new(Expr::Size(value / 1024, Unit::KiB)),
        _ => Num::from(value),
    }
}

fn random(seed: u32, len: u64) -> Data {
    Data::Random(Random {
        seed: num(u64::from(seed)),
        len: Some(num(len)),
    })
}

fn wrap(value: u32, below: u64) -> u64 {
    u64::from(value) % below.max(1)
}

impl Generator {
    /// A generator whose scenario has one page so far.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let first = Page {
            name: Name::new("p0"),
            len: FIRST_LEN,
            location: None,
            parents: Vec::new(),
            derived: false,
            fails: false,
            live: true,
            fresh: false,
            given_up: false,
            written: false,
            disconnected: false,
            unborn: false,
            limbo: false,
            unsettled: false,
            had_parents: Vec::new(),
        };
        Self {
            profile,
            pages: vec![first.clone()],
            committed: vec![first],
            touched: Vec::new(),
            steps: Vec::new(),
            staged: false,
            structural: false,
            marks: 0,
            subscribed: false,
            subscriptions: 0,
            snapshots: 0,
            threads: 0,
            storm: None,
            unsure: false,
        }
    }

    /// How many steps there are so far, those inside of others not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds steps that nothing is staged during and that change no page, such as checks.
    pub fn insert(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.settle();
        steps.into_iter().for_each(|step| self.push(step));
    }

    /// The options that follow from the numbers of a choice.
    fn options(&self, head: Choice) -> Options {
        Options {
            storage: (self.profile.storage == StorageKind::Fs).then_some(StorageKind::Fs),
            propagation: (head.verb % 2 == 1).then_some(Propagation::Deferred),
            threads: (head.a % 3 == 1).then(|| num(2)),
            appliers: (!head.b.is_multiple_of(3)).then(|| num(wrap(head.b, 3) + 1)),
            segment: (head.c % 2 == 1).then(|| num(8192)),
            device_seed: self.profile.devices.then(|| num(wrap(head.b, 1000))),
            ..Options::default()
        }
    }

    /// The scenario, with a check at its end.
    #[must_use]
    pub fn finish(mut self, options: Options) -> Scenario {
        self.end_storm();
        self.settle();
        if self.profile.replays {
            self.push(Step::Replay(Replay::default()));
        } else {
            // Any other page may be stale by now.
            let page = Name::new("last");
            self.push(Step::Allocate(Allocate {
                pages: vec![NewPage {
                    location: None,
                    page: page.clone(),
                    size: Some(num(FIRST_LEN)),
                    fill: None,
                    meta: Map::default(),
                    derive: None,
                }],
            }));
            self.push(Step::Commit(Some(Durability::Sync)));
            self.push(Step::Expect(Expect::Zero(Region {
                page,
                at: Num::ZERO,
                len: None,
            })));
        }
        let first = PageSpec {
            size: Some(num(FIRST_LEN)),
            ..PageSpec::default()
        };
        Scenario {
            version: Located::new(VERSION),
            about: "Made by the generator.".to_owned(),
            options,
            pages: Map(vec![(Name::new("p0"), first)]),
            steps: self.steps,
            ..Scenario::default()
        }
    }

    fn push(&mut self, step: Step) {
        self.steps.push(Located::new(step));
    }

    /// A page that fulfils a condition, and is there for the steps of the open transaction.
    fn pick(&self, number: u32, condition: impl Fn(&Page) -> bool) -> Option<usize> {
        let usable = |page: &Page| {
            page.live && !page.limbo && !(page.given_up && page.fresh) && condition(page)
        };
        let found: Vec<usize> = self
            .pages
            .iter()
            .enumerate()
            .filter(|(_, page)| usable(page))
            .map(|(at, _)| at)
            .collect();
        found
            .get(usize::try_from(number).ok()? % found.len().max(1))
            .copied()
    }

    fn base(&self, number: u32) -> Option<(usize, Name, u64)> {
        let at = self.pick(number, |page| !page.derived && !page.given_up)?;
        self.pages
            .get(at)
            .map(|page| (at, page.name.clone(), page.len))
    }

    fn name(&self, at: usize) -> Option<Name> {
        self.pages.get(at).map(|page| page.name.clone())
    }

    fn update(&mut self, at: usize, change: impl FnOnce(&mut Page)) {
        if let Some(page) = self.pages.get_mut(at) {
            self.touched.push(at);
            change(page);
        }
    }

    /// Adds the step of a verb with the numbers of a choice. `false` says that it does not apply here.
    pub fn apply(&mut self, verb: Verb, choice: Choice) -> bool {
        if self.storm.is_some() && !verb.stands_in_storm() {
            return false;
        }
        self.step(verb, choice).is_some()
    }

    fn step(&mut self, verb: Verb, choice: Choice) -> Option<()> {
        match verb {
            Verb::Write => self.write(choice),
            Verb::Fill => self.fill(choice),
            Verb::Delta => self.delta(choice),
            Verb::Masked => self.masked(choice),
            Verb::Diff => self.diff(choice),
            Verb::Scatter => self.scatter(choice),
            Verb::Copy => self.copy(choice),
            Verb::Allocate => self.allocate(choice),
            Verb::Derive => self.derive(choice),
            Verb::Deepen => self.deepen(choice),
            Verb::Widen => self.widen(choice),
            Verb::Connect => self.connect(choice),
            Verb::Disconnect => self.disconnect(choice),
            Verb::Free => self.free(choice),
            Verb::Transfer => self.transfer(choice),
            Verb::Annotate => self.annotate(choice),
            Verb::Commit => self.commit(choice),
            Verb::Abort => self.abort(),
            Verb::Check => self.checked(choice),
            Verb::Refused => self.refused(choice),
            Verb::Listen => self.listen(choice),
            Verb::Snapshot => self.snapshot(choice),
            Verb::Checkpoint => self.alone(Step::Checkpoint),
            Verb::Reopen => self.alone(Step::Reopen(Options::default())),
            Verb::Reconfigure => self.reconfigure(choice),
            Verb::Crash => self.crash(Crash::Forgetful),
            Verb::CrashProcess => self.crash_amid(Crash::Process, choice),
            Verb::CrashDrawn => {
                self.crash_amid(Crash::Drawn(num(u64::from(choice.c % 10_000))), choice)
            }
            Verb::BeginStorm => self.begin_storm(choice),
            Verb::EndStorm => self.end_storm(),
            Verb::Mark => self.mark(),
            Verb::Replay => self.replay(choice),
            Verb::RestoreDevice => self.alone(Step::RestoreDevice),
            Verb::Evict => self.evict(choice),
            Verb::Prefetch => self.prefetch(choice),
            Verb::CheckDevice => self.check_device(choice),
            Verb::LoseDevice => self.lose_device(choice),
            Verb::ExhaustDevice => self.exhaust_device(choice),
            Verb::Propagate => self.alone(Step::Propagate),
            Verb::Maintain => self.alone(Step::Maintain),
            Verb::Concurrent => self.concurrent(choice),
        }
    }

    /// Commits. What changes the set of pages is always synced: the generator has to know which pages there
    /// are after a crash.
    fn commit(&mut self, choice: Choice) -> Option<()> {
        let durability = match choice.a % 3 {
            _ if self.structural => Durability::Sync,
            0 => Durability::Sync,
            1 => Durability::Buffered,
            _ => Durability::Memory,
        };
        self.commit_as(durability)
    }

    fn commit_as(&mut self, durability: Durability) -> Option<()> {
        self.push(Step::Commit(
            (durability != Durability::Sync || self.profile.says_sync).then_some(durability),
        ));
        // In order, so that new pages come one after the other.
        self.touched.sort_unstable();
        self.touched.dedup();
        for at in self.touched.drain(..) {
            let Some(page) = self.pages.get_mut(at) else {
                continue;
            };
            (page.fresh, page.given_up) = (false, false);
            (page.written, page.disconnected) = (false, false);
            match self.committed.get_mut(at) {
                Some(committed) => committed.clone_from(page),
                None => self.committed.push(page.clone()),
            }
        }
        (self.staged, self.structural) = (false, false);
        Some(())
    }

    /// Commits if anything is staged.
    fn settle(&mut self) {
        if self.staged {
            self.commit_as(Durability::Sync);
        }
    }

    fn abort(&mut self) -> Option<()> {
        if !self.staged {
            return None;
        }
        self.push(Step::Abort);
        // Names are not used twice, so that no page of a dropped transaction is mistaken for a later one.
        let dropped = self
            .pages
            .split_off(self.committed.len().min(self.pages.len()));
        self.pages.clone_from(&self.committed);
        self.pages.extend(dropped.into_iter().map(|page| Page {
            live: false,
            unborn: true,
            ..page
        }));
        self.committed.clone_from(&self.pages);
        self.touched.clear();
        (self.staged, self.structural) = (false, false);
        Some(())
    }

    /// A step that no transaction is open during.
    fn alone(&mut self, step: Step) -> Option<()> {
        self.settle();
        if matches!(step, Step::Reopen(_)) {
            self.subscribed = false;
        }
        self.push(step);
        Some(())
    }

    fn mark(&mut self) -> Option<()> {
        // Synced, so that no crash takes the mark along.
        self.commit_as(Durability::Sync);
        self.push(Step::Mark(Name::new(format!("m{}", self.marks))));
        self.marks += 1;
        Some(())
    }

    fn replay(&mut self, choice: Choice) -> Option<()> {
        if !self.profile.replays {
            return None;
        }
        self.settle();
        let to = match choice.a.checked_rem(self.marks) {
            Some(mark) if !choice.b.is_multiple_of(3) => {
                ReplayTo::Mark(Name::new(format!("m{mark}")))
            }
            _ => ReplayTo::End,
        };
        let appliers =
            (self.profile.parallel && choice.c % 2 == 1).then(|| num(1 + wrap(choice.c, 4)));
        self.push(Step::Replay(Replay {
            to,
            appliers,
            same_as: None,
        }));
        Some(())
    }

    fn checked(&mut self, choice: Choice) -> Option<()> {
        self.settle();
        let at = self.pick(choice.a, |page| !page.given_up)?;
        let name = self.name(at)?;
        if Self::may_be_stale(&self.pages, at) {
            if self.unsure || self.storm.is_some() {
                return None;
            }
            let live = self.pages.iter().filter(|page| page.live).count() as u64;
            self.push(Step::Expect(Expect::Pages(num(live))));
        } else {
            self.push(Step::Expect(Expect::Same(Names(vec![name.clone(), name]))));
        }
        Some(())
    }

    /// A step that the engine must refuse.
    fn refused(&mut self, choice: Choice) -> Option<()> {
        let byte = Data::Hex(Hex::new(vec![choice.c.to_le_bytes()[0]]));
        let write = |page: Name, at: u64| {
            Step::Write(Write {
                page,
                at: num(at),
                data: byte.clone(),
            })
        };
        let (error, step) = match choice.a % 3 {
            0 => {
                let (_, page, len) = self.base(choice.b)?;
                (ErrorKind::PageOutOfRange, write(page, len))
            }
            1 => {
                let at = self.pick(choice.b, |page| {
                    page.derived && !page.fresh && !page.given_up && !page.disconnected
                })?;
                if self.committed.get(at).is_none_or(|page| !page.derived) {
                    return None;
                }
                (ErrorKind::PageDerived, write(self.name(at)?, 0))
            }
            _ => {
                // Gone for good, and not only in the open transaction or in one that was aborted.
                let gone = self
                    .committed
                    .iter()
                    .find(|page| !page.live && !page.unborn && !page.limbo)?;
                (ErrorKind::PageStale, write(gone.name.clone(), 0))
            }
        };
        self.push(Step::Fails(Fails {
            error,
            steps: vec![Located::new(step)],
        }));
        Some(())
    }

    /// A consistent cut of a few pages, each compared with the model.
    fn snapshot(&mut self, choice: Choice) -> Option<()> {
        self.settle();
        let mut pages: Vec<Name> = Vec::new();
        for number in [choice.a, choice.b, choice.c] {
            let at = self.pick(number, |page| !page.given_up)?;
            let name = self.name(at)?;
            if !Self::may_be_stale(&self.pages, at) && !pages.contains(&name) {
                pages.push(name);
            }
        }
        if pages.is_empty() {
            return None;
        }
        let name = Name::new(format!("cut{}", self.snapshots));
        self.snapshots += 1;
        self.push(Step::Snapshot(Snapshot {
            name,
            pages: Names(pages),
        }));
        Some(())
    }

    fn listen(&mut self, choice: Choice) -> Option<()> {
        if !self.subscribed {
            self.subscriptions += 1;
        }
        let name = Name::new(format!("events{}", self.subscriptions));
        if self.subscribed {
            self.push(Step::Drain(Drain {
                name,
                events: None,
                lost: None,
            }));
        } else {
            self.subscribed = true;
            self.push(Step::Subscribe(Subscribe {
                name,
                capacity: num(1 + wrap(choice.a, 8)),
            }));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_choices_make_a_scenario_that_reads_back() {
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for _ in 0..50 {
            let choices: Vec<Choice> = (0..60)
                .map(|_| Choice {
                    verb: draw() as u16,
                    a: draw(),
                    b: draw(),
                    c: draw(),
                })
                .collect();
            let made = scenario(&choices, Profile::default());
            let text = crate::scenario::print(&made);
            let read = crate::scenario::parse_str("made", &text).unwrap_or_else(|errors| {
                panic!(
                    "{}\n{text}",
                    errors.iter().map(|e| e.to_string()).collect::<String>()
                )
            });
            assert_eq!(read, made);
        }
    }

    /// Numbers that look random, the same every time.
    fn numbers(mut state: u64) -> impl FnMut() -> u32 {
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        }
    }

    #[test]
    fn what_a_storm_connects_and_disconnects_may_be_connected_after_it() {
        let choice = |a, b, c| Choice { verb: 0, a, b, c };
        let mut generator = Generator::new(Profile::default());
        for _ in 0..2 {
            assert!(generator.apply(Verb::Allocate, choice(0, 0, 0)));
        }
        assert!(generator.apply(Verb::Commit, choice(0, 0, 0)));
        assert!(generator.apply(Verb::BeginStorm, choice(0, 0, 0)));
        // The third page becomes a copy of the second.
        assert!(generator.apply(Verb::Connect, choice(1, 2 * 7, 0)));
        assert!(generator.apply(Verb::Commit, choice(0, 0, 0)));
        assert!(generator.apply(Verb::Disconnect, choice(0, 0, 0)));
        assert!(generator.apply(Verb::EndStorm, choice(0, 0, 0)));
        for number in 0..8 {
            generator.apply(Verb::Free, choice(number, 0, 0));
        }
        let text = crate::scenario::print(&generator.finish(Options::default()));
        assert!(
            text.contains("connect:") && text.contains("disconnect: p2"),
            "{text}"
        );
        assert!(!text.contains("free: p1"), "{text}");
    }

    #[test]
    fn every_verb_makes_scenarios_that_read_back_and_pass() {
        let mut applied = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let mut draw = numbers(seed);
            // A page has to be long for a device to have no room for it alone.
            let lens: &[u64] = if seed % 2 == 0 {
                &[8, 200 << 10]
            } else {
                &LENS
            };
            let mut generator = Generator::new(Profile {
                lens,
                ..Profile::default()
            });
            for _ in 0..80 {
                let verb = Verb::ALL[draw() as usize % Verb::ALL.len()];
                let choice = Choice {
                    verb: 0,
                    a: draw(),
                    b: draw(),
                    c: draw(),
                };
                if generator.apply(verb, choice) {
                    applied.insert(verb);
                }
            }
            let made = generator.finish(Options::default());
            let text = crate::scenario::print(&made);
            let read = crate::scenario::parse_str("made", &text).unwrap_or_else(|errors| {
                panic!(
                    "{}\n{text}",
                    errors.iter().map(|e| e.to_string()).collect::<String>()
                )
            });
            assert_eq!(read, made);
            let outcome = crate::world::run(&made, &Default::default(), &Default::default());
            assert_eq!(outcome.failure(), None, "seed {seed}\n{text}");
        }
        for verb in Verb::ALL {
            assert!(applied.contains(verb), "{verb:?} never applied");
        }
    }
}
