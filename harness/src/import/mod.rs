//! Turns what others recorded into traces that the harness can run.
//!
//! [`git`] imports the history of the files of a git repository.

pub mod git;
mod page_names;
mod trace_writer;
