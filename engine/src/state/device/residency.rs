//! Which pages of a device have their bytes there, and which could do without.
//!
//! A page is *resident* if its bytes are in device memory, else it is *evicted*: it keeps its place, and the log has its bytes. Memory
//! comes in granules, so a granule has memory as long as a resident page lies in it.
//!
//! Invariant: this is bookkeeping alone. It calls no device, reads no clock, and what it chooses to evict is a function of
//! the calls before: the granule that was used longest ago, and of several the one at the lowest offset.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::device::pool::Mapping;
use crate::page::PageIndex;
use crate::planted::planted;

/// What is known of a page that has a place on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    pub(super) len_bytes: u64,
    pub(super) index: PageIndex,
    pub(super) is_resident: bool,
    /// Computed from other pages. It is never evicted: whether a wave changes it can be told only as long as what it was is there.
    pub(super) is_derived: bool,
    /// The log does not have the transaction that placed it yet.
    pub(super) is_new: bool,
    /// A copy of a page that is in host memory.
    pub(super) is_mirror: bool,
    /// Handles to its address.
    pub(super) pins: u32,
}

/// Pages, and how many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResidentPages {
    /// Pages whose bytes are in device memory.
    pub pages: u64,
    /// Their bytes.
    pub page_bytes: u64,
    /// Those of them that handles to their addresses, or the operation itself, keep there.
    pub pinned_pages: u64,
    /// Those of them that are derived, and are never evicted.
    pub derived_pages: u64,
    /// Pages whose bytes the log alone has.
    pub evicted_pages: u64,
    /// Mirrors of unified pages that are in device memory, up to date or not. They are none of `pages`.
    pub mirrors: u64,
    /// Their bytes.
    pub mirror_bytes: u64,
    /// Those of them that handles to their addresses, or the operation itself, keep there.
    pub pinned_mirrors: u64,
}

impl Resident {
    /// Whether it may be evicted.
    fn may_go(&self) -> bool {
        let is_derived = self.is_derived && !planted!(DerivedEvicted);
        let is_used = self.pins > 0 && !planted!(UsedEvicted);
        self.is_resident && !is_derived && !self.is_new && !is_used
    }
}

#[derive(Debug)]
pub(super) struct Residency {
    granule_bytes: u64,
    /// By place.
    pages: BTreeMap<u64, Resident>,
    evicted: usize,
    /// Mirrors that have a place and are not in memory.
    absent_mirrors: usize,
    /// Resident pages in each granule.
    needs: Vec<u32>,
    /// When each granule was last used.
    uses: Vec<u64>,
    /// Counts operations of the bus.
    clock: u64,
    mapping: Mapping,
}

impl Residency {
    pub(super) fn new(granule_bytes: u64) -> Self {
        let granule_bytes = granule_bytes.max(1);
        Self {
            granule_bytes,
            pages: BTreeMap::new(),
            evicted: 0,
            absent_mirrors: 0,
            needs: Vec::new(),
            uses: Vec::new(),
            clock: 0,
            mapping: Mapping::new(granule_bytes),
        }
    }

    /// Nothing has memory any more; the pages keep their places.
    pub(super) fn unmap_all(&mut self) {
        self.mapping = Mapping::new(self.granule_bytes);
        self.needs.fill(0);
        let mut mirrors = 0;
        for page in self.pages.values_mut() {
            page.is_resident = false;
            mirrors += usize::from(page.is_mirror);
        }
        self.evicted = self.pages.len() - mirrors;
        self.absent_mirrors = mirrors;
    }

    /// There are no pages any more; what has memory keeps it.
    pub(super) fn forget_all(&mut self) {
        let places: Vec<u64> = self.pages.keys().copied().collect();
        for place in places {
            self.remove(place);
        }
    }

    pub(super) const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(super) const fn mapping_mut(&mut self) -> &mut Mapping {
        &mut self.mapping
    }

    /// Whether any page is evicted: the log alone has its bytes.
    pub(super) const fn has_evicted(&self) -> bool {
        self.evicted > 0
    }

    /// Whether anything that has a place is not in memory. Nothing else has to be asked as long as nothing is missing.
    pub(super) const fn lacks_any(&self) -> bool {
        self.evicted > 0 || self.absent_mirrors > 0
    }

    pub(super) fn counts(&self) -> ResidentPages {
        let mut counts = ResidentPages {
            evicted_pages: self.evicted as u64,
            ..ResidentPages::default()
        };
        for page in self.pages.values().filter(|page| page.is_resident) {
            if page.is_mirror {
                counts.mirrors += 1;
                counts.mirror_bytes += page.len_bytes;
                counts.pinned_mirrors += u64::from(page.pins > 0);
                continue;
            }
            counts.pages += 1;
            counts.page_bytes += page.len_bytes;
            counts.pinned_pages += u64::from(page.pins > 0);
            counts.derived_pages += u64::from(page.is_derived);
        }
        counts
    }

    /// Notes a page without memory.
    pub(super) fn insert(&mut self, place: u64, len_bytes: u64, index: PageIndex, is_new: bool) {
        let page = Resident {
            len_bytes,
            index,
            is_resident: false,
            is_derived: false,
            is_new,
            is_mirror: false,
            pins: 0,
        };
        self.place(place, page);
    }

    /// Notes a mirror without memory.
    pub(super) fn insert_mirror(&mut self, place: u64, len_bytes: u64, index: PageIndex) {
        let page = Resident {
            len_bytes,
            index,
            is_resident: false,
            is_derived: false,
            is_new: false,
            is_mirror: true,
            pins: 0,
        };
        self.place(place, page);
    }

    fn place(&mut self, place: u64, page: Resident) {
        self.remove(place);
        *self.absent(page.is_mirror) += 1;
        self.pages.insert(place, page);
    }

    /// How many pages, or mirrors, have a place and are not in memory.
    const fn absent(&mut self, are_mirrors: bool) -> &mut usize {
        if are_mirrors {
            &mut self.absent_mirrors
        } else {
            &mut self.evicted
        }
    }

    /// Forgets a page. Memory that no other needs belongs to the reserve.
    pub(super) fn remove(&mut self, place: u64) {
        self.evict(place);
        if let Some(page) = self.pages.remove(&place) {
            *self.absent(page.is_mirror) -= 1;
        }
    }

    pub(super) fn get(&self, place: u64) -> Option<&Resident> {
        self.pages.get(&place)
    }

    pub(super) fn get_mut(&mut self, place: u64) -> Option<&mut Resident> {
        self.pages.get_mut(&place)
    }

    /// The page that `offset` lies in, and its place.
    pub(super) fn page_at(&self, offset: u64) -> Option<(u64, &Resident)> {
        let (place, page) = self.pages.range(..=offset).next_back()?;
        (offset < place + page.len_bytes).then_some((*place, page))
    }

    /// The pages and mirrors that have a byte in `range`, with their places.
    pub(super) fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Resident)> {
        let start = range.start;
        let before = self.pages.range(..start).next_back();
        let before = before.filter(move |(place, page)| *place + page.len_bytes > start);
        let inside = self.pages.range(range.clone());
        let all = before.into_iter().chain(inside);
        all.map(|(place, page)| (*place, page))
    }

    /// All pages and mirrors, by place.
    pub(super) fn pages(&self) -> impl Iterator<Item = (u64, &Resident)> {
        self.pages.iter().map(|(place, page)| (*place, page))
    }

    /// The next operation of the bus begins.
    pub(super) const fn tick(&mut self) {
        self.clock += 1;
    }

    /// Notes that the operation uses `range`.
    pub(super) fn touch(&mut self, range: &Range<u64>) {
        let granules = self.granules(range);
        if self.uses.len() < granules.end {
            self.uses.resize(granules.end, 0);
        }
        for used in self.uses.get_mut(granules).unwrap_or_default() {
            *used = self.clock;
        }
    }

    fn granules(&self, range: &Range<u64>) -> Range<usize> {
        let first = range.start / self.granule_bytes;
        let end = range.end.div_ceil(self.granule_bytes);
        first as usize..end as usize
    }

    /// The bytes of granules that a page at `range` needs and that no resident page needs yet, as ranges as long as can be.
    pub(super) fn unneeded(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for granule in self.granules(range) {
            if self.needs.get(granule).is_some_and(|needs| *needs > 0) {
                continue;
            }
            let start = granule as u64 * self.granule_bytes;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += self.granule_bytes,
                _ => ranges.push(start..start + self.granule_bytes),
            }
        }
        ranges
    }

    /// Keeps those granules of `range` that pages need, whatever becomes of the pages, until [`Residency::let_go`].
    pub(super) fn hold(&mut self, range: &Range<u64>) -> Vec<usize> {
        let mut held = Vec::new();
        for granule in self.granules(range) {
            if let Some(needs) = self.needs.get_mut(granule).filter(|needs| **needs > 0) {
                *needs += 1;
                held.push(granule);
            }
        }
        held
    }

    /// Ends a hold. Granules that no page needs any more belong to the reserve.
    pub(super) fn let_go(&mut self, held: &[usize]) {
        for granule in held {
            self.unneed(*granule);
        }
    }

    fn unneed(&mut self, granule: usize) {
        if let Some(needs) = self.needs.get_mut(granule) {
            *needs -= 1;
            if *needs == 0 {
                let start = granule as u64 * self.granule_bytes;
                self.mapping.unneed(start..start + self.granule_bytes);
            }
        }
    }

    /// Notes that a page has its bytes in device memory, all of whose granules have memory now.
    pub(super) fn settle(&mut self, place: u64) {
        let Some(page) = self.pages.get_mut(&place).filter(|page| !page.is_resident) else {
            return;
        };
        page.is_resident = true;
        let (range, is_mirror) = (place..place + page.len_bytes, page.is_mirror);
        *self.absent(is_mirror) -= 1;
        let granules = self.granules(&range);
        if self.needs.len() < granules.end {
            self.needs.resize(granules.end, 0);
        }
        for needs in self.needs.get_mut(granules).unwrap_or_default() {
            *needs += 1;
        }
        self.touch(&range);
    }

    /// Notes that a page is not in device memory any more. Granules that no other page needs belong to the reserve.
    pub(super) fn evict(&mut self, place: u64) {
        let Some(page) = self.pages.get_mut(&place).filter(|page| page.is_resident) else {
            return;
        };
        page.is_resident = false;
        let (range, is_mirror) = (place..place + page.len_bytes, page.is_mirror);
        *self.absent(is_mirror) += 1;
        for granule in self.granules(&range) {
            self.unneed(granule);
        }
    }

    /// Whether the page at `place` may be evicted.
    pub(super) fn may_go(&self, place: u64) -> bool {
        self.pages.get(&place).is_some_and(Resident::may_go)
    }

    /// The places of pages and mirrors to evict so that at least `bytes` of memory are free to go, if so many can be. Whole granules
    /// go; a page uses all of its granules at once.
    ///
    /// Mirrors go first, and pages only when no granule of mirrors alone is left; not at all without `with_pages`. To bring a mirror back
    /// costs one copy of it from host memory, and to bring a page back a reading of the log, which may be any number of times as long as the
    /// page. So a mirror never costs a page its place. Among mirrors, and among pages, the granule goes first that was used longest ago.
    /// Rejected: one order for both. It keeps a mirror that every wave uses where a page lies idle, but what it loses otherwise has
    /// no bound.
    pub(super) fn victims(&self, bytes: u64, with_pages: bool) -> Vec<u64> {
        let may_go = |page: &Resident| page.may_go() && (with_pages || page.is_mirror);
        // Whether a page is there, when each granule was last used, and by how many pages it is needed that may go.
        let mut granules: BTreeMap<usize, (bool, u64, u32)> = BTreeMap::new();
        for (place, page) in &self.pages {
            if !page.is_resident {
                continue;
            }
            let range = self.granules(&(*place..*place + page.len_bytes));
            let used = self.uses.get(range.clone()).unwrap_or_default();
            let used = used.iter().copied().max().unwrap_or_default();
            for granule in range {
                let entry = granules.entry(granule).or_default();
                entry.0 |= !page.is_mirror;
                entry.1 = entry.1.max(used);
                entry.2 += u32::from(may_go(page));
            }
        }
        let needs = |granule: usize| self.needs.get(granule).copied().unwrap_or_default();
        let mut candidates: Vec<(bool, u64, usize)> = granules
            .iter()
            .filter(|(granule, (_, _, may_go))| needs(**granule) == *may_go)
            .map(|(granule, (has_page, used, _))| (*has_page, *used, *granule))
            .collect();
        candidates.sort_unstable();
        // How many of the pages in each granule are chosen.
        let mut chosen: BTreeMap<u64, ()> = BTreeMap::new();
        let mut left: BTreeMap<usize, u32> = BTreeMap::new();
        let mut free = 0;
        for (_, _, granule) in candidates {
            if free >= bytes {
                break;
            }
            let start = granule as u64 * self.granule_bytes;
            let end = start + self.granule_bytes;
            let before = self.pages.range(..start).next_back();
            let inside = self.pages.range(start..end);
            for (place, page) in before.into_iter().chain(inside) {
                let is_there = page.is_resident && *place + page.len_bytes > start;
                if !is_there || chosen.insert(*place, ()).is_some() {
                    continue;
                }
                for granule in self.granules(&(*place..*place + page.len_bytes)) {
                    let left = left.entry(granule).or_insert_with(|| needs(granule));
                    *left -= 1;
                    if *left == 0 {
                        free += self.granule_bytes;
                    }
                }
            }
        }
        chosen.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of `lens`, one behind the other, all of them in memory.
    fn with(lens: &[u64]) -> (Residency, Vec<u64>) {
        let mut residency = Residency::new(4096);
        let mut places = Vec::new();
        let mut place = 0;
        for (index, len) in lens.iter().enumerate() {
            residency.insert(place, *len, index as u32, false);
            bring(&mut residency, place);
            places.push(place);
            place += len;
        }
        (residency, places)
    }

    fn bring(residency: &mut Residency, place: u64) {
        let len = residency.get(place).unwrap().len_bytes;
        for range in residency.unneeded(&(place..place + len)) {
            let mapped: Result<(), ()> = residency.mapping_mut().need(range, |_| Ok(()));
            mapped.unwrap();
        }
        residency.settle(place);
    }

    #[test]
    fn the_granule_used_longest_ago_goes_and_of_several_the_lowest() {
        let (mut residency, places) = with(&[4096; 4]);
        assert_eq!(residency.victims(1, true), [places[0]]);
        for place in [0, 2, 1] {
            residency.tick();
            residency.touch(&(places[place]..places[place] + 1));
        }
        assert_eq!(residency.victims(1, true), [places[3]]);
        assert_eq!(residency.victims(4097, true), [places[0], places[3]]);
        assert_eq!(residency.victims(u64::MAX, true), places);
    }

    #[test]
    fn a_long_page_is_as_young_as_its_last_use_anywhere() {
        let (mut residency, places) = with(&[8192, 4096]);
        residency.tick();
        residency.touch(&(places[1]..places[1] + 1));
        residency.tick();
        residency.touch(&(places[0] + 5000..places[0] + 5001));
        assert_eq!(residency.victims(1, true), [places[1]]);
        assert_eq!(residency.victims(4097, true), places);
    }

    #[test]
    fn what_shares_a_granule_with_a_page_that_stays_stays() {
        let (mut residency, places) = with(&[2048, 2048, 2048, 6144]);
        residency.get_mut(places[1]).unwrap().pins = 1;
        // The third granule is behind the long page alone, which reaches into the second with its beginning.
        assert_eq!(residency.victims(1, true), [places[2], places[3]]);
        residency.get_mut(places[1]).unwrap().pins = 0;
        residency.get_mut(places[2]).unwrap().is_derived = true;
        assert_eq!(
            residency.victims(u64::MAX, true),
            [places[0], places[1], places[3]]
        );
    }

    #[test]
    fn a_granule_that_is_held_stays_when_its_page_goes() {
        let (mut residency, places) = with(&[6144]);
        let idle = |residency: &Residency| residency.mapping().statistics().idle_bytes;
        // A page behind it shares its second granule.
        let held = residency.hold(&(6144..12288));
        assert_eq!(held, [1]);
        assert_eq!(residency.victims(u64::MAX, true), places);
        residency.evict(places[0]);
        assert_eq!(idle(&residency), 4096);
        residency.let_go(&held);
        assert_eq!(idle(&residency), 8192);
    }

    #[test]
    fn memory_that_no_page_needs_is_in_reserve() {
        let (mut residency, places) = with(&[2048, 2048, 4096]);
        let idle = |residency: &Residency| residency.mapping().statistics().idle_bytes;
        residency.evict(places[0]);
        assert_eq!((idle(&residency), residency.has_evicted()), (0, true));
        residency.remove(places[1]);
        assert_eq!(idle(&residency), 4096);
        assert_eq!(residency.page_at(2047).unwrap().0, places[0]);
        assert!(residency.page_at(2048).is_none());
        bring(&mut residency, places[0]);
        assert_eq!((idle(&residency), residency.has_evicted()), (0, false));
        assert_eq!(residency.counts().pages, 2);
        residency.unmap_all();
        assert_eq!(residency.counts().evicted_pages, 2);
        assert_eq!(residency.mapping().statistics().mapped_bytes, 0);
    }
}
