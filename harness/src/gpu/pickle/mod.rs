//! Python's pickles, as far as they are data.
//!
//! [`read`] knows the opcodes that build values of built-in types and refuses every other: those that name a class or call something
//! are how a pickle runs code. [`Writer`] writes protocol 2.

mod read;
mod write;

pub use read::{Limits, Node, NodeId, Pickle, PickleError, PickleProblem, read};
pub use write::Writer;
