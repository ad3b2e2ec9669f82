//! What a run of scenarios came to, for people and for machines.
//!
//! [`results`] holds it; [`summary`] writes it as text, [`json`] and [`junit`] for other programs.
//! Everything but the times depends on nothing but the scenarios and the code under test.

pub mod json;
pub mod junit;
pub mod results;
pub mod summary;

pub use results::{Problem, Run, TestResult, Totals, Verdict};
