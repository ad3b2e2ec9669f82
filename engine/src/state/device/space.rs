//! The memory of a device that pages lie in.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::claim::Claim;
use super::mirror::{Mirrors, Operand};
use super::pipe::Pipe;
use super::residency::Residency;
use super::source::PageSource;
use super::stage::{MAX_REPORTS, MIN_SLOT_BYTES, Stage, StageShape};
use super::statistics::Counters;
use crate::device::layout::Changed;
use crate::device::{Device, DeviceError, DeviceInfo, PinnedSlice, Work};
use crate::digest::Digest;
use crate::options::DeviceOptions;
use crate::page::PageIndex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Pages lie in the first part of the device's addresses, the stage in the last.
pub(crate) struct DeviceSpace {
    device: Arc<dyn Device>,
    info: DeviceInfo,
    pages_bytes: u64,
    shape: StageShape,
    /// So much memory pages may take at most.
    pub(super) limit_bytes: u64,
    /// Where evicted pages come from. Recovery has none: it evicts nothing, and leaves out what does not fit.
    pub(super) source: OnceLock<Arc<dyn PageSource>>,
    inner: Mutex<Inner>,
    /// Whether `Inner::fault` is set: to be looked at without the lock.
    is_faulty: AtomicBool,
    // Last, so that the next one comes in when everything else is gone.
    _claim: Claim,
}

pub(super) struct Inner {
    pub(super) stage: Stage,
    pub(super) residency: Residency,
    pub(super) mirrors: Mirrors,
    pub(super) counters: Counters,
    fault: Option<DeviceError>,
}

impl std::fmt::Debug for DeviceSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceSpace")
            .field("info", &self.info)
            .field("pages_bytes", &self.pages_bytes)
            .finish_non_exhaustive()
    }
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
        Ok(Self {
            inner: Mutex::new(Inner {
                stage,
                residency: Residency::new(info.granule_bytes),
                mirrors: Mirrors::new(pages_bytes, info.granule_bytes),
                counters: Counters::default(),
                fault: None,
            }),
            limit_bytes: options.resident_bytes.unwrap_or(u64::MAX),
            source: OnceLock::new(),
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
        self.inner
            .lock()
            .residency
            .mapping()
            .statistics()
            .mapped_bytes
    }

    /// The address that code on the device has for `offset`.
    pub(crate) fn address(&self, offset: u64) -> u64 {
        self.device.address(offset)
    }

    /// Starts over with an empty memory, after a failure or before it is filled anew: all pages are evicted.
    pub(crate) fn restart(&self) -> Result<(), DeviceError> {
        let mut inner = self.inner.lock();
        let stage = self.shape.device_start..self.info.reserved_bytes;
        let mapped = self.device.reset().and_then(|()| self.device.map(stage));
        inner.stage.reset();
        inner.residency.unmap_all();
        inner.fault = None;
        self.is_faulty.store(false, Ordering::Release);
        mapped.inspect_err(|error| self.note(&mut inner, error))
    }

    /// As [`DeviceSpace::restart`], and there are no pages any more: somebody places them anew.
    pub(crate) fn empty(&self) -> Result<(), DeviceError> {
        self.restart()?;
        let mut inner = self.inner.lock();
        inner.residency.forget_all();
        inner.mirrors.clear();
        Ok(())
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
    pub(super) fn with<T>(
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

    /// As [`DeviceSpace::with`], with the pages at `ranges` in device memory. They cannot be evicted while `run` runs.
    fn with_resident<T>(
        &self,
        ranges: &[Range<u64>],
        run: impl FnOnce(&mut Inner, &dyn Device) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        self.with(|inner, device| {
            self.bring(inner, device, ranges)?;
            run(inner, device)
        })
    }

    /// What can be said while nobody changes it.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }

    /// Changes what is known of pages, whatever the device does.
    pub(super) fn adjust<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock())
    }

    /// Places the page of `index` at `range`: makes sure that it has memory, and that it is zeros. Where `may_leave_out` it need not
    /// have memory if there is none: it is evicted then, and whoever builds the state sees to it later.
    pub(crate) fn occupy(
        &self,
        range: Range<u64>,
        index: PageIndex,
        may_leave_out: bool,
    ) -> Result<(), DeviceError> {
        self.with(|inner, device| {
            inner.residency.tick();
            let len_bytes = range.end - range.start;
            self.make_way(inner, &range)?;
            inner
                .residency
                .insert(range.start, len_bytes, index, !may_leave_out);
            let given = self.give_memory(inner, device, range.start, !may_leave_out);
            match given {
                Ok(()) => inner.stage.zero(device, range),
                Err(error) if may_leave_out && error.kind() == "device.out-of-memory" => Ok(()),
                Err(error) => {
                    inner.residency.remove(range.start);
                    Err(error)
                }
            }
        })
    }

    /// The transaction that placed the page at `place` is in the log: it can be brought back from there.
    pub(crate) fn note_birth(&self, place: u64) {
        self.adjust(|inner| {
            if let Some(page) = inner.residency.get_mut(place) {
                page.is_new = false;
            }
        });
    }

    /// Forgets the page at `place`, which is freed.
    pub(crate) fn vacate(&self, place: u64) {
        self.adjust(|inner| inner.residency.remove(place));
    }

    /// Makes all pages that fit zeros, and lends the stage to `fill`, which fills them anew; it is told their positions in the page
    /// table, if some do not fit. A device that failed is emptied before; on one that did not, what is mapped stays mapped, since giving
    /// it back and taking it again costs more than filling it. An error leaves a device whose memory means nothing.
    pub(crate) fn refill<T, E: From<DeviceError>>(
        &self,
        fill: impl FnOnce(&Pipe<'_>, Option<&[PageIndex]>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.fault().is_some() {
            self.restart()?;
        }
        let mut inner = self.inner.lock();
        let device = &*self.device;
        let filled = self
            .begin_anew(&mut inner, device)
            .map_err(E::from)
            .and_then(|pages| {
                let all = !inner.residency.has_evicted();
                let pipe = inner.stage.lend(device)?;
                fill(&pipe, (!all).then_some(&pages))
            });
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
        let mut inner = self.inner.lock();
        inner.residency.tick();
        Writer { inner, space: self }
    }

    /// Writes to a page that has to be there afterwards.
    pub(crate) fn write(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let range = to..to + bytes.len() as u64;
        self.with_resident(&[range], |inner, device| {
            inner.stage.write(device, to, bytes)
        })
    }

    pub(crate) fn read(&self, from: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let range = from..from + into.len() as u64;
        self.with_resident(&[range], |inner, device| {
            inner.stage.read(device, from, into)
        })
    }

    /// As [`DeviceSpace::read`], for somebody outside: an operation of the bus, by which is told how long ago a page was used.
    pub(crate) fn read_page(&self, from: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.adjust(|inner| inner.residency.tick());
        self.read(from, into)
    }

    /// The digests of pages, in their order. As many at a time as can be there together.
    pub(crate) fn digests(&self, pages: &[Range<u64>]) -> Result<Vec<Digest>, DeviceError> {
        let mut digests = Vec::with_capacity(pages.len());
        let mut rest = pages;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(self.count_together(rest));
            digests.extend(
                self.with_resident(some, |inner, device| inner.stage.digests(device, some))?,
            );
            rest = others;
        }
        Ok(digests)
    }

    /// Runs `count` pieces of work that say which bytes of an output they changed, on `operands`; `work` is told where these are, and the
    /// position of each piece.
    pub(crate) fn changes(
        &self,
        operands: &[Operand<'_>],
        count: usize,
        work: impl for<'w> Fn(&'w [u64], usize, PinnedSlice) -> Work<'w>,
    ) -> Result<Vec<Changed>, DeviceError> {
        self.with_operands(operands, |inner, device, places| {
            let mut changes = Vec::with_capacity(count);
            for first in (0..count).step_by(MAX_REPORTS) {
                let some = MAX_REPORTS.min(count - first);
                let stage = &mut inner.stage;
                changes.extend(stage.changes(device, some, |at, to| work(places, first + at, to))?);
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
    /// Notes that `range` of a unified page has changed. `false`: nothing has to be noted until its mirror is asked for again.
    pub(crate) fn mark_mirror(&mut self, index: PageIndex, range: Range<u64>) -> bool {
        super::mirror::mark(&mut self.inner, index, range)
    }

    pub(crate) fn write(&mut self, to: u64, bytes: &[u8]) {
        let inner = &mut *self.inner;
        if inner.fault.is_some() {
            return;
        }
        if inner.residency.has_evicted()
            && let Some((_, page)) = inner.residency.page_at(to)
            && !page.is_resident
        {
            // The log has it, and whoever brings the page back.
            return;
        }
        inner.residency.touch(&(to..to + bytes.len() as u64));
        let written = inner.stage.write(&*self.space.device, to, bytes);
        if let Err(error) = written {
            // A write has its place in the log already, so whatever keeps it from the device makes that out of date.
            self.space.note(inner, &error);
        }
    }
}
