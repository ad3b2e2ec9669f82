//! Steps of a scenario on simulated storage, each compared with the model: what generated work costs.
//!
//! `cargo bench -p mmsb-harness --bench steps`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot run must stop"
)]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mmsb_harness::scenario::{matrix, parse_str};
use mmsb_harness::world::{self, Context, Verdict};

const SCENARIOS: [(&str, &str); 2] = [
    (
        "write_and_commit",
        "
version: 1
pages: {a: 4KiB}
steps:
  - repeat: {times: 50000, as: i, steps: [{write: {page: a, at: \"i * 8 % 4096\", hex: \"0102030405060708\"}}, commit: memory]}
  - expect: {page: a, at: 0, hex: \"0102030405060708\"}
",
    ),
    (
        "derived_sync_and_crash",
        "
version: 1
pages: {a: 256, b: {derive: {copy: a}}}
steps:
  - repeat:
      times: 5000
      as: i
      steps: [{write: {page: a, at: \"i % 256\", u8: [7]}}, commit: sync, {write: {page: a, u8: [1]}}, commit: memory]
  - crash
  - open
  - expect: {page: b, at: 255, u8: [7]}
",
    ),
];

fn steps(criterion: &mut Criterion) {
    for (name, text) in SCENARIOS {
        let scenario = parse_str(name, text).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
        let cell = matrix::expand(&scenario).unwrap().remove(0);
        let run = || {
            let outcome = world::run(&scenario, &cell, &Context::default());
            match outcome.verdict {
                Verdict::Passed => outcome.steps,
                Verdict::Failed(failure) => panic!("{failure}"),
            }
        };
        let mut group = criterion.benchmark_group("steps");
        group.throughput(Throughput::Elements(run()));
        group.bench_function(name, |bencher| bencher.iter(run));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(5)).sample_size(20);
    targets = steps
}
criterion_main!(benches);
