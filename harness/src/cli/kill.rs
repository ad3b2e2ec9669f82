//! `mmsb kill`: kills processes that run a scenario on real files, and verifies what they leave.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mmsb_harness::kill::{self, Campaign, Finding, Report};
use mmsb_harness::scenario::num::Num;
use mmsb_harness::scenario::value::{Map, Name};
use mmsb_harness::scenario::{Cell, Scenario, matrix, parse_file};
use mmsb_harness::world::Resume;

use super::args::{KillArgs, KillChildArgs, KilledScenario};
use super::exit::Exit;
use super::output::{BAD, CommandError, GOOD, Output, complain, styled};
use super::progress::Progress;

/// Runs a campaign and tells what came of it.
pub(super) fn kill(args: &KillArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let Some((scenario, cell)) = load(&args.scenario)? else {
        return Ok(Exit::Usage);
    };
    let refused = |error: kill::KillError| CommandError(error.to_string());
    kill::check(&cell.apply(&scenario)).map_err(refused)?;
    let executable = env::current_exe()
        .map_err(|error| CommandError(format!("cannot find this program: {error}")))?;
    let limit = args.limit();
    let campaign = Campaign {
        directory: args.dir.clone(),
        scenario: args.scenario.words().join(" "),
        seed: args.seed,
        limit,
    };
    let spawn = |bus: &Path, bounds: kill::Bounds, verify: bool| {
        let mut command = Command::new(&executable);
        command.arg("kill-child").args(args.scenario.words());
        command.arg("--bus").arg(bus);
        command.args(["--at-least", &bounds.at_least.to_string()]);
        if let Some(at_most) = bounds.at_most {
            command.args(["--at-most", &at_most.to_string()]);
        }
        if verify {
            command.arg("--verify");
        }
        command
    };
    let (total, unit) = match (limit.rounds, limit.duration) {
        (_, Some(duration)) => (duration.as_secs(), "s"),
        (rounds, None) => (rounds.unwrap_or_default(), "rounds"),
    };
    let progress = std::cell::RefCell::new(Progress::new(total, unit));
    let on_round = |report: &Report, elapsed: Duration| {
        let done = limit.duration.map_or(report.rounds, |_| elapsed.as_secs());
        let mut progress = progress.borrow_mut();
        progress.set(done.min(total), total);
        progress.message(format!(
            "{} kills, LSN {}",
            report.kills.total(),
            report.last_lsn
        ));
    };
    let report = kill::run(&campaign, &spawn, &on_round).map_err(refused)?;
    progress.borrow().clear();
    show(&report, args, out)?;
    Ok(if report.finding.is_some() {
        Exit::Failed
    } else if report.verified_opens == 0 {
        Exit::NothingRan
    } else {
        Exit::Passed
    })
}

/// Reads the scenario with what the command line sets; complains if it is none.
fn load(wanted: &KilledScenario) -> Result<Option<(Scenario, Cell)>, CommandError> {
    let mut scenario = match parse_file(&wanted.file) {
        Ok(scenario) => scenario,
        Err(diagnostics) => {
            diagnostics
                .iter()
                .for_each(|diagnostic| complain(diagnostic));
            return Ok(None);
        }
    };
    scenario.lets = with_values(&scenario.lets, &wanted.set)?;
    let cells =
        matrix::expand(&scenario).map_err(|diagnostic| CommandError(diagnostic.to_string()))?;
    let file = wanted.file.display();
    let cell = match &wanted.cell {
        None if cells.len() > 1 => {
            let message = format!(
                "{file} has several cells; choose one with --cell (`mmsb expand {file}` lists them)"
            );
            return Err(CommandError(message));
        }
        None => cells.into_iter().next(),
        Some(name) => cells.into_iter().find(|cell| cell.name == *name),
    };
    let cell = cell.ok_or_else(|| {
        CommandError(format!(
            "there is no such cell; `mmsb expand {file}` lists them"
        ))
    })?;
    Ok(Some((scenario, cell)))
}

/// The variables of a scenario, some with other values.
fn with_values(lets: &Map<Num>, set: &[(String, u64)]) -> Result<Map<Num>, CommandError> {
    if let Some((name, _)) = set.iter().find(|(name, _)| lets.get(name).is_none()) {
        let message = format!("the scenario has no variable `{name}` in its `let`");
        return Err(CommandError(message));
    }
    let value = |name: &Name, old: &Num| {
        let set = set.iter().rev().find(|(wanted, _)| wanted == name.as_str());
        set.map_or_else(|| old.clone(), |(_, value)| Num::from(*value))
    };
    Ok(Map(lets
        .iter()
        .map(|(name, old)| (name.clone(), value(name, old)))
        .collect()))
}

/// Runs a scenario on a real directory, and tells the parent of every step that matters.
pub(super) fn child(args: &KillChildArgs) -> Result<Exit, CommandError> {
    let Some((scenario, cell)) = load(&args.scenario)? else {
        return Ok(Exit::Usage);
    };
    let directory = args.scenario.file.parent().unwrap_or(Path::new(""));
    let resume = Resume {
        bus: args.bus.clone(),
        at_least: args.at_least,
        at_most: args.at_most,
    };
    Ok(
        if kill::child(&scenario, &cell, directory, resume, args.verify) {
            Exit::Passed
        } else {
            Exit::Failed
        },
    )
}

fn show(report: &Report, args: &KillArgs, out: &mut Output) -> Result<(), CommandError> {
    if args.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| CommandError(format!("cannot write the report: {error}")))?;
        out.line(text);
    } else {
        show_figures(report, out);
    }
    match &report.finding {
        Some(finding) if args.json => complain(&reproduction(finding, args)),
        Some(finding) => {
            let Finding {
                round,
                phase,
                message,
                ..
            } = finding;
            out.line(format_args!(
                "\n{} in round {round}, {phase}",
                styled(BAD, "FAIL")
            ));
            for line in message.lines() {
                out.line(format_args!("     {line}"));
            }
            out.line(format_args!("\n{}", reproduction(finding, args)));
        }
        None if args.json => {}
        None if report.verified_opens == 0 => complain(&"nothing was killed or verified"),
        None => out.line(styled(
            GOOD,
            "everything acknowledged was found, and nothing else",
        )),
    }
    Ok(())
}

fn show_figures(report: &Report, out: &mut Output) {
    let Report { kills, commits, .. } = report;
    out.line(format_args!(
        "{} rounds, {} kills, seed {}",
        report.rounds,
        kills.total(),
        report.seed
    ));
    out.line(format_args!(
        "  killed while    {} starting, {} opening, {} catching up, {} committing, {} checkpointing, {} closing",
        kills.starting, kills.opening, kills.catching_up, kills.committing, kills.checkpointing, kills.closing
    ));
    out.line(format_args!(
        "  verified        {} opens, {} of them with a torn end",
        report.verified_opens, report.torn_ends
    ));
    out.line(format_args!(
        "  acknowledged    {} commits ({} sync, {} buffered, {} memory), {} checkpoints",
        commits.total(),
        commits.sync,
        commits.buffered,
        commits.memory,
        report.checkpoints
    ));
    out.line(format_args!(
        "  directory       LSN {}, {} bytes; {} came to their end before",
        report.last_lsn, report.directory_bytes, report.finished_directories
    ));
}

/// Where the evidence is, and the command that shows it again.
fn reproduction(finding: &Finding, args: &KillArgs) -> String {
    let directory = args.dir.display();
    let command = format!(
        "mmsb kill {} --dir {directory}",
        args.scenario.words().join(" ")
    );
    if finding.is_in_directory {
        format!(
            "kept as it was before the open in {directory}\nto see it again: {command} --rounds 0"
        )
    } else {
        // What happened depends on the moment of the kill, so it takes a few rounds.
        let seed = args.seed;
        format!(
            "kept as it was before the round in {directory}\nto try again from there: {command} --rounds 1 --seed {seed}"
        )
    }
}
