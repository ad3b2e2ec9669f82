//! `mmsb scorecard`: damages every field of every format.

use std::fs;

use mmsb_harness::world::atlas;

use super::args::ScorecardArgs;
use super::exit::Exit;
use super::output::{CommandError, Output, complain};
use super::progress::Progress;

/// How many of the things that must not happen are named.
const NAMED: usize = 20;

/// Makes the scorecard, and prints or checks it.
pub(super) fn scorecard(args: &ScorecardArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let mut bar = Progress::new(1000, "per mille");
    let card = atlas::scorecard(|done, total| bar.set(done, total));
    bar.clear();
    let card = card.map_err(CommandError)?;
    let total = card.total();
    if args.control {
        let wrong = total.silent + total.crashed;
        out.line(format_args!(
            "{} silent, {} crashed of {}",
            total.silent,
            total.crashed,
            wrong + total.detected + total.recovered
        ));
        return Ok(if total.silent > 0 {
            Exit::Passed
        } else {
            complain(
                &"nothing passed in silence: is this engine built with `--cfg mmsb_unchecked`?",
            );
            Exit::Failed
        });
    }
    for what in card.unsound.iter().take(NAMED) {
        complain(what);
    }
    let text = card.markdown();
    let mut exit = if card.unsound.is_empty() {
        Exit::Passed
    } else {
        Exit::Failed
    };
    match &args.check {
        None => out.text(&text),
        Some(path) => {
            let found = fs::read_to_string(path)
                .map_err(|error| CommandError::file("read", path, &error))?;
            if found != text {
                complain(&format_args!(
                    "{} is out of date: write it with `mmsb scorecard > {0}`",
                    path.display()
                ));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}
