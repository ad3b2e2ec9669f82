//! Watches what a run uses, and judges whether it leaks.

mod histogram;
mod leak;
mod process;
mod series;

pub use histogram::Histogram;
pub use leak::{Leak, MIN_STEADY_S, NOISE_BYTES, NOISE_DESCRIPTORS, Point, WARM_UP, judge};
pub use process::{descriptors, family_rss_bytes, is_busy, processor_s, rss_bytes};
pub use series::{Sample, Series};
