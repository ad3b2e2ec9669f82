//! Faults of the storage, and what the world watches while they strike.

use mmsb_engine::device::DeviceFault;
use mmsb_engine::{Bus, PageId, ReadError};

use super::failure::{Fault, Outcome};
use super::open::{Disk, closed};
use super::run::World;
use super::storage;
use crate::scenario::ErrorKind;
use crate::scenario::ast::Step;
use crate::scenario::fault::{FaultKind, Inject, Target};
use crate::scenario::value::Names;

impl World<'_> {
    /// Arms a fault.
    pub(crate) fn inject(&mut self, inject: &Inject) -> Outcome {
        let on = match inject.on {
            Target::Storage(site) => site,
            Target::Device(act) => {
                let nth = inject
                    .nth
                    .as_ref()
                    .map(|nth| nth.eval(&self.stage.scope))
                    .transpose()?;
                return self
                    .devices
                    .inject(act, nth.unwrap_or(1).max(1), inject.kind);
            }
        };
        let Disk::Simulated(storage) = &self.disk else {
            return Err(only_simulated());
        };
        let scope = &self.stage.scope;
        let number = |num: &Option<crate::scenario::num::Num>| -> Outcome<Option<u64>> {
            Ok(num.as_ref().map(|num| num.eval(scope)).transpose()?)
        };
        storage.arm(storage::Fault {
            on,
            nth: number(&inject.nth)?.unwrap_or(1).max(1),
            kind: inject.kind,
            at: number(&inject.at)?,
            seed: number(&inject.seed)?.unwrap_or(0),
        });
        Ok(())
    }

    /// Lifts all faults.
    pub(crate) fn heal(&mut self) -> Outcome {
        if let Some(fault) = self.devices.heal() {
            return Err(never_on_device(&fault));
        }
        let Disk::Simulated(storage) = &self.disk else {
            return Ok(());
        };
        storage.heal().map_or(Ok(()), |fault| Err(never(&fault)))
    }

    /// A fault that never struck shows nothing.
    pub(crate) fn all_faults_struck(&self) -> Outcome {
        if let Some(fault) = self.devices.waiting() {
            return Err(never_on_device(&fault));
        }
        match &self.disk {
            Disk::Simulated(storage) => storage
                .waiting()
                .filter(|fault| fault.kind != FaultKind::Full)
                .map_or(Ok(()), |fault| Err(never(&fault))),
            Disk::Directory(_) => Ok(()),
        }
    }

    /// Fails if the device met an error that no fault explains.
    pub(crate) fn device_is_sound(&self) -> Outcome {
        let fault = self.bus.as_ref().and_then(|bus| bus.device_fault());
        match fault.filter(|error| !self.devices.explains(error)) {
            None => Ok(()),
            Some(error) => Err(Fault::new(format!(
                "the device failed, and no fault was asked for: {error}"
            ))),
        }
    }

    /// Fills the device anew from the log, and compares everything.
    pub(crate) fn restore_device(&mut self) -> Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let restored = bus.restore_device()?;
        self.totals.checks += 1;
        self.took_detour = restored
            .as_ref()
            .is_some_and(|restored| restored.took_detour);
        let (pages, page_bytes) = self.model.on_device();
        if let Some(restored) = restored
            && (restored.pages, restored.page_bytes) != (pages, page_bytes)
        {
            return Err(Fault::new(format!(
                "{} pages with {} bytes were restored, but there are {pages} with {page_bytes} on the device",
                restored.pages, restored.page_bytes
            )));
        }
        if let Some(error) = bus.device_fault() {
            return Err(Fault::new(format!(
                "the device was restored, but is not sound: {error}"
            )));
        }
        self.compare_everything()
    }

    /// Tells the bus that pages are needed on the device, or are not.
    pub(crate) fn hint(
        &self,
        what: &str,
        pages: &Names,
        hint: impl FnOnce(&Bus, &[PageId]) -> Result<(), ReadError>,
    ) -> Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let pages = pages.iter().map(|name| self.stage.id(name));
        let pages = pages.collect::<Outcome<Vec<_>>>()?;
        Ok(hint(bus.rust(what)?, &pages)?)
    }

    /// Fails if something became durable, or was acknowledged, before what it stands on.
    pub(crate) fn order_was_kept(&self, step: &Step) -> Outcome {
        let matters = matches!(
            step,
            Step::Commit(_)
                | Step::Transaction(_)
                | Step::Checkpoint
                | Step::Close
                | Step::Reopen(_)
                | Step::Crash(_)
                | Step::Maintain
                | Step::Concurrent(_)
                | Step::Replay(_)
        );
        match &self.disk {
            Disk::Simulated(storage) if matters => storage.violation().map_or(Ok(()), |what| {
                Err(Fault::new(format!("out of order: {what}")))
            }),
            _ => Ok(()),
        }
    }

    /// Notes that a commit with this LSN may be on the disk from here on.
    pub(crate) fn issues(&self, lsn: u64) {
        if self.records
            && let Disk::Simulated(storage) = &self.disk
        {
            storage.issued(lsn);
        }
    }

    /// Notes that the files were changed by other hands than the engine's.
    pub(crate) fn meddled(&self) {
        if self.records
            && let Disk::Simulated(storage) = &self.disk
        {
            storage.spoil_journal("a step changed the files of the closed bus");
        }
    }
}

fn never_on_device(fault: &DeviceFault) -> Box<Fault> {
    Fault::new(format!(
        "the fault `{}` on device.{} never struck: there were {} such operations too few",
        fault.kind.name(),
        fault.on.name(),
        fault.nth
    ))
}

/// The error of a fault on a real disk.
pub(super) fn only_simulated() -> Box<Fault> {
    let message = "only simulated storage fails on demand; the scenario needs `storage: sim`";
    Fault::of(ErrorKind::BusBadOptions, message)
}

fn never(fault: &storage::Fault) -> Box<Fault> {
    Fault::new(format!(
        "the fault `{}` on {} never struck: there were fewer than {} such operations",
        fault.kind.as_str(),
        fault.on,
        fault.nth
    ))
}
