//! Campaigns, and what one seed of them comes to.

use std::fmt;
use std::str::FromStr;

use mmsb_harness::world::Signature;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::coverage::Coverage;
use crate::workload::Flavour;

/// A campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Campaign {
    /// Simulated storage that fails and crashes, then heals; deterministic.
    Sim,
    /// As `sim`, with the log replayed from zero again and again by 1, 2 and 8 appliers.
    Replay,
    /// As `sim`, run twice: both runs must write the same bytes.
    Twice,
    /// Threads on real files.
    Threads,
    /// Processes on real files that are killed.
    Kill,
}

/// A word that names no campaign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no campaign `{0}`; there are sim, replay, twice, threads and kill")]
pub struct UnknownCampaign(pub String);

impl Campaign {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Sim,
        Self::Replay,
        Self::Twice,
        Self::Threads,
        Self::Kill,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sim => "sim",
            Self::Replay => "replay",
            Self::Twice => "twice",
            Self::Threads => "threads",
            Self::Kill => "kill",
        }
    }

    /// What its scenarios are made for.
    #[must_use]
    pub const fn flavour(self) -> Flavour {
        match self {
            Self::Sim | Self::Twice => Flavour::Simulated,
            Self::Replay => Flavour::Replayed,
            Self::Threads => Flavour::Threads,
            Self::Kill => Flavour::Killed,
        }
    }

    /// Whether a scenario comes to the same every time.
    #[must_use]
    pub const fn is_deterministic(self) -> bool {
        matches!(self, Self::Sim | Self::Replay | Self::Twice)
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Campaign {
    type Err = UnknownCampaign;

    fn from_str(text: &str) -> Result<Self, UnknownCampaign> {
        Self::ALL
            .into_iter()
            .find(|campaign| campaign.as_str() == text)
            .ok_or_else(|| UnknownCampaign(text.to_owned()))
    }
}

/// One seed of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The campaign.
    pub campaign: Campaign,
    /// The seed that everything is drawn from.
    pub seed: u64,
    /// Whether it has an expectation that must fail.
    pub canary: bool,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it is about.
    pub signature: Signature,
    /// What was said.
    pub message: String,
}

/// What a job came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The workload.
    pub workload: String,
    /// What failed, if anything did.
    pub failure: Option<Found>,
    /// Steps that were executed.
    pub steps: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Bytes that they wrote to pages.
    pub written_bytes: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Which steps met which conditions.
    pub coverage: Coverage,
    /// The scenario, where something failed.
    pub scenario: Option<String>,
}
