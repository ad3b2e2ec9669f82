//! Pinned memory for tables that kernels are given: filled here, copied to the device in the order of the queue.

use std::ptr::NonNull;
use std::sync::Arc;

use super::context::Context;
use super::pinning::Block;
use crate::device::DeviceError;

/// Tables begin at multiples of this.
const ALIGNMENT: usize = 64;

/// Enough for the digest of 4 GiB, and for 16 384 digests of short ranges.
const LEAST_HALF_BYTES: usize = 1 << 20;

/// A ring of two halves: while the device reads tables of one, the other one is filled.
#[derive(Debug)]
pub(super) struct Tables {
    memory: Block,
    half_bytes: usize,
    half: usize,
    used_bytes: usize,
    /// After which moments the halves can be filled anew.
    last_uses: [u64; 2],
}

/// Part of the ring, to be filled before the next one is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    start: usize,
    len_bytes: usize,
}

/// What has to happen before a table can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing.
    Here,
    /// The half that is full is to be left, and the other one entered after this moment.
    After(u64),
}

impl Tables {
    /// The context is current.
    pub(super) fn new(context: &Arc<Context>, len_bytes: u32) -> Result<Self, DeviceError> {
        let half_bytes = (len_bytes as usize / 2)
            .max(LEAST_HALF_BYTES)
            .next_multiple_of(4096);
        Ok(Self {
            memory: Block::new(context, half_bytes * 2)?,
            half_bytes,
            half: 0,
            used_bytes: 0,
            last_uses: [0; 2],
        })
    }

    /// How long the longest table can be.
    pub(super) const fn half_bytes(&self) -> usize {
        self.half_bytes
    }

    /// Whether there is room for a table.
    pub(super) fn room(&self, len_bytes: usize) -> Room {
        if self.used_bytes + len_bytes <= self.half_bytes {
            return Room::Here;
        }
        let [first, second] = self.last_uses;
        Room::After(if self.half == 0 { second } else { first })
    }

    /// Goes to the other half; what was submitted up to `sequence` may read the one that is left.
    pub(super) fn turn(&mut self, sequence: u64) {
        let [first, second] = &mut self.last_uses;
        *(if self.half == 0 { first } else { second }) = sequence;
        self.half = 1 - self.half;
        self.used_bytes = 0;
    }

    /// Takes room that there is.
    pub(super) fn take(&mut self, len_bytes: usize) -> Result<Table, DeviceError> {
        if self.used_bytes + len_bytes > self.half_bytes {
            return Err(DeviceError::Invalid {
                reason: format!(
                    "a table of {len_bytes} bytes; the longest is one of {}",
                    self.half_bytes
                ),
            });
        }
        let table = Table {
            start: self.memory.start() + self.half * self.half_bytes + self.used_bytes,
            len_bytes,
        };
        self.used_bytes = (self.used_bytes + len_bytes).next_multiple_of(ALIGNMENT);
        Ok(table)
    }
}

impl Table {
    pub(super) const fn pointer(self) -> *const u8 {
        std::ptr::with_exposed_provenance(self.start)
    }

    /// Its bytes. To be filled before work that reads them is submitted.
    ///
    /// # Safety
    /// It was taken last from its ring, work that reads it was not submitted yet, and the slice does not outlive the lock of the ring.
    pub(super) const unsafe fn bytes<'a>(self) -> &'a mut [u8] {
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(self.start));
        match start {
            // SAFETY: the table is part of the ring's memory, which is initialised; the caller excludes all other access.
            Some(start) => unsafe {
                std::slice::from_raw_parts_mut(start.as_ptr(), self.len_bytes)
            },
            None => &mut [],
        }
    }
}
