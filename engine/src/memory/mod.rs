//! Where page bytes live: the pure placement model, and the mapping that it places pages in.
//!
//! [`Placement`] decides offsets and touches no memory; [`Arena`] holds memory and decides nothing.
//! Tests, replay and device allocators share the first; the second, with the mapping behind it, and the hints to the processor, are the only unsafe code here.

mod arena;
#[cfg(test)]
mod arena_tests;
mod backing;
mod extents;
mod placement;
// Pure safe code, and hours under Miri.
#[cfg(test)]
#[cfg(not(miri))]
mod placement_properties;
#[cfg(test)]
mod placement_tests;
mod prefetch;
mod slabs;

pub(crate) use prefetch::prefetch;

pub use arena::{Arena, ArenaError};
pub use placement::{History, Placement, PlacementError, Statistics, footprint_bytes};
