//! What every device must do, whatever it is: checks that are given a way to open one.
//!
//! A check opens as many devices as it needs, each empty; it fails by panicking. It never relies on what the trait leaves open.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "a test that fails panics; a digest may be of one range"
)]

pub mod apply;
pub mod combine;
pub mod digest;
pub mod failure;
pub mod memory;
pub mod order;
pub mod pressure;
pub mod work;

use std::ops::Range;
use std::sync::Arc;

use mmsb_engine::device::{Device, DeviceError, Work};

use crate::device::{Op, perform};

/// Opens a device with that much memory for pages, in bytes.
pub type Open<'a> = &'a dyn Fn(u64) -> Arc<dyn Device>;

/// A check and its name.
pub type Check = (&'static str, fn(Open<'_>));

/// All checks.
pub fn checks() -> Vec<Check> {
    [
        memory::CHECKS,
        work::CHECKS,
        apply::CHECKS,
        combine::CHECKS,
        digest::CHECKS,
        order::CHECKS,
        pressure::CHECKS,
        failure::CHECKS,
    ]
    .concat()
}

/// Enough for most checks: two granules of any device.
pub const MEMORY_BYTES: u64 = 4 << 20;

/// A device of which the first [`MEMORY_BYTES`] are mapped, and zeros.
pub fn zeroed(open: Open<'_>) -> Arc<dyn Device> {
    let device = open(MEMORY_BYTES);
    device.map(0..MEMORY_BYTES).unwrap();
    zero(&*device);
    device
}

pub fn zero(device: &dyn Device) {
    let fill = Op::Fill {
        range: 0..MEMORY_BYTES,
        byte: 0,
    };
    perform(device, &fill).unwrap();
}

pub fn upload(device: &dyn Device, to: u64, bytes: &[u8]) {
    let op = Op::Upload {
        to,
        bytes: bytes.to_vec(),
    };
    perform(device, &op).unwrap();
}

pub fn read(device: &dyn Device, range: Range<u64>) -> Vec<u8> {
    perform(device, &Op::Download { range }).unwrap()
}

/// Bytes that differ from each other, and from call to call with another seed.
pub fn noise(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len_bytes).map(|_| (next() >> 32) as u8).collect()
}

/// The work is refused, now or when it is waited for, and after a reset the device can be used.
pub fn refused(device: &dyn Device, work: &Work<'_>) {
    let error = failure_of(device, work);
    assert_eq!(error.kind(), "device.invalid", "{work:?}: {error}");
    start_over(device);
}

pub fn failure_of(device: &dyn Device, work: &Work<'_>) -> DeviceError {
    let queue = mmsb_engine::device::Queue::Compute;
    let outcome = device
        .submit(queue, work)
        .and_then(|()| device.fence(queue))
        .and_then(|fence| device.wait(fence));
    match outcome {
        Err(error) => error,
        Ok(()) => panic!("{work:?} was done"),
    }
}

/// Resets the device, and maps zeros as [`zeroed`] does.
pub fn start_over(device: &dyn Device) {
    device.reset().unwrap();
    device.map(0..MEMORY_BYTES).unwrap();
    zero(device);
}
