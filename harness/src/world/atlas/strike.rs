//! Lets a fault strike at each operation of a run in turn.

use super::judge::{Judgement, judge};
use super::table::{Entry, Promise};
use crate::scenario::ErrorKind;
use crate::scenario::ast::Scenario;
use crate::scenario::crash::Crash;
use crate::scenario::fault::{Act, FaultKind, Holds};
use crate::scenario::parse_str;
use crate::world::failure::Outcome;
use crate::world::open::Disk;
use crate::world::run::{Context, World};
use crate::world::storage::Fault;
use crate::world::sweep::go_on;

/// A run that touches every kind of file in every way: commits of each durability, several segments, spares that
/// are prepared and used, checkpoints that build on each other, segments that go.
const RUN: &str = "\
version: 1
about: What faults strike.
options: {segment: 8KiB, retain: checkpoints}
pages: {a: 64, big: 3000, d: {derive: {copy: [a]}}}
steps:
  - write: {page: a, text: one}
  - commit: sync
  - checkpoint
  - repeat:
      times: 3
      as: i
      steps:
        - write: {page: big, random: i}
        - commit: sync
        - maintain
        - write: {page: big, random: \"i + 100\"}
        - commit: memory
        - write: {page: a, at: 32, random: {seed: i, len: 32}}
        - commit: buffered
        - checkpoint
  - reopen: {segment: 16KiB}
  - repeat:
      times: 4
      as: i
      steps:
        - write: {page: big, random: \"i + 200\"}
        - commit: buffered
        - write: {page: big, random: \"i + 300\"}
        - commit: sync
        - checkpoint
  - checkpoint
  - write: {page: a, text: two}
  - commit: sync
  - expect: {page: d, text: two}
";
/// No operation of the run happens as often as this.
const MAX_NTH: u64 = 400;
/// Numbers that what a fault leaves open is drawn from.
const SEEDS: u64 = 3;

/// What came of a fault at all operations that it can strike.
#[derive(Clone, Debug, Default)]
pub struct Strikes {
    /// How often everything was there.
    pub recovered: u64,
    /// How often it was refused.
    pub detected: u64,
    /// How often the last thing before the end was lost, and nothing on the disk could bear witness: it looks as if it
    /// had never been asked, or as a crash leaves it. At most once a run; only what comes after a write can bear witness to it.
    pub unknowable: u64,
    /// What must never happen, each with where it did.
    pub unsound: Vec<String>,
}

/// What the machine does after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process ends, and the next one finds the same cache.
    Process,
    /// The power fails.
    Power,
}

/// Lets the fault of an entry strike at each operation in turn, on runs that end in each way.
///
/// ```
/// use mmsb_harness::world::atlas::{ATLAS, strike};
/// let entry = ATLAS.iter().find(|entry| entry.on.to_string() == "log.rename");
/// let strikes = entry.map(strike).unwrap_or_default();
/// assert_eq!(strikes.unsound, Vec::<String>::new());
/// ```
#[must_use]
pub fn strike(entry: &Entry) -> Strikes {
    let mut strikes = Strikes::default();
    let scenario = match parse_str("the run of the atlas", RUN) {
        Ok(scenario) => scenario,
        Err(errors) => {
            strikes
                .unsound
                .extend(errors.iter().map(ToString::to_string));
            return strikes;
        }
    };
    for end in [End::Process, End::Power] {
        for seed in 0..SEEDS {
            let fault = |nth| Fault {
                on: entry.on,
                nth,
                kind: entry.kind,
                at: None,
                seed,
            };
            strikes.series(entry, &scenario, end, fault);
            if !draws(entry.kind) {
                break;
            }
        }
    }
    strikes
}

/// One fault, and what came of it.
struct Struck {
    fault: Fault,
    judgement: Judgement,
    /// Whether it struck only when the disk was opened at the end.
    in_open: bool,
}

impl Strikes {
    /// Has the fault strike at the first operation, the second, and so on to the last.
    fn series(
        &mut self,
        entry: &Entry,
        scenario: &Scenario,
        end: End,
        fault: impl Fn(u64) -> Fault,
    ) {
        let mut all: Vec<Struck> = Vec::new();
        for fault in (1..=MAX_NTH).map(fault) {
            match one(scenario, fault, end) {
                Ok(None) => break,
                Ok(Some(struck)) => all.push(struck),
                Err(error) => {
                    let message = format!("{}: {}", name(&fault, end), error.message);
                    self.unsound.push(message);
                }
            }
        }
        let last = all.iter().rposition(|struck| !struck.in_open);
        for (index, struck) in all.into_iter().enumerate() {
            let is_silent = matches!(struck.judgement, Judgement::Silent(_) | Judgement::Cut(_));
            if is_silent && last == Some(index) && is_unwitnessed(&struck.fault) {
                self.unknowable += 1;
            } else {
                self.count(entry, &struck.fault, end, struck.judgement);
            }
        }
    }

    fn count(&mut self, entry: &Entry, fault: &Fault, end: End, judgement: Judgement) {
        match judgement {
            Judgement::Recovered => self.recovered += 1,
            Judgement::Detected(_) if entry.promise == Promise::Noticed => self.detected += 1,
            other => self.unsound.push(format!("{}: {other}", name(fault, end))),
        }
    }
}

fn name(fault: &Fault, end: End) -> String {
    let end = match end {
        End::Process => "then the process dies",
        End::Power => "then the power fails",
    };
    format!(
        "{} {} (nth {}, seed {}), {end}",
        fault.on,
        fault.kind.as_str(),
        fault.nth,
        fault.seed
    )
}

/// Whether nothing can bear witness to a fault if nothing comes after it.
fn is_unwitnessed(fault: &Fault) -> bool {
    let of_the_log = matches!(fault.on.holds, Holds::Log | Holds::Names);
    of_the_log
        && matches!(
            fault.kind,
            FaultKind::Lost | FaultKind::Misdirected | FaultKind::Rot
        )
}

/// Whether a kind leaves something open.
const fn draws(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Torn | FaultKind::Misdirected | FaultKind::Rot | FaultKind::Short
    )
}

/// One run with one fault. `None`: it did not strike, as there are no more such operations.
fn one(scenario: &Scenario, fault: Fault, end: End) -> Outcome<Option<Struck>> {
    let context = Context::default();
    let mut world = World::new(scenario, &context)?;
    world.remembers_everything();
    let at_open = matches!(fault.on.act, Act::Read | Act::Open | Act::List);
    world.create()?;
    if !at_open {
        arm(&world, fault);
    }
    let went_wrong = world.begin_and_run(scenario);
    if let Err(error) = went_wrong {
        let told = matches!(
            error.error,
            Some(
                ErrorKind::BusPoisoned
                    | ErrorKind::StorageFull
                    | ErrorKind::StorageFailed
                    | ErrorKind::LogDamaged
                    | ErrorKind::LogMissing
                    | ErrorKind::CheckpointDamaged
            )
        );
        if !told {
            return Err(error);
        }
    }
    let safe_lsn = world.safe_lsn;
    let crash = match end {
        End::Process => Crash::Process,
        End::Power => Crash::Forgetful,
    };
    if world.bus.is_some() {
        world.crash(&crash)?;
    } else if let Disk::Simulated(storage) = &world.disk {
        // A reopen was refused: there is no bus that could die.
        world.disk = Disk::Simulated(match end {
            End::Process => storage.restart(),
            End::Power => storage.crash(),
        });
    }
    // What the engine itself holds for durable was acknowledged, unless the disk lied to it.
    let safe_lsn = safe_lsn.max(world.safe_lsn);
    if at_open {
        arm(&world, fault);
    }
    let in_open = is_waiting(&world);
    let mut judgement = judge(&mut world, safe_lsn);
    if is_waiting(&world) {
        return Ok(None);
    }
    if !fault.kind.is_silent() && matches!(judgement, Judgement::Detected(_)) {
        judgement = once_healed(&mut world, safe_lsn, &fault, judgement)?;
    }
    if judgement == Judgement::Recovered && !fault.kind.is_silent() {
        judgement = go_on_from(&mut world, safe_lsn);
    }
    Ok(Some(Struck {
        fault,
        judgement,
        in_open,
    }))
}

/// Works on what was recovered, and loses the power once more: whatever a failed sync has left in the cache alone, and
/// was built on, is missed now.
fn go_on_from(world: &mut World<'_>, safe_lsn: u64) -> Judgement {
    let issued_lsn = world.model.lsn();
    let worked = world.heal().and_then(|()| {
        world.expect_recovery(safe_lsn, issued_lsn);
        world.open(&Default::default())?;
        go_on(world)
    });
    match worked {
        Ok(()) => Judgement::Recovered,
        Err(fault) => Judgement::Silent(fault.message),
    }
}

/// The open itself met the error, and was refused. Once the disk is well again, nothing must be missing.
fn once_healed(
    world: &mut World<'_>,
    safe_lsn: u64,
    fault: &Fault,
    refused: Judgement,
) -> Outcome<Judgement> {
    world.heal()?;
    if let Disk::Simulated(storage) = &world.disk {
        world.disk = Disk::Simulated(storage.restart());
    }
    Ok(match judge(world, safe_lsn) {
        Judgement::Recovered if fault.kind == FaultKind::Unreadable => refused,
        Judgement::Recovered => Judgement::Recovered,
        healed => Judgement::Silent(format!("{refused}; and once the disk was well: {healed}")),
    })
}

fn is_waiting(world: &World<'_>) -> bool {
    matches!(&world.disk, Disk::Simulated(storage) if storage.waiting().is_some())
}

fn arm(world: &World<'_>, fault: Fault) {
    if let Disk::Simulated(storage) = &world.disk {
        storage.arm(fault);
    }
}
