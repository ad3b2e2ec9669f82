//! Makes a failing scenario smaller, for as long as it fails.
//!
//! `steps` removes steps; `values` then lowers numbers, shortens payloads, drops faults, options and pages; `names` gives
//! short names. All of it is decided by trying.

mod minimise;
mod names;
mod steps;
mod values;

pub use minimise::{Budget, Shrunk, minimise};
pub use steps::count as count_steps;
pub use steps::shrink;
