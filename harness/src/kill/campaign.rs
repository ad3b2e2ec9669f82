//! Round after round on one directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::error::KillError;
use super::folder::Folder;
use super::ledger::{Bounds, Ledger, Phase};
use super::plan::Plan;
use super::report::{Finding, Report};
use super::round::{End, live};

/// Makes the command that starts a child: for the bus in this directory, with what it must find there, and whether it
/// ends once it has compared that with the model.
pub type Spawn<'a> = &'a dyn Fn(&Path, Bounds, bool) -> Command;

/// Told after each round what came of it so far, and how long it has taken.
pub type OnRound<'a> = &'a dyn Fn(&Report, Duration);

/// When a campaign ends, besides with a finding: with the first of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// After so many rounds.
    pub rounds: Option<u64>,
    /// After the first round that ends later than this.
    pub duration: Option<Duration>,
}

impl Limit {
    fn is_reached(&self, rounds: u64, elapsed: Duration) -> bool {
        self.rounds.is_some_and(|limit| rounds >= limit)
            || self.duration.is_some_and(|limit| elapsed >= limit)
    }
}

/// A campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Where it keeps the bus and its notes. A campaign that is there already goes on.
    pub directory: PathBuf,
    /// What the children run, so that a directory is not taken for that of another scenario.
    pub scenario: String,
    /// The seed from which the moments of the kills are drawn.
    pub seed: u64,
    /// When it ends.
    pub limit: Limit,
}

/// Starts, kills and verifies children until the limit is reached or something is found.
///
/// At the end the directory is verified once more, so also a limit of no rounds verifies what is there. When the scenario
/// comes to its end, the directory is verified and begun anew.
///
/// # Errors
/// When the campaign cannot be carried out; what is found wrong is in the report.
pub fn run(
    campaign: &Campaign,
    spawn: Spawn<'_>,
    on_round: OnRound<'_>,
) -> Result<Report, KillError> {
    let (folder, bounds) = Folder::open(&campaign.directory, &campaign.scenario)?;
    let mut state = State {
        folder,
        spawn,
        bounds,
        report: Report {
            seed: campaign.seed,
            ..Report::default()
        },
    };
    let start = Instant::now();
    while state.report.finding.is_none()
        && !campaign
            .limit
            .is_reached(state.report.rounds, start.elapsed())
    {
        let plan = Plan::of(campaign.seed, state.report.rounds);
        state.report.rounds += 1;
        let end = state.child(Some(plan))?;
        if end == End::Passed {
            state.begin_anew()?;
        }
        on_round(&state.report, start.elapsed());
    }
    if state.report.finding.is_none() {
        state.verify()?;
    }
    state.report.directory_bytes = state.folder.bus_bytes()?;
    Ok(state.report)
}

struct State<'a> {
    folder: Folder,
    spawn: Spawn<'a>,
    /// What the next open must come to.
    bounds: Bounds,
    report: Report,
}

impl State<'_> {
    /// One child, which is let live without a plan.
    fn child(&mut self, plan: Option<Plan>) -> Result<End, KillError> {
        self.folder.keep_copy()?;
        // Should this process be killed too, nobody knows how far the child came.
        self.folder.note(Bounds {
            at_most: None,
            ..self.bounds
        })?;
        let command = (self.spawn)(&self.folder.bus(), self.bounds, plan.is_none());
        let mut ledger = Ledger {
            safe_lsn: self.bounds.at_least,
            last_lsn: self
                .bounds
                .at_most
                .map_or(u64::MAX, |lsn| lsn.saturating_sub(1)),
            phase: Phase::Starting,
        };
        let end = live(command, plan, &mut ledger, &mut self.report)?;
        match &end {
            End::Failed(message) => return self.found(ledger.phase, message.clone()).map(|()| end),
            End::Killed => self.report.kills.count(ledger.phase),
            End::Passed => {}
        }
        self.bounds = ledger.bounds();
        self.report.last_lsn = ledger.safe_lsn;
        self.folder.note(self.bounds)?;
        Ok(end)
    }

    /// Has a child compare the directory with the model, and nothing else.
    fn verify(&mut self) -> Result<(), KillError> {
        if self.folder.has_bus() {
            self.child(None)?;
        }
        Ok(())
    }

    /// Verifies a directory on which the scenario has come to its end, and removes it.
    fn begin_anew(&mut self) -> Result<(), KillError> {
        self.verify()?;
        if self.report.finding.is_some() {
            return Ok(());
        }
        self.report.finished_directories += 1;
        self.folder.clear()?;
        self.bounds = Bounds {
            at_least: 0,
            at_most: Some(0),
        };
        self.folder.note(self.bounds)
    }

    /// Keeps what was found wrong. If it showed before the steps went on, the directory as it was before is what shows it.
    fn found(&mut self, phase: Phase, message: String) -> Result<(), KillError> {
        let is_in_directory = phase < Phase::Committing && self.folder.has_bus();
        self.report.finding = Some(Finding {
            round: self.report.rounds,
            phase: phase.word().to_owned(),
            message,
            is_in_directory,
        });
        self.folder.restore_copy()?;
        self.folder.note(self.bounds)
    }
}
