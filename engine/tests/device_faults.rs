//! Faults of the simulated device.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod device;

use device::{Op, Pinned, finish, perform};
use mmsb_engine::device::layout::sum64;
use mmsb_engine::device::{
    Device, DeviceError, DeviceFault, DeviceFaultKind, DeviceOperation, Queue, SimulatedDevice,
    SimulatedOptions, Work,
};

const MEMORY_BYTES: u64 = 64 * 1024;

fn mapped(seed: u64) -> SimulatedDevice {
    let options = SimulatedOptions {
        seed,
        ..SimulatedOptions::default()
    };
    let device = SimulatedDevice::new(&options).unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    perform(
        &device,
        &Op::Fill {
            range: 0..MEMORY_BYTES,
            byte: 0,
        },
    )
    .unwrap();
    device
}

fn inject(device: &SimulatedDevice, on: DeviceOperation, nth: u64, kind: DeviceFaultKind) {
    device.inject(DeviceFault { on, nth, kind }).unwrap();
}

fn read(device: &dyn Device, range: std::ops::Range<u64>) -> Vec<u8> {
    perform(device, &Op::Download { range }).unwrap()
}

/// Does `operation` so that its outcome is known.
fn operate(device: &SimulatedDevice, operation: DeviceOperation) -> Result<(), DeviceError> {
    match operation {
        DeviceOperation::Map => {
            let start = MEMORY_BYTES * (1 + device.counters().maps);
            device.map(start..start + MEMORY_BYTES)
        }
        DeviceOperation::Pin => device.pin(100).map(|_| ()),
        DeviceOperation::Upload => perform(
            device,
            &Op::Upload {
                to: 0,
                bytes: vec![5; 1000],
            },
        )
        .map(|_| ()),
        DeviceOperation::Download => perform(device, &Op::Download { range: 0..1000 }).map(|_| ()),
        DeviceOperation::Launch => perform(
            device,
            &Op::Fill {
                range: 0..1000,
                byte: 5,
            },
        )
        .map(|_| ()),
        DeviceOperation::Wait => finish(device, Queue::Compute),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn every_fault_strikes_the_nth_operation_and_is_said() {
    for on in DeviceOperation::ALL {
        for kind in DeviceFaultKind::ALL
            .into_iter()
            .filter(|kind| kind.strikes(on))
        {
            for (nth, seed) in [(1, 1), (1, 2), (1, 3), (1, 4), (3, 5), (3, 6)] {
                let device = mapped(seed);
                inject(&device, on, nth, kind);
                for earlier in 1..nth {
                    operate(&device, on).unwrap();
                    let pending = DeviceFault {
                        on,
                        nth: nth - earlier,
                        kind,
                    };
                    assert_eq!(device.pending_faults(), [pending]);
                }
                let outcome = operate(&device, on);
                assert_eq!(
                    (device.pending_faults(), device.counters().faults),
                    (vec![], 1)
                );
                let expected = match kind {
                    DeviceFaultKind::OutOfMemory => Some("device.out-of-memory"),
                    DeviceFaultKind::PinnedExhausted => Some("device.pinned"),
                    DeviceFaultKind::Failed => Some("device.failed"),
                    DeviceFaultKind::Lost => Some("device.lost"),
                    _ => None,
                };
                assert_eq!(
                    outcome.as_ref().err().map(DeviceError::kind),
                    expected,
                    "{on:?} {kind:?}"
                );
                if let Err(error) = outcome {
                    check_after(&device, &error);
                }
            }
        }
    }
}

/// A refusal changes nothing; after anything else nothing works until a reset, which a lost device refuses until it is healed.
fn check_after(device: &SimulatedDevice, error: &DeviceError) {
    if error.is_refusal() {
        for operation in DeviceOperation::ALL {
            operate(device, operation).unwrap();
        }
        return;
    }
    for operation in DeviceOperation::ALL {
        assert_eq!(
            &operate(device, operation).unwrap_err(),
            error,
            "{operation:?}"
        );
    }
    if matches!(error, DeviceError::Lost { .. }) {
        assert_eq!(&device.reset().unwrap_err(), error);
        device.heal();
    }
    assert_eq!(
        &device.fence(Queue::Copy).unwrap_err(),
        error,
        "healing alone does not help"
    );
    device.reset().unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    operate(device, DeviceOperation::Launch).unwrap();
    assert_eq!(read(device, 0..3), [5; 3]);
}

#[test]
fn a_corrupt_copy_differs_in_one_bit() {
    let mut places = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let device = mapped(seed);
        inject(
            &device,
            DeviceOperation::Upload,
            1,
            DeviceFaultKind::Corrupt,
        );
        operate(&device, DeviceOperation::Upload).unwrap();
        let there = read(&device, 0..1000);
        let bits: u32 = there.iter().map(|byte| (byte ^ 5).count_ones()).sum();
        assert_eq!(bits, 1);
        assert_ne!(
            perform(&device, &Op::Sum { range: 0..1000 }).unwrap(),
            sum64(&[5; 1000]).to_le_bytes()
        );
        inject(
            &device,
            DeviceOperation::Download,
            1,
            DeviceFaultKind::Corrupt,
        );
        let here = read(&device, 0..1000);
        let bits: u32 = here
            .iter()
            .zip(&there)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!(bits, 1);
        assert_eq!(read(&device, 0..1000), there, "only on the way");
        places.insert(here);
    }
    assert!(places.len() > 5, "the seed chooses the bit");
}

#[test]
fn a_late_upload_arrives_after_the_next_fence_that_is_reported() {
    let device = mapped(1);
    inject(&device, DeviceOperation::Upload, 1, DeviceFaultKind::Late);
    let pinned = Pinned::with(&device, &[5; 100]);
    let (sum, copy) = (Pinned::new(&device, 8), Pinned::new(&device, 100));
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
            &Work::Sum {
                range: 0..100,
                to: sum.whole(),
            },
        )
        .unwrap();
    device
        .order(Queue::Compute, device.fence(Queue::Copy).unwrap())
        .unwrap();
    device
        .submit(
            Queue::Compute,
            &Work::Download {
                from: 0,
                to: copy.whole(),
            },
        )
        .unwrap();
    finish(&device, Queue::Compute).unwrap();
    assert_eq!(
        copy.all(),
        [0; 100],
        "the other queue's fence does not count"
    );
    finish(&device, Queue::Copy).unwrap();
    assert_eq!(sum.all(), sum64(&[0; 100]).to_le_bytes());
    pinned.write(0, &[6; 100]);
    assert_eq!(
        read(&device, 0..100),
        [5; 100],
        "as it was when it was submitted"
    );
}

#[test]
fn a_late_upload_does_not_outlive_its_memory() {
    let device = mapped(1);
    inject(&device, DeviceOperation::Upload, 1, DeviceFaultKind::Late);
    operate(&device, DeviceOperation::Upload).unwrap();
    device.unmap(0..MEMORY_BYTES).unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    assert_ne!(read(&device, 0..1000), [5; 1000]);
}

#[test]
fn a_late_download_leaves_no_result() {
    let device = mapped(1);
    perform(
        &device,
        &Op::Fill {
            range: 0..100,
            byte: 5,
        },
    )
    .unwrap();
    inject(&device, DeviceOperation::Download, 1, DeviceFaultKind::Late);
    assert_ne!(read(&device, 0..100), [5; 100]);
    assert_eq!(read(&device, 0..100), [5; 100]);
}

#[test]
fn faults_that_cannot_be_are_refused() {
    let device = mapped(1);
    let cannot = |on, nth, kind| device.inject(DeviceFault { on, nth, kind }).unwrap_err();
    let error = cannot(DeviceOperation::Map, 1, DeviceFaultKind::Corrupt);
    assert!(
        error.to_string().contains("no fault `corrupt` of `map`"),
        "{error}"
    );
    cannot(DeviceOperation::Upload, 1, DeviceFaultKind::OutOfMemory);
    cannot(DeviceOperation::Upload, 0, DeviceFaultKind::Late);
    assert!(device.pending_faults().is_empty());
}

#[test]
fn healing_lifts_what_has_not_struck() {
    let device = mapped(1);
    inject(&device, DeviceOperation::Launch, 2, DeviceFaultKind::Failed);
    inject(
        &device,
        DeviceOperation::Map,
        1,
        DeviceFaultKind::OutOfMemory,
    );
    device.heal();
    for operation in DeviceOperation::ALL {
        operate(&device, operation).unwrap();
    }
}

#[test]
fn the_first_of_two_faults_strikes() {
    let device = mapped(1);
    inject(
        &device,
        DeviceOperation::Map,
        2,
        DeviceFaultKind::OutOfMemory,
    );
    inject(&device, DeviceOperation::Map, 2, DeviceFaultKind::Lost);
    operate(&device, DeviceOperation::Map).unwrap();
    assert_eq!(
        operate(&device, DeviceOperation::Map).unwrap_err().kind(),
        "device.out-of-memory"
    );
    operate(&device, DeviceOperation::Map).unwrap();
}
