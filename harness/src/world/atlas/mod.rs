//! The atlas: for every file and every way in which a disk fails, what must come of it.
//!
//! `table` says what is promised, `strike` lets a fault strike at each operation of a run in turn, `judge` says what
//! came of a disk: recovered, detected, or one of the two things that must never be, silent damage and a crash.

mod judge;
mod score;
mod strike;
mod table;

pub use judge::Judgement;
pub use score::{Damage, Score, Scorecard, scorecard};
pub use strike::{Strikes, strike};
pub use table::{ATLAS, Entry, Promise, markdown};
