//! `mmsb gpu import` and `mmsb gpu generate`.

use std::io::{BufWriter, Write};
use std::path::Path;

use mmsb_harness::gpu::Trace;
use mmsb_harness::gpu::generate;

use super::args::{GenerateArgs, GpuImportArgs};
use crate::cli::exit::Exit;
use crate::cli::output::{CommandError, Output};

/// Writes what others recorded as a trace.
pub(super) fn import(args: &GpuImportArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let imported = super::read(&args.file)?;
    save(&imported.trace, &args.output, out)
}

/// Writes a trace that is made up.
pub(super) fn generate(args: &GenerateArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let trace = generate::generate(args.kind.into(), args.events, args.seed);
    save(&trace, &args.output, out)
}

fn save(trace: &Trace, path: &Path, out: &mut Output) -> Result<Exit, CommandError> {
    write_file(path, |file| trace.write(file))?;
    out.line(format_args!(
        "wrote {} events, {} of them allocations, to {}",
        trace.events().len(),
        trace.allocations(),
        path.display()
    ));
    Ok(Exit::Passed)
}

/// Writes a file whole or not at all.
pub(super) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&std::fs::File>) -> std::io::Result<()>,
) -> Result<(), CommandError> {
    let failed = |error: &std::io::Error| CommandError::file("write", path, error);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let file = crate::cli::import::temporary_file(folder.unwrap_or(Path::new(".")))
        .map_err(|error| failed(&error))?;
    let mut buffered = BufWriter::new(file.as_file());
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    written.map_err(|error| failed(&error))?;
    drop(buffered);
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
