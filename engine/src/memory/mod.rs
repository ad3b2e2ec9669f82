//! Where page bytes live: the pure placement model, and the mapping that it places pages in.
//!
//! [`Placement`] decides offsets and touches no memory; [`Arena`] holds memory and decides nothing.
//! Tests, replay and device allocators share the first; the second, with the mapping behind it, what other processes map of it, and the hints to the processor, are the only unsafe code here.

mod arena;
#[cfg(test)]
mod arena_tests;
#[cfg(all(target_os = "linux", not(miri)))]
mod attached;
mod backing;
pub(crate) mod exported;
mod extents;
mod placement;
// Pure safe code, and hours under Miri.
#[cfg(test)]
#[cfg(not(miri))]
mod placement_properties;
#[cfg(test)]
mod placement_tests;
mod prefetch;
pub(crate) mod sequence;
mod slabs;

pub(crate) use prefetch::prefetch;

/// What other allocators share with [`Placement`], so that each can be restored from the pages of the other.
#[cfg(feature = "gpu-allocator")]
pub(crate) mod small {
    pub(crate) use super::extents::SLAB_BYTES;
    pub(crate) use super::slabs::{
        CLASSES, MAX_SMALL_LEN_BYTES, SMALL_STEP_BYTES, class_of, slot_bytes,
    };
}
#[cfg(feature = "gpu-allocator")]
pub(crate) use {extents::EXTENT_BYTES as UNIT_BYTES, placement::check_page_len};

pub use arena::{Arena, ArenaError};
#[cfg(all(target_os = "linux", not(miri)))]
pub use attached::AttachError;
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use attached::Attached;
/// Pages from this length on have whole granules to themselves.
pub(crate) const MIN_EXPORTED_BYTES: u64 = slabs::MAX_SMALL_LEN_BYTES + 1;
pub use placement::{History, Placement, PlacementError, Statistics, footprint_bytes};
