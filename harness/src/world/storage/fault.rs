//! Faults that wait for their operation.

use std::io;

use super::operation::{Operation, holds};
use crate::scenario::fault::{Act, FaultKind, Holds, Site};

/// A fault with all its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) on: Site,
    /// Which operation from now on, from 1.
    pub(crate) nth: u64,
    pub(crate) kind: FaultKind,
    pub(crate) at: Option<u64>,
    pub(crate) seed: u64,
}

/// A fault that an operation met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) kind: FaultKind,
    at: Option<u64>,
    numbers: u64,
}

impl Met {
    /// The number that was given, or one below `bound` that follows from the seed.
    pub(super) fn number(&self, bound: u64) -> u64 {
        match self.at {
            Some(at) => at,
            None => mix(self.numbers) % bound.max(1),
        }
    }

    /// The number that was given.
    pub(super) fn at(&self) -> Option<u64> {
        self.at
    }

    /// A number below `bound` that follows from the seed, whatever was given.
    pub(super) fn drawn(&self, bound: u64) -> u64 {
        mix(self.numbers ^ 0x5bd1_e995) % bound.max(1)
    }

    /// What the caller is told.
    pub(super) fn error(&self) -> io::Error {
        match self.kind {
            FaultKind::Full => io::Error::new(
                io::ErrorKind::StorageFull,
                "simulated: no space is left on the disk",
            ),
            FaultKind::Interrupted => io::ErrorKind::Interrupted.into(),
            kind => io::Error::other(format!("simulated: the disk fails ({})", kind.as_str())),
        }
    }
}

#[derive(Clone, Debug)]
struct Armed {
    fault: Fault,
    /// Operations until it strikes; zero for one that has struck and goes on striking.
    left: u64,
}

/// All faults of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    /// Whether one has struck of which nobody was told, and that was not lifted.
    pub(super) lied: bool,
    /// Whether there ever was one.
    pub(super) ever_lied: bool,
    /// How many have struck so far.
    pub(super) strikes: u64,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(Armed {
            fault,
            left: fault.nth.max(1),
        });
    }

    pub(super) fn heal(&mut self) {
        self.armed.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// Those that have not struck.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Fault> {
        self.armed
            .iter()
            .filter(|armed| armed.left > 0)
            .map(|armed| &armed.fault)
    }

    /// What an operation on the file `name` meets. Counts it for every fault that waits for its like.
    /// `grows` says whether it needs room that the disk has not given yet.
    pub(super) fn meet(&mut self, operation: Operation, name: &str, grows: bool) -> Option<Met> {
        let act = operation.act()?;
        let what = match operation {
            Operation::List | Operation::SyncNames => Holds::Names,
            _ => holds(name),
        };
        let mut met = None;
        self.armed.retain_mut(|armed| {
            let site = armed.fault.on;
            let concerns = site.act == act
                && (site.holds == what || (site.holds == Holds::Any && what != Holds::Names));
            // A full disk takes no file of any kind, once it is full; but what a file has it keeps.
            let full = armed.left == 0 && matches!(act, Act::Write | Act::Create);
            let spared = armed.fault.kind == FaultKind::Full && !grows;
            if !(concerns || full) || spared || met.is_some() {
                return true;
            }
            armed.left = armed.left.saturating_sub(1);
            if armed.left > 0 {
                return true;
            }
            let fault = armed.fault;
            met = Some(Met {
                kind: fault.kind,
                at: fault.at,
                numbers: mix(fault.seed.wrapping_add(fault.nth << 32)),
            });
            self.strikes += 1;
            self.lied |= fault.kind.is_silent() && act != Act::Read;
            self.ever_lied |= self.lied;
            fault.kind == FaultKind::Full
        });
        met
    }
}

/// SplitMix64's finaliser: a number that has nothing visible in common with the one before.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
