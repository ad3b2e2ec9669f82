//! Samples over time, in memory that does not grow.

use serde::{Deserialize, Serialize};

/// Samples at most; with more, every second one goes and samples are taken half as often.
const MAX_SAMPLES: usize = 1024;

/// One moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the beginning, breaks not counted, in seconds.
    pub at_s: f64,
    /// Steps until then.
    pub steps: u64,
    /// Scenarios until then.
    pub scenarios: u64,
    /// Resident memory of the runner itself, in bytes.
    pub own_rss_bytes: u64,
    /// Resident memory of the largest worker, in bytes.
    pub worker_rss_bytes: u64,
    /// The least that the worker which keeps most had between two scenarios, since the last sample, in bytes; 0 if it was not
    /// looked.
    #[serde(default)]
    pub resting_rss_bytes: u64,
    /// Open descriptors of the runner.
    pub descriptors: u64,
    /// Open descriptors of the worker that has most.
    #[serde(default)]
    pub worker_descriptors: u64,
}

/// Samples over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    interval_s: f64,
    samples: Vec<Sample>,
}

impl Series {
    /// A series that takes a sample every so many seconds at first.
    #[must_use]
    pub const fn new(interval_s: f64) -> Self {
        Self {
            interval_s,
            samples: Vec::new(),
        }
    }

    /// Whether it is time for the next sample.
    #[must_use]
    pub fn is_due(&self, at_s: f64) -> bool {
        self.samples
            .last()
            .is_none_or(|last| at_s - last.at_s >= self.interval_s)
    }

    /// Takes a sample.
    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
        if self.samples.len() >= MAX_SAMPLES {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.interval_s *= 2.0;
        }
    }

    /// All samples, in order.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_few_samples_from_all_of_it() {
        let mut series = Series::new(1.0);
        for second in 0..100_000u32 {
            let at_s = f64::from(second);
            if series.is_due(at_s) {
                series.push(Sample {
                    at_s,
                    ..Sample::default()
                });
            }
        }
        let samples = series.samples();
        assert!(samples.len() < MAX_SAMPLES && samples.len() > MAX_SAMPLES / 3);
        assert!(samples.first().is_some_and(|first| first.at_s < 1.0));
        assert!(samples.last().is_some_and(|last| last.at_s > 99_000.0));
    }
}
