//! The stress runner: generates scenarios from seeds, runs them for hours, and hands back what fails as a scenario that is as
//! small as it can be made.
//!
//! [`workload`] makes scenarios, [`campaign`] says what is done with each, [`worker`] does it in a process of its own,
//! [`run`] keeps workers busy and takes care of what they find, [`report`] tells of it. [`prove`] plants bugs and shows that they
//! are found. [`monitor`] watches memory and judges whether it leaks.
//!
//! There is no second vocabulary: a workload emits the steps of scenarios, the harness runs them, and a finding is a file
//! for `mmsb run`.
//!
//! ```
//! use mmsb_stress::campaign::{Campaign, Job};
//! let job = Job { campaign: Campaign::Sim, seed: 7, canary: false };
//! let done = mmsb_stress::campaign::execute(&job, &Default::default())?;
//! assert_eq!(done.failure, None);
//! assert!(done.steps > 0);
//! # Ok::<(), mmsb_stress::campaign::CampaignError>(())
//! ```

pub mod campaign;
pub mod monitor;
pub mod prove;
pub mod report;
pub mod run;
pub mod worker;
pub mod workload;
