//! What comes before what: within a queue, across queues, and for the host.

use mmsb_engine::device::{Device, Fence, Queue, Work};

use super::{Check, Open, noise, read, zeroed};
use crate::device::{Pinned, finish};

pub const CHECKS: &[Check] = &[
    ("order::within_a_queue", within_a_queue),
    ("order::across_queues", across_queues),
    ("order::through_a_third_party", through_a_third_party),
    (
        "order::a_fence_is_reached_at_last",
        a_fence_is_reached_at_last,
    ),
    ("order::an_old_fence_is_reached", an_old_fence_is_reached),
    (
        "order::a_fence_that_was_not_made",
        a_fence_that_was_not_made,
    ),
    ("order::there_are_enough_fences", there_are_enough_fences),
];

fn fill(device: &dyn Device, queue: Queue, range: std::ops::Range<u64>, byte: u8) {
    device.submit(queue, &Work::Fill { range, byte }).unwrap();
}

fn within_a_queue(open: Open<'_>) {
    let device = zeroed(open);
    for queue in Queue::ALL {
        let pinned = Pinned::new(&*device, 100);
        for step in 0..100u8 {
            fill(&*device, queue, 0..4096, step);
            let to = pinned.slice(step as usize..step as usize + 1);
            device
                .submit(
                    queue,
                    &Work::Download {
                        from: u64::from(step),
                        to,
                    },
                )
                .unwrap();
        }
        finish(&*device, queue).unwrap();
        assert_eq!(pinned.all(), (0..100).collect::<Vec<u8>>());
    }
}

fn across_queues(open: Open<'_>) {
    let device = zeroed(open);
    let bytes = noise(6, 1 << 20);
    let source = Pinned::with(&*device, &bytes);
    let sums = Pinned::new(&*device, 8 * 40);
    let part = 1 << 16;
    // A pipeline: chunks are copied into two buffers in turn, and summed and copied away before their buffer is filled again.
    let mut used: [Option<Fence>; 2] = [None; 2];
    for step in 0..16 {
        let buffer = step % 2;
        let to = (buffer * part) as u64;
        if let Some(fence) = used[buffer] {
            device.order(Queue::Copy, fence).unwrap();
        }
        let from = source.slice(step * part..(step + 1) * part);
        device
            .submit(Queue::Copy, &Work::Upload { from, to })
            .unwrap();
        let arrived = device.fence(Queue::Copy).unwrap();
        device.order(Queue::Compute, arrived).unwrap();
        let range = to..to + part as u64;
        let sum = sums.slice(step * 8..step * 8 + 8);
        device
            .submit(
                Queue::Compute,
                &Work::Sum {
                    range: range.clone(),
                    to: sum,
                },
            )
            .unwrap();
        let kept = (1 << 20) + (step * part) as u64;
        device
            .submit(
                Queue::Compute,
                &Work::Copy {
                    from: range,
                    to: kept,
                },
            )
            .unwrap();
        used[buffer] = Some(device.fence(Queue::Compute).unwrap());
    }
    finish(&*device, Queue::Compute).unwrap();
    for step in 0..16 {
        let expected = mmsb_engine::device::layout::sum64(&bytes[step * part..(step + 1) * part]);
        assert_eq!(
            sums.read(step * 8..step * 8 + 8),
            expected.to_le_bytes(),
            "step {step}"
        );
    }
    assert!(read(&*device, 1 << 20..2 << 20) == bytes);
}

/// What the copy queue was ordered behind is behind the compute queue that is ordered behind the copy queue, although the copy queue
/// has no work of its own.
fn through_a_third_party(open: Open<'_>) {
    let device = zeroed(open);
    for round in 1..20u8 {
        fill(&*device, Queue::Compute, 0..1 << 20, round);
        let first = device.fence(Queue::Compute).unwrap();
        device.order(Queue::Copy, first).unwrap();
        let second = device.fence(Queue::Copy).unwrap();
        device.wait(second).unwrap();
        assert_eq!(device.is_reached(first), Ok(true), "round {round}");
        assert_eq!(read(&*device, 1 << 19..(1 << 19) + 4), [round; 4]);
    }
}

fn a_fence_is_reached_at_last(open: Open<'_>) {
    let device = zeroed(open);
    for queue in Queue::ALL {
        let nothing = device.fence(queue).unwrap();
        device.wait(nothing).unwrap();
        for step in 0..10 {
            fill(&*device, queue, 0..1 << 20, step);
        }
        let fence = device.fence(queue).unwrap();
        let mut asked = 0u64;
        while !device.is_reached(fence).unwrap() {
            asked += 1;
            assert!(asked < 100_000_000, "never reached");
        }
        device.wait(fence).unwrap();
    }
}

fn an_old_fence_is_reached(open: Open<'_>) {
    let device = zeroed(open);
    let mut fences = Vec::new();
    for step in 0..50 {
        fill(&*device, Queue::Compute, 0..4096, step);
        fences.push(device.fence(Queue::Compute).unwrap());
    }
    device.wait(fences[30]).unwrap();
    for fence in &fences[..=30] {
        assert_eq!(device.is_reached(*fence), Ok(true));
        device.order(Queue::Copy, *fence).unwrap();
    }
    device.wait(fences[49]).unwrap();
    assert_eq!(read(&*device, 0..1), [49]);
}

fn a_fence_that_was_not_made(open: Open<'_>) {
    let device = zeroed(open);
    let fence = device.fence(Queue::Copy).unwrap();
    let later = Fence {
        sequence: fence.sequence + 1,
        ..fence
    };
    assert_eq!(device.wait(later).unwrap_err().kind(), "device.invalid");
    assert_eq!(
        device.is_reached(later).unwrap_err().kind(),
        "device.invalid"
    );
    assert_eq!(
        device.order(Queue::Compute, later).unwrap_err().kind(),
        "device.invalid"
    );
    device.wait(fence).unwrap();
}

fn there_are_enough_fences(open: Open<'_>) {
    let device = zeroed(open);
    let fences: Vec<Fence> = (0..1000u64)
        .map(|step| {
            fill(&*device, Queue::Compute, step..step + 1, step as u8);
            device.fence(Queue::Compute).unwrap()
        })
        .collect();
    for fence in fences.iter().rev() {
        device.wait(*fence).unwrap();
    }
    let bytes = read(&*device, 0..1000);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
}
