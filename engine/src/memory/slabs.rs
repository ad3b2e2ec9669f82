//! Pages below 4 KiB: slabs of 64 KiB cut into equal slots.

use crate::planted::planted;
use std::collections::{BTreeMap, BTreeSet};

use super::extents::{Extents, SLAB_BYTES};
use super::placement::PlacementError;

/// Alignment of every small page, and the step of its footprint.
pub(crate) const SMALL_STEP_BYTES: u64 = 64;
/// Longest page that goes into a slab: the longest whose footprint is below 4 KiB.
pub(crate) const MAX_SMALL_LEN_BYTES: u64 = 4032;

/// Number of size classes.
pub(crate) const CLASSES: usize = 32;

/// The size class of a small page of `len` bytes (1 to [`MAX_SMALL_LEN_BYTES`]).
///
/// Slots are multiples of 64 B up to 1 KiB, of 128 B up to 2 KiB and of 256 B beyond: eight classes
/// a doubling, so a slot is at most 12.5 % longer than the page above 512 B.
pub(crate) const fn class_of(len: u64) -> usize {
    let steps = len.div_ceil(SMALL_STEP_BYTES) as usize;
    match steps {
        0..=16 => steps.saturating_sub(1),
        17..=32 => 16 + (steps - 17) / 2,
        _ => 24 + (steps - 33) / 4,
    }
}

/// Length of a slot of a class, in bytes.
pub(crate) const fn slot_bytes(class: usize) -> u64 {
    let steps = match class {
        0..=15 => class as u64 + 1,
        16..=23 => 16 + 2 * (class as u64 - 15),
        24..=30 => 32 + 4 * (class as u64 - 23),
        // 4032 rather than 4096, the footprint of the longest small page. A slab holds 16 of either.
        _ => 63,
    };
    steps * SMALL_STEP_BYTES
}

/// One slab in use.
///
/// It costs 17 bits a slot: one to find the lowest free slot by, and the requested length (0: free),
/// so that a release with the wrong length is caught to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slab {
    class: usize,
    live: usize,
    /// One bit a slot, set while in use. The bits past the last slot are never reached: they are
    /// the highest, and a full slab is not searched.
    used: Box<[u64]>,
    /// Requested length of each slot. At most 4032, so 16 bits hold it.
    lengths: Box<[u16]>,
}

impl Slab {
    fn new(class: usize) -> Self {
        let slots = (SLAB_BYTES / slot_bytes(class)) as usize;
        Self {
            class,
            live: 0,
            used: vec![0; slots.div_ceil(64)].into_boxed_slice(),
            lengths: vec![0; slots].into_boxed_slice(),
        }
    }

    fn is_full(&self) -> bool {
        self.live == self.lengths.len()
    }

    fn lowest_free(&self) -> Option<usize> {
        let word = self.used.iter().position(|&word| word != u64::MAX)?;
        let bit = self.used.get(word)?.trailing_ones() as usize;
        Some(word * 64 + bit)
    }

    /// Takes a free slot; `false` where it is in use or does not exist.
    fn take(&mut self, slot: usize, len: u64) -> bool {
        let bit = 1 << (slot % 64);
        let (Some(word), Some(length)) = (self.used.get_mut(slot / 64), self.lengths.get_mut(slot))
        else {
            return false;
        };
        if *word & bit != 0 {
            return false;
        }
        if !(planted!(SlotGivenTwice) && slot % 8 == 5) {
            *word |= bit;
        }
        *length = len as u16;
        self.live += 1;
        true
    }

    fn clear(&mut self, slot: usize) {
        if let (Some(word), Some(length)) =
            (self.used.get_mut(slot / 64), self.lengths.get_mut(slot))
        {
            *word &= !(1 << (slot % 64));
            *length = 0;
            self.live -= 1;
        }
    }

    /// The slot that starts at `offset` from the slab's start, if one starts there.
    fn slot_at(&self, offset: u64) -> Option<usize> {
        let slot_bytes = slot_bytes(self.class);
        let slot = (offset / slot_bytes) as usize;
        (offset.is_multiple_of(slot_bytes) && slot < self.lengths.len()).then_some(slot)
    }
}

/// All slabs.
///
/// A slab exists exactly while it has a live slot, so the set of slabs follows from the live pages.
/// Allocation and release are `O(log slabs)`.
#[derive(Clone, Debug)]
pub(super) struct Slabs {
    /// By start.
    slabs: BTreeMap<u64, Slab>,
    /// For each class, the starts of the slabs that have a free slot.
    with_room: Vec<BTreeSet<u64>>,
    /// For each class, the tables of one slab that was given back. An empty slab's tables are
    /// blank again, so they are used as they are: a page allocated and released in turns costs no
    /// heap allocation. Not part of the state.
    spare: Vec<Option<Slab>>,
}

impl PartialEq for Slabs {
    fn eq(&self, other: &Self) -> bool {
        self.slabs == other.slabs && self.with_room == other.with_room
    }
}

impl Eq for Slabs {}

impl Slabs {
    pub(super) fn new() -> Self {
        Self {
            slabs: BTreeMap::new(),
            with_room: vec![BTreeSet::new(); CLASSES],
            spare: vec![None; CLASSES],
        }
    }

    /// Bytes of all slabs in use.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.slabs.len() as u64 * SLAB_BYTES
    }

    /// Whether `offset` lies in a slab.
    pub(super) fn covers(&self, offset: u64) -> bool {
        self.slabs.contains_key(&slab_start(offset))
    }

    /// Live pages in order of offset, as (offset, requested length).
    pub(super) fn live(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.slabs.iter().flat_map(|(&start, slab)| {
            let slot_bytes = slot_bytes(slab.class);
            slab.lengths
                .iter()
                .enumerate()
                .filter(|&(_, &length)| length != 0)
                .map(move |(slot, &length)| (start + slot as u64 * slot_bytes, u64::from(length)))
        })
    }

    /// Places a page in the lowest free slot of the lowest slab of its class that has one, opening
    /// a slab where none has. `None`: no slab has room and no aligned 64 KiB are free.
    pub(super) fn allocate(&mut self, len: u64, extents: &mut Extents) -> Option<u64> {
        let class = class_of(len);
        let start = match self.with_room.get(class)?.first() {
            Some(&start) => start,
            None => {
                let start = extents.take_slab()?;
                self.open(start, class);
                start
            }
        };
        let slab = self.slabs.get_mut(&start)?;
        let slot = slab.lowest_free()?;
        slab.take(slot, len);
        if slab.is_full() {
            self.with_room.get_mut(class)?.remove(&start);
        }
        Some(start + slot as u64 * slot_bytes(class))
    }

    /// Places a page at a given offset, as a snapshot says.
    pub(super) fn place_at(
        &mut self,
        offset: u64,
        len: u64,
        extents: &mut Extents,
    ) -> Result<(), PlacementError> {
        let class = class_of(len);
        let start = slab_start(offset);
        let overlap = PlacementError::Overlap {
            offset,
            len_bytes: len,
        };
        let misplaced = PlacementError::Misplaced {
            offset,
            len_bytes: len,
        };
        if !offset.is_multiple_of(SMALL_STEP_BYTES) {
            return Err(misplaced);
        }
        if !self.slabs.contains_key(&start) {
            if !extents.take_at(start, SLAB_BYTES) {
                return Err(overlap);
            }
            self.open(start, class);
        }
        let Some(slab) = self.slabs.get_mut(&start) else {
            return Err(overlap);
        };
        if slab.class != class {
            return Err(overlap);
        }
        let Some(slot) = slab.slot_at(offset - start) else {
            return Err(misplaced);
        };
        if !slab.take(slot, len) {
            return Err(overlap);
        }
        if slab.is_full()
            && let Some(with_room) = self.with_room.get_mut(class)
        {
            with_room.remove(&start);
        }
        Ok(())
    }

    /// Releases the page at `offset`, and its slab when that was the last page in it.
    pub(super) fn release(
        &mut self,
        offset: u64,
        len: u64,
        extents: &mut Extents,
    ) -> Result<(), PlacementError> {
        let start = slab_start(offset);
        let not_allocated = PlacementError::NotAllocated { offset };
        let Some(slab) = self.slabs.get_mut(&start) else {
            return Err(not_allocated);
        };
        let Some(slot) = slab.slot_at(offset - start) else {
            return Err(not_allocated);
        };
        match slab.lengths.get(slot) {
            None | Some(0) => return Err(not_allocated),
            Some(&allocated) if u64::from(allocated) != len => {
                return Err(PlacementError::WrongLength {
                    offset,
                    len_bytes: len,
                    allocated_bytes: allocated.into(),
                });
            }
            Some(_) => slab.clear(slot),
        }
        let class = slab.class;
        if slab.live == 0 {
            self.close(start);
            extents.give(start, SLAB_BYTES);
        } else if let Some(with_room) = self.with_room.get_mut(class) {
            with_room.insert(start);
        }
        Ok(())
    }

    fn open(&mut self, start: u64, class: usize) {
        let spare = self.spare.get_mut(class).and_then(Option::take);
        let slab = spare.unwrap_or_else(|| Slab::new(class));
        self.slabs.insert(start, slab);
        if let Some(with_room) = self.with_room.get_mut(class) {
            with_room.insert(start);
        }
    }

    fn close(&mut self, start: u64) {
        let Some(slab) = self.slabs.remove(&start) else {
            return;
        };
        if let Some(with_room) = self.with_room.get_mut(slab.class) {
            with_room.remove(&start);
        }
        if let Some(spare) = self.spare.get_mut(slab.class) {
            *spare = Some(slab);
        }
    }
}

/// Start of the slab that an offset would lie in.
const fn slab_start(offset: u64) -> u64 {
    offset & !(SLAB_BYTES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_length_has_the_tightest_class() {
        for len in 1..=MAX_SMALL_LEN_BYTES {
            let class = class_of(len);
            let slot = slot_bytes(class);
            assert!(class < CLASSES, "{len} B: class {class}");
            assert!(slot >= len, "{len} B does not fit its slot of {slot} B");
            if class > 0 {
                let below = slot_bytes(class - 1);
                assert!(below < len, "{len} B would fit the class of {below} B");
            }
            let footprint = len.next_multiple_of(SMALL_STEP_BYTES);
            assert!(slot * 8 <= footprint * 9, "{len} B: slot of {slot} B");
        }
    }

    #[test]
    fn a_slab_fills_from_the_lowest_slot_and_goes_when_empty() {
        let mut extents = Extents::new(2 * SLAB_BYTES);
        let fresh = extents.clone();
        let mut slabs = Slabs::new();
        for slot in 0..1024 {
            assert_eq!(slabs.allocate(64, &mut extents), Some(slot * 64));
        }
        assert_eq!(slabs.allocate(1, &mut extents), Some(SLAB_BYTES));
        assert_eq!(slabs.allocate(65, &mut extents), None, "no third slab");
        assert_eq!(slabs.release(64 * 700, 64, &mut extents), Ok(()));
        assert_eq!(slabs.allocate(3, &mut extents), Some(64 * 700));
        assert!(slabs.release(64 * 700, 64, &mut extents).is_err());
        let live: Vec<_> = slabs.live().collect();
        assert_eq!(live.len(), 1025);
        for (offset, len) in live {
            assert_eq!(slabs.release(offset, len, &mut extents), Ok(()));
        }
        assert_eq!(extents, fresh);
        assert_eq!(slabs, Slabs::new());
    }
}
