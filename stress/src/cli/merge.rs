//! `mmsb-stress merge`.

use mmsb_stress::{report, run};

use super::args::MergeArgs;
use super::exit::Exit;
use super::output::{CommandError, Output};
use super::run::{exit, show};

/// Joins shards into one report.
pub(super) fn merge(args: &MergeArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let state = run::merge(&args.shards, &args.out).map_err(CommandError::of)?;
    report::write(&state, &args.out).map_err(CommandError::of)?;
    show(&state, &args.out, out);
    Ok(exit(&state))
}
