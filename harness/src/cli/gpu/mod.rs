//! `mmsb gpu`: traces of allocations of device memory.

mod args;
mod bench;
mod convert;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use mmsb_harness::gpu::{self, Imported};

pub(super) use args::GpuArgs;
use args::GpuCommand;

use super::exit::Exit;
use super::output::{CommandError, Output, warn};

/// The longest file that is read as a trace.
const MAX_TRACE_BYTES: u64 = 4 << 30;

/// Does what the command line says.
pub(super) fn gpu(args: &GpuArgs, out: &mut Output) -> Result<Exit, CommandError> {
    match &args.command {
        GpuCommand::ReplayBench(args) => bench::replay_bench(args, out),
        GpuCommand::Import(args) => convert::import(args, out),
        GpuCommand::Generate(args) => convert::generate(args, out),
    }
}

/// Reads a trace in any format, and says what was left out.
fn read(path: &Path) -> Result<Imported, CommandError> {
    let failed = |error: &std::io::Error| CommandError::file("read", path, error);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_TRACE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_TRACE_BYTES {
        let message = format!("{} is longer than 4 GiB: cut the trace", path.display());
        return Err(CommandError(message));
    }
    let imported =
        gpu::read(&bytes).map_err(|error| CommandError(format!("{}: {error}", path.display())))?;
    for note in &imported.notes {
        warn(note);
    }
    Ok(imported)
}
