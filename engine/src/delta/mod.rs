//! Deltas: byte runs to be written to one page.
//!
//! [`Delta`] is the canonical form. It is built dense, sparse, from a mask or as the difference of
//! two byte ranges, merged with later ones, and applied in time proportional to its own length.

mod build;
mod diff;
mod error;
mod merge;
// Pure safe code, and hours under Miri.
#[cfg(test)]
#[cfg(not(miri))]
mod properties;
mod runs;
#[cfg(test)]
mod tests;

pub use diff::DiffOptions;
pub use error::DeltaError;
pub use runs::{Delta, Runs};
