//! Every device passes the same checks: host, simulated with several seeds, and CUDA, on a GPU or on the simulated driver
//! (`ci/simulated-driver`).
//!
//! Without a GPU the tests of CUDA are listed as ignored, with the reason; see `gpu` for `MMSB_GPU`.
#![allow(
    clippy::unwrap_used,
    clippy::field_reassign_with_default,
    reason = "a test that fails panics; options can grow"
)]

mod conformance;
mod device;
mod gpu;

use std::sync::Arc;

use conformance::{Check, checks};
use gpu::Gpu;
use libtest_mimic::{Arguments, Trial};
use mmsb_engine::device::{Device, HostDevice, SimulatedDevice, SimulatedOptions};

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    // The simulated driver is one for the process, and so is what it found to be wrong.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let mut trials = Vec::new();
    for check in checks() {
        trials.push(on("host", check, open_host));
        for seed in [0, 1, 2] {
            let open = move |memory_bytes| open_simulated(seed, memory_bytes);
            trials.push(on(&format!("simulated-{seed}"), check, open));
        }
        trials.extend(on_cuda(check));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn on(
    kind: &str,
    (name, check): Check,
    open: impl Fn(u64) -> Arc<dyn Device> + Send + 'static,
) -> Trial {
    Trial::test(format!("{kind}::{name}"), move || {
        check(&open);
        Ok(())
    })
}

fn open_host(memory_bytes: u64) -> Arc<dyn Device> {
    Arc::new(HostDevice::new(memory_bytes).unwrap())
}

fn open_simulated(seed: u64, memory_bytes: u64) -> Arc<dyn Device> {
    let options = SimulatedOptions {
        seed,
        memory_bytes,
        reserved_bytes: 4 * memory_bytes,
        ..SimulatedOptions::default()
    };
    Arc::new(SimulatedDevice::new(&options).unwrap())
}

/// The check on CUDA: once on a GPU, with several orders of work on the simulated driver.
fn on_cuda((name, check): Check) -> Vec<Trial> {
    let reason = match gpu::gpu() {
        Gpu::Run => String::new(),
        Gpu::Skip(reason) => reason,
    };
    let trial = move |seed: u64| {
        Trial::test(format!("cuda-{seed}::{name}"), move || {
            run_on_cuda(seed, check);
            Ok(())
        })
        .with_ignored_flag(!reason.is_empty())
        .with_kind(reason.clone())
    };
    (0..if is_simulated() { 3 } else { 1 }).map(trial).collect()
}

#[cfg(not(feature = "cuda"))]
fn is_simulated() -> bool {
    false
}

#[cfg(not(feature = "cuda"))]
fn run_on_cuda(_seed: u64, check: fn(conformance::Open<'_>)) {
    check(&gpu::open);
}

#[cfg(feature = "cuda")]
fn is_simulated() -> bool {
    !matches!(gpu::gpu(), Gpu::Skip(_)) && gpu::Simulation::find().is_some()
}

#[cfg(feature = "cuda")]
fn run_on_cuda(seed: u64, check: fn(conformance::Open<'_>)) {
    use mmsb_engine::device::cuda::take_closing_error;

    let Some(simulation) = gpu::Simulation::find() else {
        check(&gpu::open);
        assert_eq!(take_closing_error(), None);
        return;
    };
    let before = simulation.violations().len();
    check(&|memory_bytes| {
        let device = gpu::open(memory_bytes);
        simulation.seed(seed);
        device
    });
    assert_eq!(take_closing_error(), None);
    let found = simulation.violations().split_off(before);
    assert!(found.is_empty(), "{found:#?}");
}
