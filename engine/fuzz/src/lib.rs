//! The bodies of the fuzz targets.
//!
//! `harness/tests/fuzz_regressions.rs` compiles `targets` a second time and replays with it, in an ordinary test, what the
//! fuzzer once found.

pub mod targets;
