//! What the children have acknowledged, and what must therefore be found at the next open.

use serde::{Deserialize, Serialize};

use crate::scenario::ast::Durability;
use crate::world::Milestone;

/// What an open must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The highest LSN that was acknowledged as surviving the death of a process.
    pub at_least: u64,
    /// The highest LSN that can have been given out; `None` if that is not known.
    pub at_most: Option<u64>,
}

/// What a child is doing, as far as it has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The process starts.
    #[default]
    Starting,
    /// It opens the directory: it creates the bus, or recovers it.
    Opening,
    /// It catches up on simulated storage; the open bus is idle.
    CatchingUp,
    /// It commits.
    Committing,
    /// It writes a checkpoint.
    Checkpointing,
    /// It closes the bus, or has closed it.
    Closing,
}

/// The account of one directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The highest LSN that must survive.
    pub safe_lsn: u64,
    /// The last LSN that is known to have been given out, since the directory was last opened.
    pub last_lsn: u64,
    /// What the present child is doing.
    pub phase: Phase,
}

impl Ledger {
    /// What the next open must come to. One commit may have been on its way when the child was killed.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            at_least: self.safe_lsn,
            at_most: Some(self.last_lsn.saturating_add(1)),
        }
    }

    /// Takes note of what a child told.
    pub fn note(&mut self, milestone: Milestone) {
        match milestone {
            Milestone::Opening => self.phase = Phase::Opening,
            Milestone::Opened { lsn, .. } => {
                // What recovery found was in the files, and is not lost again.
                (self.safe_lsn, self.last_lsn) = (lsn, lsn);
                self.phase = Phase::CatchingUp;
            }
            Milestone::CatchingUp { .. } => {}
            Milestone::Resumed { .. } => self.phase = Phase::Committing,
            Milestone::Committed { lsn, durability } => {
                self.last_lsn = lsn;
                if durability != Durability::Memory {
                    self.safe_lsn = lsn;
                }
                self.phase = Phase::Committing;
            }
            Milestone::Checkpointing => self.phase = Phase::Checkpointing,
            Milestone::Checkpointed { durable_lsn } => {
                self.safe_lsn = self.safe_lsn.max(durable_lsn);
                self.phase = Phase::Committing;
            }
            Milestone::Closing => self.phase = Phase::Closing,
            Milestone::Closed { lsn } => self.safe_lsn = lsn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(lsn: u64, durability: Durability) -> Milestone {
        Milestone::Committed { lsn, durability }
    }

    #[test]
    fn memory_commits_may_be_lost_and_one_more_may_be_on_its_way() {
        let mut ledger = Ledger::default();
        ledger.note(committed(1, Durability::Sync));
        ledger.note(committed(2, Durability::Buffered));
        ledger.note(committed(3, Durability::Memory));
        let bounds = ledger.bounds();
        assert_eq!((bounds.at_least, bounds.at_most), (2, Some(4)));
        ledger.note(Milestone::Checkpointed { durable_lsn: 3 });
        assert_eq!(ledger.bounds().at_least, 3);
    }

    #[test]
    fn an_open_replaces_what_was_known() {
        let mut ledger = Ledger::default();
        ledger.note(committed(9, Durability::Memory));
        ledger.note(Milestone::Opened { lsn: 4, torn: true });
        let bounds = ledger.bounds();
        assert_eq!((bounds.at_least, bounds.at_most), (4, Some(5)));
        assert_eq!(ledger.phase, Phase::CatchingUp);
    }
}
