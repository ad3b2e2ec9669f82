//! `mmsb schema`: the JSON Schema of the language.

use std::fs;

use mmsb_harness::scenario::schema_text;

use super::args::SchemaArgs;
use super::exit::Exit;
use super::output::{CommandError, Output, complain};

/// Prints the schema, or compares a file with it.
pub(super) fn schema(args: &SchemaArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let Some(path) = &args.check else {
        out.text(schema_text());
        return Ok(Exit::Passed);
    };
    let found = fs::read(path).map_err(|error| CommandError::file("read", path, &error))?;
    if found == schema_text().as_bytes() {
        out.line(format_args!("{} is up to date", path.display()));
        return Ok(Exit::Passed);
    }
    let path = path.display();
    complain(&format_args!(
        "{path} is out of date; write it with `mmsb schema > {path}`"
    ));
    Ok(Exit::Failed)
}
