//! Explores schedules of short concurrent programs on a bus. Only in a build with `--cfg shuttle`: see `ci/schedules`.

#![cfg(shuttle)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that fails panics, and says which schedule it was"
)]

mod commits;
mod durable;
mod explore;
mod graph;
mod guards;
mod history;
mod memory;
mod world;
