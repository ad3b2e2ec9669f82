//! How long things took.

use serde::{Deserialize, Serialize};

/// Parts that each doubling is cut into, so that a figure is off by an eighth at most.
const PARTS: u64 = 8;
const BUCKETS: usize = 64 * 8;

/// Counts of durations, a bucket for every eighth of a doubling. It takes the same memory however much it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Durations in each bucket, up to the last that has any.
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, ns: u64) {
        let at = bucket(ns);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len().min(BUCKETS), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The duration that so many of a million stay below, in nanoseconds; 0 if nothing was counted.
    #[must_use]
    pub fn quantile_ns(&self, per_million: u64) -> u64 {
        let wanted = (self.total * per_million).div_ceil(1_000_000).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_ns(at).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// How many were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The longest.
    #[must_use]
    pub const fn max_ns(&self) -> u64 {
        self.max_ns
    }
}

fn bucket(ns: u64) -> usize {
    let ns = ns.max(PARTS);
    let doubling = u64::from(ns.ilog2());
    let part = (ns >> (doubling - 3)) - PARTS;
    usize::try_from(doubling * PARTS + part).unwrap_or(BUCKETS - 1)
}

/// The first duration above a bucket.
fn upper_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (doubling, part) = (bucket / PARTS, bucket % PARTS);
    let low =
        (PARTS + part + 1).checked_shl(u32::try_from(doubling.saturating_sub(3)).unwrap_or(63));
    low.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_off_by_an_eighth_at_most() {
        let mut histogram = Histogram::default();
        for ns in 1..=100_000u64 {
            histogram.record(ns * 10);
        }
        for (per_million, exact) in [
            (500_000, 500_000u64),
            (990_000, 990_000),
            (999_900, 999_900),
        ] {
            let found = histogram.quantile_ns(per_million);
            assert!(
                found >= exact && found <= exact + exact / 7,
                "{found} for {exact}"
            );
        }
        assert_eq!(histogram.quantile_ns(1_000_000), 1_000_000);
        assert_eq!(histogram.max_ns(), 1_000_000);
    }

    #[test]
    fn two_added_are_one_that_counted_both() {
        let (mut one, mut two, mut both) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for ns in [0, 5, 900, 1 << 40] {
            one.record(ns);
            both.record(ns);
        }
        for ns in [7, u64::MAX] {
            two.record(ns);
            both.record(ns);
        }
        one.add(&two);
        assert_eq!(one, both);
        assert_eq!(Histogram::default().quantile_ns(500_000), 0);
    }
}
