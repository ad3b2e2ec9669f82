//! The world that a scenario runs in: the engine under test, the model, the storage, and the comparison between
//! them after every step.
//!
//! [`run()`] executes one scenario in one cell of its matrix; [`missing`] says beforehand whether it can run here.

pub mod atlas;
mod capability;
mod compare;
mod concurrent;
mod crash;
mod data;
mod devices;
mod drive;
mod expect;
mod failure;
mod faults;
mod files;
pub mod generate;
mod listen;
mod model;
mod open;
mod path;
mod replay;
mod resume;
mod run;
mod shrink;
mod signature;
mod stage;
mod storage;
mod storm;
mod sweep;
mod trace;
pub mod transforms;

pub use capability::missing;
pub use devices::{GpuPolicy, Presence, devices};
pub use expect::COUNTERS;
pub use failure::{Difference, Failure};
pub use resume::{Milestone, OnMilestone, Resume};
pub use run::{Context, Outcome, Progress, Verdict, run};
pub use shrink::{Budget, Shrunk, count_steps, minimise, shrink};
pub use signature::Signature;
pub use storage::{Operations, SimulatedStorage};
pub use sweep::{Coverage, Grain, universe, widened};
