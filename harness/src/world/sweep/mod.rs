//! Crashes at every moment: what a crash can leave on a disk, tried one after the other.
//!
//! A run on simulated storage leaves a journal of what was done to the disk. As the storage is all that the engine
//! has of the world, whatever a crash could have left at any moment is built from the journal, without running
//! the scenario again: `ledger` follows it from moment to moment, `damage` says what can be left
//! at one, `window` recovers from it and compares, `sweep` does so for all.

mod coverage;
mod damage;
mod ledger;
mod run;
mod universe;
mod widen;
mod window;

pub use coverage::Coverage;
pub use damage::Grain;
pub(crate) use damage::{Damage, Tear};
pub(crate) use ledger::Ledger;
pub use universe::universe;
pub use widen::widened;
pub(crate) use window::go_on;
