//! Steps about a device: hints, checks of what it has, and its faults, which are over when the steps are.

use super::{Choice, Generator, Page, num, random, wrap};
use crate::scenario::ErrorKind;
use crate::scenario::ast::{Allocate, Durability, Fails, Location, NewPage, Options, Step, Write};
use crate::scenario::expect::{DeviceState, Expect};
use crate::scenario::fault::{DeviceAct, FaultKind, Inject, Target};
use crate::scenario::value::{Located, Map, Name, Names};

/// Granules of the devices that scenarios run on. Device memory comes in them.
const GRANULE_BYTES: u64 = 64 << 10;

/// The most granules that a page of so many bytes can lie in, wherever it begins.
const fn granules(len_bytes: u64) -> u64 {
    len_bytes / GRANULE_BYTES + 2
}

impl Generator {
    /// Where a new page of `len` bytes lies, where there is a device: one time out of two on it or unified, as far as the device has room
    /// for it for certain.
    pub(super) fn location(&self, choice: Choice, len: u64) -> Option<Location> {
        let number = choice.a ^ choice.b ^ choice.c;
        if !self.profile.devices || number.is_multiple_of(2) {
            return None;
        }
        let wanted = match (number >> 1) % 3 {
            2 => Location::Unified,
            _ => Location::Device,
        };
        // A page that has no room there is as good on the host.
        let fits = wanted == Location::Unified || self.has_room(len);
        Some(if fits { wanted } else { Location::Unified })
    }

    /// Whether a page that is never evicted, of `len` bytes, has room for certain beside the others, and beside any page that is
    /// read.
    pub(super) fn has_room(&self, len: u64) -> bool {
        let Some(limit_bytes) = self.profile.resident_bytes else {
            return true;
        };
        let both = |at: usize| [self.pages.get(at), self.committed.get(at)];
        let stays = |page: &Page| {
            (page.derived || page.fresh || page.limbo) && page.location == Some(Location::Device)
        };
        let count = self.pages.len().max(self.committed.len());
        let fixed: u64 = (0..count)
            .filter_map(|at| both(at).into_iter().flatten().find(|page| stays(page)))
            .map(|page| granules(page.len))
            .sum();
        let longest = self.pages.iter().map(|page| page.len).max();
        let asked = granules(len.max(longest.unwrap_or_default()));
        fixed + granules(len) + asked <= limit_bytes / GRANULE_BYTES
    }

    /// Up to three pages that have to do with the device.
    fn some(&mut self, choice: Choice, condition: impl Fn(&Self, usize) -> bool) -> Option<Names> {
        if !self.profile.devices {
            return None;
        }
        self.settle();
        let mut pages: Vec<Name> = Vec::new();
        for number in [choice.a, choice.b, choice.c] {
            let at = self.pick(number, |page| !page.given_up && page.location.is_some());
            let Some(at) = at.filter(|at| condition(self, *at)) else {
                continue;
            };
            let name = self.name(at)?;
            if !pages.contains(&name) {
                pages.push(name);
            }
        }
        (!pages.is_empty()).then_some(Names(pages))
    }

    pub(super) fn evict(&mut self, choice: Choice) -> Option<()> {
        let pages = self.some(choice, |_, _| true)?;
        self.push(Step::Evict(pages));
        Some(())
    }

    pub(super) fn prefetch(&mut self, choice: Choice) -> Option<()> {
        let pages = self.some(choice, |_, _| true)?;
        self.push(Step::Prefetch(pages));
        Some(())
    }

    /// What the device has is what there is.
    pub(super) fn check_device(&mut self, choice: Choice) -> Option<()> {
        let pages = self.some(choice, |generator, at| {
            !Self::may_be_stale(&generator.pages, at)
        })?;
        self.push(Step::Expect(Expect::OnDevice(pages)));
        Some(())
    }

    /// The device fails at the next upload, of which there is one, and is restored.
    pub(super) fn lose_device(&mut self, choice: Choice) -> Option<()> {
        if !self.profile.devices || self.unsure {
            return None;
        }
        self.settle();
        let at = self.pick(choice.a, |page| {
            !page.derived && !page.given_up && page.location.is_some()
        })?;
        let (page, len) = self
            .pages
            .get(at)
            .map(|page| (page.name.clone(), page.len))?;
        // Not damaged copies: what else such a copy does depends on what was damaged.
        let (kind, error) = match choice.b % 2 {
            0 => (FaultKind::Failed, ErrorKind::DeviceFailed),
            _ => (FaultKind::Lost, ErrorKind::DeviceLost),
        };
        self.push(strike(DeviceAct::Upload, kind));
        let start = wrap(choice.b, len);
        let write = |seed: u32| {
            Step::Write(Write {
                page: page.clone(),
                at: num(start),
                data: random(seed, (len - start).min(50)),
            })
        };
        self.push(write(choice.c));
        self.push(Step::Commit(Some(Durability::Sync)));
        let look = Step::Expect(Expect::OnDevice(Names(vec![page.clone()])));
        self.push(fails(error, vec![look]));
        self.push(Step::Expect(Expect::Device(DeviceState::Failed(error))));
        // Pages that are not on it go on; a bus may be opened anew instead of restoring its device.
        if self
            .pages
            .get(at)
            .is_some_and(|page| page.location == Some(Location::Unified))
        {
            self.push(write(choice.c ^ 1));
            self.push(Step::Commit(Some(Durability::Sync)));
        }
        self.push(Step::Heal);
        if choice.a % 4 == 3 {
            self.subscribed = false;
            self.push(Step::Reopen(Options::default()));
        } else {
            self.push(Step::RestoreDevice);
        }
        Some(())
    }

    /// The device has no memory for what is asked for, even after all went that can go.
    pub(super) fn exhaust_device(&mut self, choice: Choice) -> Option<()> {
        if !self.profile.devices || self.unsure {
            return None;
        }
        self.settle();
        if let (Some(limit_bytes), 0) = (self.profile.resident_bytes, choice.b % 3) {
            let page = NewPage {
                location: Some(Location::Device),
                page: Name::new(format!("huge{}", self.steps.len())),
                size: Some(num(limit_bytes + GRANULE_BYTES)),
                fill: None,
                meta: Map::default(),
                derive: None,
            };
            let allocate = Step::Allocate(Allocate { pages: vec![page] });
            let commit = Step::Commit(Some(Durability::Sync));
            self.push(fails(ErrorKind::DeviceOutOfMemory, vec![allocate, commit]));
            return Some(());
        }
        // One that has granules of its own, and none of them after it was evicted.
        let at = self.pick(choice.a, |page| {
            let stays = page.derived && page.location == Some(Location::Device);
            !page.given_up && page.location.is_some() && !stays && page.len >= 2 * GRANULE_BYTES
        })?;
        let page = Names(vec![self.name(at)?]);
        let all = self
            .pages
            .iter()
            .filter(|page| page.live && page.location.is_some());
        let all = Names(all.map(|page| page.name.clone()).collect());
        self.push(Step::Evict(all));
        self.push(strike(DeviceAct::Map, FaultKind::OutOfMemory));
        let prefetch = Step::Prefetch(page.clone());
        self.push(fails(ErrorKind::DeviceOutOfMemory, vec![prefetch]));
        self.push(Step::Heal);
        self.push(Step::Prefetch(page));
        Some(())
    }
}

fn strike(act: DeviceAct, kind: FaultKind) -> Step {
    Step::Fault(Inject {
        on: Target::Device(act),
        nth: None,
        kind,
        at: None,
        seed: None,
    })
}

fn fails(error: ErrorKind, steps: Vec<Step>) -> Step {
    Step::Fails(Fails {
        error,
        steps: steps.into_iter().map(Located::new).collect(),
    })
}
