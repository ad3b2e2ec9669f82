//! Where the bytes of a page are: in the arena, or on the device. An offset tells which.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::State;
use super::device::{DeviceSpace, Mirrored, Operand, Writer};
use super::table::{PageTable, Slot};
use crate::device::layout::Changed;
use crate::device::{Combine, Device, DeviceError, HostDevice, Work};
use crate::digest::Digest;
use crate::graph::{
    DeviceKernel, Extent, Mapping, PageBytes, REMOTE_START, Transform, TransformError,
};
use crate::memory::Arena;
use crate::page::{Location, PageIndex};

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

/// Writes runs of a commit or a record that lie on the device, and notes those of which a mirror is there; the space is looked up and locked
/// with the first of them, for all.
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
        if let Some(sink) = &state.sink {
            sink.write(place_of(offset), bytes);
            return true;
        }
        if let Some(writer) = self.writer(state) {
            writer.write(place_of(offset), bytes);
        }
        true
    }

    /// Notes that `range` of a page has changed, for its mirror. The caller holds its stripe exclusively.
    #[inline]
    pub(crate) fn note_changed(
        &mut self,
        state: &'a State,
        index: PageIndex,
        slot: &Slot,
        range: Range<u64>,
    ) {
        if slot.is_mirrored() {
            self.mark_mirror(state, index, slot, range);
        }
    }

    #[cold]
    fn mark_mirror(&mut self, state: &'a State, index: PageIndex, slot: &Slot, range: Range<u64>) {
        let marked = self
            .writer(state)
            .is_some_and(|writer| writer.mark_mirror(index, range));
        if !marked {
            slot.set_mirrored(false);
        }
    }

    fn writer(&mut self, state: &'a State) -> Option<&mut Writer<'a>> {
        if self.writer.is_none() {
            self.writer = state.device.get().map(|space| space.writer());
        }
        self.writer.as_mut()
    }
}

impl State {
    /// The space of the device, which is taken or made when the first page needs it.
    pub(crate) fn device_space(&self) -> Result<&Arc<DeviceSpace>, DeviceError> {
        if let Some(space) = self.device.get() {
            return Ok(space);
        }
        // Whoever needs the first mirror may meet whoever allocates the first page.
        let _making = self.making_device.lock();
        if let Some(space) = self.device.get() {
            return Ok(space);
        }
        let device: Arc<dyn Device> = match &self.chosen_device {
            Some(device) => Arc::clone(device),
            None => Arc::new(HostDevice::new(self.host_device_bytes)?),
        };
        let space = Arc::new(DeviceSpace::new(device, &self.device_options)?);
        if let Some(source) = self.source.get() {
            space.attach(Arc::clone(source));
        }
        Ok(self.device.get_or_init(|| space))
    }

    /// Bytes of addresses that pages on the device can have; `None` as long as there is no device.
    pub(crate) fn device_pages_bytes(&self) -> Option<u64> {
        match &self.sink {
            Some(sink) => Some(sink.pages_bytes),
            None => self.device.get().map(|space| space.pages_bytes()),
        }
    }

    /// Makes room on the device for the page of `index` at `range` of it, and makes it zeros.
    pub(crate) fn occupy_device(
        &self,
        range: Range<u64>,
        index: PageIndex,
    ) -> Result<(), DeviceError> {
        if let Some(sink) = &self.sink {
            sink.zero(&range);
            return Ok(());
        }
        let space = self.device_space()?;
        // Who builds a state has nobody yet who brings back what is evicted for another page.
        let is_being_built = self.is_shadow || !space.has_source();
        space.occupy(range, index, is_being_built)
    }

    /// Whether there are pages whose bytes the log alone has.
    pub(crate) fn has_evicted(&self) -> bool {
        self.device.get().is_some_and(|space| space.has_evicted())
    }

    /// Makes sure that a page that becomes derived is there from now on, if it is on the device: whether a wave changes it can be told
    /// only as long as its bytes are. While a state is built, those that are missing are brought in the end.
    pub(crate) fn bring_to_derive(&self, slot: &Slot) -> Result<(), DeviceError> {
        match self.device.get() {
            Some(space) if slot.offset() >= DEVICE_START => {
                let place = place_of(slot.offset());
                if self.is_shadow || !space.has_source() || space.fault().is_some() {
                    space.note_derived(place, true);
                    return Ok(());
                }
                space.bring_to_derive(place)
            }
            _ => Ok(()),
        }
    }

    /// Tells the device whether the page of `slot` is derived now. One that is not may be evicted from here on, so its bytes have to be
    /// in the log.
    pub(crate) fn note_derived(&self, slot: &Slot) {
        if slot.offset() >= DEVICE_START
            && let Some(space) = self.device.get()
        {
            space.note_derived(place_of(slot.offset()), slot.is_derived());
        }
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
                space.read_page(place_of(start), &mut bytes)?;
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

    /// The page of `slot` as one whose mirror is wanted, or that is on the device; `None` for one in host memory. From here on its changes
    /// are noted for the mirror.
    ///
    /// # Safety
    /// The caller holds the stripe of the page, and keeps it for as long as the result is used.
    pub(crate) unsafe fn operand(&self, index: PageIndex, slot: &Slot) -> Option<Operand<'_>> {
        // SAFETY: the caller's contract is the same.
        unsafe { operand(&self.arena, index, slot) }
    }

    pub(crate) fn page_memory(&self) -> PageMemory<'_> {
        PageMemory {
            arena: &self.arena,
            table: &self.table,
            device: self.device.get().map(|space| &**space),
        }
    }
}

/// The memory that a wave works on.
pub(crate) struct PageMemory<'a> {
    arena: &'a Arena,
    table: &'a PageTable,
    device: Option<&'a DeviceSpace>,
}

/// As [`State::operand`].
///
/// # Safety
/// As [`State::operand`].
unsafe fn operand<'a>(arena: &'a Arena, index: PageIndex, slot: &Slot) -> Option<Operand<'a>> {
    let (offset, len_bytes) = (slot.offset(), slot.len_bytes());
    match slot.location() {
        Location::Device => {
            let place = place_of(offset);
            Some(Operand::Page(place..place + len_bytes))
        }
        Location::Unified => {
            slot.set_mirrored(true);
            // SAFETY: nobody writes to the page while the caller holds its stripe.
            let bytes = unsafe { arena.bytes(offset, len_bytes as usize) }?;
            Some(Operand::Mirror(Mirrored { index, bytes }))
        }
        Location::Host => None,
    }
}

/// Computes `range` of a page lane by lane. The last of the operands is the page, those before are its parents.
fn combine_on(
    space: &DeviceSpace,
    combine: Combine,
    operands: &[Operand<'_>],
    range: &Range<u64>,
) -> Result<Option<Range<u64>>, DeviceError> {
    let changes = space.changes(operands, 1, |places, _, changed| {
        let (output, inputs) = places.split_last().unwrap_or((&0, &[]));
        Work::Combine {
            combine,
            inputs,
            output: *output,
            range: range.clone(),
            changed,
        }
    })?;
    Ok(changes.first().and_then(|changed| range_of(changed, 0)))
}

/// Copies what of `range` of a page lies in the windows of its parents.
fn moves_on(
    space: &DeviceSpace,
    transform: &dyn Transform,
    operands: &[Operand<'_>],
    lens: &[u64],
    output: Extent,
    range: &Range<u64>,
) -> Result<Option<Range<u64>>, DeviceError> {
    // From which parent each copy is, where it begins there, and which bytes of the page it is.
    let mut moves = Vec::new();
    for position in 0..lens.len() {
        let Mapping::Window(window) = transform.mapping(position, lens, output.len) else {
            continue;
        };
        let start = window.output_start.max(range.start);
        let end = (window.output_start + window.len_bytes).min(range.end);
        if start < end {
            let from = window.parent_start + (start - window.output_start);
            moves.push((position, from, start..end));
        }
    }
    let changes = space.changes(operands, moves.len(), |places, at, changed| {
        let (parent, from, part) = moves.get(at).cloned().unwrap_or_default();
        let from = places.get(parent).copied().unwrap_or_default() + from;
        Work::Move {
            from: from..from + (part.end - part.start),
            to: place_of(output.offset) + part.start,
            changed,
        }
    })?;
    let parts = changes
        .iter()
        .zip(&moves)
        .filter_map(|(changed, (_, _, part))| range_of(changed, part.start));
    Ok(parts.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)))
}

/// The bytes of a page that changed, by a report that counts from `start`.
fn range_of(changed: &Changed, start: u64) -> Option<Range<u64>> {
    (*changed != Changed::NOTHING).then(|| start + changed.first..start + changed.last + 1)
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
        inputs: &[(PageIndex, Extent)],
        output: (PageIndex, Extent),
        range: Range<u64>,
    ) -> Option<Result<Option<Range<u64>>, TransformError>> {
        let (space, kernel) = (self.device?, transform.kernel()?);
        let (output, pages) = (output.1, inputs.iter().chain([&output]));
        if output.offset < DEVICE_START {
            // A unified page too is computed where its bytes are: what came about on the device would have to be copied back, and compared.
            return None;
        }
        let operands = pages
            .map(|(index, _)| {
                let slot = self.table.slot(*index)?;
                // SAFETY: the wave holds the stripe of all these pages until this returns.
                unsafe { operand(self.arena, *index, slot) }
            })
            .collect::<Option<Vec<_>>>()?;
        let changed = match kernel {
            DeviceKernel::Combine {
                semiring,
                lane,
                form,
            } => {
                let combine = Combine {
                    semiring,
                    lane,
                    form,
                };
                combine_on(space, combine, &operands, &range)
            }
            DeviceKernel::Moves => {
                let lens: Vec<u64> = inputs.iter().map(|(_, input)| input.len).collect();
                moves_on(space, transform, &operands, &lens, output, &range)
            }
        };
        match changed {
            // They are not there together. One at a time they may be, and their bytes come to the host.
            Err(DeviceError::Full { .. }) => None,
            changed => Some(changed.map_err(|error| failed(&error))),
        }
    }
}
