//! `mmsb sweep`: crashes scenarios at every moment, in every way.

use std::path::PathBuf;
use std::sync::Arc;

use mmsb_harness::scenario::Cell;
use mmsb_harness::world::{universe, widened};

use super::args::SweepArgs;
use super::corpus::{Corpus, Test};
use super::exit::Exit;
use super::output::CommandError;
use super::run::run_and_report;

/// Sweeps what is selected.
pub(super) fn sweep(args: &SweepArgs) -> Result<Exit, CommandError> {
    let again = !args.no_again;
    let corpus = match args.exhaustive {
        Some(max_len) => exhaustive(max_len.into()),
        None => {
            let mut corpus = Corpus::load(&args.run.selection)?;
            for test in corpus.entries.iter_mut().flatten() {
                match widened(&test.scenario, &test.cell, again) {
                    Ok(scenario) => test.scenario = Arc::new(scenario),
                    Err(reason) => test.skip = Some(reason),
                }
            }
            corpus
        }
    };
    run_and_report(&corpus, &args.run, args.grain.into())
}

/// Every sequence of a few operations, in place of scenarios from files.
fn exhaustive(max_len: usize) -> Corpus {
    let tests = universe(max_len).map(|(name, scenario)| {
        Ok(Test {
            name: format!("universe/{name}"),
            path: PathBuf::from("universe"),
            scenario,
            cell: Cell::default(),
            skip: None,
        })
    });
    Corpus {
        entries: tests.collect(),
    }
}
