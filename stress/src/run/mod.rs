//! A run: workers kept busy for a while, what they find minimised and written down, and all of it kept so that a later run can go
//! on.

mod error;
mod finding;
mod merge;
mod options;
mod pool;
mod schedule;
mod state;

pub use error::RunError;
pub use finding::{Finding, Reproduction};
pub use merge::merge;
pub use options::{Options, Shard};
pub use pool::{Now, run};
pub use schedule::seed;
pub use state::{CampaignState, STATE_FILE, State, Verdict};
