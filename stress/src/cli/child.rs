//! The commands that this program starts itself as.

use std::io;
use std::path::Path;

use mmsb_harness::kill;
use mmsb_harness::scenario::{Cell, parse_file};
use mmsb_harness::world::Resume;
use mmsb_stress::campaign::Environment;
use mmsb_stress::worker;

use super::args::{KillChildArgs, WorkerArgs};
use super::exit::Exit;
use super::output::CommandError;

/// Does jobs until the input ends.
pub(super) fn worker(args: &WorkerArgs) -> Result<Exit, CommandError> {
    let environment = Environment {
        scratch: args.scratch.clone(),
        ..Environment::default()
    };
    // Whoever asked may be gone; then there is nobody to tell.
    let served = worker::serve(io::stdin().lock(), io::stdout(), &environment);
    Ok(if served.is_ok() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

/// Runs a scenario on real files until it is killed.
pub(super) fn kill_child(args: &KillChildArgs) -> Result<Exit, CommandError> {
    let scenario = parse_file(&args.file)
        .map_err(|errors| CommandError(errors.iter().map(ToString::to_string).collect()))?;
    let resume = Resume {
        bus: args.bus.clone(),
        at_least: args.at_least,
        at_most: args.at_most,
    };
    let directory = args.file.parent().unwrap_or(Path::new(""));
    let passed = kill::child(&scenario, &Cell::default(), directory, resume, args.verify);
    Ok(if passed { Exit::Passed } else { Exit::Failed })
}
