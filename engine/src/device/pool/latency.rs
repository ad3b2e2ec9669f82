//! Latencies, as whoever has a clock records them.

/// Buckets a doubling.
const FINE: u64 = 16;
const BUCKETS: usize = 976;

/// A histogram of latencies with buckets that are at most 1/16 wide, from 1 ns to centuries.
///
/// The engine reads no clock: whoever calls the pool measures and records.
///
/// ```
/// use mmsb_engine::device::pool::LatencyHistogram;
/// let mut latencies = LatencyHistogram::default();
/// for latency_ns in 1..=100 {
///     latencies.record(latency_ns);
/// }
/// assert_eq!(latencies.quantile(0.5), Some(50));
/// assert_eq!(latencies.count(), 100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyHistogram {
    counts: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            max_ns: 0,
        }
    }
}

impl LatencyHistogram {
    /// Counts one latency.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(latency_ns)) {
            *count += 1;
        }
        self.count += 1;
        self.max_ns = self.max_ns.max(latency_ns);
    }

    /// How many were recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    #[must_use]
    pub const fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The latency that the part `quantile` (0 to 1) of them do not exceed, in nanoseconds, at the lower end of its bucket.
    /// `None` if there are none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64)
            .ceil()
            .max(1.0) as u64;
        let mut below = 0;
        self.buckets().find_map(|(from_ns, count)| {
            below += count;
            (below >= rank).then_some(from_ns)
        })
    }

    /// The buckets that are not empty: the shortest latency of each, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (lower_end(bucket as u64), *count))
    }
}

const fn bucket_of(latency_ns: u64) -> usize {
    if latency_ns < 2 * FINE {
        return latency_ns as usize;
    }
    let shift = latency_ns.ilog2() - FINE.ilog2();
    (shift as u64 * FINE + (latency_ns >> shift)) as usize
}

const fn lower_end(bucket: u64) -> u64 {
    if bucket < 2 * FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    (bucket % FINE + FINE) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut before = 0;
        for latency_ns in (0..10_000).chain((14..64).map(|log| 1 << log)) {
            let bucket = bucket_of(latency_ns);
            assert!(bucket >= before && bucket < BUCKETS, "{latency_ns} ns");
            before = bucket;
            let lower = lower_end(bucket as u64);
            assert!(
                lower <= latency_ns && latency_ns - lower <= lower / FINE,
                "{latency_ns} ns is in the bucket from {lower}"
            );
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
