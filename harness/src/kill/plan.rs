//! When a child is killed.
//!
//! A pure function of the seed and the number of the round, as far as the moment is concerned; what the child is doing then is
//! up to the machine. Delays are drawn so that every order of magnitude is equally likely.

use std::time::Duration;

use super::ledger::Phase;
use crate::world::Milestone;

/// From when on the delay counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// From the start of the process.
    Start,
    /// From when it begins to open the directory.
    Opening,
    /// From when it has caught up.
    Resumed,
    /// From so many commits later.
    Commits(u64),
    /// From the beginning of a checkpoint.
    Checkpoint,
}

/// When one child is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) moment: Moment,
    pub(super) delay: Duration,
}

/// No child runs longer than this on its directory.
pub(super) const LONGEST_RUN: Duration = Duration::from_secs(3);

impl Plan {
    /// The plan of a round.
    pub(super) fn of(seed: u64, round: u64) -> Self {
        let mut state = seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (kind, scale, commits) = (mix(&mut state), mix(&mut state), mix(&mut state));
        let within = |shortest_ns: u64, longest: Duration| {
            let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
            Duration::from_nanos(spread(scale, shortest_ns, longest_ns))
        };
        let (moment, delay) = match kind % 8 {
            0 => (Moment::Start, within(100_000, Duration::from_millis(100))),
            1 => (Moment::Opening, within(1_000, Duration::from_millis(10))),
            2 | 3 => (Moment::Checkpoint, within(1_000, Duration::from_millis(5))),
            4 => (Moment::Commits(spread(commits, 1, 10_000)), Duration::ZERO),
            _ => (Moment::Resumed, within(10_000, LONGEST_RUN)),
        };
        Self { moment, delay }
    }

    /// Whether the delay counts from this milestone on; `commits` is how many came before it.
    pub(super) fn begins_at(&self, milestone: &Milestone, commits: u64) -> bool {
        match (self.moment, milestone) {
            (Moment::Opening, Milestone::Opening)
            | (Moment::Resumed, Milestone::Resumed { .. })
            | (Moment::Checkpoint, Milestone::Checkpointing) => true,
            (Moment::Commits(wanted), Milestone::Committed { .. }) => commits + 1 >= wanted,
            _ => false,
        }
    }
}

impl Phase {
    /// The phase as a word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Opening => "opening",
            Self::CatchingUp => "catching up",
            Self::Committing => "committing",
            Self::Checkpointing => "checkpointing",
            Self::Closing => "closing",
        }
    }
}

/// A number from `from` to about `to`, every doubling equally likely.
fn spread(draw: u64, from: u64, to: u64) -> u64 {
    let doublings = u64::from((to / from.max(1)).max(1).ilog2());
    let scaled = from << (draw % (doublings + 1)).min(63);
    scaled.saturating_add((draw >> 32) % scaled.max(1)).min(to)
}

/// `SplitMix64`.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_a_function_of_seed_and_round_and_of_every_kind() {
        let plans: Vec<Plan> = (0..200).map(|round| Plan::of(7, round)).collect();
        let again: Vec<Plan> = (0..200).map(|round| Plan::of(7, round)).collect();
        assert_eq!(plans, again);
        assert_ne!(plans.first(), Some(&Plan::of(8, 0)));
        for wanted in [
            Moment::Start,
            Moment::Opening,
            Moment::Resumed,
            Moment::Checkpoint,
        ] {
            assert!(plans.iter().any(|plan| plan.moment == wanted), "{wanted:?}");
        }
        assert!(
            plans
                .iter()
                .any(|plan| matches!(plan.moment, Moment::Commits(_)))
        );
    }

    #[test]
    fn delays_are_spread_from_short_to_long() {
        let short = (0..1000).map(|draw| spread(mix(&mut draw.clone()), 1_000, 3_000_000_000));
        let delays: Vec<u64> = short.collect();
        assert!(
            delays
                .iter()
                .all(|delay| (1_000..=3_000_000_000).contains(delay))
        );
        assert!(delays.iter().filter(|delay| **delay < 100_000).count() > 100);
        assert!(delays.iter().filter(|delay| **delay > 100_000_000).count() > 100);
    }
}
