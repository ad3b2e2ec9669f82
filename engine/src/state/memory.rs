//! Where the bytes of a page are: in the arena, or on the device. An offset tells which.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::State;
use super::device::{DeviceSpace, Writer};
use super::table::Slot;
use crate::device::{Device, DeviceError, HostDevice};
use crate::digest::Digest;
use crate::graph::{Extent, PageBytes, REMOTE_START, Transform, TransformError};
use crate::memory::Arena;
use crate::page::Location;

/// Offsets from here on count bytes of device memory. No arena reaches so far, so what takes an offset for one in the arena is
/// refused by its check of bounds.
pub(crate) const DEVICE_START: u64 = REMOTE_START;

/// The offset of a page as its slot has it, from its place in the memory of its location.
pub(crate) const fn offset_at(location: Location, place: u64) -> u64 {
    match location {
        Location::Device => DEVICE_START + place,
        _ => place,
    }
}

/// The inverse of [`offset_at`].
pub(crate) const fn place_of(offset: u64) -> u64 {
    if offset >= DEVICE_START {
        offset - DEVICE_START
    } else {
        offset
    }
}

/// Writes runs of a commit or a record that lie on the device; the space is looked up and locked with the first of them.
#[derive(Default)]
pub(crate) struct DeviceRuns<'a> {
    writer: Option<Writer<'a>>,
}

impl<'a> DeviceRuns<'a> {
    /// Writes to the device, if `offset` is there, and says whether it is. What goes wrong is kept by the space: the log has it all.
    pub(crate) fn write(&mut self, state: &'a State, offset: u64, bytes: &[u8]) -> bool {
        if offset < DEVICE_START {
            return false;
        }
        if self.writer.is_none() {
            self.writer = state.device.get().map(|space| space.writer());
        }
        if let Some(writer) = &mut self.writer {
            writer.write(place_of(offset), bytes);
        }
        true
    }
}

impl State {
    /// The space of the device, which is taken or made when the first page needs it.
    pub(crate) fn device_space(&self) -> Result<&Arc<DeviceSpace>, DeviceError> {
        if let Some(space) = self.device.get() {
            return Ok(space);
        }
        // Only whoever holds the structure lock exclusively comes here, or recovery: there is no race to lose.
        let device: Arc<dyn Device> = match &self.chosen_device {
            Some(device) => Arc::clone(device),
            None => Arc::new(HostDevice::with_default_memory()?),
        };
        let space = Arc::new(DeviceSpace::new(device, &self.device_options)?);
        Ok(self.device.get_or_init(|| space))
    }

    /// Refuses if the page of `slot` is on a device whose memory means nothing.
    #[inline]
    pub(crate) fn check_device(&self, slot: &Slot) -> Result<(), DeviceError> {
        if slot.offset() < DEVICE_START {
            return Ok(());
        }
        self.device.get().map_or(Ok(()), |space| space.check())
    }

    /// The bytes `range` of a page: those in the arena where they are, those on the device as a copy.
    ///
    /// # Safety
    /// The caller holds the stripe of the page, and keeps it for as long as the bytes are used.
    pub(crate) unsafe fn content(
        &self,
        slot: &Slot,
        range: Range<u64>,
    ) -> Result<Cow<'_, [u8]>, DeviceError> {
        let start = slot.offset() + range.start;
        let len_bytes = (range.end - range.start) as usize;
        if start >= DEVICE_START {
            let mut bytes = vec![0; len_bytes];
            if let Some(space) = self.device.get() {
                space.read(place_of(start), &mut bytes)?;
            }
            return Ok(Cow::Owned(bytes));
        }
        // SAFETY: nobody writes to the page while the caller holds its stripe.
        let bytes = unsafe { self.arena.bytes(start, len_bytes) };
        Ok(Cow::Borrowed(bytes.unwrap_or_default()))
    }

    /// All bytes of a page.
    ///
    /// # Safety
    /// As [`State::content`].
    pub(crate) unsafe fn bytes(&self, slot: &Slot) -> Result<Cow<'_, [u8]>, DeviceError> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.content(slot, 0..slot.len_bytes()) }
    }

    /// The digests of pages that are on the device, in their order.
    pub(crate) fn device_digests(&self, slots: &[&Slot]) -> Result<Vec<Digest>, DeviceError> {
        let ranges: Vec<_> = slots
            .iter()
            .map(|slot| {
                let start = place_of(slot.offset());
                start..start + slot.len_bytes()
            })
            .collect();
        match self.device.get() {
            Some(space) if !ranges.is_empty() => space.digests(&ranges),
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) fn page_memory(&self) -> PageMemory<'_> {
        PageMemory {
            arena: &self.arena,
            device: self.device.get().map(|space| &**space),
        }
    }
}

/// The memory that a wave works on.
pub(crate) struct PageMemory<'a> {
    arena: &'a Arena,
    device: Option<&'a DeviceSpace>,
}

fn failed(error: &DeviceError) -> TransformError {
    TransformError::failed(error.to_string())
}

// SAFETY: the arena is mapped at one place for as long as it lives, so ranges always give the same bytes
// and disjoint ones never alias; the memory of the device is never referred to.
unsafe impl PageBytes for PageMemory<'_> {
    #[inline]
    unsafe fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        // SAFETY: the caller keeps writers away.
        unsafe { self.arena.bytes(offset, len) }.unwrap_or_default()
    }

    #[inline]
    unsafe fn bytes_mut(&self, offset: u64, len: usize) -> &mut [u8] {
        // SAFETY: the caller keeps everybody else away.
        unsafe { self.arena.bytes_mut(offset, len) }.unwrap_or_default()
    }

    unsafe fn fetch(&self, offset: u64, into: &mut [u8]) -> Result<(), TransformError> {
        let space = self
            .device
            .ok_or_else(|| TransformError::failed("there is no device"))?;
        space
            .read(place_of(offset), into)
            .map_err(|error| failed(&error))
    }

    unsafe fn store(&self, offset: u64, bytes: &[u8]) -> Result<(), TransformError> {
        let space = self
            .device
            .ok_or_else(|| TransformError::failed("there is no device"))?;
        space
            .write(place_of(offset), bytes)
            .map_err(|error| failed(&error))
    }

    unsafe fn offload(
        &self,
        transform: &dyn Transform,
        inputs: &[Extent],
        output: Extent,
        range: Range<u64>,
    ) -> Option<Result<Option<Range<u64>>, TransformError>> {
        let _ = (transform, inputs, output, range);
        None
    }
}
