//! The log: the only durable truth.
//!
//! `format` says what the bytes are, `compression` what those of a compressed transaction are, `record` what a transaction's operations are, `segment` which file they are in,
//! `writer` appends and makes durable, `discover` finds the segments, `reader` reads them and `batch` checks their records, `error` says why a log cannot be read, `tail` tells the torn end of
//! a crash from damage, `renew` writes again what nothing proves to be on the disk, `mark` notes aside
//! where a closed log ended.
//!
//! Invariant: nothing here knows what a page is beyond its id; the log moves bytes and order.

pub(crate) mod batch;
pub(crate) mod compression;
pub(crate) mod discover;
pub(crate) mod error;
pub(crate) mod format;
pub(crate) mod mark;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod renew;
pub(crate) mod segment;
pub(crate) mod tail;
pub(crate) mod writer;

pub use error::LogError;
pub use record::TransformId;
pub use writer::{Durability, LogStatistics, Poison};
