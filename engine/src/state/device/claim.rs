//! One device, one state: two would place their pages over each other.

use std::collections::BTreeSet;
use std::sync::Arc;

// Not the one of `crate::sync`: it outlives every explored run, and loom makes no static one.
use parking_lot::Mutex;

use crate::device::{Device, DeviceError};

/// Addresses of the devices that states use now.
static CLAIMED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Proof that nobody else uses the device. Given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    address: usize,
    // Nobody else can have the address as long as this is there.
    _device: Arc<dyn Device>,
}

impl Claim {
    pub(super) fn of(device: &Arc<dyn Device>) -> Result<Self, DeviceError> {
        let address = Arc::as_ptr(device).cast::<()>().addr();
        if CLAIMED.lock().insert(address) {
            return Ok(Self {
                address,
                _device: Arc::clone(device),
            });
        }
        Err(DeviceError::Unavailable {
            kind: device.info().kind.name(),
            reason: "another bus or replay of this process uses it; close that first, or give this one a device \
                     of its own"
                .to_owned(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.lock().remove(&self.address);
    }
}
