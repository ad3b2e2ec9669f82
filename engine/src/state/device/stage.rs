//! The way to device memory and back: slots of pinned memory, each with its place in device memory.
//!
//! Runs gather in one slot until it is full, or somebody asks for what they write: one upload and one kernel then serve
//! them all. Long runs go straight to their pages. Whatever is uploaded is summed on the device, and compared with
//! the sum of what was sent before anything that depends on it is given to anybody.
//!
//! Invariant: a slot is written to by the host only after the fence of its last use was waited for.

use std::collections::VecDeque;
use std::ops::Range;

use super::batch::{Batch, Tables};
use super::pipe::Pipe;
use crate::device::layout::{Changed, sum64};
use crate::device::{Device, DeviceError, Fence, PinnedBuffer, PinnedSlice, Queue, Work};
use crate::digest::Digest;

/// Bytes at the end of a slot for what the device reports.
const REPORT_BYTES: usize = 64;
/// Runs of this length go straight to their page: it costs less to start one more copy than to move them twice.
const DIRECT_BYTES: usize = 64 * 1024;
/// Digests asked for at a time.
const DIGESTS: usize = 4096;
/// Reports of changes asked for at a time: what the shortest slot holds.
pub(super) const MAX_REPORTS: usize = (MIN_SLOT_BYTES - REPORT_BYTES) / Changed::LEN_BYTES;

/// What an upload must come to.
#[derive(Clone, Copy, Debug)]
struct Check {
    sum: u64,
    offset: u64,
    len_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Reached when the device is done with the slot.
    fence: Option<Fence>,
    check: Option<Check>,
}

/// Which memory a stage has.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageShape {
    pub(super) slots: usize,
    pub(super) slot_bytes: usize,
    /// Where its part of device memory begins; as long as the pinned one.
    pub(super) device_start: u64,
    /// Whether uploads are summed.
    pub(super) is_verified: bool,
}

impl StageShape {
    pub(super) const fn len_bytes(&self) -> usize {
        self.slots * self.slot_bytes
    }

    /// Bytes of a slot that can be sent.
    const fn capacity_bytes(&self) -> usize {
        self.slot_bytes - REPORT_BYTES
    }
}

#[derive(Debug)]
pub(super) struct Stage {
    shape: StageShape,
    pinned: PinnedBuffer,
    slots: Vec<Slot>,
    /// The slot that comes next, or that the batch is in.
    current: usize,
    batch: Batch,
    /// Ranges that are to be zeros before the batch is applied.
    fills: Vec<Range<u64>>,
    uploaded_bytes: u64,
    downloaded_bytes: u64,
}

impl Stage {
    pub(super) fn new(device: &dyn Device, shape: StageShape) -> Result<Self, DeviceError> {
        Ok(Self {
            shape,
            pinned: device.pin(shape.len_bytes())?,
            slots: vec![Slot::default(); shape.slots],
            current: 0,
            batch: Batch::default(),
            fills: Vec::new(),
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        })
    }

    /// Bytes that went to the device and came from there, but for those that went through [`Stage::lend`].
    pub(super) const fn transferred_bytes(&self) -> (u64, u64) {
        (self.uploaded_bytes, self.downloaded_bytes)
    }

    /// The stage for whoever fills all of the device, until the result is dropped. Nothing of its own is under way then.
    pub(super) fn lend<'a>(&'a mut self, device: &'a dyn Device) -> Result<Pipe<'a>, DeviceError> {
        self.settle(device)?;
        Ok(Pipe::new(device, &self.pinned, self.shape))
    }

    /// Forgets what was under way: the device was reset.
    pub(super) fn reset(&mut self) {
        self.slots.fill(Slot::default());
        self.batch.clear();
        self.fills.clear();
    }

    /// Makes `range` zeros. Costs no call to the device until something else does.
    pub(super) fn zero(
        &mut self,
        device: &dyn Device,
        range: Range<u64>,
    ) -> Result<(), DeviceError> {
        if !self.batch.is_empty() {
            // What the batch writes there was for a page that is no more.
            self.flush(device)?;
        }
        match self.fills.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.fills.push(range),
        }
        Ok(())
    }

    /// Writes `bytes` to device offset `to`, after everything before.
    pub(super) fn write(
        &mut self,
        device: &dyn Device,
        to: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        if bytes.len() >= DIRECT_BYTES {
            return self.write_direct(device, to, bytes);
        }
        let capacity = self.shape.capacity_bytes();
        let at = match self.batch.place(to, bytes.len(), capacity) {
            Some(at) => at,
            None => {
                self.flush(device)?;
                let at = self.batch.place(to, bytes.len(), capacity);
                at.ok_or_else(too_small)?
            }
        };
        if self.batch.is_empty() {
            self.acquire(device)?;
        }
        let start = self.current * self.shape.slot_bytes + at;
        // SAFETY: the slot of the batch was acquired when the batch was begun, and has not been given to the device since; the
        // stage is borrowed exclusively.
        let to_bytes = unsafe { self.pinned.bytes_mut(start..start + bytes.len()) };
        to_bytes.ok_or_else(too_small)?.copy_from_slice(bytes);
        self.batch.push(to, at, bytes.len());
        Ok(())
    }

    fn write_direct(
        &mut self,
        device: &dyn Device,
        to: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        self.flush(device)?;
        let mut to = to;
        for chunk in bytes.chunks(self.shape.capacity_bytes()) {
            let start = self.acquire(device)?;
            let range = start..start + chunk.len();
            // SAFETY: the slot was acquired just now; the stage is borrowed exclusively.
            let pinned = unsafe { self.pinned.bytes_mut(range.clone()) };
            pinned.ok_or_else(too_small)?.copy_from_slice(chunk);
            let from = self.pinned.slice(range).ok_or_else(too_small)?;
            device.submit(Queue::Compute, &Work::Upload { from, to })?;
            self.uploaded_bytes += chunk.len() as u64;
            self.check_arrival(device, to, chunk)?;
            self.release(device)?;
            to += chunk.len() as u64;
        }
        Ok(())
    }

    /// Has the device sum what was uploaded to `to`, unless nobody wants to know.
    fn check_arrival(
        &mut self,
        device: &dyn Device,
        to: u64,
        sent: &[u8],
    ) -> Result<(), DeviceError> {
        if !self.shape.is_verified {
            return Ok(());
        }
        let len_bytes = sent.len() as u64;
        let report = self.report(self.current, 8)?;
        let range = to..to + len_bytes;
        let to_report = self.pinned.slice(report).ok_or_else(too_small)?;
        device.submit(
            Queue::Compute,
            &Work::Sum {
                range,
                to: to_report,
            },
        )?;
        if let Some(slot) = self.slots.get_mut(self.current) {
            slot.check = Some(Check {
                sum: sum64(sent),
                offset: to,
                len_bytes,
            });
        }
        Ok(())
    }

    /// Gives the device everything that it has not been given yet.
    pub(super) fn flush(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        for range in self.fills.drain(..) {
            device.submit(Queue::Compute, &Work::Fill { range, byte: 0 })?;
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let start = self.current * self.shape.slot_bytes;
        let device_start = self.shape.device_start + start as u64;
        // SAFETY: the slot of the batch has not been given to the device; the stage is borrowed exclusively.
        let bytes = unsafe {
            self.pinned
                .bytes_mut(start..start + self.shape.capacity_bytes())
        };
        let bytes = bytes.ok_or_else(too_small)?;
        let tables = self.batch.finish(bytes).ok_or_else(too_small)?;
        let sum = match bytes.get(..tables.len_bytes) {
            Some(sent) if self.shape.is_verified => Some(sum64(sent)),
            _ => None,
        };
        let report = self.report(self.current, 8)?;
        if let Some(slot) = self.slots.get_mut(self.current) {
            slot.check = sum.map(|sum| Check {
                sum,
                offset: device_start,
                len_bytes: tables.len_bytes as u64,
            });
        }
        let report = sum.map(|_| report);
        send_batch(device, &self.pinned, start, device_start, &tables, report)?;
        self.uploaded_bytes += tables.len_bytes as u64;
        self.release(device)
    }

    /// Copies device memory from `from` on to `into`.
    pub(super) fn read(
        &mut self,
        device: &dyn Device,
        from: u64,
        into: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.flush(device)?;
        let capacity = self.shape.capacity_bytes();
        // Half of the slots at most, so that none is asked for again before it was read.
        let ahead = (self.shape.slots / 2).max(1);
        let mut under_way: VecDeque<(usize, u64, &mut [u8])> = VecDeque::new();
        let mut from = from;
        for chunk in into.chunks_mut(capacity) {
            if under_way.len() == ahead
                && let Some((slot, from, chunk)) = under_way.pop_front()
            {
                self.collect(device, slot, from, chunk)?;
            }
            let start = self.acquire(device)?;
            let to = self.pinned.slice(start..start + chunk.len());
            let to = to.ok_or_else(too_small)?;
            device.submit(Queue::Compute, &Work::Download { from, to })?;
            self.downloaded_bytes += chunk.len() as u64;
            let end = from + chunk.len() as u64;
            if self.shape.is_verified {
                let report = self.report(self.current, 8)?;
                let to = self.pinned.slice(report).ok_or_else(too_small)?;
                let range = from..end;
                device.submit(Queue::Compute, &Work::Sum { range, to })?;
            }
            under_way.push_back((self.current, from, chunk));
            from = end;
            self.release(device)?;
        }
        for (slot, from, chunk) in under_way {
            self.collect(device, slot, from, chunk)?;
        }
        self.settle(device)
    }

    /// Waits for the download from `from` in `slot` and copies it to `into`.
    fn collect(
        &mut self,
        device: &dyn Device,
        slot: usize,
        from: u64,
        into: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.wait_for(device, slot)?;
        let start = slot * self.shape.slot_bytes;
        // SAFETY: the fence after the download was waited for, and the slot not given away since.
        let bytes = unsafe { self.pinned.bytes(start..start + into.len()) };
        let bytes = bytes.ok_or_else(too_small)?;
        if self.shape.is_verified {
            let report = self.report(slot, 8)?;
            // SAFETY: as above; the sum came before the fence too.
            let sent = unsafe { self.pinned.bytes(report) }.ok_or_else(too_small)?;
            if sent != sum64(bytes).to_le_bytes() {
                return Err(DeviceError::CorruptCopy {
                    offset: from,
                    len_bytes: bytes.len() as u64,
                });
            }
        }
        into.copy_from_slice(bytes);
        Ok(())
    }

    /// The digests of ranges of device memory, in their order.
    pub(super) fn digests(
        &mut self,
        device: &dyn Device,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Digest>, DeviceError> {
        self.flush(device)?;
        let mut digests = Vec::with_capacity(ranges.len());
        let fit = (self.shape.capacity_bytes() / size_of::<Digest>()).clamp(1, DIGESTS);
        for ranges in ranges.chunks(fit) {
            let start = self.acquire(device)?;
            let range = start..start + size_of_val(ranges) / size_of::<Range<u64>>() * 32;
            let to = self.pinned.slice(range.clone()).ok_or_else(too_small)?;
            device.submit(Queue::Compute, &Work::Digest { ranges, to })?;
            let slot = self.current;
            self.release(device)?;
            self.wait_for(device, slot)?;
            // SAFETY: the fence after the digests was waited for, and the slot not given away since.
            let bytes = unsafe { self.pinned.bytes(range) }.ok_or_else(too_small)?;
            let (found, _) = bytes.as_chunks::<32>();
            digests.extend(found.iter().copied().map(Digest::from));
        }
        self.settle(device)?;
        Ok(digests)
    }

    /// Runs `count` pieces of work that say which bytes they changed, and gives that, in their order. At most
    /// [`MAX_REPORTS`] at a time.
    pub(super) fn changes<'w>(
        &mut self,
        device: &dyn Device,
        count: usize,
        mut work: impl FnMut(usize, PinnedSlice) -> Work<'w>,
    ) -> Result<Vec<Changed>, DeviceError> {
        self.flush(device)?;
        let start = self.acquire(device)?;
        let report = |position: usize| {
            let at = start + position * Changed::LEN_BYTES;
            at..at + Changed::LEN_BYTES
        };
        for position in 0..count {
            let to = self.pinned.slice(report(position)).ok_or_else(too_small)?;
            device.submit(Queue::Compute, &work(position, to))?;
        }
        let slot = self.current;
        self.release(device)?;
        self.wait_for(device, slot)?;
        let mut changes = Vec::with_capacity(count);
        for position in 0..count {
            // SAFETY: the fence after the work was waited for, and the slot not given away since.
            let bytes = unsafe { self.pinned.bytes(report(position)) };
            let bytes = bytes.and_then(<[u8]>::first_chunk).ok_or_else(too_small)?;
            changes.push(Changed::from_bytes(*bytes));
        }
        Ok(changes)
    }

    /// Waits for everything, and checks that what was sent has arrived.
    pub(super) fn settle(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        self.flush(device)?;
        for slot in 0..self.slots.len() {
            self.wait_for(device, slot)?;
        }
        let fence = device.fence(Queue::Compute)?;
        device.wait(fence)
    }

    /// Waits until the current slot can be used, and says where it begins.
    fn acquire(&mut self, device: &dyn Device) -> Result<usize, DeviceError> {
        self.wait_for(device, self.current)?;
        Ok(self.current * self.shape.slot_bytes)
    }

    /// Gives the current slot to the device: what was submitted up to now uses it.
    fn release(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        let fence = device.fence(Queue::Compute)?;
        if let Some(slot) = self.slots.get_mut(self.current) {
            slot.fence = Some(fence);
        }
        self.current = (self.current + 1) % self.shape.slots;
        Ok(())
    }

    fn wait_for(&mut self, device: &dyn Device, slot: usize) -> Result<(), DeviceError> {
        let report = self.report(slot, 8)?;
        let Some(slot) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        if let Some(fence) = slot.fence.take() {
            device.wait(fence)?;
        }
        let Some(check) = slot.check.take() else {
            return Ok(());
        };
        // SAFETY: the fence after the sum was waited for.
        let bytes = unsafe { self.pinned.bytes(report) }.and_then(<[u8]>::first_chunk);
        if bytes.is_some_and(|bytes| u64::from_le_bytes(*bytes) == check.sum) {
            return Ok(());
        }
        Err(DeviceError::CorruptCopy {
            offset: check.offset,
            len_bytes: check.len_bytes,
        })
    }

    /// Where in pinned memory the device reports on a slot.
    fn report(&self, slot: usize, len_bytes: usize) -> Result<Range<usize>, DeviceError> {
        let at = slot * self.shape.slot_bytes + self.shape.capacity_bytes();
        let range = at..at + len_bytes;
        if len_bytes <= REPORT_BYTES && range.end <= self.pinned.len_bytes() {
            return Ok(range);
        }
        Err(too_small())
    }
}

/// Has the device take a batch that lies in pinned memory from `start` on, to `device_start`, sum it if there is a place for
/// the `report`, and apply it.
pub(super) fn send_batch(
    device: &dyn Device,
    pinned: &PinnedBuffer,
    start: usize,
    device_start: u64,
    tables: &Tables,
    report: Option<Range<usize>>,
) -> Result<(), DeviceError> {
    let from = pinned.slice(start..start + tables.len_bytes);
    let from = from.ok_or_else(too_small)?;
    let upload = Work::Upload {
        from,
        to: device_start,
    };
    device.submit(Queue::Copy, &upload)?;
    let arrived = device.fence(Queue::Copy)?;
    device.order(Queue::Compute, arrived)?;
    if let Some(report) = report {
        let to = pinned.slice(report).ok_or_else(too_small)?;
        let range = device_start..device_start + tables.len_bytes as u64;
        device.submit(Queue::Compute, &Work::Sum { range, to })?;
    }
    device.submit(
        Queue::Compute,
        &Work::Apply {
            tiles: device_start + tables.tiles_at as u64,
            tile_count: tables.tile_count,
            runs: device_start + tables.runs_at as u64,
            run_count: tables.run_count,
            payload: device_start..device_start + tables.payload_bytes as u64,
        },
    )
}

/// Slots are never shorter than this, so that every run that goes through a batch fits in one with its tables.
pub(super) const MIN_SLOT_BYTES: usize = 2 * DIRECT_BYTES;

pub(super) fn too_small() -> DeviceError {
    DeviceError::Invalid {
        reason: "a slot of the stage is too small".to_owned(),
    }
}
