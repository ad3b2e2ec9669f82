//! `mmsb log stats`: figures of a log.

use mmsb_engine::inspect::{Histogram, Stats};
use serde::Serialize;

use super::args::StatsArgs;
use super::{inspect, open, print_json, text};
use crate::cli::exit::Exit;
use crate::cli::output::{BOLD, CommandError, DIM, Output, styled};

/// Width of the longest bar of a histogram.
const BAR_WIDTH: u64 = 40;

#[derive(Serialize)]
struct Json<'a> {
    files: Vec<JsonKind>,
    records: u64,
    transactions: u64,
    transaction_bytes: u64,
    payload_bytes: u64,
    compressed_transactions: u64,
    compressed_bytes: u64,
    uncompressed_bytes: u64,
    overhead_bytes: u64,
    padding_bytes: u64,
    runs: u64,
    first_lsn: Option<u64>,
    last_lsn: Option<u64>,
    durable_lsn: u64,
    operations: JsonOperations,
    largest: Option<JsonLargest<'a>>,
    run_lengths: Vec<JsonBucket>,
    record_lengths: Vec<JsonBucket>,
    written_pages: u64,
    top_pages: Vec<JsonPage>,
    checkpoints: Vec<JsonCheckpoint>,
}

#[derive(Serialize)]
struct JsonKind {
    kind: &'static str,
    files: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonOperations {
    allocate: u64,
    free: u64,
    transfer: u64,
    connect: u64,
    disconnect: u64,
    annotate: u64,
}

#[derive(Serialize)]
struct JsonLargest<'a> {
    lsn: u64,
    file: &'a str,
    offset: u64,
    len_bytes: u64,
}

#[derive(Serialize)]
struct JsonBucket {
    from_bytes: u64,
    count: u64,
}

#[derive(Serialize)]
struct JsonPage {
    page: String,
    writes: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonCheckpoint {
    sequence: u64,
    replay_after: u64,
    pages: u64,
    chain_files: u64,
    chain_bytes: u64,
}

/// Counts, and prints the figures.
pub(super) fn stats(args: &StatsArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let storage = open(&args.common.directory)?;
    let stats = inspect(&storage)?.stats(args.top);
    if args.common.json {
        print_json(out, &json(&stats))?;
    } else {
        print(&stats, out);
    }
    Ok(Exit::Passed)
}

fn print(stats: &Stats, out: &mut Output) {
    out.line(styled(BOLD, "on disk"));
    for kind in &stats.kinds {
        out.line(format_args!(
            "  {:12} {:>6}  {:>10}",
            kind.kind,
            kind.files,
            text::bytes(kind.bytes)
        ));
    }
    out.line(styled(BOLD, "log"));
    let line = |out: &mut Output, name: &str, value: String| {
        out.line(format_args!("  {name:12} {value}"));
    };
    line(out, "range", text::lsns(stats.lsns));
    line(out, "durable", format!("up to LSN {}", stats.durable_lsn));
    line(
        out,
        "transactions",
        format!(
            "{}, {}",
            stats.transactions,
            text::bytes(stats.transaction_bytes)
        ),
    );
    line(
        out,
        "writes",
        format!("{}, {}", stats.runs, text::bytes(stats.payload_bytes)),
    );
    if stats.compressed > 0 {
        line(
            out,
            "compressed",
            format!(
                "{}, {} of {}",
                text::plural(stats.compressed, "transaction"),
                text::bytes(stats.compressed_bytes),
                text::bytes(stats.uncompressed_bytes)
            ),
        );
    }
    let overhead = overhead_bytes(stats);
    line(
        out,
        "overhead",
        format!(
            "{}, and {} of padding",
            text::bytes(overhead),
            text::bytes(stats.padding_bytes)
        ),
    );
    let counts = &stats.operations;
    line(
        out,
        "operations",
        format!(
            "allocate {}, free {}, transfer {}, connect {}, disconnect {}, annotate {}",
            counts.allocate,
            counts.free,
            counts.transfer,
            counts.connect,
            counts.disconnect,
            counts.annotate
        ),
    );
    if let Some((lsn, file, offset, len_bytes)) = &stats.largest {
        line(
            out,
            "largest",
            format!(
                "LSN {lsn}, {} at offset {offset} of {file}",
                text::bytes(*len_bytes)
            ),
        );
    }
    histogram("lengths of writes", &stats.run_lengths, out);
    histogram("lengths of transactions", &stats.record_lengths, out);
    if !stats.top_pages.is_empty() {
        out.line(styled(
            BOLD,
            format_args!("pages ({} were written to)", stats.written_pages),
        ));
        for page in &stats.top_pages {
            out.line(format_args!(
                "  {:12} {:>8} writes  {:>10}",
                page.page.to_string(),
                page.writes,
                text::bytes(page.bytes)
            ));
        }
    }
    if !stats.checkpoints.is_empty() {
        out.line(styled(BOLD, "checkpoints"));
        for checkpoint in &stats.checkpoints {
            out.line(format_args!(
                "  {:<12} as of LSN {}, {}, {} of {}",
                checkpoint.sequence,
                checkpoint.replay_after,
                text::plural(checkpoint.pages, "page"),
                text::plural(checkpoint.chain_files, "image file"),
                text::bytes(checkpoint.chain_bytes)
            ));
        }
    }
}

/// What transactions take besides what they write, were none of it compressed.
const fn overhead_bytes(stats: &Stats) -> u64 {
    let saved = stats
        .uncompressed_bytes
        .saturating_sub(stats.compressed_bytes);
    (stats.transaction_bytes.saturating_add(saved)).saturating_sub(stats.payload_bytes)
}

fn histogram(title: &str, histogram: &Histogram, out: &mut Output) {
    let most = histogram.buckets().map(|(_, count)| count).max();
    let Some(most) = most.filter(|most| *most > 0) else {
        return;
    };
    out.line(styled(BOLD, title));
    for (from, count) in histogram.buckets() {
        let width = usize::try_from((count * BAR_WIDTH).div_ceil(most)).unwrap_or(0);
        out.line(format_args!(
            "  {:>8} up  {count:>10}  {}",
            text::bytes(from),
            styled(DIM, "#".repeat(width))
        ));
    }
}

fn json(stats: &Stats) -> Json<'_> {
    let buckets = |histogram: &Histogram| {
        histogram
            .buckets()
            .map(|(from_bytes, count)| JsonBucket { from_bytes, count })
            .collect()
    };
    let counts = &stats.operations;
    Json {
        files: stats
            .kinds
            .iter()
            .map(|kind| JsonKind {
                kind: kind.kind,
                files: kind.files,
                bytes: kind.bytes,
            })
            .collect(),
        records: stats.records,
        transactions: stats.transactions,
        transaction_bytes: stats.transaction_bytes,
        payload_bytes: stats.payload_bytes,
        compressed_transactions: stats.compressed,
        compressed_bytes: stats.compressed_bytes,
        uncompressed_bytes: stats.uncompressed_bytes,
        overhead_bytes: overhead_bytes(stats),
        padding_bytes: stats.padding_bytes,
        runs: stats.runs,
        first_lsn: stats.lsns.map(|(first, _)| first.0),
        last_lsn: stats.lsns.map(|(_, last)| last.0),
        durable_lsn: stats.durable_lsn.0,
        operations: JsonOperations {
            allocate: counts.allocate,
            free: counts.free,
            transfer: counts.transfer,
            connect: counts.connect,
            disconnect: counts.disconnect,
            annotate: counts.annotate,
        },
        largest: stats
            .largest
            .as_ref()
            .map(|(lsn, file, offset, len_bytes)| JsonLargest {
                lsn: lsn.0,
                file,
                offset: *offset,
                len_bytes: *len_bytes,
            }),
        run_lengths: buckets(&stats.run_lengths),
        record_lengths: buckets(&stats.record_lengths),
        written_pages: stats.written_pages,
        top_pages: stats
            .top_pages
            .iter()
            .map(|page| JsonPage {
                page: page.page.to_string(),
                writes: page.writes,
                bytes: page.bytes,
            })
            .collect(),
        checkpoints: stats
            .checkpoints
            .iter()
            .map(|checkpoint| JsonCheckpoint {
                sequence: checkpoint.sequence,
                replay_after: checkpoint.replay_after.0,
                pages: checkpoint.pages,
                chain_files: checkpoint.chain_files,
                chain_bytes: checkpoint.chain_bytes,
            })
            .collect(),
    }
}
