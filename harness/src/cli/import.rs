//! `mmsb import`: turns what others recorded into a trace.

use std::fs;
use std::io::BufWriter;
use std::path::Path;

use mmsb_harness::import::git::{Counts, Import, import as import_git};

use super::args::{GitArgs, ImportArgs, Source};
use super::exit::Exit;
use super::output::{CommandError, Output, warn};
use super::progress::Progress;

/// Imports from whatever source was named.
pub(super) fn import(args: &ImportArgs, out: &mut Output) -> Result<Exit, CommandError> {
    match &args.source {
        Source::Git(args) => git(args, out),
    }
}

/// The trace appears under its name only when it is complete.
fn git(args: &GitArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let path = &args.output;
    let failed = |error: &std::io::Error| CommandError::file("write", path, error);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let file = temporary_file(folder).map_err(|error| failed(&error))?;
    let what = Import {
        repository: &args.repository,
        path: &args.path,
        revision: &args.rev,
    };
    let mut progress = Progress::new(0, "commits");
    let counts = import_git(what, BufWriter::new(&file), |done, total| {
        progress.set(done, total)
    });
    progress.clear();
    let counts = counts.map_err(|error| CommandError(error.to_string()))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    if counts.shallow {
        warn(&"this is a shallow clone; `git fetch --unshallow` brings the rest of the history");
    }
    out.text(describe(&counts));
    out.line(format_args!(
        "wrote {} lines to {}; run them with `mmsb run {1}`",
        counts.lines,
        path.display()
    ));
    Ok(Exit::Passed)
}

/// A file with the permissions of an ordinary one: temporary files are otherwise their owner's only.
pub(super) fn temporary_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn describe(counts: &Counts) -> String {
    let rows = [
        (counts.commits, "commits"),
        (
            counts.transactions,
            "transactions, one for each commit that changed content",
        ),
        (counts.versions, "versions of files"),
        (counts.version_bytes, "bytes in those versions"),
        (
            counts.runs,
            "runs of changed bytes, where the length stayed the same",
        ),
        (counts.run_bytes, "bytes in those runs"),
        (counts.live_pages, "files at the end"),
    ];
    let skipped = [
        (counts.mode_changes, "versions that only changed the mode"),
        (
            counts.skipped_empty,
            "empty versions, left out because a page cannot be empty",
        ),
        (counts.skipped_submodules, "submodule versions, left out"),
    ];
    let shown = rows
        .into_iter()
        .chain(skipped.into_iter().filter(|(count, _)| *count > 0));
    shown
        .map(|(count, what)| format!("{count:>12} {what}\n"))
        .collect()
}
