//! A storm: steps on a storage that fails, and the recovery when it is over.

use super::failure::{Fault, Outcome};
use super::faults;
use super::open::Disk;
use super::run::World;
use crate::scenario::ErrorKind;
use crate::scenario::ast::{Storm, StormEnd};
use crate::scenario::crash::Crash;

impl World<'_> {
    /// Runs steps while the storage may fail; then it heals, and everything acknowledged must be found.
    pub(crate) fn storm(&mut self, storm: &Storm) -> Outcome {
        let Disk::Simulated(storage) = &self.disk else {
            return Err(faults::only_simulated());
        };
        let strikes_before = storage.strikes();
        self.totals.checks += 1;
        for inject in &storm.faults {
            self.inject(inject)?;
        }
        let path_len = self.stage.path.0.len();
        let result = self.steps_of(&storm.steps);
        // A step that failed inside of others has left their parts behind.
        self.stage.path.0.truncate(path_len);
        if let Err(fault) = result
            && !self.is_explained(&fault, strikes_before)
        {
            return Err(fault);
        }
        self.end_storm(storm.then)
    }

    /// Whether a fault has struck, and an engine that meets one may say this.
    fn is_explained(&self, fault: &Fault, strikes_before: u64) -> bool {
        let struck = match &self.disk {
            Disk::Simulated(storage) => storage.strikes() > strikes_before,
            Disk::Directory(_) => false,
        };
        struck
            && matches!(
                fault.error,
                Some(
                    ErrorKind::BusPoisoned
                        | ErrorKind::StorageFull
                        | ErrorKind::StorageFailed
                        | ErrorKind::LogDamaged
                        | ErrorKind::LogMissing
                        | ErrorKind::CheckpointDamaged
                )
            )
    }

    fn end_storm(&mut self, then: StormEnd) -> Outcome {
        // What never struck does not strike the recovery.
        if let Disk::Simulated(storage) = &self.disk {
            storage.heal();
        }
        let crash = match then {
            StormEnd::Power => Crash::Forgetful,
            StormEnd::Process => Crash::Process,
        };
        if self.bus.is_some() {
            self.crash(&crash)?;
        } else {
            // An open was refused: there is no bus that could die, but the machine still can.
            self.stage.abort();
            self.lose(&crash);
        }
        self.open(&Default::default())
    }
}
