//! What is done with a seed.
//!
//! Each campaign is a pure function of a seed, as far as the machine lets it: `sim`, `replay` and `twice` give the same every
//! time, `threads` and `kill` make the same scenario every time, and the scheduler does the rest.

mod coverage;
mod execute;
mod job;
mod killed;

pub use coverage::{Coverage, coverage};
pub use execute::{CampaignError, Environment, execute, execute_scenario};
pub use job::{Campaign, Done, Found, Job, UnknownCampaign};
