//! The CUDA device when the driver fails, on the simulated driver: faults that no GPU shows when one wants them.
//!
//! Run with `ci/simulated-driver`; without the simulated driver all of it is listed as ignored.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::field_reassign_with_default,
    reason = "a test that fails panics; a child process prints what it sees; options can grow"
)]

mod device;
mod gpu;

use std::process::Command;

use device::{Pinned, finish, perform};
use gpu::{Simulation, open_cuda, options};
use libtest_mimic::{Arguments, Trial};
use mmsb_engine::device::cuda::{CudaDevice, CudaOptions, take_closing_error};
use mmsb_engine::device::layout::{Tile, TileRun, sum64};
use mmsb_engine::device::{Device, DeviceError, DeviceKind, Queue, Work};

const MEMORY_BYTES: u64 = 8 << 20;
const CHILD: &str = "MMSB_TEST_CHILD";

type Test = (&'static str, fn(Simulation));

const TESTS: &[Test] = &[
    ("says_what_it_runs_on", says_what_it_runs_on),
    (
        "what_keeps_a_device_from_being_used_is_said",
        what_keeps_a_device_from_being_used_is_said,
    ),
    (
        "opening_gives_back_what_it_took_wherever_it_fails",
        opening_gives_back_what_it_took,
    ),
    (
        "mapping_gives_back_what_it_took_wherever_it_fails",
        mapping_gives_back_what_it_took,
    ),
    (
        "pinning_that_is_refused_breaks_nothing",
        pinning_that_is_refused_breaks_nothing,
    ),
    ("a_launch_that_is_refused", a_launch_that_is_refused),
    ("a_kernel_that_fails", a_kernel_that_fails),
    (
        "a_copy_that_arrives_wrong_is_seen_in_its_sum",
        a_copy_that_arrives_wrong,
    ),
    (
        "a_copy_that_arrives_late_is_seen_in_its_sum",
        a_copy_that_arrives_late,
    ),
    ("a_device_that_is_lost", a_device_that_is_lost),
    ("a_tile_between_mapped_ranges", a_tile_between_mapped_ranges),
    (
        "errors_of_closing_can_be_asked_for",
        errors_of_closing_can_be_asked_for,
    ),
    (
        "spare_memory_is_kept_and_given_back",
        spare_memory_is_kept_and_given_back,
    ),
];

fn main() -> std::process::ExitCode {
    if std::env::var_os(CHILD).is_some() {
        open_in_child();
        return std::process::ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Faults strike the whole process.
    arguments.test_threads = Some(1);
    let simulation = match gpu::gpu() {
        gpu::Gpu::Run => Simulation::find(),
        gpu::Gpu::Skip(_) => None,
    };
    let trials = TESTS.iter().map(|(name, test)| {
        let trial = Trial::test(*name, move || {
            run(*test);
            Ok(())
        });
        match simulation {
            Some(_) => trial,
            None => trial
                .with_ignored_flag(true)
                .with_kind("needs the simulated driver"),
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(test: fn(Simulation)) {
    let simulation = Simulation::find().unwrap();
    // Faults are known to a driver that was initialized.
    CudaDevice::look(0).unwrap();
    simulation.inject("");
    test(simulation);
    assert_eq!(take_closing_error(), None);
}

fn says_what_it_runs_on(_: Simulation) {
    let info = open_cuda(MEMORY_BYTES).info();
    assert_eq!(info.kind, DeviceKind::CudaOnSimulatedDriver);
    assert_eq!(info.name, "MMSB simulated driver");
    assert_eq!(info.driver, "CUDA 12.0, compute capability 7.5");
    assert_eq!(
        (info.memory_bytes, info.granule_bytes),
        (MEMORY_BYTES, 2 << 20)
    );
}

/// Says on the standard output how opening went, and what is left afterwards.
fn open_in_child() {
    match CudaDevice::open(0, &CudaOptions::default()) {
        Ok(device) => println!("open: {}", device.info().name),
        Err(error) => println!("{}: {error}", error.kind()),
    }
    let violations = Simulation::find().map(|simulation| simulation.violations());
    println!("violations: {:?}", violations.unwrap_or_default());
}

fn what_keeps_a_device_from_being_used_is_said(_: Simulation) {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "open: MMSB simulated driver"),
        (
            &[("LD_LIBRARY_PATH", "/nonexistent")],
            "device.unavailable: no cuda device: the CUDA driver (libcuda) is not installed",
        ),
        (&[("MMSB_SIM_DEVICES", "0")], "CUDA_ERROR_NO_DEVICE, 100"),
        (
            &[("MMSB_SIM_VERSION", "11080")],
            "the driver is for CUDA 11.8; 12.0 or newer is needed",
        ),
        (
            &[("MMSB_SIM_CAPABILITY", "70")],
            "compute capability 7.0; 7.5 or newer",
        ),
        (
            &[("MMSB_SIM_INIT_ERROR", "34")],
            "CUDA driver is a stub library",
        ),
        (
            &[("MMSB_SIM_INIT_ERROR", "800")],
            "CUDA_ERROR_NOT_PERMITTED",
        ),
        (
            &[("MMSB_SIM_INIT_ERROR", "803")],
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        ),
        (
            &[("MMSB_SIM_INIT_ERROR", "4711")],
            "error 4711 of the CUDA driver, which has no name for it",
        ),
        (
            &[("MMSB_SIM_FAULTS", "module@1")],
            "the driver refuses the kernels: the provided PTX was compiled with an unsupported toolchain",
        ),
        (
            &[("MMSB_SIM_FAULTS", "create@1")],
            "bytes of device memory for tables: out of memory",
        ),
        (
            &[("MMSB_SIM_PINNED_BYTES", "4096")],
            "device.pinned: cannot pin",
        ),
    ];
    for (variables, expected) in cases {
        let output = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, "1")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{variables:?}: {output:?}");
        assert!(said.contains(expected), "{variables:?}: {said}");
        assert!(said.contains("violations: []"), "{variables:?}: {said}");
        let is_refused =
            said.starts_with("device.unavailable") || said.starts_with("device.pinned");
        assert!(is_refused || variables.is_empty(), "{variables:?}: {said}");
    }
}

/// Opens with a fault at each call of its kind, until none strikes any more.
fn opening_gives_back_what_it_took(simulation: Simulation) {
    for kind in ["create", "pin", "module"] {
        let mut struck = 0;
        loop {
            simulation.inject(&format!("{kind}@{}", struck + 1));
            match CudaDevice::open(0, &options(MEMORY_BYTES)) {
                Ok(device) => break drop(device),
                Err(error) => assert!(error.is_refusal(), "{kind} {struck}: {error}"),
            }
            struck += 1;
        }
        let expected = if kind == "pin" { 4 } else { 1 };
        assert!(struck >= expected, "{kind} was never refused");
        assert_eq!(simulation.violations(), [""; 0], "{kind}");
    }
}

fn mapping_gives_back_what_it_took(simulation: Simulation) {
    for (kind, count) in [("create", 4), ("map", 4)] {
        for number in 1..=count {
            let device = open_cuda(MEMORY_BYTES);
            simulation.inject(&format!("{kind}@{number}"));
            let error = device.map(0..MEMORY_BYTES).unwrap_err();
            let expected = DeviceError::OutOfMemory {
                asked_bytes: MEMORY_BYTES,
                mapped_bytes: 0,
                capacity_bytes: MEMORY_BYTES,
            };
            assert_eq!(error, expected, "{kind} {number}");
            device.map(0..MEMORY_BYTES).unwrap();
            device.close().unwrap();
            assert_eq!(simulation.violations(), [""; 0], "{kind} {number}");
        }
    }
}

fn pinning_that_is_refused_breaks_nothing(simulation: Simulation) {
    let device = mapped();
    simulation.inject("pin@1");
    assert_eq!(device.pin(100).unwrap_err().kind(), "device.pinned");
    let pinned = Pinned::with(&device, &[1; 8]);
    upload(&device, &pinned, 0).unwrap();
    finish(&device, Queue::Copy).unwrap();
}

fn mapped() -> CudaDevice {
    let device = open_cuda(MEMORY_BYTES);
    device.map(0..MEMORY_BYTES).unwrap();
    device
}

fn upload(device: &CudaDevice, from: &Pinned, to: u64) -> Result<(), DeviceError> {
    let from = from.whole();
    device.submit(Queue::Copy, &Work::Upload { from, to })
}

const FILL: Work<'static> = Work::Fill {
    range: 0..4096,
    byte: 3,
};

fn a_launch_that_is_refused(simulation: Simulation) {
    let device = mapped();
    simulation.inject("launch@2");
    device.submit(Queue::Compute, &FILL).unwrap();
    let error = device.submit(Queue::Compute, &FILL).unwrap_err();
    assert!(
        matches!(&error, DeviceError::Failed { work: "fill", reason } if reason.contains("too many resources")),
        "{error}"
    );
    assert_eq!(device.submit(Queue::Copy, &FILL), Err(error.clone()));
    assert_eq!(finish(&device, Queue::Compute), Err(error));
    device.reset().unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    device.submit(Queue::Compute, &FILL).unwrap();
    let bytes = perform(&device, &device::Op::Download { range: 0..4 }).unwrap();
    assert_eq!(bytes, [3; 4]);
}

fn a_kernel_that_fails(simulation: Simulation) {
    let device = mapped();
    let pinned = Pinned::new(&device, 8);
    simulation.inject("launch@1:fails");
    device.submit(Queue::Compute, &FILL).unwrap();
    let error = finish(&device, Queue::Compute).unwrap_err();
    assert_eq!(error.kind(), "device.failed", "{error}");
    let error = device.reset().unwrap_err();
    assert!(
        matches!(&error, DeviceError::Lost { reason } if reason.contains("took the context with it")),
        "{error}"
    );
    // Nothing hangs, and nothing is told twice, when it is given up.
    drop(device);
    drop(pinned);
    simulation_starts_over();
}

/// A new process would; here the context is reset for the tests that follow.
fn simulation_starts_over() {
    type Reset = unsafe extern "C" fn(i32) -> u32;
    // SAFETY: the library is there, and the function has this type; nobody uses the context.
    unsafe {
        let library = cudarc::driver::sys::culib();
        let reset = *library.get::<Reset>(b"cuDevicePrimaryCtxReset_v2").unwrap();
        assert_eq!(reset(0), 0);
    }
}

/// What the device says is the sum of what was uploaded, after it says that it arrived.
fn sum_of_upload(device: &CudaDevice, bytes: &[u8]) -> u64 {
    let pinned = Pinned::with(device, bytes);
    let to = Pinned::new(device, 8);
    upload(device, &pinned, 0).unwrap();
    finish(device, Queue::Copy).unwrap();
    let sum = Work::Sum {
        range: 0..bytes.len() as u64,
        to: to.whole(),
    };
    device.submit(Queue::Compute, &sum).unwrap();
    finish(device, Queue::Compute).unwrap();
    u64::from_le_bytes(to.all().try_into().unwrap())
}

fn a_copy_that_arrives_wrong(simulation: Simulation) {
    let device = mapped();
    let bytes = vec![7; 100_000];
    assert_eq!(sum_of_upload(&device, &bytes), sum64(&bytes));
    simulation.inject("copy@1:corrupt");
    assert_ne!(sum_of_upload(&device, &bytes), sum64(&bytes));
}

fn a_copy_that_arrives_late(simulation: Simulation) {
    let device = mapped();
    let bytes = vec![7; 100_000];
    simulation.inject("copy@1:late");
    assert_ne!(sum_of_upload(&device, &bytes), sum64(&bytes));
    assert_eq!(sum_of_upload(&device, &bytes), sum64(&bytes));
}

fn a_device_that_is_lost(simulation: Simulation) {
    let device = mapped();
    simulation.inject("work@1:lost");
    device.submit(Queue::Compute, &FILL).unwrap();
    let error = finish(&device, Queue::Compute).unwrap_err();
    assert_eq!(error.kind(), "device.lost");
    assert_eq!(device.map(0..2 << 20), Err(error.clone()));
    assert_eq!(device.pin(1).unwrap_err(), error);
    assert_eq!(device.reset(), Err(error.clone()));
    assert_eq!(device.close(), Err(error));
    simulation_starts_over();
}

fn a_tile_between_mapped_ranges(simulation: Simulation) {
    let device = open_cuda(MEMORY_BYTES);
    device.map(0..2 << 20).unwrap();
    device.map(4 << 20..6 << 20).unwrap();
    let tile = Tile {
        to: 2 << 20,
        first_run: 0,
        run_count: 1,
    };
    let run = TileRun {
        from: 0,
        at: 0,
        last: 3,
    };
    let table = [&tile.to_bytes()[..], &run.to_bytes(), &[1; 4]].concat();
    upload(&device, &Pinned::with(&device, &table), 0).unwrap();
    finish(&device, Queue::Copy).unwrap();
    let apply = Work::Apply {
        tiles: 0,
        tile_count: 1,
        runs: 16,
        run_count: 1,
        payload: 24..28,
    };
    device.submit(Queue::Compute, &apply).unwrap();
    let error = finish(&device, Queue::Compute).unwrap_err();
    assert!(
        error.to_string().contains("illegal memory access"),
        "{error}"
    );
    assert_eq!(device.reset().unwrap_err().kind(), "device.lost");
    drop(device);
    let violations = simulation.violations();
    assert!(
        violations[0].starts_with("mmsb_apply: an access to 4 bytes"),
        "{violations:?}"
    );
    // The context refuses to take anything back.
    let leaks = violations[1..].iter();
    assert!(
        leaks
            .clone()
            .all(|leak| leak.starts_with("the context was released")),
        "{violations:?}"
    );
    simulation_starts_over();
}

fn errors_of_closing_can_be_asked_for(simulation: Simulation) {
    let device = mapped();
    simulation.inject("release@2");
    drop(device);
    let error = take_closing_error().unwrap();
    assert_eq!(error.kind(), "device.failed");
    assert_eq!(take_closing_error(), None);
    // What was not given back because of it is a leak.
    assert!(simulation.leaks() > 0);
    simulation_starts_over();
    let device = mapped();
    simulation.inject("release@1");
    assert_eq!(device.close().unwrap_err().kind(), "device.failed");
    simulation_starts_over();
}

fn spare_memory_is_kept_and_given_back(simulation: Simulation) {
    let mut options = options(MEMORY_BYTES);
    options.spare_bytes = 4 << 20;
    let device = CudaDevice::open(0, &options).unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    device.unmap(0..MEMORY_BYTES).unwrap();
    // Two of four granules are kept, so only two are asked for.
    simulation.inject("create@3");
    device.map(0..MEMORY_BYTES).unwrap();
    device.close().unwrap();
    assert_eq!(simulation.violations(), [""; 0]);
}
