//! What a run is asked for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mmsb_harness::world::Budget;
use serde::{Deserialize, Serialize};

use crate::campaign::Campaign;

/// A part of a fleet: the seeds whose numbers leave a certain remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which one, from 1.
    pub number: u64,
    /// Of how many.
    pub of: u64,
}

impl Default for Shard {
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no shard; write NUMBER/OF from 1 on, such as 3/16");
        let (number, of) = text.split_once('/').ok_or_else(bad)?;
        let shard = Self {
            number: number.parse().map_err(|_| bad())?,
            of: of.parse().map_err(|_| bad())?,
        };
        let fits = (1..=shard.of).contains(&shard.number);
        if fits { Ok(shard) } else { Err(bad()) }
    }
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long it lasts, breaks not counted.
    pub duration: Duration,
    /// Ends it after so many scenarios, if that comes first.
    pub max_scenarios: Option<u64>,
    /// Which campaigns take turns. Each gets the same time.
    pub campaigns: Vec<Campaign>,
    /// Which part of the fleet this is.
    pub shard: Shard,
    /// The text that all seeds are drawn from, such as a commit.
    pub seed_from: String,
    /// Where everything is kept.
    pub out: PathBuf,
    /// Whether it goes on with what is there.
    pub resume: bool,
    /// Scenarios at the same time.
    pub jobs: usize,
    /// A scenario that takes longer is a finding; kills may take ten times as long.
    pub scenario_timeout: Duration,
    /// One in so many scenarios must fail; 0 for none.
    pub canary_every: u64,
    /// How much may be tried to make one finding small.
    pub budget: Budget,
    /// Ends the run after so many different findings.
    pub max_findings: usize,
    /// A worker that has grown beyond this is replaced, in bytes.
    pub max_rss_bytes: u64,
    /// How long the steady part of the run has to be before anything is said of leaks.
    pub steady: Duration,
    /// Whether memory and descriptors are watched; without it nothing is said of leaks, and what watching costs can be measured.
    pub monitor: bool,
    /// The program that workers are made of.
    pub program: PathBuf,
    /// The planted bug that is live in the workers, in a build that has them.
    pub planted: Option<String>,
}

impl Options {
    /// The usual, for a run in this directory by this program.
    #[must_use]
    pub fn new(out: PathBuf, program: PathBuf) -> Self {
        Self {
            duration: Duration::from_secs(60),
            max_scenarios: None,
            campaigns: Campaign::ALL.to_vec(),
            shard: Shard::default(),
            seed_from: "0".to_owned(),
            out,
            resume: false,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            scenario_timeout: Duration::from_secs(60),
            canary_every: 50,
            budget: Budget {
                tries: 2000,
                duration: Duration::from_secs(60),
            },
            max_findings: 20,
            max_rss_bytes: 512 << 20,
            steady: Duration::from_secs(120),
            monitor: true,
            program,
            planted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn shards_are_read_and_nonsense_is_refused() {
        let shard: Shard = "3/16".parse().unwrap();
        assert_eq!((shard.number, shard.of), (3, 16));
        assert_eq!(shard.to_string(), "3/16");
        for text in ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/4"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
