//! Free and used blocks of the address range, in units of 4 KiB.

use std::ops::Range;

use super::bits::BitTree;
use super::classes::{ClassMap, class_of, window_log};

/// Units of a slab, which starts at a multiple of them.
pub(super) const SLAB_UNITS: u32 = 16;
/// From this length on a block contains a slab, wherever it begins.
const SURE_SLAB_UNITS: u32 = 2 * SLAB_UNITS - 1;
/// How many blocks of the class that a request falls into are tried before a larger class is taken.
const PROBES: usize = 4;
/// For address ranges up to this one (256 GiB) the addresses of the index are set aside at once, so that it never moves.
const EAGER_UNITS: u32 = 1 << 26;
/// No block.
const NONE: u32 = u32::MAX;

/// A used block: valid until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

/// A block that was taken or given back, and the free range that it was or is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub block: Block,
    pub start: u32,
    pub hole: Range<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    units: u32,
    /// The block that ends where this one begins.
    before: u32,
    /// The block that begins where this one ends.
    after: u32,
    /// What the owner of a used block notes.
    tag: u32,
    is_hole: bool,
}

/// The blocks, free ones always coalesced with their neighbours: a list in order of address, whose nodes lie in one array.
///
/// What is behind the last used block is the *wilderness*: one free range up to the capacity, in no class, taken from only where
/// no hole fits. So placement does not depend on the capacity as long as it lasts.
///
/// Holes are kept by class, and in a class by address: a class has a bit for every window of as many units as its blocks have at
/// least. No two blocks of a class begin in one window, and a block that begins in a window contains its last unit: there the
/// index has the block.
#[derive(Clone)]
pub(super) struct Blocks {
    capacity: u32,
    /// Start of the wilderness.
    top: u32,
    /// Units in holes.
    hole_units: u32,
    nodes: Vec<Node>,
    /// Nodes that are not in use. Which one is used next shows nowhere.
    spare: Vec<u32>,
    first: u32,
    last: u32,
    /// For some units, the block that they are in: for the first one of a used block; for the last one of the window, and for the
    /// first one of the slab in [`Blocks::slab_sites`], of a hole. Others have what was there before.
    index: Vec<u32>,
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
        let mut index = Vec::new();
        if capacity <= EAGER_UNITS {
            // Only addresses: memory comes when it is written to. If even they are short, the index grows as it must.
            let _ = index.try_reserve_exact(capacity as usize);
        }
        Self {
            capacity,
            top: 0,
            hole_units: 0,
            nodes: Vec::new(),
            spare: Vec::new(),
            first: NONE,
            last: NONE,
            index,
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
        let holes = self.holes(class);
        holes.map(|(_, hole)| hole.units).max().unwrap_or(0)
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

    /// Starts and tags of used blocks, in order of address.
    pub(super) fn used(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut next = self.first;
        std::iter::from_fn(move || {
            loop {
                let node = self.nodes.get(next as usize)?;
                next = node.after;
                if !node.is_hole {
                    return Some((node.start, node.tag));
                }
            }
        })
    }

    /// The used block that begins at `unit`, and its tag.
    #[inline]
    pub(super) fn find_used(&self, unit: u32) -> Option<(Block, u32)> {
        let at = *self.index.get(unit as usize)?;
        let node = self.nodes.get(at as usize)?;
        // The index may have a block here that has gone, or changed, since.
        let is_it = node.start == unit && !node.is_hole && unit < self.top;
        is_it.then_some((Block(at), node.tag))
    }

    #[inline]
    pub(super) fn set_tag(&mut self, block: Block, tag: u32) {
        if let Some(node) = self.nodes.get_mut(block.0 as usize) {
            node.tag = tag;
        }
    }

    /// Takes `units` from the front of the hole that suits, or from the wilderness.
    #[inline]
    pub(super) fn take(&mut self, units: u32) -> Option<Taken> {
        let hole = match self.find(units) {
            NONE if units <= self.capacity - self.top => NONE,
            NONE => self.find_any(units)?,
            hole => hole,
        };
        let free = self.range(hole);
        let start = free.start;
        self.carve(hole, free, start, units)
    }

    /// Takes an aligned slab.
    pub(super) fn take_slab(&mut self) -> Option<Taken> {
        let hole = match self.slab_sites.first() {
            Some(site) => *self.index.get((site * SLAB_UNITS) as usize)?,
            None => self.lowest_from(class_of(SURE_SLAB_UNITS)),
        };
        let free = self.range(hole);
        let site = free.start.checked_next_multiple_of(SLAB_UNITS)?;
        if site.checked_add(SLAB_UNITS)? > free.end {
            return None;
        }
        self.carve(hole, free, site, SLAB_UNITS)
    }

    /// Takes exactly `start..start + units` behind everything that is used; `None` where it is not wholly there.
    pub(super) fn take_behind(&mut self, start: u32, units: u32) -> Option<Taken> {
        let end = start.checked_add(units)?;
        if start < self.top || end > self.capacity {
            return None;
        }
        self.carve(NONE, self.range(NONE), start, units)
    }

    /// Frees a used block; the free range that it is part of now.
    #[inline]
    pub(super) fn give(&mut self, block: Block) -> Range<u32> {
        let at = block.0;
        let Some(mut node) = self.nodes.get(at as usize).copied() else {
            return 0..0;
        };
        if let Some(before) = self.hole(node.before) {
            self.unindex(before);
            self.spare.push(node.before);
            node.start = before.start;
            node.units += before.units;
            node.before = before.before;
        }
        if node.after == NONE {
            self.link(node.before, NONE);
            self.top = node.start;
            self.spare.push(at);
            // What the index has of it must not be taken for a block.
            node.is_hole = true;
            self.set(at, node);
            return node.start..self.capacity;
        }
        if let Some(after) = self.hole(node.after) {
            self.unindex(after);
            self.spare.push(node.after);
            node.units += after.units;
            node.after = after.after;
        }
        node.is_hole = true;
        self.set(at, node);
        self.link(node.before, at);
        self.link(at, node.after);
        self.index_hole(at, node);
        node.start..node.start + node.units
    }

    /// Uses `units` at `start` of the free range `free`, which is that of `hole`.
    #[inline]
    fn carve(&mut self, hole: u32, free: Range<u32>, start: u32, units: u32) -> Option<Taken> {
        let end = start + units;
        let (before, after, mut spare) = match self.hole(hole) {
            Some(node) => {
                self.unindex(node);
                (node.before, node.after, hole)
            }
            None => {
                self.top = end;
                if self.index.len() < end as usize {
                    self.cover(end);
                }
                (self.last, NONE, NONE)
            }
        };
        let mut node = |blocks: &mut Self| match std::mem::replace(&mut spare, NONE) {
            NONE => blocks.spare_node(),
            at => at,
        };
        let mut previous = before;
        if free.start < start {
            let gap = node(self);
            self.add_hole(gap, free.start, start - free.start, previous);
            previous = gap;
        }
        let used = node(self);
        self.set(
            used,
            Node {
                start,
                units,
                before: previous,
                after: NONE,
                tag: 0,
                is_hole: false,
            },
        );
        self.link(previous, used);
        self.set_index(start, used);
        previous = used;
        if hole != NONE && end < free.end {
            let rest = node(self);
            self.add_hole(rest, end, free.end - end, previous);
            previous = rest;
        }
        self.link(previous, after);
        Some(Taken {
            block: Block(used),
            start,
            hole: free,
        })
    }

    /// Makes a hole behind the block `before`; who calls it links what is behind.
    #[inline]
    fn add_hole(&mut self, at: u32, start: u32, units: u32, before: u32) {
        let node = Node {
            start,
            units,
            before,
            after: NONE,
            tag: 0,
            is_hole: true,
        };
        self.set(at, node);
        self.link(before, at);
        self.index_hole(at, node);
    }

    /// The hole for a request of `units`, if one is found without a walk.
    #[inline]
    fn find(&self, units: u32) -> u32 {
        let own = class_of(units);
        let mut probed = self.holes(own).take(PROBES);
        match probed.find(|(_, hole)| hole.units >= units) {
            Some((at, _)) => at,
            // Whatever is in a higher class is long enough.
            None => self.lowest_from(own + 1),
        }
    }

    /// The hole for a request that nothing was found for: the refusal of one that fits would be worse than a walk.
    #[cold]
    fn find_any(&self, units: u32) -> Option<u32> {
        let mut rest = self.holes(class_of(units)).skip(PROBES);
        let found = rest.find(|(_, hole)| hole.units >= units);
        found.map(|(at, _)| at)
    }

    /// The lowest hole of the lowest class from `class` on that has any.
    #[inline]
    fn lowest_from(&self, class: usize) -> u32 {
        let lowest = || {
            let class = self.classes.next(class)?;
            let window = self.windows.get(class)?.first()?;
            self.index.get(last_unit(class, window) as usize).copied()
        };
        lowest().unwrap_or(NONE)
    }

    /// The holes of a class by address.
    #[inline]
    fn holes(&self, class: usize) -> impl Iterator<Item = (u32, &Node)> + '_ {
        let windows = self.windows.get(class);
        let mut before = None;
        std::iter::from_fn(move || {
            let window = match before {
                None => windows?.first()?,
                Some(before) => windows?.next(before + 1)?,
            };
            before = Some(window);
            let at = *self.index.get(last_unit(class, window) as usize)?;
            Some((at, self.nodes.get(at as usize)?))
        })
    }

    #[inline]
    fn index_hole(&mut self, at: u32, hole: Node) {
        let class = class_of(hole.units);
        let window = hole.start >> window_log(class);
        self.set_index(last_unit(class, window), at);
        if let Some(windows) = self.windows.get_mut(class) {
            windows.insert(window);
        }
        self.classes.insert(class);
        if let Some(site) = lone_slab_site(hole) {
            self.slab_sites.insert(site);
            self.set_index(site * SLAB_UNITS, at);
        }
        self.hole_units += hole.units;
    }

    #[inline]
    fn unindex(&mut self, hole: Node) {
        let class = class_of(hole.units);
        if let Some(windows) = self.windows.get_mut(class) {
            windows.remove(hole.start >> window_log(class));
            if windows.is_empty() {
                self.classes.remove(class);
            }
        }
        if let Some(site) = lone_slab_site(hole) {
            self.slab_sites.remove(site);
        }
        self.hole_units -= hole.units;
    }

    /// The free range of a hole, or the wilderness.
    #[inline]
    fn range(&self, hole: u32) -> Range<u32> {
        self.hole(hole).map_or(self.top..self.capacity, |node| {
            node.start..node.start + node.units
        })
    }

    #[inline]
    fn hole(&self, at: u32) -> Option<Node> {
        self.nodes
            .get(at as usize)
            .copied()
            .filter(|node| node.is_hole)
    }

    #[inline]
    fn set(&mut self, at: u32, node: Node) {
        if let Some(place) = self.nodes.get_mut(at as usize) {
            *place = node;
        }
    }

    #[inline]
    fn set_index(&mut self, unit: u32, at: u32) {
        if let Some(place) = self.index.get_mut(unit as usize) {
            *place = at;
        }
    }

    /// Lets two blocks follow each other; [`NONE`] is the end on either side.
    #[inline]
    fn link(&mut self, before: u32, after: u32) {
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.after = after,
            None => self.first = after,
        }
        match self.nodes.get_mut(after as usize) {
            Some(node) => node.before = before,
            None => self.last = before,
        }
    }

    #[inline]
    fn spare_node(&mut self) -> u32 {
        match self.spare.pop() {
            Some(at) => at,
            None => self.new_node(),
        }
    }

    #[cold]
    fn new_node(&mut self) -> u32 {
        let at = self.nodes.len() as u32;
        self.nodes.push(Node {
            start: 0,
            units: 0,
            before: NONE,
            after: NONE,
            tag: 0,
            is_hole: true,
        });
        // Room for giving it back, so that a release never allocates.
        self.spare
            .reserve(self.nodes.len().saturating_sub(self.spare.len()));
        at
    }

    /// Makes the index reach to `top`, and some way beyond.
    #[cold]
    fn cover(&mut self, top: u32) {
        let covered = top.checked_next_multiple_of(1 << 16).unwrap_or(top);
        let covered = covered.min(self.capacity).max(top);
        self.index.resize(covered as usize, NONE);
    }
}

/// The last unit of a window.
#[inline]
const fn last_unit(class: usize, window: u32) -> u32 {
    (window << window_log(class)) + ((1 << window_log(class)) - 1)
}

/// The slab that a hole contains which is too short to surely contain one.
#[inline]
const fn lone_slab_site(hole: Node) -> Option<u32> {
    if hole.units < SLAB_UNITS || hole.units >= SURE_SLAB_UNITS {
        return None;
    }
    let site = hole.start.div_ceil(SLAB_UNITS);
    if (site + 1) * SLAB_UNITS <= hole.start + hole.units {
        Some(site)
    } else {
        None
    }
}
