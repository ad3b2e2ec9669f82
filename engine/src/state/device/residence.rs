//! Bringing pages to device memory, and evicting them.
//!
//! All of it happens under the lock of the space, so an operation finds its pages there and nobody takes them away before it is done. What
//! lasts longer, a handle to an address, pins its page.
//!
//! Evicting writes nothing back: the log has every byte of a page that is not derived. Whoever brings a page back reads the log
//! as of a moment under the lock. What was committed before is in the log then; what was not yet written to the page when it was
//! committed is written after it came back, and once more changes nothing.

use std::ops::Range;
use std::sync::Arc;

use super::mirror::Operand;
use super::source::PageSource;
use super::space::{DeviceSpace, Inner};
use super::statistics::DeviceStatistics;
use crate::device::{Device, DeviceError};
use crate::page::PageIndex;

/// Bytes that are read back by way of host memory at a time, if there is no shorter way.
const DETOUR_BYTES: u64 = 64 << 20;

/// A place on the device, and how long the page there is.
type Place = (u64, u64);

impl DeviceSpace {
    /// Where evicted pages come from, from here on.
    pub(crate) fn attach(&self, source: Arc<dyn PageSource>) {
        let _ = self.source.set(source);
    }

    /// Whether evicted pages come from anywhere.
    pub(crate) fn has_source(&self) -> bool {
        self.source.get().is_some()
    }

    /// Whether the bytes of the page at `place` are in device memory.
    pub(crate) fn is_resident(&self, place: u64) -> bool {
        self.look(|inner| {
            inner
                .residency
                .get(place)
                .is_some_and(|page| page.is_resident)
        })
    }

    pub(crate) fn has_evicted(&self) -> bool {
        self.look(|inner| inner.residency.has_evicted())
    }

    pub(crate) fn statistics(&self) -> DeviceStatistics {
        self.look(|inner| DeviceStatistics::of(inner, self.limit()))
    }

    fn limit(&self) -> Option<u64> {
        (self.limit_bytes < u64::MAX).then_some(self.limit_bytes)
    }

    /// How many of the first of `pages` can be in memory together without crowding everything else out; at least one.
    pub(super) fn count_together(&self, pages: &[Range<u64>]) -> usize {
        self.look(|inner| {
            if !inner.residency.has_evicted() {
                return pages.len();
            }
            let mapped_bytes = inner.residency.mapping().statistics().mapped_bytes;
            let budget = self.limit_bytes.min(mapped_bytes) / 2;
            let mut bytes = 0;
            let fit = pages.iter().take_while(|page| {
                bytes += page.end - page.start;
                bytes <= budget
            });
            fit.count().max(1)
        })
    }

    /// Makes sure that the pages in which `ranges` lie are in memory, all at once.
    pub(super) fn bring(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        ranges: &[Range<u64>],
    ) -> Result<(), DeviceError> {
        for range in ranges {
            inner.residency.touch(range);
        }
        if !inner.residency.lacks_any() {
            return Ok(());
        }
        let pages = ranges
            .iter()
            .filter_map(|range| inner.residency.page_at(range.start));
        let mut pages: Vec<Place> = pages.map(|(place, page)| (place, page.len_bytes)).collect();
        pages.sort_unstable();
        pages.dedup();
        pin(inner, &pages, 1);
        let brought = self.fetch(inner, device, &pages);
        pin(inner, &pages, -1);
        brought
    }

    /// Brings back those of `pages` that are evicted. They are pinned.
    fn fetch(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        pages: &[Place],
    ) -> Result<(), DeviceError> {
        let missing: Vec<Place> = pages
            .iter()
            .copied()
            .filter(|(place, _)| {
                let page = inner.residency.get(*place);
                page.is_some_and(|page| !page.is_resident)
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut given = Ok(());
        for (place, _) in &missing {
            given = given.and_then(|()| self.give_memory(inner, device, *place, true));
        }
        let filled = given.and_then(|()| self.fill(inner, device, &missing));
        if filled.is_err() {
            // What they hold now means nothing.
            for (place, _) in &missing {
                inner.residency.evict(*place);
            }
        }
        filled
    }

    /// Gives pages, which have memory, their bytes. Those that are derived are zeros, and are computed by somebody else; a mirror is sent
    /// its bytes by whoever asked for it.
    fn fill(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        pages: &[Place],
    ) -> Result<(), DeviceError> {
        let mut places = Vec::new();
        let mut indices: Vec<PageIndex> = Vec::new();
        for (place, len_bytes) in pages {
            let Some(page) = inner.residency.get(*place).filter(|page| !page.is_mirror) else {
                continue;
            };
            inner.stage.zero(device, *place..*place + len_bytes)?;
            if !page.is_derived {
                places.push((*place, *len_bytes));
                indices.push(page.index);
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        indices.sort_unstable();
        let source = self
            .source
            .get()
            .ok_or_else(|| unreadable("the log is not open yet"))?;
        let bytes: u64 = places.iter().map(|(_, len_bytes)| len_bytes).sum();
        inner.counters.fetched_pages += places.len() as u64;
        inner.counters.fetched_bytes += bytes;
        if !source.fill(&indices, &inner.stage.lend(device)?)? {
            fill_by_detour(&**source, inner, device, &places)?;
        }
        // What comes from the log was checked; whether it arrived is found out before anybody reads it.
        Ok(())
    }

    /// Gives memory to an evicted page, evicting others for it if it must and may. What it holds is undefined.
    pub(super) fn give_memory(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        place: u64,
        may_evict: bool,
    ) -> Result<(), DeviceError> {
        let Some(page) = inner.residency.get(place) else {
            return Ok(());
        };
        let len_bytes = page.len_bytes;
        let range = place..place + len_bytes;
        // A neighbour that shares a granule may be among those that go; the granule must not go with it.
        let held = inner.residency.hold(&range);
        let given = self.give_granules(inner, device, &range, len_bytes, may_evict);
        if given.is_ok() {
            inner.residency.settle(place);
        }
        inner.residency.let_go(&held);
        given
    }

    /// Gives memory to those granules of `range` that no page needs yet.
    fn give_granules(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        range: &Range<u64>,
        len_bytes: u64,
        may_evict: bool,
    ) -> Result<(), DeviceError> {
        let needed = inner.residency.unneeded(range);
        let mut done = 0;
        let given = needed.iter().try_for_each(|range| {
            self.map(inner, device, range, len_bytes, may_evict)?;
            done += 1;
            Ok(())
        });
        if given.is_err() {
            for range in needed.iter().take(done) {
                inner.residency.mapping_mut().unneed(range.clone());
            }
        }
        given
    }

    /// Gives memory to granules that no page needs yet, for a page of `asked_bytes`.
    fn map(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        range: &Range<u64>,
        asked_bytes: u64,
        may_evict: bool,
    ) -> Result<(), DeviceError> {
        let granule_bytes = self.info().granule_bytes.max(1);
        loop {
            // What is in reserve in the range itself must not be given away for it.
            let mapping = inner.residency.mapping();
            let granules = range.clone().step_by(granule_bytes as usize);
            let missing = granules.filter(|at| !mapping.is_mapped(*at)).count() as u64;
            let missing_bytes = missing * granule_bytes;
            let mapped_bytes = mapping.statistics().mapped_bytes;
            let over = (mapped_bytes + missing_bytes).saturating_sub(self.limit_bytes);
            if over > 0 && missing > 0 {
                if may_evict && self.free_up(inner, device, over, range)? > 0 {
                    continue;
                }
                if self.trim(inner, device, over, range)? > 0 {
                    continue;
                }
                return Err(self.full(inner, asked_bytes, self.limit_bytes));
            }
            let mapped = inner
                .residency
                .mapping_mut()
                .need(range.clone(), |range| device.map(range));
            match mapped {
                Err(DeviceError::OutOfMemory { capacity_bytes, .. }) => {
                    let freed = if may_evict {
                        self.free_up(inner, device, missing_bytes, range)?
                    } else {
                        self.trim(inner, device, missing_bytes, range)?
                    };
                    if freed == 0 {
                        return Err(self.full(inner, asked_bytes, capacity_bytes));
                    }
                }
                other => return other,
            }
        }
    }

    /// Gives memory back to the device: `bytes` at least, if so much can go. First what is in reserve, then that of pages. What lies in
    /// `kept` stays. Says how much it was.
    fn free_up(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        bytes: u64,
        kept: &Range<u64>,
    ) -> Result<u64, DeviceError> {
        let trimmed = self.trim(inner, device, bytes, kept)?;
        if trimmed >= bytes {
            return Ok(trimmed);
        }
        let mut victims = inner.residency.victims(bytes - trimmed, true);
        let is_page = |place: &u64| {
            inner
                .residency
                .get(*place)
                .is_some_and(|page| !page.is_mirror)
        };
        if victims.iter().any(is_page) && !self.can_go() {
            // Mirrors need no log to come back from.
            victims = inner.residency.victims(bytes - trimmed, false);
        }
        for place in victims {
            evict(inner, place);
        }
        Ok(trimmed + self.trim(inner, device, bytes - trimmed, kept)?)
    }

    /// Whether what the log has of pages is where it can be read again.
    fn can_go(&self) -> bool {
        self.source
            .get()
            .is_some_and(|source| source.flush().is_ok())
    }

    /// Gives memory in reserve back, up to `bytes`, but what lies in `kept`.
    pub(super) fn trim(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
        bytes: u64,
        kept: &Range<u64>,
    ) -> Result<u64, DeviceError> {
        let before = inner.residency.mapping().statistics();
        if before.idle_bytes == 0 {
            return Ok(0);
        }
        // Work for pages that are no more may be under way there.
        inner.stage.settle(device)?;
        let mapping = inner.residency.mapping_mut();
        let mut result = Ok(());
        let granule_bytes = self.info().granule_bytes.max(1);
        // Needed for a moment, so that it does not go.
        let held: Vec<u64> = kept
            .clone()
            .step_by(granule_bytes as usize)
            .filter(|at| mapping.is_mapped(*at))
            .collect();
        for at in &held {
            mapping.need(*at..*at + granule_bytes, |_| Ok::<(), DeviceError>(()))?;
        }
        let idle_bytes = mapping.statistics().idle_bytes;
        mapping.trim(idle_bytes.saturating_sub(bytes), |range| {
            let unmapped = device.unmap(range);
            if result.is_ok() {
                result = unmapped;
            }
        });
        let freed = before.mapped_bytes - mapping.statistics().mapped_bytes;
        for at in held {
            mapping.unneed(at..at + granule_bytes);
        }
        result.map(|()| freed)
    }

    pub(super) fn full(&self, inner: &Inner, asked_bytes: u64, capacity_bytes: u64) -> DeviceError {
        DeviceError::Full {
            asked_bytes,
            mapped_bytes: inner.residency.mapping().statistics().mapped_bytes,
            capacity_bytes,
            resident: Box::new(inner.residency.counts()),
        }
    }

    /// Brings pages, given by their places, to device memory, as many at a time as fit together.
    pub(crate) fn prefetch(&self, pages: &[Range<u64>]) -> Result<(), DeviceError> {
        let mut rest = pages;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(self.count_together(rest));
            self.with(|inner, device| {
                inner.residency.tick();
                self.bring(inner, device, some)
            })?;
            rest = others;
        }
        Ok(())
    }

    /// Evicts the pages at `places`, but those that have to stay, and gives memory that no page needs back to the device. Says how
    /// many went.
    pub(crate) fn evict(&self, places: &[u64]) -> Result<u64, DeviceError> {
        self.with(|inner, device| {
            inner.residency.tick();
            if !self.can_go() {
                return Ok(0);
            }
            let mut evicted = 0;
            for place in places {
                if inner.residency.may_go(*place) {
                    evict(inner, *place);
                    evicted += 1;
                }
            }
            self.trim(inner, device, u64::MAX, &(0..0))?;
            Ok(evicted)
        })
    }

    /// Brings a page to memory that becomes derived, and stays there from now on.
    pub(crate) fn bring_to_derive(&self, place: u64) -> Result<(), DeviceError> {
        self.with(|inner, device| {
            self.bring(inner, device, std::slice::from_ref(&(place..place + 1)))?;
            if let Some(page) = inner.residency.get_mut(place) {
                page.is_derived = true;
            }
            Ok(())
        })
    }

    /// Notes whether a page is derived.
    pub(crate) fn note_derived(&self, place: u64, is_derived: bool) {
        self.adjust(|inner| {
            if let Some(page) = inner.residency.get_mut(place) {
                page.is_derived = is_derived;
            }
        });
    }

    /// Brings a page, or a mirror, to memory, and keeps it there until [`DeviceSpace::unpin`].
    /// Says where it is.
    pub(crate) fn pin(&self, operand: Operand<'_>) -> Result<u64, DeviceError> {
        self.adjust(|inner| inner.residency.tick());
        self.with_operands(&[operand], |inner, device, places| {
            let place = places.first().copied().unwrap_or_default();
            inner.stage.settle(device)?;
            pin(inner, &[(place, 0)], 1);
            Ok(place)
        })
    }

    pub(crate) fn unpin(&self, place: u64) {
        self.adjust(|inner| pin(inner, &[(place, 0)], -1));
    }

    /// Brings all derived pages to memory: they are zeros, and to be computed. Others are evicted for them.
    pub(crate) fn bring_derived(&self) -> Result<(), DeviceError> {
        let derived: Vec<Range<u64>> = self.look(|inner| {
            let pages = inner.residency.pages();
            let derived = pages.filter(|(_, page)| page.is_derived && !page.is_resident);
            derived
                .map(|(place, page)| place..place + page.len_bytes)
                .collect()
        });
        derived.iter().try_for_each(|page| {
            self.with(|inner, device| self.bring(inner, device, std::slice::from_ref(page)))
        })
    }

    /// Makes as many pages zeros as fit in memory, derived ones first, and gives the positions of the others that do. The rest is evicted.
    pub(super) fn begin_anew(
        &self,
        inner: &mut Inner,
        device: &dyn Device,
    ) -> Result<Vec<PageIndex>, DeviceError> {
        let mut pages: Vec<(bool, u64, u64)> = inner
            .residency
            .pages()
            .map(|(place, page)| (!page.is_derived, place, page.len_bytes))
            .collect();
        for (_, place, _) in &pages {
            inner.residency.evict(*place);
        }
        // Mirrors come when they are needed.
        pages.retain(|(_, place, _)| {
            inner
                .residency
                .get(*place)
                .is_some_and(|page| !page.is_mirror)
        });
        pages.sort_unstable();
        let mut indices = Vec::new();
        for (is_base, place, len_bytes) in pages {
            match self.give_memory(inner, device, place, false) {
                Ok(()) => inner.stage.zero(device, place..place + len_bytes)?,
                Err(error) if is_base && error.is_refusal() => continue,
                Err(error) => return Err(error),
            }
            if is_base && let Some(page) = inner.residency.get(place) {
                indices.push(page.index);
            }
        }
        indices.sort_unstable();
        Ok(indices)
    }
}

pub(super) fn evict(inner: &mut Inner, place: u64) {
    let page = inner.residency.get(place);
    let (len_bytes, is_mirror) = page.map_or((0, false), |page| (page.len_bytes, page.is_mirror));
    inner.residency.evict(place);
    if is_mirror {
        inner.counters.mirror_evictions += 1;
        return;
    }
    inner.counters.evictions += 1;
    inner.counters.evicted_bytes += len_bytes;
}

fn pin(inner: &mut Inner, pages: &[Place], change: i32) {
    for (place, _) in pages {
        if let Some(page) = inner.residency.get_mut(*place) {
            page.pins = page.pins.saturating_add_signed(change);
        }
    }
}

/// By way of host memory, some at a time.
fn fill_by_detour(
    source: &dyn PageSource,
    inner: &mut Inner,
    device: &dyn Device,
    places: &[Place],
) -> Result<(), DeviceError> {
    // What came the other way is not to be trusted. Some of it may be under way still, in slots of the stage, which knows nothing of it.
    inner.stage.settle(device)?;
    for (place, len_bytes) in places {
        inner.stage.zero(device, *place..*place + len_bytes)?;
    }
    let mut rest = places;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|(_, len_bytes)| {
            bytes += len_bytes;
            bytes <= DETOUR_BYTES
        });
        let (some, others) = rest.split_at(fit.count().max(1));
        let ranges: Vec<_> = some
            .iter()
            .map(|(place, len_bytes)| *place..*place + len_bytes)
            .collect();
        let contents = source.read(&ranges).map_err(|why| unreadable(&why))?;
        for ((place, _), bytes) in some.iter().zip(contents) {
            inner.stage.write(device, *place, &bytes)?;
        }
        rest = others;
    }
    Ok(())
}

fn unreadable(why: &str) -> DeviceError {
    DeviceError::Unreadable {
        reason: why.to_owned(),
    }
}
