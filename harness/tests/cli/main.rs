//! The `mmsb` command as a user meets it: what it prints, and what it tells the shell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail like the test itself"
)]

mod authoring;
mod devices;
mod import;
mod output;
mod running;
mod workspace;
