//! Allocators that a trace can be replayed against.

use mmsb_engine::device::pool::Pool;
use mmsb_engine::memory::{Placement, PlacementError};
use thiserror::Error;

/// Why a backend did not allocate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl From<PlacementError> for Refused {
    fn from(error: PlacementError) -> Self {
        Self(error.to_string())
    }
}

/// An allocator of device memory.
///
/// Backends that ask a driver belong here too: what they need of a device is in [`Backend::settle`], called outside of what is measured.
pub trait Backend {
    /// What reports call it.
    fn name(&self) -> &'static str;

    /// Allocates `len_bytes` and returns what it is released by: an offset or an address.
    ///
    /// # Errors
    /// When there is no room, or the allocator fails.
    fn allocate(&mut self, len_bytes: u64) -> Result<u64, Refused>;

    /// Releases what [`Backend::allocate`] gave for `len_bytes`.
    ///
    /// # Errors
    /// When the allocator fails.
    fn release(&mut self, handle: u64, len_bytes: u64) -> Result<(), Refused>;

    /// Waits until the device has nothing under way. Nothing to do for an allocator that asks no device.
    ///
    /// # Errors
    /// When the device fails.
    fn settle(&mut self) -> Result<(), Refused> {
        Ok(())
    }
}

/// Makes a backend with a capacity in bytes.
pub type Make = fn(u64) -> Box<dyn Backend>;

/// The backends of this build, and how one is made.
#[must_use]
pub fn backends() -> Vec<(&'static str, Make)> {
    vec![
        ("pool", |capacity_bytes| {
            Box::new(PoolBackend(Pool::new(capacity_bytes)))
        }),
        ("placement", |capacity_bytes| {
            Box::new(PlacementBackend(Placement::new(capacity_bytes)))
        }),
    ]
}

/// The engine's allocator of device pages.
#[derive(Debug)]
pub struct PoolBackend(pub Pool);

impl Backend for PoolBackend {
    fn name(&self) -> &'static str {
        "pool"
    }

    #[inline]
    fn allocate(&mut self, len_bytes: u64) -> Result<u64, Refused> {
        Ok(self.0.allocate(len_bytes)?)
    }

    #[inline]
    fn release(&mut self, handle: u64, len_bytes: u64) -> Result<(), Refused> {
        Ok(self.0.release(handle, len_bytes)?)
    }
}

/// The engine's allocator of host pages.
#[derive(Debug)]
pub struct PlacementBackend(pub Placement);

impl Backend for PlacementBackend {
    fn name(&self) -> &'static str {
        "placement"
    }

    #[inline]
    fn allocate(&mut self, len_bytes: u64) -> Result<u64, Refused> {
        Ok(self.0.allocate(len_bytes)?)
    }

    #[inline]
    fn release(&mut self, handle: u64, len_bytes: u64) -> Result<(), Refused> {
        Ok(self.0.release(handle, len_bytes)?)
    }
}
