//! Pages below 4 KiB: slabs of 64 KiB cut into equal slots.

use super::bits::BitTree;
use super::blocks::SLAB_UNITS;
use crate::memory::small::{CLASSES, SLAB_BYTES, class_of, slot_bytes};
use crate::memory::{PlacementError, UNIT_BYTES};

/// The slabs of one class. Tables of all of them lie behind each other, so a slab is a position; a slab that is given back leaves
/// its position, and its tables blank, to the next.
#[derive(Clone)]
struct Class {
    slot_bytes: u32,
    /// Slots of a slab.
    slots: u32,
    /// Words of `free` that belong to one slab.
    words: u32,
    /// For each slab, which of its words have a free slot.
    summary: Vec<u16>,
    /// A bit a slot, set while it is free.
    free: Vec<u64>,
    /// Requested length of each slot; 0: free.
    lengths: Vec<u16>,
    /// For each slab, its slots in use.
    live: Vec<u16>,
    /// Positions of slabs that were given back.
    spare: Vec<u32>,
    /// Sites of slabs with a free slot.
    with_room: BitTree,
}

/// Where a slot is.
#[derive(Clone, Copy)]
struct Slot {
    site: u32,
    class: usize,
    position: u32,
    slot: u32,
}

/// What became of a slab by a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// Length of the slot.
    pub slot_bytes: u64,
    /// Class of the slot.
    pub class: usize,
    /// The site of the slab if that was the last page in it: the caller takes its memory back.
    pub closed: Option<u32>,
}

/// All slabs. A *site* is an aligned 64 KiB of the address range. Everything here is `O(1)`.
#[derive(Clone)]
pub(super) struct Slabs {
    classes: Vec<Class>,
    /// For each site: 0, or the slab there as 1 + position * [`CLASSES`] + class.
    sites: Vec<u64>,
    open: u64,
}

impl Class {
    fn new(class: usize) -> Self {
        let slots = (SLAB_BYTES / slot_bytes(class)) as u32;
        Self {
            slot_bytes: slot_bytes(class) as u32,
            slots,
            words: slots.div_ceil(64),
            summary: Vec::new(),
            free: Vec::new(),
            lengths: Vec::new(),
            live: Vec::new(),
            spare: Vec::new(),
            with_room: BitTree::default(),
        }
    }

    /// The position of an empty slab.
    fn open(&mut self, site: u32) -> u32 {
        let position = match self.spare.pop() {
            Some(position) => position,
            None => self.grow(),
        };
        self.with_room.insert(site);
        position
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        let position = self.live.len() as u32;
        self.live.push(0);
        self.summary.push(((1_u32 << self.words) - 1) as u16);
        for word in 0..self.words {
            let slots = (self.slots - word * 64).min(64);
            self.free.push(u64::MAX >> (64 - slots));
        }
        self.lengths
            .resize(self.lengths.len() + self.slots as usize, 0);
        // Room for giving it back, so that a release never allocates.
        self.spare
            .reserve(self.live.len().saturating_sub(self.spare.len()));
        position
    }

    /// The lowest free slot.
    #[inline]
    fn lowest_free(&self, position: u32) -> Option<u32> {
        let summary = *self.summary.get(position as usize)?;
        let word = (summary != 0).then(|| summary.trailing_zeros())?;
        let free = self.free.get((position * self.words + word) as usize)?;
        Some(word * 64 + free.trailing_zeros())
    }

    #[inline]
    fn length(&self, position: u32, slot: u32) -> u16 {
        let at = position as usize * self.slots as usize + slot as usize;
        self.lengths.get(at).copied().unwrap_or(0)
    }

    /// Notes that a slot is in use with a length, or free again (0), and how many are in use now.
    #[inline]
    fn set(&mut self, position: u32, slot: u32, length: u16) -> u16 {
        let at = position as usize * self.slots as usize + slot as usize;
        let word = slot / 64;
        let (Some(was), Some(free), Some(summary), Some(live)) = (
            self.lengths.get_mut(at),
            self.free.get_mut((position * self.words + word) as usize),
            self.summary.get_mut(position as usize),
            self.live.get_mut(position as usize),
        ) else {
            return 0;
        };
        *was = length;
        if length == 0 {
            *free |= 1 << (slot % 64);
            *summary |= 1 << word;
            *live -= 1;
        } else {
            *free &= !(1 << (slot % 64));
            if *free == 0 {
                *summary &= !(1 << word);
            }
            *live += 1;
        }
        *live
    }
}

impl Slabs {
    pub(super) fn new() -> Self {
        Self {
            classes: (0..CLASSES).map(Class::new).collect(),
            sites: Vec::new(),
            open: 0,
        }
    }

    /// Slabs that have pages.
    pub(super) const fn open_slabs(&self) -> u64 {
        self.open
    }

    /// Whether there is a slab at the site of an offset.
    #[inline]
    pub(super) fn covers(&self, offset: u64) -> bool {
        site_of(offset).is_some_and(|site| self.is_open(site))
    }

    pub(super) fn is_open(&self, site: u32) -> bool {
        self.sites.get(site as usize).is_some_and(|slab| *slab != 0)
    }

    /// Places a page in the lowest free slot of the lowest slab of its class. `None`: none has room, a slab must be opened.
    #[inline]
    pub(super) fn allocate(&mut self, len_bytes: u64) -> Option<u64> {
        let class = class_of(len_bytes);
        let site = self.classes.get(class)?.with_room.first()?;
        let (_, position) = self.slab(site)?;
        let slot = self.classes.get(class)?.lowest_free(position)?;
        let slot = Slot {
            site,
            class,
            position,
            slot,
        };
        self.take(slot, len_bytes);
        Some(u64::from(site) * SLAB_BYTES + u64::from(slot.slot) * slot_bytes(class))
    }

    /// Opens a slab for pages of `len_bytes` at a site.
    pub(super) fn open(&mut self, site: u32, len_bytes: u64) {
        let class = class_of(len_bytes);
        if self.sites.len() <= site as usize {
            self.sites
                .resize((site as usize + 1).next_power_of_two(), 0);
        }
        if let (Some(slab), Some(of_class)) = (
            self.sites.get_mut(site as usize),
            self.classes.get_mut(class),
        ) {
            let position = of_class.open(site);
            *slab = 1 + u64::from(position) * CLASSES as u64 + class as u64;
            self.open += 1;
        }
    }

    /// Places a page at its offset in a slab that is open, as a snapshot says.
    pub(super) fn place_at(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        let overlap = PlacementError::Overlap { offset, len_bytes };
        let class = class_of(len_bytes);
        let slab = site_of(offset).and_then(|site| Some((site, self.slab(site)?)));
        let Some((site, (_, position))) = slab.filter(|(_, (of_slab, _))| *of_slab == class) else {
            return Err(overlap);
        };
        let within = offset % SLAB_BYTES;
        let slot = (within / slot_bytes(class)) as u32;
        let slots = self.classes.get(class).map_or(0, |class| class.slots);
        if !within.is_multiple_of(slot_bytes(class)) || slot >= slots {
            return Err(PlacementError::Misplaced { offset, len_bytes });
        }
        let slot = Slot {
            site,
            class,
            position,
            slot,
        };
        if self.length(slot) != 0 {
            return Err(overlap);
        }
        self.take(slot, len_bytes);
        Ok(())
    }

    /// Releases the page at `offset`.
    #[inline]
    pub(super) fn release(
        &mut self,
        offset: u64,
        len_bytes: u64,
    ) -> Result<Released, PlacementError> {
        let not_allocated = PlacementError::NotAllocated { offset };
        let slab = site_of(offset).and_then(|site| Some((site, self.slab(site)?)));
        let Some((site, (class, position))) = slab else {
            return Err(not_allocated);
        };
        let Some(of_class) = self.classes.get_mut(class) else {
            return Err(not_allocated);
        };
        let within = (offset % SLAB_BYTES) as u32;
        let slot = within / of_class.slot_bytes;
        if slot >= of_class.slots || slot * of_class.slot_bytes != within {
            return Err(not_allocated);
        }
        let allocated = of_class.length(position, slot);
        if allocated == 0 {
            return Err(not_allocated);
        }
        if u64::from(allocated) != len_bytes {
            return Err(PlacementError::WrongLength {
                offset,
                len_bytes,
                allocated_bytes: allocated.into(),
            });
        }
        let live = of_class.set(position, slot, 0);
        let mut released = Released {
            slot_bytes: of_class.slot_bytes.into(),
            class,
            closed: None,
        };
        if live == 0 {
            of_class.with_room.remove(site);
            of_class.spare.push(position);
            if let Some(slab) = self.sites.get_mut(site as usize) {
                *slab = 0;
            }
            self.open -= 1;
            released.closed = Some(site);
        } else if u32::from(live) + 1 == of_class.slots {
            of_class.with_room.insert(site);
        }
        Ok(released)
    }

    /// The live pages of the slab at a site, as (offset, length), in order.
    pub(super) fn live(&self, site: u32) -> impl Iterator<Item = (u64, u64)> + '_ {
        let slab = self.slab(site);
        let of_class =
            slab.and_then(|(class, position)| Some((self.classes.get(class)?, position)));
        of_class.into_iter().flat_map(move |(class, position)| {
            (0..class.slots).filter_map(move |slot| {
                let length = class.length(position, slot);
                let offset = u64::from(site) * SLAB_BYTES + u64::from(slot * class.slot_bytes);
                (length != 0).then(|| (offset, u64::from(length)))
            })
        })
    }

    /// Class and position of the slab at a site.
    #[inline]
    fn slab(&self, site: u32) -> Option<(usize, u32)> {
        let slab = self.sites.get(site as usize)?.checked_sub(1)?;
        let class = (slab % CLASSES as u64) as usize;
        Some((class, (slab / CLASSES as u64) as u32))
    }

    fn length(&self, slot: Slot) -> u16 {
        let class = self.classes.get(slot.class);
        class.map_or(0, |class| class.length(slot.position, slot.slot))
    }

    #[inline]
    fn take(&mut self, slot: Slot, len_bytes: u64) {
        if let Some(class) = self.classes.get_mut(slot.class) {
            let live = class.set(slot.position, slot.slot, len_bytes as u16);
            if u32::from(live) == class.slots {
                class.with_room.remove(slot.site);
            }
        }
    }
}

#[inline]
fn site_of(offset: u64) -> Option<u32> {
    u32::try_from(offset / SLAB_BYTES).ok()
}

const _: () = assert!(SLAB_UNITS as u64 * UNIT_BYTES == SLAB_BYTES);
