//! Which scenario comes next.

use super::options::Shard;
use super::state::State;
use crate::campaign::{Campaign, Job};

/// The seed of the scenario with this number: a pure function of the text, the campaign and the number.
#[must_use]
pub fn seed(seed_from: &str, campaign: Campaign, number: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed_from.as_bytes());
    hasher.update(&[0]);
    hasher.update(campaign.as_str().as_bytes());
    hasher.update(&number.to_le_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    // Short enough to be read aloud, and to pass through JSON in any language.
    u64::from_le_bytes(first) >> 24
}

/// The number of the n-th scenario of a shard.
fn number(shard: Shard, nth: u64) -> u64 {
    (shard.number - 1) + nth * shard.of
}

/// A scenario that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which of its campaign it is in this shard.
    pub(super) nth: u64,
    pub(super) job: Job,
}

/// Gives out the next scenario of the campaign that had the least time so far.
pub(super) fn next(state: &mut State, campaigns: &[Campaign]) -> Option<Turn> {
    let campaign = campaigns.iter().copied().min_by(|one, other| {
        let time = |campaign: &Campaign| {
            let of = state.campaigns.get(campaign);
            // What is under way counts too, or a campaign of slow scenarios would take every worker at once.
            of.map_or(0.0, |of| of.busy_s + of.pending.len() as f64 * of.mean_s())
        };
        time(one).total_cmp(&time(other))
    })?;
    let (shard, seed_from, canary_every) =
        (state.shard, state.seed_from.clone(), state.canary_every);
    let of = state.campaigns.entry(campaign).or_default();
    let nth = match of.again.pop() {
        Some(nth) => nth,
        None => {
            of.next += 1;
            of.next - 1
        }
    };
    of.pending.insert(nth);
    let seed = seed(&seed_from, campaign, number(shard, nth));
    let canary = canary_every > 0 && seed.is_multiple_of(canary_every);
    Some(Turn {
        nth,
        job: Job {
            campaign,
            seed,
            canary,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::collections::BTreeSet;

    fn seeds(shard: Shard, count: usize) -> Vec<u64> {
        let mut state = State::new("text", shard, 0);
        (0..count)
            .map(|_| next(&mut state, &[Campaign::Sim]).unwrap().job.seed)
            .collect()
    }

    #[test]
    fn shards_together_have_the_seeds_of_one_and_each_seed_once() {
        let whole: BTreeSet<u64> = seeds(Shard::default(), 60).into_iter().collect();
        let parts: BTreeSet<u64> = (1..=3)
            .flat_map(|number| seeds(Shard { number, of: 3 }, 20))
            .collect();
        assert_eq!(whole.len(), 60);
        assert_eq!(whole, parts);
        assert_ne!(seed("a", Campaign::Sim, 0), seed("b", Campaign::Sim, 0));
        assert_ne!(seed("a", Campaign::Sim, 0), seed("a", Campaign::Kill, 0));
    }

    #[test]
    fn a_seed_of_a_text_never_changes() {
        assert_eq!(seed("0", Campaign::Sim, 0), GOLDEN);
    }

    const GOLDEN: u64 = 327_967_415_461;

    #[test]
    fn campaigns_get_the_same_time_and_canaries_come_now_and_then() {
        let mut state = State::new("text", Shard::default(), 10);
        let campaigns = [Campaign::Sim, Campaign::Kill];
        let mut canaries = 0;
        for _ in 0..1000 {
            let turn = next(&mut state, &campaigns).unwrap();
            let of = state.campaigns.get_mut(&turn.job.campaign).unwrap();
            of.pending.clear();
            of.scenarios += 1;
            of.busy_s += if turn.job.campaign == Campaign::Kill {
                9.0
            } else {
                1.0
            };
            canaries += usize::from(turn.job.canary);
        }
        assert!((60..140).contains(&canaries), "{canaries}");
        let count = |campaign| state.campaigns.get(&campaign).unwrap().scenarios;
        assert_eq!(count(Campaign::Sim), 9 * count(Campaign::Kill));
    }
}
