//! `mmsb log verify`: what there is, what is wrong with it, and what opening would do.

use mmsb_engine::inspect::{FileKind, FileSurvey, Head, SpanKind, Survey, Verdict};
use serde::Serialize;

use super::args::DirectoryArgs;
use super::{failed, inspect, open, print_json, text};
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, BOLD, CommandError, DIM, GOOD, Output, WARN, styled};

#[derive(Serialize)]
struct Json<'a> {
    directory: &'a str,
    identity: Option<String>,
    clean: bool,
    verdict: &'static str,
    message: String,
    last_lsn: Option<u64>,
    checkpoint: Option<u64>,
    durable_lsn: Option<u64>,
    durable_evidence: Option<&'a str>,
    missing: &'a [String],
    files: Vec<JsonFile<'a>>,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    name: &'a str,
    kind: &'static str,
    len_bytes: u64,
    fault: Option<String>,
    damage: &'a [String],
    first_lsn: Option<u64>,
    last_lsn: Option<u64>,
    spans: Vec<JsonSpan>,
}

#[derive(Serialize)]
struct JsonSpan {
    offset: u64,
    len_bytes: u64,
    kind: &'static str,
    transactions: u64,
    first_lsn: Option<u64>,
    last_lsn: Option<u64>,
}

/// Prints the survey of a directory.
pub(super) fn verify(args: &DirectoryArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let storage = open(&args.directory)?;
    let survey = inspect(&storage)?.survey().map_err(failed)?;
    if args.json {
        print_json(out, &json(&survey))?;
    } else {
        let way_out = format!(
            "mmsb log salvage {0} {0}.salvaged",
            args.directory.display()
        );
        print(&survey, &way_out, out);
    }
    Ok(if survey.is_clean() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

fn print(survey: &Survey, way_out: &str, out: &mut Output) {
    let width = survey
        .files
        .iter()
        .map(|file| file.info.name.len())
        .max()
        .unwrap_or(0);
    for file in &survey.files {
        let name = format!("{:width$}", file.info.name);
        out.line(format_args!(
            "{name}  {:>10}  {}",
            text::bytes(file.info.len_bytes),
            describe(file)
        ));
        if let Some(fault) = &file.info.fault {
            out.line(format_args!("  {}", styled(BAD, fault)));
        }
        for damage in &file.damage {
            out.line(format_args!("  {}", styled(BAD, damage)));
        }
    }
    for missing in &survey.missing {
        out.line(format_args!("{missing:width$}  {}", styled(BAD, "missing")));
    }
    if let Some((lsn, evidence)) = &survey.durable {
        out.line(styled(
            DIM,
            format_args!("durable up to LSN {lsn}, says {evidence}"),
        ));
    }
    let (style, message) = match &survey.verdict {
        Verdict::Refused(_) => (BAD, message(&survey.verdict)),
        _ if survey.is_clean() => (GOOD, message(&survey.verdict)),
        _ => (WARN, message(&survey.verdict)),
    };
    out.line(format_args!(
        "{} {}",
        styled(BOLD, "verdict:"),
        styled(style, message)
    ));
    if !survey.is_clean() {
        out.line(format_args!("{} {way_out}", styled(BOLD, "way out:")));
    }
}

/// What stands in a file, in a few words.
fn describe(file: &FileSurvey) -> String {
    match (file.info.kind, &file.info.head) {
        (FileKind::Segment(_), _) => {
            let count = |kind| -> u64 {
                let spans = file.spans.iter().filter(|span| span.kind == kind);
                spans.map(|span| span.transactions).sum()
            };
            let stranded = count(SpanKind::Stranded);
            let total = stranded + count(SpanKind::Records);
            let closed = file.spans.iter().any(|span| span.closes > 0);
            let mut words = format!(
                "{} in {}",
                text::plural(total, "record"),
                text::lsns(file.lsns)
            );
            if total == 0 {
                words = "no record".to_owned();
            }
            if closed {
                words += ", closed";
            }
            if stranded > 0 {
                words += &format!(", {stranded} of them behind a gap");
            }
            words
        }
        (
            _,
            Some(Head::Manifest {
                replay_after,
                pages,
                images,
                ..
            }),
        ) => format!(
            "checkpoint as of LSN {replay_after}, {}, {}",
            text::plural(*pages, "page"),
            text::plural(images.len() as u64, "image file")
        ),
        (_, Some(Head::CloseMark { lsn })) => format!("closed at LSN {lsn}"),
        (FileKind::Images(_), _) => text::plural(file.images, "image"),
        (FileKind::Spare(_), _) => "waits to become a segment".to_owned(),
        (FileKind::Unfinished, _) => "never finished".to_owned(),
        (FileKind::Other, _) => "not of the engine".to_owned(),
        _ => String::new(),
    }
}

fn message(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NoLog => "there is no log; opening creates one".to_owned(),
        Verdict::Opens {
            last_lsn,
            checkpoint,
            torn,
            warnings,
            ..
        } => {
            let mut words = format!("opens as of LSN {last_lsn}");
            if let Some(lsn) = checkpoint {
                words += &format!(", from the checkpoint as of LSN {lsn}");
            }
            if let Some(torn) = torn {
                words += &format!(
                    "; torn: LSN {} at offset {} of {} is cut off, nothing says that it was durable",
                    torn.lsn, torn.offset, torn.file
                );
            }
            for warning in warnings {
                words += &format!("; {warning}");
            }
            words
        }
        Verdict::Refused(error) => format!("opening is refused: {error}"),
        _ => format!("{verdict:?}"),
    }
}

fn json(survey: &Survey) -> Json<'_> {
    let (verdict, last_lsn, checkpoint) = match &survey.verdict {
        Verdict::NoLog => ("no log", None, None),
        Verdict::Opens {
            last_lsn,
            checkpoint,
            torn,
            ..
        } => {
            let word = if torn.is_some() { "torn" } else { "opens" };
            (word, Some(last_lsn.0), checkpoint.map(|lsn| lsn.0))
        }
        Verdict::Refused(error) => (error.kind(), None, None),
        _ => ("unknown", None, None),
    };
    Json {
        directory: &survey.place,
        identity: survey.identity.map(|identity| text::hex(&identity)),
        clean: survey.is_clean(),
        verdict,
        message: message(&survey.verdict),
        last_lsn,
        checkpoint,
        durable_lsn: survey.durable.as_ref().map(|(lsn, _)| lsn.0),
        durable_evidence: survey.durable.as_ref().map(|(_, who)| who.as_str()),
        missing: &survey.missing,
        files: survey.files.iter().map(json_file).collect(),
    }
}

fn json_file(file: &FileSurvey) -> JsonFile<'_> {
    let spans = file.spans.iter().map(|span| JsonSpan {
        offset: span.offset,
        len_bytes: span.len_bytes,
        kind: match span.kind {
            SpanKind::Header => "header",
            SpanKind::Records => "records",
            SpanKind::Stranded => "stranded",
            SpanKind::Zeros => "zeros",
            SpanKind::Unknown => "unknown",
            SpanKind::Unreadable => "unreadable",
            _ => "unused",
        },
        transactions: span.transactions,
        first_lsn: span.lsns.map(|(first, _)| first.0),
        last_lsn: span.lsns.map(|(_, last)| last.0),
    });
    JsonFile {
        name: &file.info.name,
        kind: match file.info.kind {
            FileKind::Segment(_) => "segment",
            FileKind::Spare(_) => "spare",
            FileKind::Manifest(_) => "manifest",
            FileKind::Images(_) => "images",
            FileKind::CloseMark => "close-mark",
            FileKind::Unfinished => "unfinished",
            _ => "other",
        },
        len_bytes: file.info.len_bytes,
        fault: file.info.fault.as_ref().map(ToString::to_string),
        damage: &file.damage,
        first_lsn: file.lsns.map(|(first, _)| first.0),
        last_lsn: file.lsns.map(|(_, last)| last.0),
        spans: spans.collect(),
    }
}
