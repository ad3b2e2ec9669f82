//! The allocator of device addresses: constant time, and placement that is a function of the live pages.
//!
//! [`Pool`] decides offsets and touches no memory; [`Mapping`] decides which granules have memory. Neither calls a device. The
//! pool is there with the feature `gpu-allocator`; which granules have memory is noted in one way, whatever places the pages.

#[cfg(feature = "gpu-allocator")]
mod allocator;
#[cfg_attr(
    not(feature = "gpu-allocator"),
    allow(dead_code, reason = "the pool needs more of it")
)]
mod bits;
#[cfg(feature = "gpu-allocator")]
mod blocks;
#[cfg(feature = "gpu-allocator")]
mod classes;
#[cfg(feature = "gpu-allocator")]
mod latency;
mod mapping;
// Pure safe code, and hours under Miri.
#[cfg(test)]
#[cfg(feature = "gpu-allocator")]
#[cfg(not(miri))]
mod properties;
#[cfg(feature = "gpu-allocator")]
mod slabs;
#[cfg(feature = "gpu-allocator")]
mod statistics;

#[cfg(feature = "gpu-allocator")]
pub use allocator::{Placed, Pool};
#[cfg(feature = "gpu-allocator")]
pub use latency::LatencyHistogram;
pub use mapping::{Mapping, MappingStatistics};
#[cfg(feature = "gpu-allocator")]
pub use statistics::{ClassCount, Gauge, PoolStatistics};
