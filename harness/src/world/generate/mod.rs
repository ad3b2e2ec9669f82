//! Makes scenarios out of numbers: what property tests, the fuzzer and soak runs draw their steps from.
//!
//! A scenario follows from a list of [`Choice`]s, each of which becomes a step, or none where it does not apply. Whatever
//! the numbers are, the result is valid: the generator knows which pages there are and what the engine would refuse.
//! So removing choices and lowering their numbers, which is how property tests shrink, always gives a
//! scenario again, and a shorter one.

mod pages;
mod writes;

use crate::scenario::ErrorKind;
use crate::scenario::ast::{
    Drain, Durability, Fails, Location, Options, PageSpec, Propagation, Replay, ReplayTo, Scenario,
    Step, StorageKind, Subscribe, VERSION, Write,
};
use crate::scenario::crash::Crash;
use crate::scenario::data::{Data, Random};
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
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            storage: StorageKind::Sim,
            crashes: true,
            max_pages: 12,
            devices: true,
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
        generator.choose(*choice);
    }
    generator.finish(head)
}

#[derive(Clone, Debug, PartialEq)]
struct Page {
    name: Name,
    len: u64,
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
}

struct Generator {
    profile: Profile,
    pages: Vec<Page>,
    /// The pages as of the last commit.
    committed: Vec<Page>,
    steps: Vec<Located<Step>>,
    /// Whether anything is staged, and whether it changes which pages there are.
    staged: bool,
    structural: bool,
    marks: u32,
    subscribed: bool,
    subscriptions: u32,
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
    fn new(profile: Profile) -> Self {
        let first = Page {
            name: Name::new("p0"),
            len: FIRST_LEN,
            parents: Vec::new(),
            derived: false,
            fails: false,
            live: true,
            fresh: false,
            given_up: false,
            written: false,
            disconnected: false,
            unborn: false,
        };
        Self {
            profile,
            pages: vec![first.clone()],
            committed: vec![first],
            steps: Vec::new(),
            staged: false,
            structural: false,
            marks: 0,
            subscribed: false,
            subscriptions: 0,
        }
    }

    fn finish(mut self, head: Choice) -> Scenario {
        self.settle();
        self.push(Step::Replay(Replay::default()));
        let options = Options {
            storage: (self.profile.storage == StorageKind::Fs).then_some(StorageKind::Fs),
            propagation: (head.verb % 2 == 1).then_some(Propagation::Deferred),
            threads: (head.a % 3 == 1).then(|| num(2)),
            appliers: (!head.b.is_multiple_of(3)).then(|| num(wrap(head.b, 3) + 1)),
            segment: (head.c % 2 == 1).then(|| num(8192)),
            device_seed: self.profile.devices.then(|| num(wrap(head.b, 1000))),
            ..Options::default()
        };
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

    /// Where a new page lies: on the device one time out of two, where there is one.
    fn location(&self, choice: Choice) -> Option<Location> {
        (self.profile.devices && (choice.a ^ choice.b ^ choice.c) % 2 == 1)
            .then_some(Location::Device)
    }

    /// A page that fulfils a condition, and is there for the steps of the open transaction.
    fn pick(&self, number: u32, condition: impl Fn(&Page) -> bool) -> Option<usize> {
        let usable = |page: &Page| page.live && !(page.given_up && page.fresh) && condition(page);
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
            change(page);
        }
    }

    /// Adds the step of a choice; `None` says that it does not apply here.
    fn choose(&mut self, choice: Choice) -> Option<()> {
        match choice.verb % 40 {
            0..=5 => self.write(choice),
            6 => self.fill(choice),
            7..=8 => self.delta(choice),
            9 => self.masked(choice),
            10 => self.diff(choice),
            11 => self.scatter(choice),
            12 => self.copy(choice),
            13..=15 => self.allocate(choice),
            16..=18 => self.derive(choice),
            19 => self.connect(choice),
            20 => self.disconnect(choice),
            21 => self.free(choice),
            22 => self.transfer(choice),
            23 => self.annotate(choice),
            24..=29 => self.commit(choice),
            30 => self.abort(),
            31 => self.checked(choice),
            32 => self.refused(choice),
            33 => self.listen(choice),
            34 => self.alone(Step::Checkpoint),
            35 => self.alone(Step::Reopen(Options::default())),
            36 => self.crash(),
            37 => self.mark(),
            38 => self.replay(choice),
            39 if self.profile.devices && choice.b % 2 == 1 => self.alone(Step::RestoreDevice),
            _ => self.alone(if choice.a.is_multiple_of(2) {
                Step::Propagate
            } else {
                Step::Maintain
            }),
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
            (durability != Durability::Sync).then_some(durability),
        ));
        for page in &mut self.pages {
            (page.fresh, page.given_up) = (false, false);
            (page.written, page.disconnected) = (false, false);
        }
        self.committed = self.pages.clone();
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

    fn crash(&mut self) -> Option<()> {
        if !self.profile.crashes {
            return None;
        }
        self.settle();
        self.subscribed = false;
        self.push(Step::Crash(Crash::Forgetful));
        self.push(Step::Open(Options::default()));
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
        self.settle();
        let to = match choice.a.checked_rem(self.marks) {
            Some(mark) if !choice.b.is_multiple_of(3) => {
                ReplayTo::Mark(Name::new(format!("m{mark}")))
            }
            _ => ReplayTo::End,
        };
        let appliers = (choice.c % 2 == 1).then(|| num(1 + wrap(choice.c, 4)));
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
                    .find(|page| !page.live && !page.unborn)?;
                (ErrorKind::PageStale, write(gone.name.clone(), 0))
            }
        };
        self.push(Step::Fails(Fails {
            error,
            steps: vec![Located::new(step)],
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
}
