//! Replaying a trace against an allocator, and measuring.

use std::time::Instant;

use mmsb_engine::device::pool::LatencyHistogram;

use super::backend::{Backend, Refused};
use super::trace::{Event, Trace};

/// An event that an allocator refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Position of the event in the trace, from 0.
    pub event: usize,
    /// Length of the allocation, in bytes.
    pub len_bytes: u64,
    /// What the allocator said.
    pub reason: String,
}

/// What replaying came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Replayed {
    /// Name of the backend.
    pub backend: &'static str,
    /// Median over the repeats of the time of the whole trace, divided by its events, in nanoseconds.
    pub ns_per_event: f64,
    /// Latencies of single events, from one more pass; each includes reading a clock twice.
    pub latencies: LatencyHistogram,
    /// Allocations that were refused in one pass. Their frees are left out.
    pub failures: u64,
    /// The first of them.
    pub first_failure: Option<Failure>,
}

/// A handle that stands for an allocation that was refused.
const NONE: u64 = u64::MAX;

/// Replays `trace` `repeats` times (at least once) against fresh allocators that `make` makes, and once more event by event.
///
/// # Errors
/// When an allocator fails at something else than an allocation.
pub fn replay(
    trace: &Trace,
    repeats: u32,
    make: &dyn Fn() -> Box<dyn Backend>,
) -> Result<Replayed, Refused> {
    let mut handles = vec![NONE; trace.allocations() as usize];
    let mut times = Vec::new();
    for _ in 0..repeats.max(1) {
        let mut backend = make();
        let start = Instant::now();
        for event in trace.events() {
            // What is refused is told by the last pass.
            let _ = step(&mut *backend, &mut handles, event)?;
        }
        backend.settle()?;
        times.push(start.elapsed().as_nanos() as f64);
    }
    times.sort_unstable_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();

    let mut backend = make();
    let mut replayed = Replayed {
        backend: backend.name(),
        ns_per_event: median / trace.events().len().max(1) as f64,
        latencies: LatencyHistogram::default(),
        failures: 0,
        first_failure: None,
    };
    for (number, event) in trace.events().iter().enumerate() {
        let start = Instant::now();
        let outcome = step(&mut *backend, &mut handles, event)?;
        let elapsed = start.elapsed().as_nanos();
        replayed
            .latencies
            .record(u64::try_from(elapsed).unwrap_or(u64::MAX));
        if let (Some(Refused(reason)), Event::Allocate { len_bytes, .. }) = (outcome, *event) {
            replayed.failures += 1;
            replayed.first_failure.get_or_insert(Failure {
                event: number,
                len_bytes,
                reason,
            });
        }
    }
    Ok(replayed)
}

/// Replays one event; the refusal of an allocation, if it was refused.
#[inline]
fn step(
    backend: &mut dyn Backend,
    handles: &mut [u64],
    event: &Event,
) -> Result<Option<Refused>, Refused> {
    match *event {
        Event::Allocate { number, len_bytes } => {
            let allocated = backend.allocate(len_bytes);
            if let Some(handle) = handles.get_mut(number as usize) {
                *handle = allocated.as_ref().map_or(NONE, |handle| *handle);
            }
            Ok(allocated.err())
        }
        Event::Free { number, len_bytes } => {
            let handle = handles.get(number as usize).copied().unwrap_or(NONE);
            if handle != NONE {
                backend.release(handle, len_bytes)?;
            }
            Ok(None)
        }
    }
}
