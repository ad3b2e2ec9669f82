//! What a campaign does in a second of one core: scenarios are made and run as a worker does it, each step compared with the
//! model.
//!
//! `cargo bench -p mmsb-stress --bench campaign [-- CAMPAIGN [SCENARIOS]]`. The time is that of the processor, of all threads
//! together, so a machine that others use too does not change it much.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot run must stop"
)]

use mmsb_stress::campaign::{Campaign, Environment, Job, execute};
use mmsb_stress::monitor;
use mmsb_stress::run;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let campaign: Campaign = words.first().map_or(Campaign::Sim, |word| {
        word.parse().unwrap_or_else(|error| panic!("{error}"))
    });
    let scenarios: u64 = words.get(1).map_or(400, |word| word.parse().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let environment = Environment {
        scratch: scratch.path().to_owned(),
        ..Environment::default()
    };
    let before_s = monitor::processor_s();
    let mut steps = 0;
    let mut costs = Vec::new();
    for number in 0..scenarios {
        let seed = run::seed("bench", campaign, number);
        let job = Job {
            campaign,
            seed,
            canary: false,
        };
        let from_s = monitor::processor_s();
        let done = execute(&job, &environment).unwrap();
        if let Some(found) = done.failure {
            panic!("seed {seed}: {}", found.message);
        }
        costs.push((
            monitor::processor_s() - from_s,
            seed,
            done.steps,
            done.workload,
        ));
        steps += done.steps;
    }
    let took_s = monitor::processor_s() - before_s;
    println!(
        "{campaign}: {scenarios} scenarios, {steps} steps in {took_s:.2} s of processor time: {:.0} steps/s a core",
        steps as f64 / took_s,
    );
    costs.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!("what took longest:");
    for (cost_s, seed, steps, workload) in costs.iter().take(8) {
        println!(
            "  seed {seed} ({workload}): {steps} steps in {:.1} ms",
            cost_s * 1e3
        );
    }
}
