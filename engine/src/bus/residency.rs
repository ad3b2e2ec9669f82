//! Which pages are in device memory, and hints which should be.

use super::Bus;
use super::ReadError;
use crate::page::{Location, PageId};
use crate::state::memory::place_of;

/// Where the bytes of a page are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Residency {
    /// In host memory.
    Host,
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
        if slot.location() != Location::Device {
            return Ok(Residency::Host);
        }
        let place = place_of(slot.offset());
        let space = self.state().device.get();
        Ok(match space {
            Some(space) if space.is_resident(place) => Residency::Device,
            _ => Residency::Evicted,
        })
    }

    /// Brings pages to device memory before they are needed there, in one reading of the log if they fit together. Others may be evicted
    /// for them, and the first of them for the last if there are too many. Pages in host memory are passed over.
    ///
    /// This is a hint: pages come by themselves when they are read or computed with.
    ///
    /// # Errors
    /// [`ReadError::Device`] when there is not enough device memory that can be freed, or the device failed; it names the first page.
    pub fn prefetch(&self, pages: &[PageId]) -> Result<(), ReadError> {
        let places = self.places(pages)?;
        let (Some(space), Some(page)) = (self.state().device.get(), pages.first().copied()) else {
            return Ok(());
        };
        let ranges: Vec<_> = places
            .iter()
            .map(|(place, len_bytes)| *place..*place + len_bytes)
            .collect();
        space
            .prefetch(&ranges)
            .map_err(|fault| ReadError::Device { page, fault })
    }

    /// Evicts pages from device memory, and says how many of them went. Nothing is copied anywhere, since the log has their bytes; memory
    /// that no page needs afterwards is given back to the device. Derived pages, those that a handle keeps there, and pages in host
    /// memory stay.
    ///
    /// # Errors
    /// [`ReadError::Device`] when the device failed; it names the first page.
    pub fn evict(&self, pages: &[PageId]) -> Result<u64, ReadError> {
        let places = self.places(pages)?;
        let (Some(space), Some(page)) = (self.state().device.get(), pages.first().copied()) else {
            return Ok(0);
        };
        let places: Vec<u64> = places.iter().map(|(place, _)| *place).collect();
        space
            .evict(&places)
            .map_err(|fault| ReadError::Device { page, fault })
    }

    /// Places and lengths of those of `pages` that are on the device.
    fn places(&self, pages: &[PageId]) -> Result<Vec<(u64, u64)>, ReadError> {
        let mut places = Vec::with_capacity(pages.len());
        for page in pages {
            let slot = self.state().find(*page)?;
            if slot.location() == Location::Device {
                places.push((place_of(slot.offset()), slot.len_bytes()));
            }
        }
        Ok(places)
    }
}
