//! What is said between a worker and whoever started it, one JSON value a line.

use serde::{Deserialize, Serialize};

use crate::campaign::{Done, Job};

/// What a worker is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The job.
    pub job: Job,
    /// Run this scenario in place of that of the seed.
    pub scenario: Option<String>,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It goes on: so many steps were begun so far.
    Alive(u64),
    /// It was done.
    Done(Done),
    /// It could not be done.
    Error(String),
}
