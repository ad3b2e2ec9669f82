//! `mmsb log`: looking at the files of a bus, and saving what can be saved.

mod args;
mod blame;
mod diff;
mod dump;
mod salvage;
mod stats;
pub(super) mod text;
mod verify;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mmsb_engine::FileStorage;
use mmsb_engine::inspect::Inspection;

pub(super) use args::LogArgs;
use args::LogCommand;

use super::exit::Exit;
use super::output::{CommandError, Output};
use super::progress::Progress;

/// What takes less time than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does what the command line says.
pub(super) fn log(args: &LogArgs, out: &mut Output) -> Result<Exit, CommandError> {
    match &args.command {
        LogCommand::Dump(args) => dump::dump(args, out),
        LogCommand::Verify(args) => verify::verify(args, out),
        LogCommand::Diff(args) => diff::diff(args, out),
        LogCommand::Blame(args) => blame::blame(args, out),
        LogCommand::Salvage(args) => salvage::salvage(args, out),
        LogCommand::Stats(args) => stats::stats(args, out),
    }
}

fn open(directory: &Path) -> Result<FileStorage, CommandError> {
    FileStorage::existing(directory).map_err(|error| CommandError::file("read", directory, &error))
}

/// An inspection that shows how far it is, once it takes long.
fn inspect(storage: &FileStorage) -> Result<Inspection<'_>, CommandError> {
    let inspection = Inspection::new(storage).map_err(failed)?;
    let bar = Bar::new();
    Ok(inspection.observed(move |progress| bar.show(progress.done_bytes, progress.total_bytes)))
}

fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError(error.to_string())
}

/// A bar that appears after a while, and goes when it is dropped.
struct Bar {
    since: Instant,
    bar: Mutex<Option<Progress>>,
}

impl Bar {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            bar: Mutex::new(None),
        }
    }

    fn show(&self, done: u64, total: u64) {
        if self.since.elapsed() < PATIENCE {
            return;
        }
        // In MiB: nobody reads bytes.
        let Ok(mut bar) = self.bar.lock() else {
            return;
        };
        let bar = bar.get_or_insert_with(|| Progress::new(total >> 20, "MiB"));
        bar.set(done >> 20, total >> 20);
        if done >= total {
            bar.clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(Some(bar)) = self.bar.get_mut() {
            bar.clear();
        }
    }
}

/// Prints a value as one line of JSON.
pub(super) fn print_json(
    out: &mut Output,
    value: &impl serde::Serialize,
) -> Result<(), CommandError> {
    let text = serde_json::to_string(value).map_err(failed)?;
    out.line(text);
    Ok(())
}
