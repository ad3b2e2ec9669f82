//! `mmsb list`: the names of the tests.

use mmsb_harness::world;

use super::args::Selection;
use super::corpus::Corpus;
use super::exit::Exit;
use super::output::{CommandError, DIM, Output, complain, styled};

/// Lists one test a line; one that cannot run here is followed by a tab and the reason.
pub(super) fn list(selection: &Selection, out: &mut Output) -> Result<Exit, CommandError> {
    let corpus = Corpus::load(selection)?;
    let mut exit = if corpus.entries.is_empty() {
        Exit::NothingRan
    } else {
        Exit::Passed
    };
    for entry in &corpus.entries {
        match entry {
            Ok(test) => match world::missing(&test.scenario, &test.cell) {
                Some(reason) => {
                    out.line(format_args!(
                        "{}\t{}",
                        test.name,
                        styled(DIM, format_args!("skipped: {reason}"))
                    ));
                }
                None => out.line(&test.name),
            },
            Err(invalid) => {
                exit = Exit::Usage;
                out.line(format_args!(
                    "{}\t{}",
                    invalid.name,
                    styled(DIM, "invalid: see `mmsb check`")
                ));
                for diagnostic in &invalid.diagnostics {
                    complain(diagnostic);
                }
            }
        }
    }
    if exit == Exit::NothingRan {
        complain(&"no test matches");
    }
    Ok(exit)
}
