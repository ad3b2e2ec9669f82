//! The `mmsb` command.

mod args;
mod check;
mod corpus;
mod doctor;
mod execute;
mod expand;
mod gpu;
mod import;
mod kill;
mod list;
mod log;
mod new;
mod progress;
mod run;
mod schema;
mod scorecard;
mod shrink;
mod sweep;

pub(crate) use args::Arguments;
pub(crate) use exit::Exit;

use args::Command;
use mmsb_harness::command::{exit, output};
use output::Output;

/// Does what the command line says.
pub(crate) fn execute(arguments: Arguments) -> Exit {
    arguments.color.choose();
    let mut out = Output::stdout();
    let result = match &arguments.command {
        Command::Run(args) => run::run(args),
        Command::Sweep(args) => sweep::sweep(args),
        Command::Scorecard(args) => scorecard::scorecard(args, &mut out),
        Command::List(args) => list::list(args, &mut out),
        Command::Check(args) => check::check(args, &mut out),
        Command::Expand(args) => expand::expand(args, &mut out),
        Command::Doctor(args) => doctor::doctor(args, &mut out),
        Command::Schema(args) => schema::schema(args, &mut out),
        Command::New(args) => new::new(args, &mut out),
        Command::Import(args) => import::import(args, &mut out),
        Command::Kill(args) => kill::kill(args, &mut out),
        Command::KillChild(args) => kill::child(args),
        Command::Shrink(args) => shrink::shrink(args, &mut out),
        Command::Log(args) => log::log(args, &mut out),
        Command::Gpu(args) => gpu::gpu(args, &mut out),
    };
    let result = result.and_then(|exit| out.finish().map(|()| exit));
    result.unwrap_or_else(|error| {
        output::complain(&error);
        Exit::Usage
    })
}
