//! The bytes of pages that are on a device.
//!
//! `space` is the memory, and whether it can still be trusted. `residency` notes which pages are there, `residence` brings them there and
//! evicts them, `source` is where they come from. `mirror` keeps copies of pages that are in host memory, `behind` what these lack. `stage` brings bytes there and
//! back through pinned memory, `pipe` lends that to whoever fills all of it anew. `batch` turns runs into the tables that a kernel applies.
//!
//! Invariant: device memory is never the only place of anything. Whatever was written to it is in the log, so a device that
//! fails, or loses its memory, costs time and not state.

mod batch;
mod behind;
mod claim;
mod mirror;
mod pipe;
mod residence;
mod residency;
mod source;
mod space;
mod stage;
mod statistics;

pub(crate) use batch::{Batch, Tables};
pub(crate) use mirror::{Mirrored, Operand};
pub(crate) use pipe::{Pipe, Sent};
pub use residency::ResidentPages;
pub(crate) use source::{PageSource, Sink};
pub(crate) use space::{DeviceSpace, Writer};
pub use statistics::DeviceStatistics;
