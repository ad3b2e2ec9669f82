//! `mmsb shrink`: makes a failing scenario small.

use std::fs;
use std::path::Path;

use mmsb_harness::scenario::{Scenario, matrix, parse_file, print};
use mmsb_harness::world::{self, Budget, Context, Signature};

use super::args::ShrinkArgs;
use super::exit::Exit;
use super::output::{CommandError, Output, complain, warn};
use super::progress::Progress;

/// Shrinks the scenario of a file, and writes what is left.
pub(super) fn shrink(args: &ShrinkArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let scenario = match parse_file(&args.file) {
        Ok(scenario) => scenario,
        Err(diagnostics) => {
            diagnostics
                .iter()
                .for_each(|diagnostic| complain(diagnostic));
            return Ok(Exit::Usage);
        }
    };
    let directory = args.file.parent().unwrap_or(Path::new("")).to_owned();
    let fail = |scenario: &Scenario| failure(scenario, &directory);
    let Some((scenario, wanted)) = failing_cell(&scenario, args.cell.as_deref(), &fail)? else {
        let file = args.file.display();
        return Err(CommandError(format!(
            "{file} does not fail, so there is nothing to keep while it shrinks"
        )));
    };
    let progress = Progress::new(args.tries as u64, "tries");
    let budget = Budget {
        tries: args.tries,
        duration: args.duration,
    };
    let shrunk = world::minimise(&scenario, budget, |candidate| {
        progress.advance(String::new());
        matches!(fail(candidate), Ok(Some(found)) if found == wanted)
    });
    progress.clear();
    let text = print(&shrunk.scenario);
    match &args.output {
        Some(file) => {
            fs::write(file, &text).map_err(|error| CommandError::file("write", file, &error))?
        }
        None => out.text(&text),
    }
    warn(&format_args!(
        "fails with {wanted}; {} steps of {}, {} tries",
        shrunk.steps_after, shrunk.steps_before, shrunk.tries
    ));
    Ok(Exit::Passed)
}

/// The scenario as it runs in its cell, or in the first that fails, and how it fails.
fn failing_cell(
    scenario: &Scenario,
    wanted: Option<&str>,
    fail: &dyn Fn(&Scenario) -> Result<Option<Signature>, CommandError>,
) -> Result<Option<(Scenario, Signature)>, CommandError> {
    let cells =
        matrix::expand(scenario).map_err(|diagnostic| CommandError(diagnostic.to_string()))?;
    for cell in &cells {
        if wanted.is_some_and(|wanted| wanted != cell.name) {
            continue;
        }
        let alone = cell.apply(scenario);
        if let Some(signature) = fail(&alone)? {
            return Ok(Some((alone, signature)));
        }
    }
    match wanted {
        Some(name) if !cells.iter().any(|cell| cell.name == name) => Err(CommandError(format!(
            "there is no cell `{name}`; `mmsb expand` lists them"
        ))),
        _ => Ok(None),
    }
}

/// How a scenario fails, if it does.
fn failure(scenario: &Scenario, directory: &Path) -> Result<Option<Signature>, CommandError> {
    let scratch = tempfile::tempdir()
        .map_err(|error| CommandError(format!("cannot make a scratch directory: {error}")))?;
    let context = Context {
        directory: directory.to_owned(),
        scratch: scratch.path().join("bus"),
        ..Context::default()
    };
    let outcome = world::run(scenario, &Default::default(), &context);
    Ok(outcome.failure().map(Signature::of))
}
