//! Free and used blocks of the address range, in units of 4 KiB.

use std::ops::Range;

use super::bits::{BitTree, Bits};
use super::classes::{ClassMap, class_of, window_log};

/// Units of a slab, which starts at a multiple of them.
pub(super) const SLAB_UNITS: u32 = 16;
/// From this length on a block contains a slab, wherever it begins.
const SURE_SLAB_UNITS: u32 = 2 * SLAB_UNITS - 1;
/// How many blocks of the class that a request falls into are tried before a larger class is taken.
const PROBES: usize = 4;
/// For address ranges up to this one (256 GiB) the tags' addresses are set aside at once, so that they never move.
const EAGER_UNITS: u32 = 1 << 26;

/// A block that was taken, and the free range that it was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub start: u32,
    pub hole: Range<u32>,
}

/// The blocks, free ones always coalesced with their neighbours.
///
/// What is behind the last used block is the *wilderness*: one free range up to the capacity, in no class, taken from only where
/// no hole fits. So placement does not depend on the capacity as long as it lasts.
///
/// Holes are kept by class, and in a class by address: a class has a bit for every window of as many units as its blocks have at
/// least, and as no two blocks of a class begin in one window, the bit says all but the exact start. That is noted where the
/// window ends, inside the block: see [`Blocks::start_of`].
#[derive(Clone)]
pub(super) struct Blocks {
    capacity: u32,
    /// Start of the wilderness.
    top: u32,
    /// Units in holes.
    hole_units: u32,
    /// First units of holes.
    starts: Bits,
    /// Last units of holes.
    ends: Bits,
    /// First units of used blocks.
    used: Bits,
    /// At the first and the last unit of a hole: its length. At the end of its window: its start. At the first unit of a used
    /// block: what its owner notes there. Anywhere else: nothing.
    tags: Vec<u32>,
    classes: ClassMap,
    /// For each class, the windows in which a hole begins.
    windows: Vec<BitTree>,
    /// The slabs that holes of less than [`SURE_SLAB_UNITS`] contain; each contains one at most.
    slab_sites: BitTree,
}

impl Blocks {
    pub(super) fn new(capacity: u32) -> Self {
        let classes = if capacity == 0 {
            0
        } else {
            class_of(capacity) + 1
        };
        let mut tags = Vec::new();
        if capacity <= EAGER_UNITS {
            // Only addresses: memory comes when it is written to. If even they are short, the tags grow as they must.
            let _ = tags.try_reserve_exact(capacity as usize);
        }
        Self {
            capacity,
            top: 0,
            hole_units: 0,
            starts: Bits::default(),
            ends: Bits::default(),
            used: Bits::default(),
            tags,
            classes: ClassMap::default(),
            windows: vec![BitTree::default(); classes],
            slab_sites: BitTree::default(),
        }
    }

    pub(super) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// End of the last used block.
    pub(super) const fn top(&self) -> u32 {
        self.top
    }

    /// Units in holes below [`Blocks::top`].
    pub(super) const fn hole_units(&self) -> u32 {
        self.hole_units
    }

    /// Length of the longest hole. Walks the highest class that has any.
    pub(super) fn largest_hole(&self) -> u32 {
        let Some(class) = self.classes.last() else {
            return 0;
        };
        self.holes(class).map(|(_, units)| units).max().unwrap_or(0)
    }

    /// Length of the longest free range, the wilderness included.
    pub(super) fn largest_free(&self) -> u32 {
        let wilderness = self.capacity - self.top;
        match self.classes.last() {
            // Every hole is shorter than the wilderness then.
            Some(class) if class < class_of(wilderness) => wilderness,
            _ => wilderness.max(self.largest_hole()),
        }
    }

    /// First units of used blocks, in ascending order.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> + '_ {
        self.used.iter()
    }

    /// Whether a used block begins at `unit`.
    #[inline]
    pub(super) fn is_used(&self, unit: u32) -> bool {
        self.used.contains(unit)
    }

    /// What the owner of the used block at `unit` noted.
    #[inline]
    pub(super) fn tag(&self, unit: u32) -> u32 {
        self.tags.get(unit as usize).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn set_tag(&mut self, unit: u32, tag: u32) {
        if let Some(slot) = self.tags.get_mut(unit as usize) {
            *slot = tag;
        }
    }

    /// Takes `units` from the front of the hole that suits, or from the wilderness.
    #[inline]
    pub(super) fn take(&mut self, units: u32) -> Option<Taken> {
        let wilderness = self.top..self.capacity;
        let hole = match self.find(units) {
            Some(hole) => hole,
            None if units <= wilderness.end - wilderness.start => wilderness,
            None => self.find_any(units)?,
        };
        let start = hole.start;
        self.carve(&hole, start, units);
        Some(Taken { start, hole })
    }

    /// Takes an aligned slab.
    pub(super) fn take_slab(&mut self) -> Option<Taken> {
        let hole = self.find_slab_hole().unwrap_or(self.top..self.capacity);
        let site = hole.start.checked_next_multiple_of(SLAB_UNITS)?;
        if site.checked_add(SLAB_UNITS)? > hole.end {
            return None;
        }
        self.carve(&hole, site, SLAB_UNITS);
        Some(Taken { start: site, hole })
    }

    /// Takes exactly `start..start + units` behind everything that is used; `false` where it is not wholly there.
    pub(super) fn take_behind(&mut self, start: u32, units: u32) -> bool {
        let fits = start
            .checked_add(units)
            .is_some_and(|end| end <= self.capacity);
        if start < self.top || !fits {
            return false;
        }
        self.carve(&(self.top..self.capacity), start, units);
        true
    }

    /// Frees the used block of `units` at `start`; the free range that it is part of now.
    #[inline]
    pub(super) fn give(&mut self, start: u32, units: u32) -> Range<u32> {
        self.used.remove(start);
        let (mut from, mut to) = (start, start + units);
        if from > 0 && self.ends.contains(from - 1) {
            let before = self.tag(from - 1);
            from -= before;
            self.remove(from, before);
        }
        if to == self.top {
            self.top = from;
            return from..self.capacity;
        }
        if self.starts.contains(to) {
            let after = self.tag(to);
            self.remove(to, after);
            to += after;
        }
        self.insert(from, to - from);
        from..to
    }

    /// Uses `units` at `start`, which lie in the free range `hole`.
    #[inline]
    fn carve(&mut self, hole: &Range<u32>, start: u32, units: u32) {
        let end = start + units;
        if hole.start == self.top {
            self.raise(end);
        } else {
            self.remove(hole.start, hole.end - hole.start);
            if end < hole.end {
                self.insert(end, hole.end - end);
            }
        }
        if hole.start < start {
            self.insert(hole.start, start - hole.start);
        }
        self.used.insert(start);
    }

    /// The hole for a request of `units`, if one is found without a walk.
    #[inline]
    fn find(&self, units: u32) -> Option<Range<u32>> {
        let own = class_of(units);
        let fitting = self.holes(own).take(PROBES).find(|(_, len)| *len >= units);
        if let Some((start, len)) = fitting {
            return Some(start..start + len);
        }
        // Whatever is in a higher class is long enough.
        self.lowest_from(own + 1)
    }

    /// The hole for a request that nothing was found for: the refusal of one that fits would be worse than a walk.
    #[cold]
    fn find_any(&self, units: u32) -> Option<Range<u32>> {
        let mut holes = self.holes(class_of(units)).skip(PROBES);
        let (start, len) = holes.find(|(_, len)| *len >= units)?;
        Some(start..start + len)
    }

    /// The hole to open a slab in: one that has room for it and for no other, or one of the lowest class that surely has room.
    fn find_slab_hole(&self) -> Option<Range<u32>> {
        let Some(site) = self.slab_sites.first() else {
            return self.lowest_from(class_of(SURE_SLAB_UNITS));
        };
        let unit = site * SLAB_UNITS;
        let start = if self.starts.contains(unit) {
            unit
        } else {
            // It begins less than a slab before, and a slab does not cross a word of the bitmap.
            self.starts.last_in_word(unit.checked_sub(1)?)?
        };
        Some(start..start + self.tag(start))
    }

    /// The lowest hole of the lowest class from `class` on.
    #[inline]
    fn lowest_from(&self, class: usize) -> Option<Range<u32>> {
        let class = self.classes.next(class)?;
        let window = self.windows.get(class)?.first()?;
        let start = self.start_of(class, window);
        Some(start..start + self.tag(start))
    }

    /// The holes of a class by address, as (start, length).
    #[inline]
    fn holes(&self, class: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let windows = self.windows.get(class);
        let mut before = None;
        std::iter::from_fn(move || {
            let window = match before {
                None => windows?.first()?,
                Some(before) => windows?.next(before + 1)?,
            };
            before = Some(window);
            let start = self.start_of(class, window);
            Some((start, self.tag(start)))
        })
    }

    /// Where the hole of `class` that begins in `window` begins.
    ///
    /// It is at least as long as the window, so it contains the window's last unit, which says: it is the hole's first unit, or
    /// its last one with the length, or one inside of it with the start.
    #[inline]
    fn start_of(&self, class: usize, window: u32) -> u32 {
        let last = (window << window_log(class)) + ((1 << window_log(class)) - 1);
        if self.starts.contains(last) {
            last
        } else if self.ends.contains(last) {
            last + 1 - self.tag(last)
        } else {
            self.tag(last)
        }
    }

    #[inline]
    fn insert(&mut self, start: u32, units: u32) {
        let last = start + units - 1;
        self.starts.insert(start);
        self.ends.insert(last);
        self.set_tag(start, units);
        self.set_tag(last, units);
        let class = class_of(units);
        let log = window_log(class);
        let window = start >> log;
        let anchor = (window << log) + ((1 << log) - 1);
        if anchor != start && anchor != last {
            self.set_tag(anchor, start);
        }
        if let Some(windows) = self.windows.get_mut(class) {
            windows.insert(window);
        }
        self.classes.insert(class);
        if let Some(site) = lone_slab_site(start, units) {
            self.slab_sites.insert(site);
        }
        self.hole_units += units;
    }

    #[inline]
    fn remove(&mut self, start: u32, units: u32) {
        self.starts.remove(start);
        self.ends.remove(start + units - 1);
        let class = class_of(units);
        if let Some(windows) = self.windows.get_mut(class) {
            windows.remove(start >> window_log(class));
            if windows.is_empty() {
                self.classes.remove(class);
            }
        }
        if let Some(site) = lone_slab_site(start, units) {
            self.slab_sites.remove(site);
        }
        self.hole_units -= units;
    }

    /// Moves the start of the wilderness up.
    #[inline]
    fn raise(&mut self, top: u32) {
        self.top = top;
        if self.tags.len() < top as usize {
            self.cover(top);
        }
    }

    /// Makes room for notes on the units below `top`, and on some more.
    #[cold]
    fn cover(&mut self, top: u32) {
        let covered = top.checked_next_multiple_of(1 << 16).unwrap_or(top);
        let covered = covered.min(self.capacity).max(top);
        self.tags.resize(covered as usize, 0);
        self.starts.cover(covered);
        self.ends.cover(covered);
        self.used.cover(covered);
    }
}

/// The slab that a hole contains which is too short to surely contain one.
#[inline]
const fn lone_slab_site(start: u32, units: u32) -> Option<u32> {
    if units < SLAB_UNITS || units >= SURE_SLAB_UNITS {
        return None;
    }
    let site = start.div_ceil(SLAB_UNITS);
    if (site + 1) * SLAB_UNITS <= start + units {
        Some(site)
    } else {
        None
    }
}
