//! Simulated storage: files in memory, durable only after a sync, with faults on demand, a journal from which every
//! state that a crash can leave is built, and an oracle that watches the order in which things become durable.

mod content;
mod disk;
mod fault;
mod journal;
mod operation;
mod oracle;
mod simulated;

pub(crate) use fault::Fault;
pub(crate) use journal::{Effect, Event, Image, Journal};
pub use operation::Operations;
pub use simulated::SimulatedStorage;
