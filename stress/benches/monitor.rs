//! What watching costs: a run whose scenarios are empty, with the monitor and without it, taking turns.
//!
//! `cargo bench -p mmsb-stress --bench monitor [-- SECONDS]`. The time is the processor's, of the runner alone; the workers answer
//! at once and do nothing.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot run must stop"
)]

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mmsb_stress::campaign::{Campaign, Done};
use mmsb_stress::monitor;
use mmsb_stress::run::{self, Options};
use mmsb_stress::worker::Reply;

const ROUNDS: u32 = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "worker") {
        return serve();
    }
    let seconds = words.iter().find_map(|word| word.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(10));
    let directory = tempfile::tempdir().unwrap();
    // Processor time a second of the runner, and scenarios a second.
    let mut sums = [(0.0, 0.0); 2];
    for round in 0..ROUNDS {
        for (watches, sum) in [false, true].into_iter().zip(&mut sums) {
            let out = directory.path().join(format!("{round}-{watches}"));
            let (cost_s, scenarios) = empty_run(&out, duration, watches);
            sum.0 += cost_s / duration.as_secs_f64();
            sum.1 += scenarios / duration.as_secs_f64();
        }
    }
    let [without, with] =
        sums.map(|(cost, rate)| (cost / f64::from(ROUNDS), rate / f64::from(ROUNDS)));
    for (name, of) in [("without", without), ("with", with)] {
        println!(
            "{name} the monitor: {:.1} ms of processor time a second, {:.0} empty scenarios a second, {:.1} µs each",
            of.0 * 1e3,
            of.1,
            of.0 / of.1 * 1e6
        );
    }
    // Both runs spend their time on scenarios, as many as they come to: what is left over is the monitor's.
    let watching = with.0 - without.0 / without.1 * with.1;
    println!(
        "watching: {:.2} ms of processor time a second",
        watching * 1e3
    );
}

/// Processor time of the runner in seconds, and scenarios.
fn empty_run(out: &Path, duration: Duration, watches: bool) -> (f64, f64) {
    let mut options = Options::new(out.to_owned(), std::env::current_exe().unwrap());
    options.duration = duration;
    options.campaigns = vec![Campaign::Sim];
    options.canary_every = 0;
    options.jobs = 2;
    options.monitor = watches;
    let before_s = monitor::processor_s();
    let state = run::run(&options, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let cost_s = monitor::processor_s() - before_s;
    assert_eq!(!state.series.samples().is_empty(), watches);
    (cost_s, state.scenarios() as f64)
}

/// Answers every request with a scenario that had no steps; a real one takes at least a millisecond.
fn serve() {
    let reply = serde_json::to_string(&Reply::Done(Done::default())).unwrap() + "\n";
    let mut out = std::io::stdout();
    for _ in std::io::stdin().lines() {
        std::thread::sleep(Duration::from_millis(1));
        out.write_all(reply.as_bytes()).unwrap();
        out.flush().unwrap();
    }
}
