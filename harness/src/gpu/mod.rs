//! Allocation traces, and what allocators of device memory make of them.
//!
//! [`Trace`] is a sequence of allocations and frees: written in a format of its own, read from what others record ([`rmm`],
//! [`pytorch`]), or made up ([`generate`]). [`replay`] runs one against a [`Backend`] and measures; `simulate` runs it on a GPU
//! that has so many bytes, and [`snapshot`] writes down the end of that for PyTorch's memory viewer.

mod backend;
mod error;
pub mod generate;
pub mod pickle;
pub mod pytorch;
mod replay;
pub mod rmm;
mod simulate;
pub mod snapshot;
mod trace;

pub use backend::{Backend, Make, PlacementBackend, PoolBackend, Refused, backends};
pub use error::{TraceError, TraceProblem};
pub use replay::{Failure, Replayed, replay};
pub use simulate::{Happened, Simulated, Simulation};
pub use trace::{Event, Trace, TraceBuilder};

/// Reads a trace in whatever format it is: our own, an RMM log, or a PyTorch snapshot.
///
/// # Errors
/// See [`TraceError`].
pub fn read(bytes: &[u8]) -> Result<Imported, TraceError> {
    if bytes.starts_with(trace::MAGIC.as_bytes()) {
        let trace = Trace::parse(bytes)?;
        return Ok(Imported {
            trace,
            format: "mmsb",
            notes: Vec::new(),
        });
    }
    match bytes.first() {
        Some(0x80) => pytorch::import(bytes),
        _ if rmm::is_header(bytes) => rmm::import(bytes),
        _ => Err(TraceError::at(1, TraceProblem::UnknownFormat)),
    }
}

/// A trace, and what was left out or assumed to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The trace.
    pub trace: Trace,
    /// The format that it was in: `mmsb`, `rmm` or `pytorch`.
    pub format: &'static str,
    /// One sentence about each thing that was left out or assumed.
    pub notes: Vec<String>,
}

/// Adds a note on `count` things, unless there are none.
fn note(notes: &mut Vec<String>, count: u64, what: &str) {
    if count > 0 {
        notes.push(format!("{count} {what}"));
    }
}
