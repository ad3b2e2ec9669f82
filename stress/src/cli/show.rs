//! `mmsb-stress show`: prints the scenario of a seed.

use mmsb_harness::scenario::print;
use mmsb_stress::workload::make;

use super::args::ShowArgs;
use super::exit::Exit;
use super::output::{CommandError, Output};

/// Prints a scenario.
pub(super) fn show(args: &ShowArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let made = make(args.campaign.flavour(), args.seed, args.canary);
    out.line(print(&made.scenario).trim_end());
    Ok(Exit::Passed)
}
