//! The `mmsb-stress` command.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::execute(cli::Arguments::parse()).into()
}
