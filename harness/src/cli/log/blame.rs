//! `mmsb log blame`: who last wrote a byte.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mmsb_engine::FileStorage;
use mmsb_engine::inspect::{Blame, BlameError, Inspection, Origin};
use serde::Serialize;

use super::args::BlameArgs;
use super::{failed, inspect, open, print_json};
use crate::cli::exit::Exit;
use crate::cli::output::{BOLD, CommandError, DIM, Output, WARN, styled, warn};

/// What an index beside a directory is called: the name of the directory, and this.
const INDEX_SUFFIX: &str = ".blame-index";

#[derive(Serialize)]
struct Json {
    page: String,
    offset: u64,
    origin: &'static str,
    lsn: Option<u64>,
    file: Option<String>,
    record_offset: Option<u64>,
    byte_offset: Option<u64>,
    by_disconnect: Option<bool>,
    first_lsn: Option<u64>,
    ids: Vec<JsonId>,
    freed: Option<u64>,
    until: u64,
    broken: bool,
}

#[derive(Serialize)]
struct JsonId {
    page: String,
    since: Option<u64>,
}

/// Prints the answer.
pub(super) fn blame(args: &BlameArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let storage = open(&args.directory)?;
    let inspection = inspect(&storage)?;
    let answer = match &args.index {
        None => inspection.blame(args.page, args.offset).map_err(failed)?,
        Some(file) => by_index(args, file.as_deref(), &inspection)?,
    };
    if args.json {
        print_json(out, &json(&answer))?;
    } else {
        print(&answer, out);
    }
    Ok(if answer.is_broken {
        Exit::Failed
    } else {
        Exit::Passed
    })
}

/// Asks the index, which is made first if there is none that fits the log.
fn by_index(
    args: &BlameArgs,
    file: Option<&Path>,
    inspection: &Inspection<'_>,
) -> Result<Blame, CommandError> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => beside(&args.directory)?,
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed("the index needs a file name in UTF-8"))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let storage = FileStorage::existing(folder.unwrap_or(Path::new(".")))
        .map_err(|error| CommandError::file("use", &path, &error))?;
    match inspection.blame_with_index(&storage, name, args.page, args.offset) {
        Err(BlameError::Index { why }) => {
            warn(&format_args!("making {} anew: {why}", path.display()));
        }
        Err(BlameError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        answer => return answer.map_err(failed),
    }
    inspection
        .write_blame_index(&storage, name)
        .and_then(|_| inspection.blame_with_index(&storage, name, args.page, args.offset))
        .map_err(failed)
}

/// The index of a directory, outside of it: inside, everything belongs to the engine.
fn beside(directory: &Path) -> Result<PathBuf, CommandError> {
    let whole = std::fs::canonicalize(directory)
        .map_err(|error| CommandError::file("read", directory, &error))?;
    let name = whole.file_name().ok_or_else(|| {
        failed("a root directory has no place beside it; name a file: --index=FILE")
    })?;
    let mut name = OsString::from(name);
    name.push(INDEX_SUFFIX);
    Ok(whole.with_file_name(name))
}

fn print(answer: &Blame, out: &mut Output) {
    let subject = format!("byte {} of page {}", answer.offset, answer.page);
    let what = match &answer.origin {
        Origin::Written {
            lsn,
            file,
            record_offset,
            byte_offset,
            by_disconnect,
        } => {
            let by = if *by_disconnect {
                "was kept by the disconnect in"
            } else {
                "was written by"
            };
            let byte = byte_offset.map_or_else(
                || "compressed".to_owned(),
                |offset| format!("the byte at {offset}"),
            );
            format!(
                "{by} {}: record at offset {record_offset} of {file}, {byte}",
                styled(BOLD, format_args!("LSN {lsn}"))
            )
        }
        Origin::NeverWritten {
            lsn,
            file,
            record_offset,
        } => format!(
            "was never written: zero since the page was allocated by {}, record at offset {record_offset} of {file}",
            styled(BOLD, format_args!("LSN {lsn}"))
        ),
        Origin::Derived { since: Some(lsn) } => format!(
            "is derived, since {}: it is computed from other pages",
            styled(BOLD, format_args!("LSN {lsn}"))
        ),
        Origin::Derived { since: None } => {
            "is derived, since before the log begins: it is computed from other pages".to_owned()
        }
        Origin::BeforeLog { first_lsn } => format!(
            "was not written since LSN {first_lsn}, where the log begins; what was before is gone"
        ),
        _ => "has an origin of a newer kind".to_owned(),
    };
    out.line(format_args!("{subject} {what}"));
    if answer.ids.len() > 1 {
        let ids: Vec<String> = answer
            .ids
            .iter()
            .map(|(page, since)| match since {
                Some(lsn) => format!("{page} (LSN {lsn})"),
                None => page.to_string(),
            })
            .collect();
        out.line(styled(
            DIM,
            format_args!("the page was transferred: {}", ids.join(", then ")),
        ));
    }
    if let Some(lsn) = answer.freed {
        out.line(format_args!(
            "the page was freed by LSN {lsn}; this is of the moment before"
        ));
    }
    if answer.is_broken {
        out.line(styled(
            WARN,
            format_args!(
                "the log breaks after LSN {}; later transactions are not taken into account",
                answer.until
            ),
        ));
    }
}

fn json(answer: &Blame) -> Json {
    let mut json = Json {
        page: answer.page.to_string(),
        offset: answer.offset,
        origin: "unknown",
        lsn: None,
        file: None,
        record_offset: None,
        byte_offset: None,
        by_disconnect: None,
        first_lsn: None,
        ids: answer
            .ids
            .iter()
            .map(|(page, since)| JsonId {
                page: page.to_string(),
                since: since.map(|lsn| lsn.0),
            })
            .collect(),
        freed: answer.freed.map(|lsn| lsn.0),
        until: answer.until.0,
        broken: answer.is_broken,
    };
    match &answer.origin {
        Origin::Written {
            lsn,
            file,
            record_offset,
            byte_offset,
            by_disconnect,
        } => {
            json.origin = "written";
            json.lsn = Some(lsn.0);
            json.file = Some(file.clone());
            json.record_offset = Some(*record_offset);
            json.byte_offset = *byte_offset;
            json.by_disconnect = Some(*by_disconnect);
        }
        Origin::NeverWritten {
            lsn,
            file,
            record_offset,
        } => {
            json.origin = "never_written";
            json.lsn = Some(lsn.0);
            json.file = Some(file.clone());
            json.record_offset = Some(*record_offset);
        }
        Origin::Derived { since } => {
            json.origin = "derived";
            json.lsn = since.map(|lsn| lsn.0);
        }
        Origin::BeforeLog { first_lsn } => {
            json.origin = "before_log";
            json.first_lsn = Some(first_lsn.0);
        }
        _ => {}
    }
    json
}
