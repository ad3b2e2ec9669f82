//! What a bus tells about its pages and itself.

use super::{Bus, ReadError};
use crate::log::LogStatistics;
use crate::memory;
use crate::page::{Location, PageId};
use crate::state::State;
use crate::state::device::DeviceStatistics;
use crate::state::memory::place_of;

/// What is known of a page besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageInfo {
    /// Its length.
    pub len_bytes: u64,
    /// Where its bytes are.
    pub location: Location,
    /// Its place in the arena, or in the memory of the device: offset in bytes.
    pub offset: u64,
    /// How many transactions have written to it; for a derived page, how many waves of this process changed it.
    pub epoch: u64,
    /// Whether its bytes are computed from other pages.
    pub is_derived: bool,
    /// Its metadata, by key.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// The pages that it is computed from, in order.
    pub parents: Vec<PageId>,
}

/// Figures of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Of the memory.
    pub memory: memory::Statistics,
    /// Of the log.
    pub log: LogStatistics,
    /// Derived pages.
    pub derived_pages: u64,
    /// Of the device; `None` as long as there was none.
    pub device: Option<DeviceStatistics>,
}

impl Bus {
    /// What is known of a page besides its bytes.
    ///
    /// # Errors
    /// When the id names no page.
    pub fn info(&self, page: PageId) -> Result<PageInfo, ReadError> {
        self.state().info(page)
    }

    /// The value of a page's metadata `key`.
    ///
    /// # Errors
    /// When the id names no page.
    pub fn annotation(&self, page: PageId, key: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let state = self.state();
        let structure = state.structure.read_recursive();
        state.find(page)?;
        Ok(structure
            .metadata
            .get(&page.index())
            .and_then(|of_page| of_page.get(key))
            .cloned())
    }

    /// All pages in id order. Costs as much as there ever were pages.
    #[must_use]
    pub fn pages(&self) -> Vec<PageId> {
        self.state().pages()
    }

    /// The bytes of no page lie outside this; the address of a page is stable for as long as the page lives.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let log = self.log().statistics();
        let structure = self.state().structure.read_recursive();
        Statistics {
            memory: structure.placement.statistics(),
            log,
            derived_pages: structure.graph.derived_count() as u64,
            device: self.state().device.get().map(|space| space.statistics()),
        }
    }
}

impl State {
    pub(crate) fn info(&self, page: PageId) -> Result<PageInfo, ReadError> {
        let structure = self.structure.read_recursive();
        let slot = self.find(page)?;
        let metadata = structure.metadata.get(&page.index());
        let derivation = structure
            .graph
            .node_of(page.index())
            .and_then(|node| structure.graph.derivation(node));
        let parents = derivation
            .iter()
            .flat_map(|derivation| &derivation.parents)
            .filter_map(|parent| {
                let index = structure.graph.page(*parent)?;
                Some(PageId::new(index, self.table.slot(index)?.generation()))
            });
        Ok(PageInfo {
            len_bytes: slot.len_bytes(),
            location: slot.location(),
            offset: place_of(slot.offset()),
            epoch: slot.epoch(),
            is_derived: slot.is_derived(),
            metadata: metadata
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            parents: parents.collect(),
        })
    }

    pub(crate) fn pages(&self) -> Vec<PageId> {
        let structure = self.structure.read_recursive();
        (0..structure.used)
            .filter_map(|index| {
                let slot = self.table.slot(index).filter(|slot| slot.is_live())?;
                Some(PageId::new(index, slot.generation()))
            })
            .collect()
    }
}
