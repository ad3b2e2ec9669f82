//! Device memory made of host memory: an address range, parts of which are mapped.

use std::ops::Range;

use super::DeviceError;
use super::reference::{Space, invalid};
use crate::memory::Arena;

/// What a granule of the address range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granule {
    /// It never had memory.
    Fresh,
    /// It has memory.
    Mapped,
    /// It had memory, which was taken back.
    Gone,
}

/// An address range in a sparse arena, mapped granule by granule.
///
/// Only what is mapped can be reached, and only through `&self` and `&mut self`, so the borrow checker excludes races.
#[derive(Debug)]
pub(super) struct Granules {
    arena: Arena,
    /// One for each granule from the start, as far as any was ever mapped.
    granules: Vec<Granule>,
    granule_bytes: u64,
    reserved_bytes: u64,
    memory_bytes: u64,
    mapped_bytes: u64,
}

impl Granules {
    /// An address range of `reserved_bytes`, none of it mapped; at most `memory_bytes` can be at a time.
    pub(super) fn new(
        kind: &'static str,
        memory_bytes: u64,
        reserved_bytes: u64,
        granule_bytes: u64,
    ) -> Result<Self, DeviceError> {
        let unavailable = |reason: String| DeviceError::Unavailable { kind, reason };
        if !granule_bytes.is_power_of_two() || granule_bytes < 4096 {
            return Err(unavailable(format!(
                "a granule of {granule_bytes} bytes; take a power of two from 4096 on"
            )));
        }
        if reserved_bytes == 0 || !reserved_bytes.is_multiple_of(granule_bytes) {
            return Err(unavailable(format!(
                "an address range of {reserved_bytes} bytes; take a multiple of the granule of {granule_bytes}"
            )));
        }
        let arena = Arena::new(reserved_bytes).map_err(|error| unavailable(error.to_string()))?;
        Ok(Self {
            arena,
            granules: Vec::new(),
            granule_bytes,
            reserved_bytes,
            memory_bytes,
            mapped_bytes: 0,
        })
    }

    /// Address of offset 0 in this process.
    pub(super) fn base_address(&self) -> u64 {
        self.arena.base_address() as u64
    }

    /// Gives memory to `range`. What it holds is zeros, which nobody is promised.
    pub(super) fn map(&mut self, range: &Range<u64>) -> Result<(), DeviceError> {
        let positions = self.positions(range)?;
        let asked_bytes = range.end - range.start;
        if let Some(at) = positions
            .clone()
            .find(|&at| self.granule(at) == Granule::Mapped)
        {
            return Err(invalid(format!(
                "the granule at {} is mapped already",
                at as u64 * self.granule_bytes
            )));
        }
        if asked_bytes > self.memory_bytes - self.mapped_bytes {
            return Err(self.out_of_memory(asked_bytes));
        }
        if self.granules.len() < positions.end {
            self.granules.resize(positions.end, Granule::Fresh);
        }
        self.mark(positions, Granule::Mapped);
        self.arena.unpoison(range.start, len_of(range));
        self.mapped_bytes += asked_bytes;
        Ok(())
    }

    /// The refusal to map `asked_bytes`.
    pub(super) const fn out_of_memory(&self, asked_bytes: u64) -> DeviceError {
        DeviceError::OutOfMemory {
            asked_bytes,
            mapped_bytes: self.mapped_bytes,
            capacity_bytes: self.memory_bytes,
        }
    }

    /// Takes the memory of `range` back.
    pub(super) fn unmap(&mut self, range: &Range<u64>) -> Result<(), DeviceError> {
        let positions = self.positions(range)?;
        if let Some(at) = positions
            .clone()
            .find(|&at| self.granule(at) != Granule::Mapped)
        {
            return Err(invalid(format!(
                "the granule at {} is not mapped",
                at as u64 * self.granule_bytes
            )));
        }
        self.drop_memory(range);
        self.mark(positions, Granule::Gone);
        self.mapped_bytes -= range.end - range.start;
        Ok(())
    }

    /// Takes all memory back.
    pub(super) fn unmap_all(&mut self) {
        let end = (self.granules.len() as u64).saturating_mul(self.granule_bytes);
        self.drop_memory(&(0..end));
        for granule in &mut self.granules {
            if *granule == Granule::Mapped {
                *granule = Granule::Gone;
            }
        }
        self.mapped_bytes = 0;
    }

    fn drop_memory(&self, range: &Range<u64>) {
        self.arena.unpoison(range.start, len_of(range));
        // SAFETY: `self` is borrowed mutably by all callers, and every slice of the arena borrows from it.
        let discarded = unsafe { self.arena.discard(range.start, len_of(range)) };
        debug_assert!(discarded.is_some(), "the range was checked");
        self.arena.poison(range.start, len_of(range));
    }

    fn granule(&self, at: usize) -> Granule {
        self.granules.get(at).copied().unwrap_or(Granule::Fresh)
    }

    fn mark(&mut self, positions: Range<usize>, as_what: Granule) {
        if let Some(granules) = self.granules.get_mut(positions) {
            granules.fill(as_what);
        }
    }

    /// The positions of the granules of `range`, which consists of whole ones and is not empty.
    fn positions(&self, range: &Range<u64>) -> Result<Range<usize>, DeviceError> {
        let is_whole = range.start < range.end
            && range.end <= self.reserved_bytes
            && range.start.is_multiple_of(self.granule_bytes)
            && range.end.is_multiple_of(self.granule_bytes);
        let position = |offset: u64| usize::try_from(offset / self.granule_bytes).ok();
        match (position(range.start), position(range.end)) {
            (Some(start), Some(end)) if is_whole => Ok(start..end),
            _ => Err(invalid(format!(
                "{}..{} are no whole granules of {} bytes in a range of {}",
                range.start, range.end, self.granule_bytes, self.reserved_bytes
            ))),
        }
    }

    /// Whether all of `range` is mapped; its length.
    fn check(&self, range: &Range<u64>) -> Result<usize, DeviceError> {
        let refused = |why: &str| {
            Err(invalid(format!(
                "device memory {}..{} {why}",
                range.start, range.end
            )))
        };
        if range.start > range.end || range.end > self.reserved_bytes {
            return refused("is outside of the address range");
        }
        if range.start == range.end {
            return Ok(0);
        }
        let first = range.start / self.granule_bytes;
        let last = (range.end - 1) / self.granule_bytes;
        for at in first..=last {
            match usize::try_from(at).map_or(Granule::Fresh, |at| self.granule(at)) {
                Granule::Mapped => {}
                Granule::Fresh => return refused("has no memory: it was never mapped"),
                Granule::Gone => return refused("has no memory any more: it was unmapped"),
            }
        }
        usize::try_from(range.end - range.start).or_else(|_| refused("is too long"))
    }
}

fn len_of(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

impl Space for Granules {
    fn bytes(&self, range: &Range<u64>) -> Result<&[u8], DeviceError> {
        let len = self.check(range)?;
        // SAFETY: bytes of the arena are written through `&mut self` only, and it maps its memory for nobody else.
        unsafe { self.arena.bytes(range.start, len) }
            .ok_or_else(|| invalid("the range is outside of the arena".to_owned()))
    }

    fn bytes_mut(&mut self, range: &Range<u64>) -> Result<&mut [u8], DeviceError> {
        let len = self.check(range)?;
        // SAFETY: as above, and `self` is borrowed mutably as long as the slice lives.
        unsafe { self.arena.bytes_mut(range.start, len) }
            .ok_or_else(|| invalid("the range is outside of the arena".to_owned()))
    }
}
