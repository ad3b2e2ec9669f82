//! More work than fits, and from more than one thread.

use mmsb_engine::device::{Combine, Queue, Work};
use mmsb_engine::graph::{Form, Lane, Semiring};

use super::{Check, Open, noise, read, upload, zeroed};
use crate::device::{Op, Pinned, finish, perform};

pub const CHECKS: &[Check] = &[
    (
        "pressure::tables_are_not_written_over",
        tables_are_not_written_over,
    ),
    ("pressure::threads_share_a_queue", threads_share_a_queue),
    (
        "pressure::threads_wait_for_each_other",
        threads_wait_for_each_other,
    ),
];

/// Tables of much work that nobody has waited for, each different.
fn tables_are_not_written_over(open: Open<'_>) {
    const COUNT: usize = 3000;
    let device = zeroed(open);
    let memory = noise(8, 1 << 20);
    upload(&*device, 0, &memory);
    let pinned = Pinned::new(&*device, 16 * COUNT);
    let combine = Combine {
        semiring: Semiring::XorAnd,
        lane: Lane::U8,
        form: Form::Sum,
    };
    let parents = |step: usize| -> Vec<u64> {
        (0..100)
            .map(|i| (step * 131 + i * 977) as u64 % (1 << 20))
            .collect()
    };
    for step in 0..COUNT {
        let work = Work::Combine {
            combine,
            inputs: &parents(step),
            output: (2 << 20) + step as u64 * 8,
            range: 0..8,
            changed: pinned.slice(step * 16..step * 16 + 16),
        };
        device.submit(Queue::Compute, &work).unwrap();
    }
    finish(&*device, Queue::Compute).unwrap();
    let outputs = read(&*device, 2 << 20..(2 << 20) + COUNT as u64 * 8);
    let byte = |at: u64| memory.get(at as usize).copied().unwrap_or(0);
    for (step, output) in outputs.chunks(8).enumerate() {
        for (lane, value) in output.iter().enumerate() {
            let expected = parents(step)
                .iter()
                .fold(0, |sum, parent| sum ^ byte(parent + lane as u64));
            assert_eq!(*value, expected, "work {step}, lane {lane}");
        }
    }
}

fn threads_share_a_queue(open: Open<'_>) {
    const STEPS: u64 = 100;
    let device = zeroed(open);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let device = &*device;
            scope.spawn(move || {
                let queue = Queue::ALL[thread as usize % 2];
                let base = thread << 19;
                let pinned = Pinned::new(device, 32);
                for step in 0..STEPS {
                    let range = base + step * 1000..base + (step + 1) * 1000;
                    let byte = (thread * 50 + step) as u8;
                    let fill = Work::Fill {
                        range: range.clone(),
                        byte,
                    };
                    device.submit(queue, &fill).unwrap();
                    let digest = Work::Digest {
                        ranges: std::slice::from_ref(&range),
                        to: pinned.whole(),
                    };
                    device.submit(queue, &digest).unwrap();
                    finish(device, queue).unwrap();
                    let expected = blake3::hash(&[byte; 1000]);
                    assert_eq!(
                        pinned.all(),
                        expected.as_bytes(),
                        "thread {thread}, step {step}"
                    );
                }
            });
        }
    });
}

fn threads_wait_for_each_other(open: Open<'_>) {
    const ROUNDS: u8 = 100;
    let device = zeroed(open);
    std::thread::scope(|scope| {
        for queue in Queue::ALL {
            let device = &*device;
            scope.spawn(move || {
                let other = if queue == Queue::Copy {
                    Queue::Compute
                } else {
                    Queue::Copy
                };
                let own = queue.position() as u64 * 4096;
                for round in 0..ROUNDS {
                    let work = Work::Fill {
                        range: own..own + 4096,
                        byte: round,
                    };
                    device.submit(queue, &work).unwrap();
                    device.order(queue, device.fence(other).unwrap()).unwrap();
                    device.wait(device.fence(queue).unwrap()).unwrap();
                }
            });
        }
    });
    let digest = perform(
        &*device,
        &Op::Digest {
            ranges: vec![0..8192],
        },
    )
    .unwrap();
    assert_eq!(digest, blake3::hash(&[ROUNDS - 1; 8192]).as_bytes());
}
