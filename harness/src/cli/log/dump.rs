//! `mmsb log dump`: a log record by record.

use mmsb_engine::Lsn;
use mmsb_engine::inspect::{Entry, GapKind, Inspection, Operation, Record, RecordKind, RunInfo};
use serde::Serialize;

use super::args::{DumpArgs, PageFilter};
use super::{failed, open, print_json, text};
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, BOLD, CommandError, DIM, Output, styled};

/// Bytes of a write that are shown in one line.
const LINE_BYTES: usize = 32;

#[derive(Serialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Json<'a> {
    Segment {
        file: &'a str,
        fault: Option<&'a str>,
    },
    Missing {
        file: &'a str,
    },
    Gap {
        file: &'a str,
        offset: u64,
        len_bytes: u64,
        kind: &'static str,
    },
    Record {
        file: &'a str,
        offset: u64,
        len_bytes: u64,
        kind: &'static str,
        lsn: u64,
        durable_lsn: u64,
        in_order: bool,
        /// Length of the writes in the segment and uncompressed, if they are compressed.
        #[serde(skip_serializing_if = "Option::is_none")]
        compressed: Option<(u64, u64)>,
        operations: Vec<String>,
        runs: Vec<JsonRun>,
        malformed: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct JsonRun {
    page: String,
    offset: u64,
    len_bytes: u64,
    file_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// Prints the entries of a log as they are read.
pub(super) fn dump(args: &DumpArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let storage = open(&args.common.directory)?;
    let inspection = Inspection::new(&storage).map_err(failed)?;
    // The output itself shows how far it is.
    let entries = match args.from {
        Some(lsn) => inspection.entries_from(lsn),
        None => inspection.entries(),
    };
    let mut exit = Exit::Passed;
    for entry in entries {
        if is_damage(&entry) {
            exit = Exit::Failed;
        }
        if !is_wanted(&entry, args) {
            continue;
        }
        if args.common.json {
            print_json(out, &json(&entry, args, &inspection)?)?;
        } else {
            print(&entry, args, &inspection, out)?;
        }
        if out.is_closed() {
            break;
        }
    }
    Ok(exit)
}

fn is_damage(entry: &Entry) -> bool {
    match entry {
        Entry::Segment { fault, .. } => fault.is_some(),
        Entry::Missing { .. } => true,
        Entry::Record(record) => !record.in_order || record.malformed.is_some(),
        Entry::Gap { kind, .. } => *kind == GapKind::Unreadable,
        _ => false,
    }
}

fn is_wanted(entry: &Entry, args: &DumpArgs) -> bool {
    let Entry::Record(record) = entry else {
        // Where the end is open, gaps may be part of what is asked for.
        return args.page.is_none() && args.to.is_none() && args.from.is_none();
    };
    let is_in_range = args.from.is_none_or(|from| record.lsn >= from)
        && args.to.is_none_or(|to| record.lsn <= to);
    is_in_range && args.page.is_none_or(|page| concerns(record, page))
}

fn concerns(record: &Record, filter: PageFilter) -> bool {
    let takes = |operation: &Operation| match operation {
        Operation::Transfer { old, new } => filter.takes(*old) || filter.takes(*new),
        Operation::Connect { child, parents, .. } => {
            filter.takes(*child) || parents.iter().any(|parent| filter.takes(*parent))
        }
        _ => filter.takes(operation.page()),
    };
    record.runs.iter().any(|run| filter.takes(run.page)) || record.operations.iter().any(takes)
}

const fn kind_of(record: &Record) -> &'static str {
    match record.kind {
        RecordKind::Transaction => "transaction",
        RecordKind::Padding => "padding",
        RecordKind::Close => "close",
        _ => "other",
    }
}

const fn gap_word(kind: GapKind) -> &'static str {
    match kind {
        GapKind::Zeros => "zeros",
        GapKind::Unreadable => "unreadable",
        _ => "unknown",
    }
}

fn print(
    entry: &Entry,
    args: &DumpArgs,
    inspection: &Inspection<'_>,
    out: &mut Output,
) -> Result<(), CommandError> {
    match entry {
        Entry::Segment { file, fault } => {
            out.line(styled(BOLD, file));
            if let Some(fault) = fault {
                out.line(format_args!("  {}", styled(BAD, fault)));
            }
        }
        Entry::Missing { file } => {
            out.line(format_args!("{file} {}", styled(BAD, "is missing")));
        }
        Entry::Gap {
            offset,
            len_bytes,
            kind,
            ..
        } => {
            let what = match kind {
                GapKind::Zeros => styled(DIM, "zeros"),
                GapKind::Unreadable => styled(BAD, "cannot be read"),
                _ => styled(BAD, "no record"),
            };
            out.line(format_args!("  @{offset:<10} {len_bytes:>9} B  {what}"));
        }
        Entry::Record(record) => print_record(record, args, inspection, out)?,
        _ => {}
    }
    Ok(())
}

fn print_record(
    record: &Record,
    args: &DumpArgs,
    inspection: &Inspection<'_>,
    out: &mut Output,
) -> Result<(), CommandError> {
    let head = format!("  @{:<10} {:>9} B", record.offset, record.len_bytes);
    let durable = match record.durable_lsn {
        Lsn::ZERO => String::new(),
        lsn => styled(DIM, format_args!("  durable {lsn}")),
    };
    let stranded = if record.in_order {
        String::new()
    } else {
        styled(BAD, "  behind a gap")
    };
    match record.kind {
        RecordKind::Transaction => {
            out.line(format_args!(
                "{head}  LSN {}{durable}{stranded}",
                record.lsn
            ));
        }
        _ => out.line(format_args!(
            "{head}  {} after LSN {}{durable}{stranded}",
            kind_of(record),
            record.lsn
        )),
    }
    for operation in &record.operations {
        out.line(format_args!("      {}", text::operation(operation)));
    }
    if let Some(compressed) = &record.compression {
        let (stored, whole) = (compressed.stored_bytes, compressed.stream_bytes);
        out.line(format_args!("      compressed, {stored} of {whole} B"));
    }
    let stream = stream_of(record, args, inspection)?;
    for run in &record.runs {
        out.line(format_args!(
            "      write {} {}+{}",
            run.page, run.offset, run.len_bytes
        ));
        if args.hex {
            print_bytes(bytes_of(&stream, run), run.offset, out);
        }
    }
    if let Some(malformed) = &record.malformed {
        out.line(format_args!("      {}", styled(BAD, malformed)));
    }
    Ok(())
}

fn print_bytes(bytes: &[u8], offset: u64, out: &mut Output) {
    for (number, line) in bytes.chunks(LINE_BYTES).enumerate() {
        let at = offset + (number * LINE_BYTES) as u64;
        out.line(format_args!("        {at:08x}  {}", text::hex(line)));
    }
}

/// The writes of a record, if their bytes are to be shown.
fn stream_of(
    record: &Record,
    args: &DumpArgs,
    inspection: &Inspection<'_>,
) -> Result<Vec<u8>, CommandError> {
    if !args.hex || record.runs.is_empty() {
        return Ok(Vec::new());
    }
    inspection.stream(record).map_err(failed)
}

fn bytes_of<'s>(stream: &'s [u8], run: &RunInfo) -> &'s [u8] {
    let bytes = || {
        let start = usize::try_from(run.stream_offset).ok()?;
        stream
            .get(start..)?
            .get(..usize::try_from(run.len_bytes).ok()?)
    };
    bytes().unwrap_or_default()
}

fn json<'a>(
    entry: &'a Entry,
    args: &DumpArgs,
    inspection: &Inspection<'_>,
) -> Result<Json<'a>, CommandError> {
    Ok(match entry {
        Entry::Segment { file, fault } => Json::Segment {
            file,
            fault: fault.as_deref(),
        },
        Entry::Gap {
            file,
            offset,
            len_bytes,
            kind,
        } => Json::Gap {
            file,
            offset: *offset,
            len_bytes: *len_bytes,
            kind: gap_word(*kind),
        },
        Entry::Record(record) => Json::Record {
            file: &record.file,
            offset: record.offset,
            len_bytes: record.len_bytes,
            kind: kind_of(record),
            lsn: record.lsn.0,
            durable_lsn: record.durable_lsn.0,
            in_order: record.in_order,
            compressed: (record.compression.as_ref())
                .map(|compressed| (compressed.stored_bytes, compressed.stream_bytes)),
            operations: record.operations.iter().map(text::operation).collect(),
            runs: {
                let stream = stream_of(record, args, inspection)?;
                let run = |run: &RunInfo| JsonRun {
                    page: run.page.to_string(),
                    offset: run.offset,
                    len_bytes: run.len_bytes,
                    file_offset: run.file_offset,
                    hex: args.hex.then(|| text::hex(bytes_of(&stream, run))),
                };
                record.runs.iter().map(run).collect()
            },
            malformed: record.malformed.as_deref(),
        },
        Entry::Missing { file } => Json::Missing { file },
        _ => Json::Missing { file: "" },
    })
}
