//! The allocator of device addresses: constant time, and placement that is a function of the live pages.
//!
//! [`Pool`] decides offsets and touches no memory; [`Mapping`] decides which granules have memory. Neither calls a device.

mod allocator;
mod bits;
mod blocks;
mod classes;
mod latency;
mod mapping;
// Pure safe code, and hours under Miri.
#[cfg(test)]
#[cfg(not(miri))]
mod properties;
mod slabs;
mod statistics;

pub use allocator::{Placed, Pool};
pub use latency::LatencyHistogram;
pub use mapping::{Mapping, MappingStatistics};
pub use statistics::{ClassCount, Gauge, PoolStatistics};
