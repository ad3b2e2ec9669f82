//! `mmsb gpu replay-bench`.

use mmsb_engine::device::pool::{Gauge, PoolStatistics};
use mmsb_harness::gpu::{
    Failure, Happened, Imported, Replayed, Simulated, Simulation, backends, replay, snapshot,
};
use serde::Serialize;

use super::args::ReplayBenchArgs;
use super::convert::write_file;
use crate::cli::exit::Exit;
use crate::cli::log::{print_json, text};
use crate::cli::output::{BAD, BOLD, CommandError, GOOD, Output, styled, warn};

/// More than this the viewer would not show anyway.
const MAX_SNAPSHOT_EVENTS: usize = 1_000_000;

#[derive(Serialize)]
struct Json<'a> {
    trace: JsonTrace<'a>,
    backends: Vec<JsonBackend<'a>>,
    simulated: JsonSimulated<'a>,
}

#[derive(Serialize)]
struct JsonTrace<'a> {
    format: &'a str,
    notes: &'a [String],
    events: usize,
    allocations: u32,
    peak_requested_bytes: u64,
}

#[derive(Serialize)]
struct JsonBackend<'a> {
    name: &'a str,
    ns_per_event: f64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: u64,
    latencies_ns: Vec<(u64, u64)>,
    failures: u64,
    first_failure: Option<JsonFailure<'a>>,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    event: usize,
    len_bytes: u64,
    reason: &'a str,
}

#[derive(Serialize)]
struct JsonSimulated<'a> {
    memory_bytes: u64,
    granule_bytes: u64,
    fits: bool,
    failures: u64,
    first_failure: Option<JsonFailure<'a>>,
    peak_mapped_bytes: u64,
    mapped_bytes: u64,
    total_mapped_bytes: u64,
    idle_bytes: u64,
    maps_total: u64,
    unmaps_total: u64,
    worst_fragmentation: f64,
    at_peak: JsonFigures,
    at_end: JsonFigures,
}

#[derive(Serialize)]
struct JsonFigures {
    live_pages: u64,
    requested: JsonGauge,
    allocated: JsonGauge,
    held: JsonGauge,
    reserved: JsonGauge,
    hole_bytes: u64,
    largest_hole_bytes: u64,
    slabs: u64,
    external_fragmentation: f64,
    internal_fragmentation: f64,
    classes: Vec<JsonClass>,
}

#[derive(Serialize)]
struct JsonGauge {
    current_bytes: u64,
    peak_bytes: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct JsonClass {
    up_to_bytes: u64,
    live_pages: u64,
    pages_total: u64,
}

/// Replays, simulates, and prints what came of it.
pub(super) fn replay_bench(args: &ReplayBenchArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let imported = super::read(&args.trace)?;
    let replayed = replay_all(args, &imported)?;
    let simulation = Simulation {
        memory_bytes: args.memory,
        granule_bytes: args.granule,
        reserve_bytes: args.reserve.unwrap_or(u64::MAX),
    };
    let mut events = Vec::new();
    let mut too_many = false;
    let simulated = simulation.run(&imported.trace, &mut |number, happened| {
        if args.snapshot.is_some() {
            keep(&mut events, &mut too_many, number, happened);
        }
    });
    if let Some(path) = &args.snapshot {
        if too_many {
            warn(&format!(
                "the snapshot has the state at the end, but no events: there are more than {MAX_SNAPSHOT_EVENTS}"
            ));
            events.clear();
        }
        write_file(path, |file| snapshot::write(file, &simulated, &events))?;
    }
    if args.json {
        print_json(out, &json(&imported, &replayed, &simulation, &simulated))?;
    } else {
        print(&imported, &replayed, &simulation, &simulated, out);
    }
    Ok(if simulated.failures > 0 {
        Exit::Failed
    } else {
        Exit::Passed
    })
}

fn keep(
    events: &mut Vec<(usize, Happened)>,
    too_many: &mut bool,
    number: usize,
    happened: Happened,
) {
    if events.len() < MAX_SNAPSHOT_EVENTS {
        events.push((number, happened));
    } else {
        *too_many = true;
    }
}

fn replay_all(args: &ReplayBenchArgs, imported: &Imported) -> Result<Vec<Replayed>, CommandError> {
    let all = backends();
    let unknown = args
        .backend
        .iter()
        .find(|name| all.iter().all(|(known, _)| known != name));
    if let Some(name) = unknown {
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        return Err(CommandError(format!(
            "this build has no backend {name}; it has {}",
            known.join(" and ")
        )));
    }
    let wanted = all.into_iter().filter(|(name, _)| {
        args.backend.is_empty() || args.backend.iter().any(|wanted| wanted == name)
    });
    wanted
        .map(|(_, make)| {
            let memory_bytes = args.memory;
            replay(&imported.trace, args.repeats, &|| make(memory_bytes))
                .map_err(|refused| CommandError(refused.to_string()))
        })
        .collect()
}

fn print(
    imported: &Imported,
    replayed: &[Replayed],
    simulation: &Simulation,
    simulated: &Simulated,
    out: &mut Output,
) {
    let trace = &imported.trace;
    out.line(format_args!(
        "{} events, {} allocations, at most {} live at once",
        trace.events().len(),
        trace.allocations(),
        text::bytes(trace.peak_bytes())
    ));
    out.line(styled(
        BOLD,
        format_args!(
            "{:12} {:>10} {:>9} {:>9} {:>9}  refused",
            "allocator", "ns/event", "p50 ns", "p99 ns", "max ns"
        ),
    ));
    for replayed in replayed {
        let quantile = |quantile| replayed.latencies.quantile(quantile).unwrap_or(0);
        out.line(format_args!(
            "{:12} {:>10.1} {:>9} {:>9} {:>9}  {}",
            replayed.backend,
            replayed.ns_per_event,
            quantile(0.5),
            quantile(0.99),
            replayed.latencies.max_ns(),
            replayed.failures
        ));
        failure(replayed.first_failure.as_ref(), out);
    }
    out.line(styled(
        BOLD,
        format_args!("simulated GPU of {}", text::bytes(simulation.memory_bytes)),
    ));
    if simulated.failures == 0 {
        out.line(format_args!("  {}", styled(GOOD, "everything fits")));
    } else {
        let what = text::plural(simulated.failures, "allocation");
        out.line(format_args!(
            "  {}",
            styled(BAD, format_args!("{what} did not fit"))
        ));
        failure(simulated.first_failure.as_ref(), out);
    }
    print_simulated(simulated, out);
}

fn print_simulated(simulated: &Simulated, out: &mut Output) {
    let mut line = |name: &str, value: String| out.line(format_args!("  {name:22} {value}"));
    let (peak, mapping) = (&simulated.at_peak, &simulated.mapping);
    line("peak allocated", text::bytes(peak.allocated.current_bytes));
    line(
        "  of it requested",
        text::bytes(peak.requested.current_bytes),
    );
    line("peak mapped", text::bytes(mapping.peak_mapped_bytes));
    line(
        "peak address range",
        text::bytes(simulated.at_end.reserved.peak_bytes),
    );
    line(
        "fragmentation at peak",
        format!(
            "{:.1} % external, {:.1} % internal",
            100.0 * peak.external_fragmentation(),
            100.0 * peak.internal_fragmentation()
        ),
    );
    line(
        "free between pages",
        format!(
            "{} at peak, the longest {}",
            text::bytes(peak.hole_bytes),
            text::bytes(peak.largest_hole_bytes)
        ),
    );
    line(
        "worst fragmentation",
        format!(
            "{:.1} % external, above half of the peak",
            100.0 * simulated.worst_fragmentation
        ),
    );
    line(
        "mapping",
        format!(
            "{} mapped in {}, taken back in {}",
            text::bytes(mapping.total_mapped_bytes),
            text::plural(mapping.maps_total, "call"),
            text::plural(mapping.unmaps_total, "call")
        ),
    );
}

fn failure(failure: Option<&Failure>, out: &mut Output) {
    if let Some(failure) = failure {
        out.line(format_args!(
            "  first: event {}, {} B: {}",
            failure.event, failure.len_bytes, failure.reason
        ));
    }
}

fn json<'a>(
    imported: &'a Imported,
    replayed: &'a [Replayed],
    simulation: &Simulation,
    simulated: &'a Simulated,
) -> Json<'a> {
    let mapping = &simulated.mapping;
    Json {
        trace: JsonTrace {
            format: imported.format,
            notes: &imported.notes,
            events: imported.trace.events().len(),
            allocations: imported.trace.allocations(),
            peak_requested_bytes: imported.trace.peak_bytes(),
        },
        backends: replayed.iter().map(json_backend).collect(),
        simulated: JsonSimulated {
            memory_bytes: simulation.memory_bytes,
            granule_bytes: simulation.granule_bytes,
            fits: simulated.failures == 0,
            failures: simulated.failures,
            first_failure: simulated.first_failure.as_ref().map(json_failure),
            peak_mapped_bytes: mapping.peak_mapped_bytes,
            mapped_bytes: mapping.mapped_bytes,
            total_mapped_bytes: mapping.total_mapped_bytes,
            idle_bytes: mapping.idle_bytes,
            maps_total: mapping.maps_total,
            unmaps_total: mapping.unmaps_total,
            worst_fragmentation: simulated.worst_fragmentation,
            at_peak: json_figures(&simulated.at_peak),
            at_end: json_figures(&simulated.at_end),
        },
    }
}

fn json_backend(replayed: &Replayed) -> JsonBackend<'_> {
    JsonBackend {
        name: replayed.backend,
        ns_per_event: replayed.ns_per_event,
        p50_ns: replayed.latencies.quantile(0.5),
        p99_ns: replayed.latencies.quantile(0.99),
        max_ns: replayed.latencies.max_ns(),
        latencies_ns: replayed.latencies.buckets().collect(),
        failures: replayed.failures,
        first_failure: replayed.first_failure.as_ref().map(json_failure),
    }
}

fn json_failure(failure: &Failure) -> JsonFailure<'_> {
    JsonFailure {
        event: failure.event,
        len_bytes: failure.len_bytes,
        reason: &failure.reason,
    }
}

fn json_figures(figures: &PoolStatistics) -> JsonFigures {
    let gauge = |gauge: &Gauge| JsonGauge {
        current_bytes: gauge.current_bytes,
        peak_bytes: gauge.peak_bytes,
        total_bytes: gauge.total_bytes,
    };
    JsonFigures {
        live_pages: figures.live_pages,
        requested: gauge(&figures.requested),
        allocated: gauge(&figures.allocated),
        held: gauge(&figures.held),
        reserved: gauge(&figures.reserved),
        hole_bytes: figures.hole_bytes,
        largest_hole_bytes: figures.largest_hole_bytes,
        slabs: figures.slabs,
        external_fragmentation: figures.external_fragmentation(),
        internal_fragmentation: figures.internal_fragmentation(),
        classes: figures
            .classes
            .iter()
            .map(|class| JsonClass {
                up_to_bytes: class.up_to_bytes,
                live_pages: class.live_pages,
                pages_total: class.pages_total,
            })
            .collect(),
    }
}
