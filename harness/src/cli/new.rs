//! `mmsb new`: a first scenario.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::args::NewArgs;
use super::exit::Exit;
use super::output::{CommandError, Output};

/// What is written, after the line by which editors find the schema.
const STARTER: &str = include_str!("starter.yaml");

/// Writes the starter scenario to a file that is not there yet.
pub(super) fn new(args: &NewArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let path = &args.file;
    if !path
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
    {
        let path = path.display();
        return Err(CommandError(format!(
            "{path} must end in .yaml, as scenarios do"
        )));
    }
    write_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CommandError(format!(
            "{} is there already; choose another name",
            path.display()
        )),
        _ => CommandError::file("write", path, &error),
    })?;
    out.line(format_args!(
        "wrote {}; run it with `mmsb run {0}`",
        path.display()
    ));
    Ok(Exit::Passed)
}

fn write_new(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let schema = schema_path(folder.unwrap_or(Path::new(".")));
    let mut file = File::create_new(path)?;
    write!(file, "# yaml-language-server: $schema={schema}\n{STARTER}")
}

/// The schema relative to a folder: in it or in one above.
fn schema_path(folder: &Path) -> String {
    let full = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let levels = full
        .ancestors()
        .take(8)
        .position(|above| above.join("schema.json").is_file());
    format!("{}schema.json", "../".repeat(levels.unwrap_or(1)))
}
