//! Campaigns of `kill -9` on real files.
//!
//! A child process runs a scenario on a real directory and tells its parent, over a pipe, of every commit that returned. The
//! parent kills it at a moment that a seed chooses, and starts the next child on the same directory. That one opens what is there,
//! checks it against what was acknowledged and against the model, goes on with the scenario, and is killed in turn.
//!
//! `plan` chooses the moments, `ledger` keeps what was acknowledged, `round` is the life of one child, `folder` what
//! stays on the disk between rounds, `campaign` the whole; `suitable` says which scenarios can be resumed.

mod campaign;
mod child;
mod error;
mod folder;
mod ledger;
mod plan;
mod report;
mod round;
mod suitable;

pub use campaign::{Campaign, Limit, OnRound, Spawn, run};
pub use child::child;
pub use error::KillError;
pub use ledger::{Bounds, Ledger, Phase};
pub use report::{Commits, Finding, Kills, Report};
pub use round::Message;
pub use suitable::check;
