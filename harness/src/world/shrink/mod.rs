//! Makes a failing scenario smaller, for as long as it fails.
//!
//! `steps` removes steps, and `joint` those that only go together; `values` then lowers numbers, shortens payloads, drops faults, options and pages; `names` gives
//! short names. All of it is decided by trying.

mod joint;
mod minimise;
mod names;
mod steps;
mod values;

pub use minimise::{Budget, Shrunk, minimise};
pub use steps::count as count_steps;
pub use steps::shrink;
