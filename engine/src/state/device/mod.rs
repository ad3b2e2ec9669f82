//! The bytes of pages that are on a device.
//!
//! `space` is the memory: which parts of it are mapped, and whether it can still be trusted. `stage` brings bytes there and
//! back through pinned memory, `pipe` lends that to whoever fills all of it anew. `batch` turns runs into the tables that a kernel applies.
//!
//! Invariant: device memory is never the only place of anything. Whatever was written to it is in the log, so a device that
//! fails, or loses its memory, costs time and not state.

mod batch;
mod claim;
mod pipe;
mod space;
mod stage;

pub(crate) use batch::{Batch, Tables};
pub(crate) use pipe::{Pipe, Sent};
pub(crate) use space::{DeviceSpace, Writer};
