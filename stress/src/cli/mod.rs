//! The `mmsb-stress` command line.

mod args;
mod child;
mod merge;
mod progress;
mod prove;
mod repro;
mod run;
mod show;

pub(crate) use args::Arguments;
pub(crate) use exit::Exit;

use args::Command;
use mmsb_harness::command::{exit, output};
use output::Output;

/// Does what the command line says.
pub(crate) fn execute(arguments: Arguments) -> Exit {
    arguments.color.write_global();
    let mut out = Output::stdout();
    let result = match &arguments.command {
        Command::Run(args) => run::run(args, &mut out),
        Command::Merge(args) => merge::merge(args, &mut out),
        Command::Repro(args) => repro::repro(args, &mut out),
        Command::Prove(args) => prove::prove(args, &mut out),
        Command::Show(args) => show::show(args, &mut out),
        Command::Worker(args) => child::worker(args),
        Command::KillChild(args) => child::kill_child(args),
    };
    let result = result.and_then(|exit| out.finish().map(|()| exit));
    result.unwrap_or_else(|error| {
        output::complain(&error);
        Exit::Usage
    })
}
