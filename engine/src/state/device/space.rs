//! The memory of a device that pages lie in.

use std::ops::Range;
use std::sync::Arc;

use super::claim::Claim;
use super::pipe::Pipe;
use super::stage::{MAX_REPORTS, MIN_SLOT_BYTES, Stage, StageShape};
use crate::device::layout::Changed;
use crate::device::{Device, DeviceError, DeviceInfo, PinnedSlice, Work};
use crate::digest::Digest;
use crate::options::DeviceOptions;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Pages lie in the first part of the device's addresses, the stage in the last.
#[derive(Debug)]
pub(crate) struct DeviceSpace {
    device: Arc<dyn Device>,
    info: DeviceInfo,
    pages_bytes: u64,
    shape: StageShape,
    inner: Mutex<Inner>,
    /// Whether `Inner::fault` is set: to be looked at without the lock.
    is_faulty: AtomicBool,
    // Last, so that the next one comes in when everything else is gone.
    _claim: Claim,
}

#[derive(Debug)]
struct Inner {
    stage: Stage,
    /// Whether each granule of the part for pages has memory.
    mapped: Vec<bool>,
    mapped_bytes: u64,
    fault: Option<DeviceError>,
}

/// Writes to device memory in the order of its calls. An error is kept by the space: the log has what was not written.
pub(crate) struct Writer<'a> {
    space: &'a DeviceSpace,
    inner: MutexGuard<'a, Inner>,
}

impl DeviceSpace {
    /// Takes the device and pins the memory that is needed; nothing is on it.
    pub(crate) fn new(
        device: Arc<dyn Device>,
        options: &DeviceOptions,
    ) -> Result<Self, DeviceError> {
        let claim = Claim::of(&device)?;
        let info = device.info();
        let slots = 8;
        let wanted = usize::try_from(options.staging_bytes).unwrap_or(usize::MAX) / slots;
        let slot_bytes = (wanted - wanted % 4096).max(MIN_SLOT_BYTES);
        let stage_bytes = ((slots * slot_bytes) as u64).next_multiple_of(info.granule_bytes.max(1));
        let Some(pages_bytes) = info.reserved_bytes.checked_sub(stage_bytes) else {
            return Err(DeviceError::OutOfMemory {
                asked_bytes: stage_bytes,
                mapped_bytes: 0,
                capacity_bytes: info.reserved_bytes,
            });
        };
        let shape = StageShape {
            slots,
            slot_bytes,
            device_start: pages_bytes,
            is_verified: options.verify_uploads,
        };
        device.reset()?;
        device.map(pages_bytes..pages_bytes + stage_bytes)?;
        let stage = Stage::new(&*device, shape)?;
        let granules = usize::try_from(pages_bytes / info.granule_bytes.max(1)).unwrap_or(0);
        Ok(Self {
            inner: Mutex::new(Inner {
                stage,
                mapped: vec![false; granules],
                mapped_bytes: 0,
                fault: None,
            }),
            device,
            info,
            pages_bytes,
            shape,
            is_faulty: AtomicBool::new(false),
            _claim: claim,
        })
    }

    pub(crate) const fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Bytes of addresses that pages can have.
    pub(crate) const fn pages_bytes(&self) -> u64 {
        self.pages_bytes
    }

    /// Bytes of device memory behind pages.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.inner.lock().mapped_bytes
    }

    /// The address that code on the device has for `offset`.
    pub(crate) fn address(&self, offset: u64) -> u64 {
        self.device.address(offset)
    }

    /// Starts over with an empty memory, after a failure or before it is filled anew.
    pub(crate) fn restart(&self) -> Result<(), DeviceError> {
        let mut inner = self.inner.lock();
        let stage = self.shape.device_start..self.info.reserved_bytes;
        let mapped = self.device.reset().and_then(|()| self.device.map(stage));
        inner.stage.reset();
        inner.mapped.fill(false);
        inner.mapped_bytes = 0;
        inner.fault = None;
        self.is_faulty.store(false, Ordering::Release);
        mapped.inspect_err(|error| self.note(&mut inner, error))
    }

    /// The error since which device memory means nothing, if there was one.
    pub(crate) fn fault(&self) -> Option<DeviceError> {
        if !self.is_faulty.load(Ordering::Acquire) {
            return None;
        }
        self.inner.lock().fault.clone()
    }

    /// Refuses if device memory means nothing.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        self.fault().map_or(Ok(()), Err)
    }

    /// From here on device memory means nothing.
    pub(crate) fn fail(&self, error: &DeviceError) {
        self.note(&mut self.inner.lock(), error);
    }

    fn note(&self, inner: &mut Inner, error: &DeviceError) {
        inner.fault.get_or_insert_with(|| error.clone());
        self.is_faulty.store(true, Ordering::Release);
    }

    /// Does something with the device; an error other than a refusal is kept.
    fn with<T>(
        &self,
        run: impl FnOnce(&mut Inner, &dyn Device) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let mut inner = self.inner.lock();
        if let Some(fault) = &inner.fault {
            return Err(fault.clone());
        }
        run(&mut inner, &*self.device).inspect_err(|error| {
            if !error.is_refusal() {
                self.note(&mut inner, error);
            }
        })
    }

    /// Makes sure that a page that was placed at `range` has memory, and that it is zeros.
    pub(crate) fn occupy(&self, range: Range<u64>) -> Result<(), DeviceError> {
        let granule_bytes = self.info.granule_bytes.max(1);
        self.with(|inner, device| {
            let first = (range.start / granule_bytes) as usize;
            let end = range.end.div_ceil(granule_bytes) as usize;
            let mut at = first;
            while at < end {
                let granules = inner.mapped.get(at..end).unwrap_or_default();
                let is_mapped = granules.first().is_none_or(|mapped| *mapped);
                let len = granules
                    .iter()
                    .take_while(|mapped| **mapped == is_mapped)
                    .count();
                let next = at + len.max(1);
                if is_mapped {
                    at = next;
                    continue;
                }
                let bytes = at as u64 * granule_bytes..next as u64 * granule_bytes;
                device.map(bytes.clone()).map_err(|error| match error {
                    DeviceError::OutOfMemory { capacity_bytes, .. } => DeviceError::OutOfMemory {
                        asked_bytes: range.end - range.start,
                        mapped_bytes: inner.mapped_bytes,
                        capacity_bytes,
                    },
                    other => other,
                })?;
                inner.mapped_bytes += bytes.end - bytes.start;
                if let Some(granules) = inner.mapped.get_mut(at..next) {
                    granules.fill(true);
                }
                at = next;
            }
            inner.stage.zero(device, range)
        })
    }

    /// Makes all pages zeros, and lends the stage to `fill`, which fills them anew. A device that failed is emptied, and has no memory
    /// behind `pages` before; on one that did not, what is mapped stays mapped, since giving it back and taking it again costs
    /// more than filling it. An error leaves a device whose memory means nothing.
    pub(crate) fn refill<T, E: From<DeviceError>>(
        &self,
        pages: impl Iterator<Item = Range<u64>>,
        fill: impl FnOnce(&Pipe<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.fault().is_some() {
            self.restart()?;
        }
        for page in pages {
            self.occupy(page)?;
        }
        let mut inner = self.inner.lock();
        let device = &*self.device;
        let filled = match inner.stage.lend(device) {
            Ok(pipe) => fill(&pipe),
            Err(error) => Err(error.into()),
        };
        if filled.is_err() {
            self.note(
                &mut inner,
                &DeviceError::Lost {
                    reason: "it was not filled to the end".to_owned(),
                },
            );
        }
        filled
    }

    /// For several writes: the lock is taken once.
    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer {
            inner: self.inner.lock(),
            space: self,
        }
    }

    pub(crate) fn write(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.with(|inner, device| inner.stage.write(device, to, bytes))
    }

    pub(crate) fn read(&self, from: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.with(|inner, device| inner.stage.read(device, from, into))
    }

    pub(crate) fn digests(&self, ranges: &[Range<u64>]) -> Result<Vec<Digest>, DeviceError> {
        self.with(|inner, device| inner.stage.digests(device, ranges))
    }

    /// Runs `count` pieces of work that say which bytes of an output they changed; `work` is told the position of each.
    pub(crate) fn changes<'w>(
        &self,
        count: usize,
        mut work: impl FnMut(usize, PinnedSlice) -> Work<'w>,
    ) -> Result<Vec<Changed>, DeviceError> {
        self.with(|inner, device| {
            let mut changes = Vec::with_capacity(count);
            for first in (0..count).step_by(MAX_REPORTS) {
                let some = MAX_REPORTS.min(count - first);
                let stage = &mut inner.stage;
                changes.extend(stage.changes(device, some, |at, to| work(first + at, to))?);
            }
            Ok(changes)
        })
    }

    /// Waits until everything that was written is there.
    pub(crate) fn settle(&self) -> Result<(), DeviceError> {
        self.with(|inner, device| inner.stage.settle(device))
    }
}

impl Writer<'_> {
    pub(crate) fn write(&mut self, to: u64, bytes: &[u8]) {
        if self.inner.fault.is_some() {
            return;
        }
        let written = self.inner.stage.write(&*self.space.device, to, bytes);
        if let Err(error) = written {
            // A write has its place in the log already, so whatever keeps it from the device makes that out of date.
            self.space.note(&mut self.inner, &error);
        }
    }
}
