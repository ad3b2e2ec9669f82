//! What is special about the simulated device: order, races, poison, and the determinism of its seed.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod device;

use device::{Op, Pinned, batch, finish, model, ops, perform};
use mmsb_engine::device::{
    Device, DeviceError, DeviceKind, Fence, Queue, SimulatedDevice, SimulatedOptions, Work,
};
use proptest::prelude::*;

const MEMORY_BYTES: u64 = 128 * 1024;

fn new(seed: u64) -> SimulatedDevice {
    let options = SimulatedOptions {
        seed,
        memory_bytes: 2 * MEMORY_BYTES,
        reserved_bytes: 8 * MEMORY_BYTES,
        granule_bytes: 4096,
        pinned_bytes: 4 << 20,
    };
    SimulatedDevice::new(&options).unwrap()
}

/// A device with memory that is all zeros.
fn mapped(seed: u64) -> SimulatedDevice {
    let device = new(seed);
    device.map(0..MEMORY_BYTES).unwrap();
    perform(&device, &fill(0..MEMORY_BYTES, 0)).unwrap();
    device
}

fn fill(range: std::ops::Range<u64>, byte: u8) -> Op {
    Op::Fill { range, byte }
}

fn read(device: &dyn Device, range: std::ops::Range<u64>) -> Vec<u8> {
    perform(device, &Op::Download { range }).unwrap()
}

/// A program that is submitted as a whole before anything is waited for. `pinned` keeps what it names alive.
#[derive(Default)]
struct Submitted {
    pinned: Vec<Pinned>,
    /// What each operation reports, by the position of its buffer.
    results: Vec<(usize, Vec<u8>)>,
}

impl Submitted {
    fn submit(&mut self, device: &dyn Device, queue: Queue, op: &Op, expected: Vec<u8>) {
        let mut result = |len: usize| {
            let pinned = Pinned::new(device, len.max(1));
            let slice = pinned.slice(0..len);
            self.pinned.push(pinned);
            self.results.push((self.pinned.len() - 1, expected.clone()));
            slice
        };
        let submit = |work: &Work<'_>| device.submit(queue, work).unwrap();
        match op {
            Op::Upload { to, bytes } => {
                let pinned = Pinned::with(device, bytes);
                submit(&Work::Upload {
                    from: pinned.slice(0..bytes.len()),
                    to: *to,
                });
                self.pinned.push(pinned);
            }
            Op::Copy { from, to } => submit(&Work::Copy {
                from: from.clone(),
                to: *to,
            }),
            Op::Fill { range, byte } => submit(&Work::Fill {
                range: range.clone(),
                byte: *byte,
            }),
            Op::Apply { staging, runs } => {
                let (bytes, [tiles, runs, payload, end], tile_count, run_count) = batch(runs);
                let pinned = Pinned::with(device, &bytes);
                let at = |position: usize| staging + position as u64;
                submit(&Work::Upload {
                    from: pinned.whole(),
                    to: *staging,
                });
                submit(&Work::Apply {
                    tiles: at(tiles),
                    tile_count,
                    runs: at(runs),
                    run_count,
                    payload: at(payload)..at(end),
                });
                self.pinned.push(pinned);
            }
            Op::Move { from, to } => {
                let changed = result(16);
                submit(&Work::Move {
                    from: from.clone(),
                    to: *to,
                    changed,
                });
            }
            Op::Combine {
                combine,
                inputs,
                output,
                range,
            } => submit(&Work::Combine {
                combine: *combine,
                inputs,
                output: *output,
                range: range.clone(),
                changed: result(16),
            }),
            Op::Download { range } => {
                let to = result((range.end - range.start) as usize);
                submit(&Work::Download {
                    from: range.start,
                    to,
                });
            }
            Op::Digest { ranges } => submit(&Work::Digest {
                ranges,
                to: result(ranges.len() * 32),
            }),
            Op::Sum { range } => submit(&Work::Sum {
                range: range.clone(),
                to: result(8),
            }),
        }
    }

    fn check(&self) {
        for (position, expected) in &self.results {
            let actual = self.pinned.get(*position).unwrap().read(0..expected.len());
            assert_eq!(&actual, expected);
        }
    }
}

/// Submits `program`: each operation with its queue, and whether it is ordered after what was submitted to the other one.
fn submit_all(device: &dyn Device, program: &[(Op, Queue, bool)]) -> (Submitted, Vec<u8>) {
    let mut memory = vec![0; MEMORY_BYTES as usize];
    let mut submitted = Submitted::default();
    for (op, queue, is_ordered) in program {
        if *is_ordered {
            for other in Queue::ALL {
                device.order(*queue, device.fence(other).unwrap()).unwrap();
            }
        }
        let expected = model(&mut memory, op);
        submitted.submit(device, *queue, op, expected);
    }
    (submitted, memory)
}

fn finish_all(device: &dyn Device) -> Result<(), DeviceError> {
    finish(device, Queue::Copy).and_then(|()| finish(device, Queue::Compute))
}

fn program(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(Op, Queue, bool)>> {
    let queue = prop::sample::select(Queue::ALL.to_vec());
    prop::collection::vec((ops(MEMORY_BYTES), queue, prop::bool::weighted(0.6)), len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn work_does_what_it_does_to_plain_bytes(seed: u64, ops in prop::collection::vec(ops(MEMORY_BYTES), 1..15)) {
        let device = mapped(seed);
        let mut memory = vec![0; MEMORY_BYTES as usize];
        for op in &ops {
            let expected = model(&mut memory, op);
            prop_assert_eq!(perform(&device, op).unwrap(), expected, "{:?}", op);
        }
        prop_assert!(read(&device, 0..MEMORY_BYTES) == memory);
    }

    #[test]
    fn ordered_queues_are_one(seed: u64, program in program(1..20)) {
        let program: Vec<_> = program.into_iter().map(|(op, queue, _)| (op, queue, true)).collect();
        let device = mapped(seed);
        let (submitted, memory) = submit_all(&device, &program);
        finish_all(&device).unwrap();
        submitted.check();
        prop_assert!(read(&device, 0..MEMORY_BYTES) == memory);
    }

    /// Where the order is open, the outcome is as if there were one; or else it is a race, and said to be one.
    #[test]
    fn what_depends_on_the_order_is_a_race(seed: u64, program in program(1..12)) {
        let device = mapped(seed);
        let (submitted, memory) = submit_all(&device, &program);
        match finish_all(&device) {
            Ok(()) => {
                submitted.check();
                prop_assert!(read(&device, 0..MEMORY_BYTES) == memory);
            }
            Err(error) => prop_assert!(error.to_string().contains("race: "), "{}", error),
        }
    }

    /// Whether there is a race does not depend on the seed.
    #[test]
    fn a_race_is_one_for_every_seed(seeds: (u64, u64), program in program(1..12)) {
        let races = |seed| {
            let device = mapped(seed);
            let _submitted = submit_all(&device, &program);
            finish_all(&device).is_err()
        };
        prop_assert_eq!(races(seeds.0), races(seeds.1));
    }
}

/// Two fills of one byte in different queues, with `between` done after the first was submitted.
fn two_fills(seed: u64, between: impl Fn(&SimulatedDevice)) -> Result<(), DeviceError> {
    let device = mapped(seed);
    let fill = |byte| Work::Fill {
        range: 100..200,
        byte,
    };
    device.submit(Queue::Copy, &fill(1)).unwrap();
    between(&device);
    device.submit(Queue::Compute, &fill(2))?;
    finish_all(&device)?;
    assert_eq!(read(&device, 100..200), [2; 100]);
    Ok(())
}

#[test]
fn a_race_names_both_and_the_place() {
    for seed in 0..20 {
        let error = two_fills(seed, |_| {}).unwrap_err();
        assert_eq!(error.kind(), "device.invalid");
        for part in [
            "fill (number 1 of the copy queue)",
            "fill (number 2 of the compute queue)",
            "device memory 100..200",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn an_order_a_wait_and_an_answer_prevent_a_race() {
    for seed in 0..20 {
        two_fills(seed, |device| {
            device
                .order(Queue::Compute, device.fence(Queue::Copy).unwrap())
                .unwrap();
        })
        .unwrap();
        two_fills(seed, |device| finish(device, Queue::Copy).unwrap()).unwrap();
        two_fills(seed, |device| {
            let fence = device.fence(Queue::Copy).unwrap();
            while !device.is_reached(fence).unwrap() {}
        })
        .unwrap();
        // The order was made with a fence from before the work: it does not help.
        let early = |device: &SimulatedDevice| {
            let early = Fence {
                queue: Queue::Copy,
                sequence: 0,
            };
            device.order(Queue::Compute, early).unwrap();
        };
        two_fills(seed, early).unwrap_err();
    }
}

#[test]
fn order_is_transitive() {
    for seed in 0..20 {
        let device = mapped(seed);
        device
            .submit(
                Queue::Copy,
                &Work::Fill {
                    range: 0..8,
                    byte: 1,
                },
            )
            .unwrap();
        device
            .order(Queue::Compute, device.fence(Queue::Copy).unwrap())
            .unwrap();
        device
            .submit(
                Queue::Compute,
                &Work::Fill {
                    range: 0..8,
                    byte: 2,
                },
            )
            .unwrap();
        // The host waits for the second one, and knows of the first by that.
        finish(&device, Queue::Compute).unwrap();
        device
            .submit(
                Queue::Compute,
                &Work::Fill {
                    range: 0..8,
                    byte: 3,
                },
            )
            .unwrap();
        device
            .order(Queue::Copy, device.fence(Queue::Compute).unwrap())
            .unwrap();
        device
            .submit(
                Queue::Copy,
                &Work::Fill {
                    range: 0..8,
                    byte: 4,
                },
            )
            .unwrap();
        finish_all(&device).unwrap();
        assert_eq!(read(&device, 0..8), [4; 8]);
    }
}

#[test]
fn nothing_runs_before_somebody_waits() {
    let device = mapped(1);
    let before = device.counters().launches;
    for _ in 0..10 {
        device
            .submit(
                Queue::Compute,
                &Work::Fill {
                    range: 0..8,
                    byte: 1,
                },
            )
            .unwrap();
    }
    let fence = device.fence(Queue::Compute).unwrap();
    assert_eq!(device.counters().launches, before);
    let mut asked = 1;
    while !device.is_reached(fence).unwrap() {
        asked += 1;
    }
    assert!((2..=10).contains(&asked), "asked {asked} times");
    assert_eq!(device.counters().launches, before + 10);
}

#[test]
fn the_host_is_caught_when_it_writes_what_is_the_devices() {
    let device = mapped(3);
    let pinned = Pinned::with(&device, &[1; 64]);
    device
        .submit(
            Queue::Copy,
            &Work::Upload {
                from: pinned.whole(),
                to: 0,
            },
        )
        .unwrap();
    pinned.write(63, &[2]);
    let error = finish(&device, Queue::Copy).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the host wrote to the pinned memory of upload"),
        "{error}"
    );

    let device = mapped(3);
    let pinned = Pinned::new(&device, 64);
    device
        .submit(
            Queue::Copy,
            &Work::Download {
                from: 0,
                to: pinned.whole(),
            },
        )
        .unwrap();
    assert_ne!(
        pinned.all(),
        [0; 64],
        "what is read too early is no result, and not what was there before"
    );
    pinned.write(0, &[2; 64]);
    let error = finish(&device, Queue::Copy).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the host wrote to the pinned memory of download"),
        "{error}"
    );
}

#[test]
fn pinned_memory_is_raced_for_too() {
    let device = mapped(4);
    let pinned = Pinned::new(&device, 64);
    device
        .submit(
            Queue::Copy,
            &Work::Download {
                from: 0,
                to: pinned.slice(0..40),
            },
        )
        .unwrap();
    device
        .submit(
            Queue::Compute,
            &Work::Upload {
                from: pinned.slice(39..64),
                to: 4096,
            },
        )
        .unwrap();
    let error = finish_all(&device).unwrap_err();
    assert!(error.to_string().contains("pinned buffer"), "{error}");
    // In one queue it is as it should be, with nothing waited for between.
    let device = mapped(4);
    let pinned = Pinned::with(&device, &[9; 64]);
    device
        .submit(
            Queue::Copy,
            &Work::Upload {
                from: pinned.whole(),
                to: 0,
            },
        )
        .unwrap();
    device
        .submit(
            Queue::Copy,
            &Work::Download {
                from: 0,
                to: pinned.slice(0..32),
            },
        )
        .unwrap();
    device
        .submit(
            Queue::Copy,
            &Work::Download {
                from: 4096,
                to: pinned.slice(32..64),
            },
        )
        .unwrap();
    device
        .submit(
            Queue::Copy,
            &Work::Upload {
                from: pinned.whole(),
                to: 8192,
            },
        )
        .unwrap();
    finish(&device, Queue::Copy).unwrap();
    assert_eq!(read(&device, 8192..8256), [[9; 32], [0; 32]].concat());
}

#[test]
fn a_buffer_that_went_away_is_missed() {
    let device = mapped(5);
    let pinned = Pinned::new(&device, 64);
    device
        .submit(
            Queue::Copy,
            &Work::Upload {
                from: pinned.whole(),
                to: 0,
            },
        )
        .unwrap();
    drop(pinned);
    let error = finish(&device, Queue::Copy).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[test]
fn fresh_memory_is_poisoned_and_what_is_unmapped_is_gone() {
    let device = new(6);
    device.map(0..8192).unwrap();
    let poison = read(&device, 0..8192);
    let zeros = poison.iter().filter(|byte| **byte == 0).count();
    assert!(zeros < 100, "{zeros} zeros in 8192 bytes");
    perform(&device, &fill(0..8192, 7)).unwrap();
    device
        .submit(
            Queue::Compute,
            &Work::Fill {
                range: 0..4096,
                byte: 8,
            },
        )
        .unwrap();
    device.unmap(0..4096).unwrap();
    assert_eq!(read(&device, 4096..8192), [7; 4096]);
    device.map(0..4096).unwrap();
    let again = read(&device, 0..4096);
    assert!(
        again.get(..) != poison.get(..4096) && again.iter().any(|byte| *byte > 8),
        "poisoned anew"
    );
    device.unmap(0..4096).unwrap();
    device
        .submit(
            Queue::Compute,
            &Work::Fill {
                range: 4000..4100,
                byte: 1,
            },
        )
        .unwrap();
    let error = finish(&device, Queue::Compute).unwrap_err();
    assert!(error.to_string().contains("it was unmapped"), "{error}");
    assert_eq!(
        device.fence(Queue::Copy).unwrap_err(),
        error,
        "and it stays so"
    );
    device.reset().unwrap();
    device.map(4096..8192).unwrap();
    assert_ne!(read(&device, 4096..8192), [7; 4096]);
}

#[test]
fn a_device_says_what_it_is_and_has_limits() {
    let device = new(7);
    let info = device.info();
    assert_eq!(
        (info.kind, info.granule_bytes),
        (DeviceKind::Simulated, 4096)
    );
    assert_ne!(device.address(0), 0);
    assert_eq!(device.address(5) - device.address(0), 5);
    let error = device.map(0..3 * MEMORY_BYTES).unwrap_err();
    assert_eq!(error.kind(), "device.out-of-memory");
    assert!(error.is_refusal());
    device.map(0..2 * MEMORY_BYTES).unwrap();
    let pinned = device.pin(3 << 20).unwrap();
    assert_eq!(device.pin(2 << 20).unwrap_err().kind(), "device.pinned");
    drop(pinned);
    device.pin(2 << 20).unwrap();
    for (reserved_bytes, granule_bytes) in
        [(0, 4096), (8192, 2048), (12 << 10, 8192), (1 << 20, 5000)]
    {
        let options = SimulatedOptions {
            reserved_bytes,
            granule_bytes,
            ..SimulatedOptions::default()
        };
        assert_eq!(
            SimulatedDevice::new(&options).unwrap_err().kind(),
            "device.unavailable"
        );
    }
}

/// Everything that can be seen of a run: answers, early reads, final bytes, the error if any.
fn observe(seed: u64) -> Vec<String> {
    let device = new(seed);
    device.map(0..16384).unwrap();
    let pinned = Pinned::new(&device, 4096);
    let mut seen = Vec::new();
    for round in 0..10_u64 {
        for queue in Queue::ALL {
            let at = 8192 * queue.position() as u64;
            for i in 0..5 {
                let range = at + i..at + i + round + 1;
                device
                    .submit(
                        queue,
                        &Work::Fill {
                            range,
                            byte: (round + i) as u8,
                        },
                    )
                    .unwrap();
            }
        }
        for queue in Queue::ALL {
            let fence = device.fence(queue).unwrap();
            seen.push(format!("{queue:?} {}", device.is_reached(fence).unwrap()));
        }
        seen.push(format!("{:?}", device.counters()));
    }
    device
        .submit(
            Queue::Copy,
            &Work::Download {
                from: 0,
                to: pinned.whole(),
            },
        )
        .unwrap();
    seen.push(format!("{:?}", pinned.all()));
    finish_all(&device).unwrap();
    seen.push(format!("{:?}", pinned.all()));
    seen
}

#[test]
fn a_seed_decides_everything() {
    let runs: Vec<_> = (0..8).map(observe).collect();
    for (seed, run) in runs.iter().enumerate() {
        assert_eq!(run, &observe(seed as u64), "seed {seed} twice");
    }
    let distinct: std::collections::BTreeSet<_> = runs.iter().map(|run| run.get(..30)).collect();
    assert!(
        distinct.len() > 4,
        "seeds choose alike: {} of 8",
        distinct.len()
    );
}

#[test]
fn threads_may_share_a_device() {
    let device = mapped(8);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..50 {
                    let range = thread * 8192..thread * 8192 + 4096;
                    let queue = if thread % 2 == 0 {
                        Queue::Copy
                    } else {
                        Queue::Compute
                    };
                    device
                        .submit(queue, &Work::Fill { range, byte: round })
                        .unwrap();
                    finish(device, queue).unwrap();
                }
            });
        }
    });
    assert_eq!(read(&device, 8192 * 3..8192 * 3 + 4096), [49; 4096]);
}
