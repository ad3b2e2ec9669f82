//! Which pages are in device memory, and hints which should be.

use super::Bus;
use super::ReadError;
use crate::page::{Location, PageId, PageIndex};
use crate::state::device::Operand;
use crate::state::memory::place_of;

/// Where the bytes of a page are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Residency {
    /// In host memory.
    Host,
    /// In host memory, and a mirror of them, up to date or not, in device memory: of a unified page.
    Mirrored,
    /// In device memory.
    Device,
    /// In the log alone, until somebody needs them on the device.
    Evicted,
}

impl Residency {
    /// The name used in scenarios and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Mirrored => "mirrored",
            Self::Device => "device",
            Self::Evicted => "evicted",
        }
    }
}

impl Bus {
    /// Where the bytes of a page are now.
    ///
    /// # Errors
    /// When the id names no page.
    pub fn residency(&self, page: PageId) -> Result<Residency, ReadError> {
        let slot = self.state().find(page)?;
        let space = self.state().device.get();
        Ok(match (slot.location(), space) {
            (Location::Host, _) => Residency::Host,
            (Location::Unified, Some(space)) if space.has_mirror(page.index()) => {
                Residency::Mirrored
            }
            (Location::Unified, _) => Residency::Host,
            (Location::Device, Some(space)) if space.is_resident(place_of(slot.offset())) => {
                Residency::Device
            }
            (Location::Device, _) => Residency::Evicted,
        })
    }

    /// Brings pages to device memory before they are needed there, in one reading of the log if they fit together, and mirrors of unified
    /// pages up to date. Others may be evicted for them, and the first of them for the last if there are too many. Pages in host memory
    /// are passed over.
    ///
    /// This is a hint: pages come by themselves when they are read or computed with.
    ///
    /// # Errors
    /// [`ReadError::Device`] when there is not enough device memory that can be freed, or the device failed; it names the first page, or
    /// the unified page that it was about.
    pub fn prefetch(&self, pages: &[PageId]) -> Result<(), ReadError> {
        let Chosen { places, unified } = self.choose(pages)?;
        if let (Some(space), Some(page)) = (self.state().device.get(), pages.first().copied()) {
            let ranges: Vec<_> = places
                .iter()
                .map(|(place, len_bytes)| *place..*place + len_bytes)
                .collect();
            space
                .prefetch(&ranges)
                .map_err(|fault| ReadError::Device { page, fault })?;
        }
        unified
            .iter()
            .try_for_each(|page| self.update_mirror(*page))
    }

    /// Evicts pages from device memory, drops mirrors of unified pages, and says how many of both went. Nothing is copied anywhere, since
    /// the log has the bytes of pages, and host memory those of mirrors; memory that nobody needs afterwards is given back to the device.
    /// Derived pages on the device, what a handle keeps there, and pages in host memory stay.
    ///
    /// # Errors
    /// [`ReadError::Device`] when the device failed; it names the first page.
    pub fn evict(&self, pages: &[PageId]) -> Result<u64, ReadError> {
        let Chosen { places, unified } = self.choose(pages)?;
        let (Some(space), Some(page)) = (self.state().device.get(), pages.first().copied()) else {
            return Ok(0);
        };
        let places: Vec<u64> = places.iter().map(|(place, _)| *place).collect();
        let unified: Vec<PageIndex> = unified.iter().map(|page| page.index()).collect();
        let dropped = space.drop_mirrors(&unified);
        let evicted = dropped.and_then(|dropped| Ok(dropped + space.evict(&places)?));
        evicted.map_err(|fault| ReadError::Device { page, fault })
    }

    fn update_mirror(&self, page: PageId) -> Result<(), ReadError> {
        let state = self.state();
        let Some((slot, _lock)) = state.lock_shared(page) else {
            // It was freed meanwhile: nobody needs it.
            return Ok(());
        };
        // SAFETY: the lock of the stripe is held until the end.
        let Some(Operand::Mirror(mirrored)) = (unsafe { state.operand(page.index(), slot) }) else {
            return Ok(());
        };
        let updated = state
            .device_space()
            .and_then(|space| space.update_mirror(mirrored));
        updated.map_err(|fault| ReadError::Device { page, fault })
    }

    /// Which of `pages` have to do with the device.
    fn choose(&self, pages: &[PageId]) -> Result<Chosen, ReadError> {
        let mut chosen = Chosen::default();
        for page in pages {
            let slot = self.state().find(*page)?;
            match slot.location() {
                Location::Host => {}
                Location::Device => {
                    let place = place_of(slot.offset());
                    chosen.places.push((place, slot.len_bytes()));
                }
                Location::Unified => chosen.unified.push(*page),
            }
        }
        Ok(chosen)
    }
}

/// Pages that have to do with the device.
#[derive(Default)]
struct Chosen {
    /// Places and lengths of those that are there.
    places: Vec<(u64, u64)>,
    unified: Vec<PageId>,
}
