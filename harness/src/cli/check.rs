//! `mmsb check`: every mistake of every file, without running anything.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use mmsb_harness::scenario::{
    Diagnostic, MAX_TRACE_LINE_LEN_BYTES, matrix, parse_file, parse_trace_line,
};

use super::args::CheckArgs;
use super::corpus::find;
use super::exit::Exit;
use super::output::{CommandError, Output};

/// Shows the mistakes of all files, and how many there are.
pub(super) fn check(args: &CheckArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let files = find(&args.paths)?;
    let mut mistakes = 0usize;
    let mut broken = 0usize;
    for file in &files {
        let diagnostics = if file.is_trace() {
            check_trace(&file.path)?
        } else {
            check_scenario(&file.path)
        };
        mistakes = mistakes.saturating_add(diagnostics.len());
        broken = broken.saturating_add(usize::from(!diagnostics.is_empty()));
        for diagnostic in diagnostics {
            out.line(format_args!("{diagnostic}\n"));
        }
    }
    match (files.len(), mistakes) {
        (0, _) => Err(CommandError(
            "there are no scenarios in these paths".to_owned(),
        )),
        (1, 0) => {
            out.line("1 file, no mistakes");
            Ok(Exit::Passed)
        }
        (files, 0) => {
            out.line(format_args!("{files} files, no mistakes"));
            Ok(Exit::Passed)
        }
        (files, mistakes) => {
            let noun = if mistakes == 1 { "mistake" } else { "mistakes" };
            out.line(format_args!(
                "{mistakes} {noun} in {broken} of {files} files"
            ));
            Ok(Exit::Usage)
        }
    }
}

fn check_scenario(path: &Path) -> Vec<Diagnostic> {
    match parse_file(path) {
        Ok(scenario) => matrix::expand(&scenario).err().into_iter().collect(),
        Err(diagnostics) => diagnostics,
    }
}

/// How many mistakes of one trace are shown: a file that is no trace has one on every line.
const MAX_TRACE_MISTAKES: usize = 20;

/// Reads a trace line by line, so that its length does not matter.
fn check_trace(path: &Path) -> Result<Vec<Diagnostic>, CommandError> {
    let failed = |error| CommandError::file("read", path, &error);
    let label = path.display().to_string();
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut diagnostics = Vec::new();
    let mut line = Vec::new();
    let mut number = 0u32;
    while diagnostics.len() < MAX_TRACE_MISTAKES {
        line.clear();
        number = number.saturating_add(1);
        // One byte more than a line may have, and its break, so that a longer one shows.
        let limit = MAX_TRACE_LINE_LEN_BYTES as u64 + 2;
        let mut limited = std::io::Read::take(&mut reader, limit);
        if limited.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        let too_long = text.len() > MAX_TRACE_LINE_LEN_BYTES;
        if !text.trim().is_empty() {
            diagnostics.extend(parse_trace_line(&label, number, text).err());
        }
        if too_long {
            break;
        }
    }
    Ok(diagnostics)
}
