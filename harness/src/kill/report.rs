//! What a campaign came to.

use serde::Serialize;

use super::ledger::Phase;
use crate::scenario::ast::Durability;

/// What a campaign came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The seed from which the moments were drawn.
    pub seed: u64,
    /// Children that were started, not counting those that only verified.
    pub rounds: u64,
    /// Children that were killed, by what they were doing.
    pub kills: Kills,
    /// Directories on which the scenario came to its end, and that were begun anew.
    pub finished_directories: u64,
    /// Opens whose state was compared with the model, whole.
    pub verified_opens: u64,
    /// Opens that cut something torn off the end of the log.
    pub torn_ends: u64,
    /// Commits that were acknowledged.
    pub commits: Commits,
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// The last LSN of the present directory.
    pub last_lsn: u64,
    /// Bytes of the files of the present directory.
    pub directory_bytes: u64,
    /// What was found wrong; the campaign ends with it.
    pub finding: Option<Finding>,
}

/// Children that were killed, by what they were doing, as far as they had told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kills {
    /// Before they had begun to open the directory.
    pub starting: u64,
    /// While they created or recovered the bus.
    pub opening: u64,
    /// While they caught up on simulated storage.
    pub catching_up: u64,
    /// While they committed.
    pub committing: u64,
    /// While they wrote a checkpoint.
    pub checkpointing: u64,
    /// While they closed the bus.
    pub closing: u64,
}

impl Kills {
    pub(super) fn count(&mut self, phase: Phase) {
        let counter = match phase {
            Phase::Starting => &mut self.starting,
            Phase::Opening => &mut self.opening,
            Phase::CatchingUp => &mut self.catching_up,
            Phase::Committing => &mut self.committing,
            Phase::Checkpointing => &mut self.checkpointing,
            Phase::Closing => &mut self.closing,
        };
        *counter += 1;
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.starting
            + self.opening
            + self.catching_up
            + self.committing
            + self.checkpointing
            + self.closing
    }
}

/// Commits by what they promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Commits {
    /// Of durability `memory`, which a kill may take back.
    pub memory: u64,
    /// Of durability `buffered`.
    pub buffered: u64,
    /// Of durability `sync`.
    pub sync: u64,
}

impl Commits {
    pub(super) fn count(&mut self, durability: Durability) {
        match durability {
            Durability::Memory => self.memory += 1,
            Durability::Buffered => self.buffered += 1,
            Durability::Sync => self.sync += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.memory + self.buffered + self.sync
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The round in which it showed.
    pub round: u64,
    /// What the child was doing.
    pub phase: String,
    /// What is wrong.
    pub message: String,
    /// Whether the kept directory alone shows it, without any kill.
    pub is_in_directory: bool,
}
