//! Crashes: now, at another moment of the run, or at every moment.

use super::SimulatedStorage;
use super::failure::{Fault, Outcome};
use super::open::{Disk, closed};
use super::run::{START_UNIX_NS, STEP_NS, Totals, World};
use super::storage::{Image, Journal};
use super::sweep::{Damage, Ledger, Tear};
use crate::scenario::crash::{Crash, Window};
use crate::scenario::num::Num;

impl<'c> World<'c> {
    pub(crate) fn crash(&mut self, crash: &Crash) -> Outcome {
        self.die()?;
        if *crash == Crash::Process {
            self.lose_the_process();
            return Ok(());
        }
        let journal = match &self.disk {
            Disk::Simulated(storage) => storage.take_journal(),
            Disk::Directory(_) => None,
        };
        match crash {
            Crash::Forgetful | Crash::Process => self.lose_what_was_not_synced(),
            Crash::Drawn(seed) => {
                let seed = seed.eval(&self.stage.scope)?;
                self.crash_drawn(&journal.ok_or_else(unrecorded)?, seed)?;
            }
            Crash::Each { again } => {
                self.totals.checks += 1;
                self.sweep(&journal.ok_or_else(unrecorded)?, *again, self.context.grain)?;
                self.lose_what_was_not_synced();
            }
            Crash::At(window) => {
                let window = self.resolve(window)?;
                self.crash_at(&journal.ok_or_else(unrecorded)?, &window)?;
            }
        }
        Ok(())
    }

    /// What a crash does to the disk while no bus is open on it.
    pub(super) fn lose(&mut self, crash: &Crash) {
        if *crash == Crash::Process {
            self.lose_the_process();
            return;
        }
        if let Disk::Simulated(storage) = &self.disk {
            // What was recorded ends here.
            drop(storage.take_journal());
        }
        self.lose_what_was_not_synced();
    }

    /// Drops the bus as if the process had died here.
    fn die(&mut self) -> Outcome {
        let bus = self.bus.take().ok_or_else(closed)?;
        self.stage.abort();
        self.listeners
            .values_mut()
            .for_each(super::listen::Listener::end);
        self.safe(bus.durable_lsn().0);
        bus.abandon();
        Ok(())
    }

    /// The machine goes on, and what was handed to it is there.
    fn lose_the_process(&mut self) {
        self.safe_lsn = self.safe_lsn.max(self.handed_lsn);
        if let Disk::Simulated(storage) = &self.disk {
            self.disk = Disk::Simulated(storage.restart());
        }
    }

    fn lose_what_was_not_synced(&mut self) {
        if let Disk::Simulated(storage) = &self.disk {
            let storage = storage.crash();
            if self.records {
                storage.record(self.safe_lsn, self.model.lsn());
            }
            self.disk = Disk::Simulated(storage);
        }
    }

    /// Goes on with what is left of one moment.
    fn crash_at(&mut self, journal: &Journal, window: &Moment) -> Outcome {
        if let Some(why) = journal.unfit {
            return Err(Fault::new(format!("no other moment is known: {why}")));
        }
        let (mut image, mut safe_lsn, mut issued_lsn) = left_at(journal, window)?;
        let mut inner = window.again.as_deref();
        while let Some(window) = inner {
            let storage = SimulatedStorage::of(image);
            storage.record(safe_lsn, issued_lsn);
            let mut world = self.twin();
            world.disk = Disk::Simulated(storage.clone());
            world.expect_recovery(safe_lsn, issued_lsn);
            world.open(&Default::default())?;
            if let Some(bus) = world.bus.take() {
                bus.abandon();
            }
            let journal = storage.take_journal().ok_or_else(unrecorded)?;
            (image, safe_lsn, issued_lsn) = left_at(&journal, window)?;
            inner = window.again.as_deref();
        }
        let storage = SimulatedStorage::of(image);
        storage.record(safe_lsn, issued_lsn);
        self.disk = Disk::Simulated(storage);
        self.expect_recovery(safe_lsn, issued_lsn);
        Ok(())
    }

    /// Goes on with something that a crash can leave now, drawn from a seed.
    fn crash_drawn(&mut self, journal: &Journal, seed: u64) -> Outcome {
        if let Some(why) = journal.unfit {
            return Err(Fault::new(format!("what else is left is not known: {why}")));
        }
        let mut ledger = Ledger::new(journal);
        while ledger.advance() {}
        let damage = Damage::drawn(&ledger.pending, seed);
        let (image, _) = ledger.image(&damage);
        let storage = SimulatedStorage::of(image);
        storage.record(ledger.safe_lsn, ledger.issued_lsn);
        self.disk = Disk::Simulated(storage);
        self.expect_recovery(ledger.safe_lsn, ledger.issued_lsn);
        Ok(())
    }

    /// Says what the next open may come to.
    pub(crate) fn expect_recovery(&mut self, safe_lsn: u64, issued_lsn: u64) {
        self.safe_lsn = safe_lsn;
        self.issued_lsn = Some(issued_lsn);
    }

    /// Another world at the same point of the same run, without a bus.
    pub(crate) fn twin(&self) -> Self {
        Self {
            context: self.context,
            settings: self.settings.clone(),
            disk: self.disk.clone(),
            devices: self.devices.twin(),
            took_detour: false,
            clock: std::sync::Arc::new(mmsb_engine::SteppingClock::new(START_UNIX_NS, STEP_NS)),
            computed: std::sync::Arc::default(),
            bus: None,
            model: self.model.clone(),
            stage: self.stage.clone(),
            safe_lsn: self.safe_lsn,
            handed_lsn: self.handed_lsn,
            issued_lsn: None,
            waiting: None,
            records: false,
            renames: self.renames.clone(),
            keeps_all: self.keeps_all,
            keeps_renames: self.keeps_renames,
            marks: Default::default(),
            snapshots: Default::default(),
            listeners: Default::default(),
            totals: Totals::default(),
        }
    }

    fn resolve(&self, window: &Window) -> Outcome<Moment> {
        let number = |num: &Num| -> Outcome<usize> {
            let number = num.eval(&self.stage.scope)?;
            usize::try_from(number).map_err(|_| Fault::new(format!("{number} is too large")))
        };
        let keep = window.keep.iter().map(number).collect::<Outcome<_>>()?;
        let tear = match &window.tear {
            None => None,
            Some(tear) => Some(Tear {
                change: number(&tear.change)?,
                from: number(&tear.from)?,
                to: number(&tear.to)?,
            }),
        };
        let again = match &window.again {
            None => None,
            Some(again) => Some(Box::new(self.resolve(again)?)),
        };
        Ok(Moment {
            at: window.at.as_ref().map(number).transpose()?,
            damage: Damage { keep, tear },
            again,
        })
    }
}

/// A window with its numbers.
struct Moment {
    at: Option<usize>,
    damage: Damage,
    again: Option<Box<Moment>>,
}

fn unrecorded() -> Box<Fault> {
    Fault::new(
        "what was done to the disk is not known: such a crash must stand in the scenario itself, not in a trace",
    )
}

/// The disk that one moment leaves, and between which LSNs a recovery from it must come out.
fn left_at(journal: &Journal, moment: &Moment) -> Outcome<(Image, u64, u64)> {
    let total = journal.io_count();
    let at = moment.at.unwrap_or(total);
    if at > total {
        return Err(Fault::new(format!(
            "there were only {total} operations of the storage, so none can be crashed at {at}"
        )));
    }
    let mut ledger = Ledger::new(journal);
    while ledger.done < at && ledger.advance() {}
    let count = ledger.pending.len();
    let kept = moment.damage.keep.iter().copied();
    let mut changes = kept.chain(moment.damage.tear.map(|tear| tear.change));
    if let Some(beyond) = changes.find(|change| *change >= count) {
        return Err(Fault::new(format!(
            "{count} changes were not synced at operation {at}, so there is no change {beyond}, counted from 0"
        )));
    }
    let (image, _) = ledger.image(&moment.damage);
    Ok((image, ledger.safe_lsn, ledger.issued_lsn))
}
