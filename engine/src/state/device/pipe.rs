//! The stage in other hands: slots of any length, each sent as a batch.

use std::ops::Range;

use super::batch::Tables;
use super::stage::{StageShape, send_batch, too_small};
use crate::device::{Device, DeviceError, Fence, PinnedBuffer, Queue};

/// Pinned memory and its twin on the device, and the way from one to the other.
pub(crate) struct Pipe<'a> {
    device: &'a dyn Device,
    pinned: &'a PinnedBuffer,
    shape: StageShape,
}

/// A batch that was sent.
pub(crate) struct Sent {
    fence: Fence,
    sum: u64,
    /// Where in pinned memory the device reports the sum of what arrived.
    report: Option<Range<usize>>,
    offset: u64,
    len_bytes: u64,
}

/// What the device reports of a slot is in its last bytes.
const REPORT_BYTES: usize = 64;

impl<'a> Pipe<'a> {
    pub(super) fn new(device: &'a dyn Device, pinned: &'a PinnedBuffer, shape: StageShape) -> Self {
        Self {
            device,
            pinned,
            shape,
        }
    }

    /// The memory that is sent from. Whoever writes to a part of it must have got it back, see [`Pipe::finish`].
    pub(crate) fn pinned(&self) -> &'a PinnedBuffer {
        self.pinned
    }

    pub(crate) fn len_bytes(&self) -> usize {
        self.shape.len_bytes()
    }

    /// Sends the batch that lies at the start of the part `slot` of pinned memory, whose last 64 bytes are left to the device. `sum`
    /// is that of payload and tables.
    pub(crate) fn send(
        &self,
        slot: Range<usize>,
        tables: Tables,
        sum: u64,
    ) -> Result<Sent, DeviceError> {
        let report_at = slot.end.checked_sub(REPORT_BYTES).ok_or_else(too_small)?;
        if slot.start + tables.len_bytes > report_at {
            return Err(too_small());
        }
        let report = self.shape.is_verified.then_some(report_at..report_at + 8);
        let offset = self.shape.device_start + slot.start as u64;
        send_batch(
            self.device,
            self.pinned,
            slot.start,
            offset,
            &tables,
            report.clone(),
        )?;
        Ok(Sent {
            fence: self.device.fence(Queue::Compute)?,
            sum,
            report,
            offset,
            len_bytes: tables.len_bytes as u64,
        })
    }

    /// Whether the device is done with a batch.
    pub(crate) fn is_done(&self, sent: &Sent) -> Result<bool, DeviceError> {
        self.device.is_reached(sent.fence)
    }

    /// Waits until the device is done with a batch, and checks that it arrived as it was sent.
    pub(crate) fn finish(&self, sent: &Sent) -> Result<(), DeviceError> {
        self.device.wait(sent.fence)?;
        let Some(report) = &sent.report else {
            return Ok(());
        };
        // SAFETY: the fence after the sum was waited for, and the slot has not been given away since.
        let bytes = unsafe { self.pinned.bytes(report.clone()) }.and_then(<[u8]>::first_chunk);
        if bytes.is_some_and(|bytes| u64::from_le_bytes(*bytes) == sent.sum) {
            return Ok(());
        }
        Err(DeviceError::CorruptCopy {
            offset: sent.offset,
            len_bytes: sent.len_bytes,
        })
    }
}
