//! `mmsb`: runs scenarios against the MMSB engine.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    cli::execute(cli::Arguments::parse()).into()
}
