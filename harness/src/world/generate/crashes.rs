//! Steps that end the bus, and storms.

use super::{Choice, Generator, Page, num, wrap};
use crate::scenario::ast::{
    Compress, Durability, Options, Propagation, Step, Steps, Storm, StormEnd,
};
use crate::scenario::crash::Crash;
use crate::scenario::fault::{Act, FaultKind, Holds, Inject, Site, Target};
use crate::world::atlas::{ATLAS, Promise};

/// A storm that has begun, and what there was before it.
#[derive(Clone, Debug)]
pub(super) struct OpenStorm {
    faults: Vec<Inject>,
    then: StormEnd,
    outer: Steps,
    before: Vec<Page>,
}

/// Faults a storm at most.
const MAX_FAULTS: u64 = 3;
/// Of most sites an operation with a higher number hardly ever comes within a storm.
const MAX_NTH: u64 = 24;

impl Generator {
    pub(super) fn crash(&mut self, crash: Crash) -> Option<()> {
        if !self.profile.crashes {
            return None;
        }
        self.settle();
        self.subscribed = false;
        self.push(Step::Crash(crash));
        self.push(Step::Open(Options::default()));
        Some(())
    }

    /// A crash for which not all is synced before, as it is for [`Self::crash`], whose steps old inputs rely on.
    pub(super) fn crash_amid(&mut self, crash: Crash, choice: Choice) -> Option<()> {
        if !self.profile.crashes {
            return None;
        }
        self.leave(choice.b);
        self.crash(crash)
    }

    /// Commits what is staged in some durability, if it can be lost: the generator has to know which pages there are.
    fn leave(&mut self, number: u32) {
        if self.staged && !self.structural {
            match number % 4 {
                0 => self.commit_as(Durability::Memory),
                1 | 2 => self.commit_as(Durability::Buffered),
                _ => self.commit_as(Durability::Sync),
            };
        }
    }

    /// Opens the bus with other options.
    pub(super) fn reconfigure(&mut self, choice: Choice) -> Option<()> {
        let mut options = Options::default();
        match choice.a % 5 {
            0 => options.segment = Some(num(8192 << wrap(choice.b, 3))),
            1 if self.profile.parallel => options.appliers = Some(num(1 + wrap(choice.b, 4))),
            2 if self.profile.parallel => options.threads = Some(num(1 + wrap(choice.b, 3))),
            3 => {
                options.propagation = Some(if choice.b.is_multiple_of(2) {
                    Propagation::Eager
                } else {
                    Propagation::Deferred
                });
            }
            _ => {
                options.compress = Some(if choice.b.is_multiple_of(2) {
                    Compress::Zstd
                } else {
                    Compress::None
                });
            }
        }
        self.alone(Step::Reopen(options))
    }

    /// From here on the storage may fail, in a way that loses nothing that was acknowledged.
    pub(super) fn begin_storm(&mut self, choice: Choice) -> Option<()> {
        if !self.profile.crashes {
            return None;
        }
        self.leave(choice.b >> 8);
        self.settle();
        self.subscribed = false;
        let candidates: Vec<Site> = sites().collect();
        let count = 1 + wrap(choice.b, MAX_FAULTS);
        let mut state = choice.c;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            wrap(state >> 8, below)
        };
        let mut faults = Vec::new();
        for _ in 0..count {
            let on = *candidates.get(usize::try_from(draw(candidates.len() as u64)).ok()?)?;
            let kinds: Vec<FaultKind> = loud(on).collect();
            let kind = *kinds.get(usize::try_from(draw(kinds.len() as u64)).ok()?)?;
            // Mostly one of the first, which surely comes.
            let highest = 1 + draw(MAX_NTH);
            let nth = 1 + draw(highest);
            let seed = draw(1000);
            faults.push(Inject {
                on: Target::Storage(on),
                nth: (nth > 1).then(|| num(nth)),
                kind,
                at: None,
                seed: (seed > 0 && matches!(kind, FaultKind::Torn | FaultKind::Short))
                    .then(|| num(seed)),
            });
        }
        self.storm = Some(OpenStorm {
            faults,
            then: if choice.a.is_multiple_of(2) {
                StormEnd::Power
            } else {
                StormEnd::Process
            },
            outer: std::mem::take(&mut self.steps),
            before: self.pages.clone(),
        });
        Some(())
    }

    /// The storage is sound again. What the storm did to pages may have come to pass or not.
    pub(super) fn end_storm(&mut self) -> Option<()> {
        let OpenStorm {
            faults,
            then,
            outer,
            before,
        } = {
            self.storm.as_ref()?;
            self.settle();
            self.storm.take()?
        };
        let steps = std::mem::replace(&mut self.steps, outer);
        if steps.is_empty() {
            return None;
        }
        self.push(Step::Storm(Storm {
            faults,
            then,
            steps,
        }));
        for (at, page) in self.pages.iter_mut().enumerate() {
            let old = before.get(at);
            let is_settled = old.is_some_and(|old| is_same(old, page));
            page.unsettled = false;
            let had_parents = std::mem::take(&mut page.had_parents);
            if is_settled || page.unborn || page.limbo {
                continue;
            }
            page.limbo = true;
            page.derived |= old.is_some_and(|old| old.derived) || !had_parents.is_empty();
            page.parents.extend(had_parents);
            page.parents
                .extend(old.iter().flat_map(|old| old.parents.iter().copied()));
            self.unsure = true;
        }
        self.committed = self.pages.clone();
        Some(())
    }
}

/// Whether a storm left a page what it was.
fn is_same(before: &Page, after: &Page) -> bool {
    !after.unsettled
        && before.live == after.live
        && before.derived == after.derived
        && before.parents == after.parents
        && before.fails == after.fails
}

/// The operations that storms strike: those that a bus asks for often stand there several times.
fn sites() -> impl Iterator<Item = Site> {
    let often = [
        (Holds::Log, Act::Write),
        (Holds::Log, Act::Sync),
        (Holds::Manifest, Act::Write),
        (Holds::Names, Act::Sync),
    ];
    let often = often.map(|(holds, act)| Site { holds, act });
    let mut all: Vec<Site> = ATLAS.iter().map(|entry| entry.on).collect();
    all.dedup();
    all.retain(|on| loud(*on).next().is_some());
    all.into_iter().chain(often).chain(often)
}

/// The faults of an operation that are told, and after which everything acknowledged must be there.
fn loud(on: Site) -> impl Iterator<Item = FaultKind> {
    ATLAS
        .iter()
        .filter(move |entry| entry.on == on && entry.promise == Promise::Recovered)
        .map(|entry| entry.kind)
        .filter(|kind| !kind.is_silent())
}
