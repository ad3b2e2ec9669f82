//! After a failure: nothing works until a reset, and everything does after it.

use mmsb_engine::device::{Queue, Work};

use super::{Check, MEMORY_BYTES, Open, read, start_over, upload, zeroed};
use crate::device::{Pinned, finish};

pub const CHECKS: &[Check] = &[
    ("failure::stays_until_reset", stays_until_reset),
    ("failure::reset_takes_memory_back", reset_takes_memory_back),
    ("failure::reset_gives_up_work", reset_gives_up_work),
];

fn stays_until_reset(open: Open<'_>) {
    let device = zeroed(open);
    let pinned = Pinned::new(&*device, 16);
    let granule = device.info().granule_bytes;
    let wrong = Work::Fill {
        range: MEMORY_BYTES..MEMORY_BYTES + 1,
        byte: 0,
    };
    let error = super::failure_of(&*device, &wrong);
    let right = Work::Upload {
        from: pinned.whole(),
        to: 0,
    };
    for queue in Queue::ALL {
        assert_eq!(device.submit(queue, &right), Err(error.clone()));
        assert!(device.fence(queue).is_err());
    }
    assert!(device.unmap(0..granule).is_err());
    assert!(device.pin(1).is_err());
    start_over(&*device);
    device.submit(Queue::Copy, &right).unwrap();
    finish(&*device, Queue::Copy).unwrap();
    upload(&*device, 0, &[4; 8]);
    assert_eq!(read(&*device, 0..8), [4; 8]);
}

fn reset_takes_memory_back(open: Open<'_>) {
    let device = zeroed(open);
    device.reset().unwrap();
    let granule = device.info().granule_bytes;
    assert_eq!(
        device.unmap(0..granule).unwrap_err().kind(),
        "device.invalid"
    );
    device.map(0..MEMORY_BYTES).unwrap();
    assert_eq!(
        device
            .map(MEMORY_BYTES..MEMORY_BYTES + granule)
            .unwrap_err()
            .kind(),
        "device.out-of-memory"
    );
}

fn reset_gives_up_work(open: Open<'_>) {
    let device = zeroed(open);
    let pinned = Pinned::with(&*device, &[1; 64]);
    for step in 0..100 {
        let work = Work::Upload {
            from: pinned.whole(),
            to: step * 64,
        };
        device.submit(Queue::Copy, &work).unwrap();
        let (range, byte) = (1 << 20..2 << 20, step as u8);
        device
            .submit(Queue::Compute, &Work::Fill { range, byte })
            .unwrap();
    }
    let fence = device.fence(Queue::Compute).unwrap();
    start_over(&*device);
    assert_eq!(device.is_reached(fence), Ok(true));
    upload(&*device, 0, &[5; 8]);
    assert_eq!(
        read(&*device, 0..16),
        [5, 5, 5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}
