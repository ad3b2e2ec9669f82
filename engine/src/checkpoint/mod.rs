//! Checkpoints: page images as of some LSN, so that recovery need not start from the beginning of the log.
//!
//! `format` says what the bytes are, `write` takes one while commits go on, `images` copies pages for it, `retention` lets go
//! of what is no longer needed, `load` brings a state back.
//! A checkpoint is a manifest and a chain of image files: each checkpoint adds one file with what changed since the last, and
//! the chain starts anew when it has grown to twice what a full one takes.
//!
//! Invariant: a checkpoint holds nothing that the log does not; losing all of them costs time only.

pub(crate) mod format;
mod images;
pub(crate) mod load;
mod retention;
mod write;

pub use load::CheckpointDamage;
pub(crate) use write::Checkpoints;
pub use write::{CheckpointError, CheckpointReport};
