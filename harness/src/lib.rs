//! The MMSB harness: scenarios in YAML, run against the engine and checked against a model.
//!
//! [`scenario`] is the language, [`world`] runs it, [`report`] writes down what came of it, [`import`] makes
//! scenarios of other things, and [`kill`] runs it in processes that are killed. [`gpu`] replays traces of allocations. [`command`] is
//! what command lines share.
//!
//! ```
//! use mmsb_harness::scenario::{self, matrix};
//! use mmsb_harness::world::{self, Context};
//! let text = "
//! version: 1
//! pages: {a: 64}
//! steps:
//!   - write: {page: a, at: 2, text: state}
//!   - commit
//!   - crash
//!   - open
//!   - expect: {page: a, text: \"\\0\\0state\"}
//! ";
//! let scenario = scenario::parse_str("demo.yaml", text).map_err(|errors| format!("{errors:?}"))?;
//! for cell in matrix::expand(&scenario).map_err(|error| error.to_string())? {
//!     let outcome = world::run(&scenario, &cell, &Context::default());
//!     assert_eq!(outcome.failure(), None);
//! }
//! # Ok::<(), String>(())
//! ```

pub mod command;
pub mod gpu;
pub mod import;
pub mod kill;
pub mod report;
pub mod scenario;
pub mod world;
