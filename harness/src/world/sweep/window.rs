//! One window: recovers from what a crash has left, compares, goes on working, and may crash again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Damage;
use super::ledger::Ledger;
use crate::scenario::ast::{Allocate, Durability, NewPage, Replay, Step, Steps, Write};
use crate::scenario::crash::{Crash, Tear, Window};
use crate::scenario::data::{Data, Fill, Random};
use crate::scenario::num::Num;
use crate::scenario::value::{Hex, Located, Name};
use crate::world::SimulatedStorage;
use crate::world::failure::{Fault, Outcome};
use crate::world::open::Disk;
use crate::world::run::World;
use crate::world::stage::PageKey;
use crate::world::storage::{Image, Journal};

/// The page that is made when work goes on.
const NEW_PAGE: &str = "swept-away";

/// What may be found after a crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) safe_lsn: u64,
    pub(super) issued_lsn: u64,
}

impl Bounds {
    pub(super) fn of(ledger: &Ledger<'_>) -> Self {
        Self {
            safe_lsn: ledger.safe_lsn,
            issued_lsn: ledger.issued_lsn,
        }
    }
}

/// What came of a recovery.
pub(super) struct Recovered {
    pub(super) lsn: u64,
    /// What the recovery did to the disk, if that was asked for.
    pub(super) journal: Option<Journal>,
}

/// Recovers from an image, and compares with what the run had come to.
pub(super) fn recover(
    run: &World<'_>,
    image: Image,
    bounds: Bounds,
    record: bool,
    goes_on: bool,
) -> Outcome<Recovered> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let storage = SimulatedStorage::of(image);
        if record {
            storage.record(bounds.safe_lsn, bounds.issued_lsn);
        }
        let mut world = run.beside(storage.clone());
        world.expect_recovery(bounds.safe_lsn, bounds.issued_lsn);
        world.open(&Default::default())?;
        let recovered = Recovered {
            lsn: world.model.lsn(),
            journal: storage.take_journal(),
        };
        if goes_on {
            go_on(&mut world)?;
        }
        if let Some(bus) = world.bus.take() {
            bus.abandon();
        }
        Ok(recovered)
    }));
    result.unwrap_or_else(|panic| {
        let what = crate::world::run::panic_text(&*panic);
        Err(Fault::new(format!("panicked: {what}")))
    })
}

/// More work, in the words of any scenario: writes, an allocation, a checkpoint, one more crash.
pub(crate) fn go_on(world: &mut World<'_>) -> Outcome {
    let mut steps = Vec::new();
    if let Some((page, len_bytes)) = some_page(world) {
        steps.push(Step::Write(Write {
            page,
            at: Num::ZERO,
            data: Data::Fill(Fill {
                byte: Num::from(0xa5),
                len: Some(Num::from(len_bytes.min(16))),
            }),
        }));
    }
    let page = || Name::new(NEW_PAGE);
    steps.push(Step::Allocate(Allocate {
        pages: vec![NewPage {
            page: page(),
            size: Some(Num::from(96)),
            fill: Some(Data::Random(Random {
                seed: Num::from(1),
                len: None,
            })),
            meta: Default::default(),
            derive: None,
            location: None,
        }],
    }));
    steps.push(Step::Commit(Some(Durability::Sync)));
    steps.push(Step::Checkpoint);
    steps.push(Step::Write(Write {
        page: page(),
        at: Num::from(8),
        data: Data::Hex(Hex::new(vec![0x5a; 4])),
    }));
    steps.push(Step::Commit(Some(Durability::Sync)));
    steps.push(Step::Crash(Crash::Forgetful));
    steps.push(Step::Open(Default::default()));
    steps.push(Step::Replay(Replay::default()));
    let steps: Steps = steps.into_iter().map(Located::new).collect();
    let safe_lsn = world.model.lsn() + 2;
    world.steps_of(&steps).map_err(|mut fault| {
        fault.message = format!(
            "when work went on after the recovery ({}): {}",
            fault.place.take().map(|(path, _)| path).unwrap_or_default(),
            fault.message
        );
        fault
    })?;
    if world.model.lsn() == safe_lsn {
        Ok(())
    } else {
        Err(Fault::new("what was committed after the recovery is gone"))
    }
}

/// A page that can be written to, by name, and its length.
fn some_page(world: &World<'_>) -> Option<(Name, u64)> {
    world.stage.names.iter().find_map(|(name, key)| {
        let PageKey::Existing(id) = key else {
            return None;
        };
        let page = world.model.page(*id)?;
        page.derivation
            .is_none()
            .then(|| (Name::new(name.as_str()), page.bytes.len() as u64))
    })
}

/// The step that makes just this crash.
pub(super) fn as_step(at: usize, damage: &Damage, again: Option<Window>) -> Window {
    let num = |number: usize| Num::from(number as u64);
    Window {
        at: Some(num(at)),
        keep: damage.keep.iter().map(|change| num(*change)).collect(),
        tear: damage.tear.map(|tear| Tear {
            change: num(tear.change),
            from: num(tear.from),
            to: num(tear.to),
        }),
        again: again.map(Box::new),
    }
}

impl World<'_> {
    /// Another world at the same point of the same run, over another disk.
    pub(super) fn beside(&self, storage: SimulatedStorage) -> Self {
        let mut world = self.twin();
        world.disk = Disk::Simulated(storage);
        world
    }
}
