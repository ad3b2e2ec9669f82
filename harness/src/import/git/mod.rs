//! Imports the history of a git repository as a trace.
//!
//! Git is the oracle: it names every version of every file by a digest that neither the engine nor
//! the harness had a hand in. [`import`] makes one transaction of each commit and expects, after
//! it, each file that the commit touched to have the blob id that git gave it.

mod blobs;
mod command;
mod convert;
mod error;
mod history;

pub use convert::{Counts, Import, import};
pub use error::GitImportError;

#[cfg(test)]
mod tests;
