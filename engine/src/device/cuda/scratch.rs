//! Device memory that kernels of one queue use for tables and results. Each piece of work uses it anew: they follow each other.

use std::sync::Arc;

use super::api::Address;
use super::context::Context;
use crate::device::DeviceError;

/// Length of the fault, a number.
pub(super) const FAULT_BYTES: usize = 4;

/// Nodes of digests of long ranges, 32 bytes each: those of 8 GiB.
pub(super) const NODES: u32 = 65_536;

/// Digests that are computed at once.
pub(super) const DIGESTS: usize = 16_384;

const NODE_BYTES: u64 = 32;
const SMALL_BYTES: u64 = 4096;

/// Its parts, each at a multiple of 256.
#[derive(Debug)]
pub(super) struct Scratch {
    context: Arc<Context>,
    start: Address,
    table_bytes: u64,
}

impl Scratch {
    /// The context is current.
    pub(super) fn new(context: &Arc<Context>, table_bytes: u64) -> Result<Self, DeviceError> {
        let nodes = u64::from(NODES) * NODE_BYTES;
        let digests = DIGESTS as u64 * NODE_BYTES;
        Ok(Self {
            context: Arc::clone(context),
            start: context.allocate(SMALL_BYTES + table_bytes + digests + nodes)?,
            table_bytes,
        })
    }

    pub(super) const fn fault(&self) -> Address {
        self.start
    }

    /// 8 bytes.
    pub(super) const fn sum(&self) -> Address {
        self.start + 256
    }

    /// As long as the longest table.
    pub(super) const fn table(&self) -> Address {
        self.start + SMALL_BYTES
    }

    /// [`DIGESTS`] of 32 bytes.
    pub(super) const fn digests(&self) -> Address {
        self.table() + self.table_bytes
    }

    /// [`NODES`] of 32 bytes.
    pub(super) const fn nodes(&self) -> Address {
        self.digests() + DIGESTS as u64 * NODE_BYTES
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.context.give_back("freeing device memory", |api| {
            // SAFETY: allocated by `new`, this is the end of it, and work that uses it was waited for.
            unsafe { (api.free)(self.start) }
        });
    }
}
