//! Memory: mapped, taken back, pinned.

use mmsb_engine::device::{DeviceError, Queue, Work};

use super::{Check, MEMORY_BYTES, Open, noise, read, refused, upload, zeroed};
use crate::device::{Op, Pinned, finish, perform};

pub const CHECKS: &[Check] = &[
    (
        "memory::is_mapped_in_whole_granules",
        is_mapped_in_whole_granules,
    ),
    ("memory::runs_out", runs_out),
    ("memory::keeps_its_address", keeps_its_address),
    ("memory::is_taken_back_in_parts", is_taken_back_in_parts),
    (
        "memory::is_used_where_it_is_mapped",
        is_used_where_it_is_mapped,
    ),
    ("memory::is_taken_back_after_work", is_taken_back_after_work),
    (
        "memory::is_reachable_at_the_last_offset",
        is_reachable_at_the_last_offset,
    ),
    (
        "pinned::is_zeroed_and_checked",
        pinned_is_zeroed_and_checked,
    ),
    ("pinned::outlives_the_device", pinned_outlives_the_device),
];

fn is_mapped_in_whole_granules(open: Open<'_>) {
    let device = open(MEMORY_BYTES);
    let info = device.info();
    let granule = info.granule_bytes;
    assert!(granule.is_power_of_two() && granule >= 4096);
    assert!(info.reserved_bytes.is_multiple_of(granule) && info.reserved_bytes >= MEMORY_BYTES);
    #[allow(clippy::reversed_empty_ranges, reason = "bad ranges are meant")]
    let wrong = [
        0..0,
        0..1,
        1..granule,
        granule..0,
        0..granule + 1,
        info.reserved_bytes..info.reserved_bytes + granule,
        0..info.reserved_bytes + granule,
        u64::MAX - granule + 1..u64::MAX,
    ];
    for range in wrong {
        let error = device.map(range.clone()).unwrap_err();
        assert_eq!(error.kind(), "device.invalid", "{range:?}");
    }
    device.map(0..granule).unwrap();
    assert_eq!(device.map(0..granule).unwrap_err().kind(), "device.invalid");
    let error = device.unmap(0..granule * 2).unwrap_err();
    assert_eq!(error.kind(), "device.invalid");
    device.unmap(0..granule).unwrap();
    assert_eq!(
        device.unmap(0..granule).unwrap_err().kind(),
        "device.invalid"
    );
}

fn runs_out(open: Open<'_>) {
    let device = open(MEMORY_BYTES);
    let granule = device.info().granule_bytes;
    let count = device.info().memory_bytes / granule;
    assert_eq!(device.info().memory_bytes, MEMORY_BYTES);
    device.map(0..granule * (count - 1)).unwrap();
    let too_much = granule * count..granule * (count + 2);
    let expected = DeviceError::OutOfMemory {
        asked_bytes: granule * 2,
        mapped_bytes: granule * (count - 1),
        capacity_bytes: MEMORY_BYTES,
    };
    assert_eq!(device.map(too_much.clone()), Err(expected));
    // Nothing of it was mapped, and nothing is broken.
    device.map(granule * count..granule * (count + 1)).unwrap();
    assert_eq!(
        device
            .map(granule * (count + 1)..granule * (count + 2))
            .unwrap_err()
            .kind(),
        "device.out-of-memory"
    );
    device.unmap(0..granule).unwrap();
    device.map(granule * (count + 1)..too_much.end).unwrap();
    upload(&*device, granule * count, &[1; 10]);
}

fn keeps_its_address(open: Open<'_>) {
    let device = open(MEMORY_BYTES);
    let (start, granule) = (device.address(0), device.info().granule_bytes);
    assert!(start.is_multiple_of(4096));
    device.map(0..granule).unwrap();
    device.unmap(0..granule).unwrap();
    device.map(granule..granule * 2).unwrap();
    assert_eq!(device.address(granule + 5), start + granule + 5);
    device.reset().unwrap();
    assert_eq!(device.address(0), start);
}

fn is_taken_back_in_parts(open: Open<'_>) {
    let device = open(MEMORY_BYTES * 4);
    let granule = device.info().granule_bytes;
    device.map(0..granule * 3).unwrap();
    device.map(granule * 3..granule * 4).unwrap();
    for at in 0..4 {
        upload(&*device, granule * at, &[at as u8 + 1; 64]);
    }
    device.unmap(granule..granule * 2).unwrap();
    device.unmap(granule * 2..granule * 4).unwrap();
    assert_eq!(read(&*device, 0..64), [1; 64]);
    device.map(granule * 2..granule * 3).unwrap();
    upload(&*device, granule * 2, &[9; 64]);
    assert_eq!(read(&*device, granule * 2..granule * 2 + 64), [9; 64]);
    assert_eq!(read(&*device, 0..64), [1; 64]);
}

fn is_used_where_it_is_mapped(open: Open<'_>) {
    let device = zeroed(open);
    let pinned = Pinned::new(&*device, 64);
    let end = MEMORY_BYTES;
    let fill = |range| Work::Fill { range, byte: 1 };
    refused(&*device, &fill(end - 1..end + 1));
    refused(&*device, &fill(end..end + 1));
    #[allow(clippy::reversed_empty_ranges, reason = "bad ranges are meant")]
    refused(&*device, &fill(8..7));
    refused(&*device, &fill(0..u64::MAX));
    for to in [end - 63, u64::MAX - 8] {
        let from = pinned.whole();
        refused(&*device, &Work::Upload { from, to });
    }
    let to = pinned.whole();
    refused(&*device, &Work::Download { from: end - 63, to });
    let from = 0..64;
    refused(
        &*device,
        &Work::Copy {
            from: from.clone(),
            to: end - 63,
        },
    );
    refused(&*device, &Work::Copy { from, to: 63 });
    let changed = pinned.slice(0..16);
    refused(
        &*device,
        &Work::Move {
            from: end - 8..end + 8,
            to: 0,
            changed,
        },
    );
    let (range, to) = (end - 4..end + 4, pinned.slice(0..8));
    refused(&*device, &Work::Sum { range, to });
    let (ranges, to) = ([0..1, end..end + 1], pinned.whole());
    refused(
        &*device,
        &Work::Digest {
            ranges: &ranges,
            to,
        },
    );
    assert_eq!(
        read(&*device, 0..MEMORY_BYTES),
        vec![0; MEMORY_BYTES as usize]
    );
}

fn is_taken_back_after_work(open: Open<'_>) {
    let device = open(MEMORY_BYTES * 4);
    let granule = device.info().granule_bytes;
    device.map(0..granule * 2).unwrap();
    let bytes = noise(7, granule as usize);
    let pinned = Pinned::with(&*device, &bytes);
    for queue in Queue::ALL {
        let to = granule * queue.position() as u64;
        let from = pinned.whole();
        device.submit(queue, &Work::Upload { from, to }).unwrap();
    }
    // Waits for both; the upload to the other granule is done, too.
    device.unmap(granule..granule * 2).unwrap();
    assert_eq!(read(&*device, 0..granule), bytes);
}

fn is_reachable_at_the_last_offset(open: Open<'_>) {
    let device = open(MEMORY_BYTES * 2);
    let info = device.info();
    let end = info.reserved_bytes;
    let start = end - info.granule_bytes;
    device.map(start..end).unwrap();
    perform(
        &*device,
        &Op::Fill {
            range: start..end,
            byte: 5,
        },
    )
    .unwrap();
    perform(
        &*device,
        &Op::Copy {
            from: start..start + 100,
            to: end - 100,
        },
    )
    .unwrap();
    let digest = perform(
        &*device,
        &Op::Digest {
            ranges: vec![start..end],
        },
    )
    .unwrap();
    let expected = blake3::hash(&vec![5; info.granule_bytes as usize]);
    assert_eq!(digest, expected.as_bytes());
}

fn pinned_is_zeroed_and_checked(open: Open<'_>) {
    let device = zeroed(open);
    assert_eq!(device.pin(0).unwrap_err().kind(), "device.invalid");
    assert_eq!(
        device.pin(usize::MAX / 2 + 1).unwrap_err().kind(),
        "device.pinned"
    );
    let pinned = Pinned::new(&*device, 100);
    assert_eq!(pinned.all(), [0; 100]);
    let slice = pinned.slice(50..100);
    let other = zeroed(open);
    let _perhaps_same_id = Pinned::new(&*other, 100);
    refused(&*other, &Work::Upload { from: slice, to: 0 });
    drop(pinned);
    refused(&*device, &Work::Upload { from: slice, to: 0 });
    // A result has the length that it has.
    let pinned = Pinned::new(&*device, 100);
    for len in [7, 9] {
        let (range, to) = (0..4, pinned.slice(0..len));
        refused(&*device, &Work::Sum { range, to });
    }
    let (ranges, to) = ([0..1, 1..2], pinned.slice(0..32));
    refused(
        &*device,
        &Work::Digest {
            ranges: &ranges,
            to,
        },
    );
    let changed = pinned.slice(0..8);
    let from = 0..4;
    refused(
        &*device,
        &Work::Move {
            from,
            to: 8,
            changed,
        },
    );
}

fn pinned_outlives_the_device(open: Open<'_>) {
    let device = zeroed(open);
    upload(&*device, 0, &[3; 10]);
    let pinned = Pinned::new(&*device, 10);
    let to = pinned.whole();
    device
        .submit(Queue::Copy, &Work::Download { from: 0, to })
        .unwrap();
    finish(&*device, Queue::Copy).unwrap();
    drop(device);
    assert_eq!(pinned.all(), [3; 10]);
}
