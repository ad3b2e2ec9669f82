//! Mirrors: copies of unified pages in device memory.
//!
//! The page itself is in host memory, whatever becomes of the device. Its mirror is made when somebody needs it there, and then sent what
//! changed since the last time, and nothing else. It has no place in the log: where it is, and whether it is at all, follows from what
//! was asked for since the bus was opened.
//!
//! Mirrors lie in the upper half of the addresses that pages have, at places of their own placement. Pages, whose places the log decides,
//! take the whole range from its start, so a page that reaches so far takes its place from a mirror. *Rejected:* the placement of pages for
//! both, as places would then depend on what was mirrored when; a part of the range for mirrors alone, as logs that filled the device
//! up to its end would no longer open.
//!
//! Invariant: whoever asks for a mirror holds the lock of its page, so the bytes that are sent do not change meanwhile; whoever
//! changes the page holds it exclusively, and notes the change before letting go.

use std::collections::BTreeMap;
use std::ops::Range;

use super::behind::Behind;
use super::space::{DeviceSpace, Inner};
use crate::device::{Device, DeviceError};
use crate::digest::Digest;
use crate::memory::Placement;
use crate::page::PageIndex;
use crate::planted::planted;

/// A unified page whose mirror is wanted: the caller holds its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mirrored<'a> {
    pub(crate) index: PageIndex,
    /// All bytes of the page.
    pub(crate) bytes: &'a [u8],
}

/// What a piece of work on the device takes: a page that is there, or the mirror of one that is not.
#[derive(Clone, Debug)]
pub(crate) enum Operand<'a> {
    Page(Range<u64>),
    Mirror(Mirrored<'a>),
}

#[derive(Debug)]
struct Mirror {
    place: u64,
    len_bytes: u64,
    /// What it has yet to be sent, as long as it is in device memory; all of it, if it is not.
    behind: Behind,
}

/// The mirrors that have a place. It is theirs until their page is freed, or another page needs it.
#[derive(Debug)]
pub(super) struct Mirrors {
    /// Where the addresses of mirrors begin.
    start: u64,
    placement: Placement,
    by_page: BTreeMap<PageIndex, Mirror>,
}

impl Mirrors {
    /// None, in the upper half of `pages_bytes`.
    pub(super) fn new(pages_bytes: u64, granule_bytes: u64) -> Self {
        let half = pages_bytes / 2;
        // Pages and mirrors share no granule, unless pages reach so far.
        let start = half
            .next_multiple_of(granule_bytes.max(4096))
            .min(pages_bytes);
        Self {
            start,
            placement: Placement::new(pages_bytes - start),
            by_page: BTreeMap::new(),
        }
    }

    /// There are none any more.
    pub(super) fn clear(&mut self) {
        self.placement = Placement::new(self.placement.capacity_bytes());
        self.by_page.clear();
    }

    fn remove(&mut self, index: PageIndex) -> Option<u64> {
        let mirror = self.by_page.remove(&index)?;
        // It was given with this length.
        let _ = self
            .placement
            .release(mirror.place - self.start, mirror.len_bytes);
        Some(mirror.place)
    }
}

impl DeviceSpace {
    /// Runs with all `operands` in device memory, mirrors up to date; tells where they are, in their order.
    pub(super) fn with_operands<T>(
        &self,
        operands: &[Operand<'_>],
        run: impl FnOnce(&mut Inner, &dyn Device, &[u64]) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        self.with(|inner, device| {
            let ranges = operands
                .iter()
                .map(|operand| match operand {
                    Operand::Page(range) => Ok(range.clone()),
                    Operand::Mirror(page) => self.place_mirror(inner, *page),
                })
                .collect::<Result<Vec<Range<u64>>, DeviceError>>()?;
            for operand in operands {
                if let Operand::Mirror(page) = operand {
                    note_absence(inner, page.index);
                }
            }
            self.bring(inner, device, &ranges)?;
            for operand in operands {
                if let Operand::Mirror(page) = operand {
                    send(inner, device, *page)?;
                }
            }
            let places: Vec<u64> = ranges.iter().map(|range| range.start).collect();
            run(inner, device, &places)
        })
    }

    /// The place of a mirror, which gets one if it has none.
    fn place_mirror(
        &self,
        inner: &mut Inner,
        page: Mirrored<'_>,
    ) -> Result<Range<u64>, DeviceError> {
        let len_bytes = page.bytes.len() as u64;
        if let Some(mirror) = inner.mirrors.by_page.get(&page.index) {
            return Ok(mirror.place..mirror.place + mirror.len_bytes);
        }
        let mirrors = &mut inner.mirrors;
        let Ok(at) = mirrors.placement.allocate(len_bytes) else {
            let capacity_bytes = mirrors.placement.capacity_bytes();
            return Err(self.full(inner, len_bytes, capacity_bytes));
        };
        let place = mirrors.start + at;
        let range = place..place + len_bytes;
        if inner.residency.overlapping(&range).next().is_some() {
            // A page reaches into the half of the mirrors. It was there first.
            let _ = inner.mirrors.placement.release(at, len_bytes);
            return Err(self.full(inner, len_bytes, self.pages_bytes()));
        }
        let mirror = Mirror {
            place,
            len_bytes,
            behind: Behind::default(),
        };
        inner.mirrors.by_page.insert(page.index, mirror);
        inner.residency.insert_mirror(place, len_bytes, page.index);
        Ok(range)
    }

    /// Takes the place of mirrors in `range`, which a page gets. One that a handle points to keeps it, and the page is refused.
    pub(super) fn make_way(
        &self,
        inner: &mut Inner,
        range: &Range<u64>,
    ) -> Result<(), DeviceError> {
        if inner.mirrors.by_page.is_empty() {
            return Ok(());
        }
        let in_the_way: Vec<_> = inner
            .residency
            .overlapping(range)
            .filter(|(_, page)| page.is_mirror)
            .map(|(_, page)| (page.index, page.pins))
            .collect();
        if in_the_way.iter().any(|(_, pins)| *pins > 0) {
            return Err(self.full(inner, range.end - range.start, self.pages_bytes()));
        }
        for (index, _) in in_the_way {
            forget(inner, index);
        }
        Ok(())
    }

    /// Forgets the mirror of a page, which is freed.
    pub(crate) fn forget_mirror(&self, index: PageIndex) {
        self.adjust(|inner| forget(inner, index));
    }

    /// Whether a page has a mirror in device memory, up to date or not.
    pub(crate) fn has_mirror(&self, index: PageIndex) -> bool {
        self.look(|inner| {
            let mirror = inner.mirrors.by_page.get(&index);
            let page = mirror.and_then(|mirror| inner.residency.get(mirror.place));
            page.is_some_and(|page| page.is_resident)
        })
    }

    /// Brings the mirror of a page up to date.
    pub(crate) fn update_mirror(&self, page: Mirrored<'_>) -> Result<(), DeviceError> {
        self.adjust(|inner| {
            inner.residency.tick();
            if planted!(MirrorTakenForFresh)
                && let Some(mirror) = inner.mirrors.by_page.get_mut(&page.index)
            {
                mirror.behind = Behind::default();
            }
        });
        self.with_operands(&[Operand::Mirror(page)], |_, _, _| Ok(()))
    }

    /// Drops mirrors, but those that handles point to, and gives memory that nobody needs back to the device. Says how many went.
    pub(crate) fn drop_mirrors(&self, pages: &[PageIndex]) -> Result<u64, DeviceError> {
        self.with(|inner, device| {
            inner.residency.tick();
            let mut dropped = 0;
            for index in pages {
                let place = inner.mirrors.by_page.get(index).map(|mirror| mirror.place);
                if let Some(place) = place
                    && inner.residency.may_go(place)
                {
                    super::residence::evict(inner, place);
                    dropped += 1;
                }
            }
            self.trim(inner, device, u64::MAX, &(0..0))?;
            Ok(dropped)
        })
    }

    /// The digest of a page on the device, or of the mirror of one.
    pub(crate) fn digest_of(&self, operand: Operand<'_>) -> Result<Digest, DeviceError> {
        self.adjust(|inner| inner.residency.tick());
        let len_bytes = match &operand {
            Operand::Page(range) => range.end - range.start,
            Operand::Mirror(page) => page.bytes.len() as u64,
        };
        self.with_operands(&[operand], |inner, device, places| {
            let place = places.first().copied().unwrap_or_default();
            let range = place..place + len_bytes;
            let digests = inner.stage.digests(device, std::slice::from_ref(&range))?;
            digests.first().copied().ok_or_else(super::stage::too_small)
        })
    }
}

/// Notes that `range` of a page changed. `false`: it has no mirror in device memory, so that nothing has to be noted until it is asked for
/// again.
pub(super) fn mark(inner: &mut Inner, index: PageIndex, range: Range<u64>) -> bool {
    let Some(mirror) = inner.mirrors.by_page.get_mut(&index) else {
        return false;
    };
    let page = inner.residency.get(mirror.place);
    if !page.is_some_and(|page| page.is_resident) {
        return false;
    }
    mirror.behind.add(range);
    true
}

/// A mirror that is not in device memory has to be sent as a whole.
fn note_absence(inner: &mut Inner, index: PageIndex) {
    if let Some(mirror) = inner.mirrors.by_page.get_mut(&index) {
        let page = inner.residency.get(mirror.place);
        if !page.is_some_and(|page| page.is_resident) {
            mirror.behind = Behind::whole(mirror.len_bytes);
        }
    }
}

/// Sends a mirror, which is in device memory, what it is behind with.
fn send(inner: &mut Inner, device: &dyn Device, page: Mirrored<'_>) -> Result<(), DeviceError> {
    let Some(mirror) = inner.mirrors.by_page.get_mut(&page.index) else {
        return Ok(());
    };
    let behind = std::mem::take(&mut mirror.behind);
    for range in behind.ranges() {
        let bytes = page.bytes.get(range.start as usize..range.end as usize);
        let bytes = bytes.unwrap_or_default();
        inner.counters.mirror_uploads += 1;
        inner.counters.mirror_uploaded_bytes += bytes.len() as u64;
        // An error of this one ends the trust in all of device memory, so what was taken from `behind` is not missed.
        inner
            .stage
            .write(device, mirror.place + range.start, bytes)?;
    }
    Ok(())
}

fn forget(inner: &mut Inner, index: PageIndex) {
    if let Some(place) = inner.mirrors.remove(index) {
        inner.residency.remove(place);
    }
}
