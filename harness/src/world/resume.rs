//! Goes on with a scenario on a real directory in which an earlier run of the same scenario was killed.
//!
//! Page ids, placements and LSNs follow from the log alone. So the steps first run on simulated storage, with the
//! model, until the LSN that opening the directory came to; then the real bus takes the place of the simulated one, all of it is
//! compared with the model, and the steps go on there. What was never committed, or is only partly there, cannot pass.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failure::{Fault, Outcome};
use super::open::Disk;
use super::run::World;
use crate::scenario::ast::{Durability, StorageKind};

/// Where a run goes on, and what it must find there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The directory of the bus; created if it does not exist.
    pub bus: PathBuf,
    /// Opening must come to this LSN or a higher one: it is the highest that was acknowledged as safe.
    pub at_least: u64,
    /// Opening must not come to a higher LSN than this, because none was ever given out. `None`: not known.
    pub at_most: Option<u64>,
}

/// What a run that resumes has come to, in this order; the last four again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Milestone {
    /// The real directory is about to be opened.
    Opening,
    /// It was opened, and holds what was committed up to this LSN.
    Opened {
        /// The LSN that recovery came to.
        lsn: u64,
        /// Whether something torn was cut off the end of the log.
        torn: bool,
    },
    /// The steps have come to this LSN on simulated storage.
    CatchingUp {
        /// The LSN of the last commit.
        lsn: u64,
    },
    /// The state of the directory is that of the model at this LSN; the next step runs on the directory.
    Resumed {
        /// The LSN at which it goes on.
        lsn: u64,
    },
    /// A commit has returned.
    Committed {
        /// Its LSN.
        lsn: u64,
        /// What it promised.
        durability: Durability,
    },
    /// A checkpoint is about to be written.
    Checkpointing,
    /// It was written, and everything up to this LSN is durable.
    Checkpointed {
        /// The last durable LSN.
        durable_lsn: u64,
    },
    /// The bus is about to be closed.
    Closing,
    /// It was closed, and everything up to this LSN is durable.
    Closed {
        /// The LSN of the last commit.
        lsn: u64,
    },
}

/// Told each milestone, at once.
pub type OnMilestone = Arc<dyn Fn(Milestone) + Send + Sync>;

/// While catching up, one in so many commits is told.
const COMMITS_PER_REPORT: u64 = 1024;

impl World<'_> {
    /// Opens the directory in which the run is to go on, if it is to.
    pub(crate) fn begin_resume(&mut self) -> Outcome {
        let Some(resume) = &self.context.resume else {
            return Ok(());
        };
        self.tell(Milestone::Opening);
        let simulated = std::mem::replace(&mut self.disk, Disk::Directory(resume.bus.clone()));
        // The simulated bus is open too, and has the other one.
        let device = self.devices.another()?;
        let opened = self.open_engine_on(device.clone());
        self.disk = simulated;
        let bus = opened?;
        let report = bus.opened();
        let lsn = report.last_lsn.0;
        self.tell(Milestone::Opened {
            lsn,
            torn: report.torn.is_some(),
        });
        check_bounds(resume, lsn)?;
        self.waiting = Some((bus, device));
        if lsn == 0 { self.switch() } else { Ok(()) }
    }

    /// Notes a commit: it is the one at which the real bus takes over, or a step on the way to or after it.
    pub(crate) fn note_commit(&mut self, lsn: u64, durability: Durability) -> Outcome {
        match &self.waiting {
            Some((bus, _)) if bus.opened().last_lsn.0 == lsn => self.switch(),
            Some(_) if lsn.is_multiple_of(COMMITS_PER_REPORT) => {
                self.tell(Milestone::CatchingUp { lsn });
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                self.tell(Milestone::Committed { lsn, durability });
                Ok(())
            }
        }
    }

    /// Tells what happens on the real directory; what happens on the way to it concerns nobody.
    pub(crate) fn announce(&self, milestone: Milestone) {
        if self.waiting.is_none() {
            self.tell(milestone);
        }
    }

    /// Whether the steps have come to the LSN of the directory, if they had to.
    pub(crate) fn end_resume(&self) -> Outcome {
        let Some((bus, _)) = &self.waiting else {
            return Ok(());
        };
        Err(Fault::new(format!(
            "the directory holds commits up to LSN {}, but the steps end with LSN {}; is it the directory of another \
             scenario?",
            bus.opened().last_lsn,
            self.model.lsn()
        )))
    }

    fn tell(&self, milestone: Milestone) {
        if let Some(tell) = &self.context.on_milestone {
            tell(milestone);
        }
    }

    /// Puts the real bus in the place of the simulated one, and compares all of it with the model.
    fn switch(&mut self) -> Outcome {
        let (Some((bus, device)), Some(resume)) = (self.waiting.take(), &self.context.resume)
        else {
            return Ok(());
        };
        if let Some(simulated) = self.bus.take() {
            simulated.abandon();
        }
        self.devices.replace(device);
        self.disk = Disk::Directory(resume.bus.clone());
        self.settings.storage = StorageKind::Fs;
        let lsn = bus.opened().last_lsn.0;
        self.opened(bus)?;
        self.tell(Milestone::Resumed { lsn });
        Ok(())
    }
}

fn check_bounds(resume: &Resume, lsn: u64) -> Outcome {
    if lsn < resume.at_least {
        return Err(Fault::new(format!(
            "opening came to LSN {lsn}, but everything up to LSN {} was acknowledged before the process was killed",
            resume.at_least
        )));
    }
    match resume.at_most {
        Some(at_most) if lsn > at_most => Err(Fault::new(format!(
            "opening came to LSN {lsn}, but no commit after LSN {at_most} was ever begun"
        ))),
        _ => Ok(()),
    }
}
