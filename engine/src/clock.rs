//! Time, given from outside: the engine reads no clock of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time that is written into new logs, segments and checkpoints.
///
/// Two runs of one workload with clocks that give the same answers write byte-identical files.
/// Time never decides anything in the engine: it is there for people who read a log.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970-01-01 UTC.
    fn now_unix_ns(&self) -> u64;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_unix_ns(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            })
    }
}

/// A clock that moves by a fixed step at each reading: the same sequence in every run.
///
/// ```
/// use mmsb_engine::{Clock, SteppingClock};
/// let clock = SteppingClock::new(1_000, 10);
/// assert_eq!((clock.now_unix_ns(), clock.now_unix_ns()), (1_000, 1_010));
/// ```
#[derive(Debug)]
pub struct SteppingClock {
    next_ns: AtomicU64,
    step_ns: u64,
}

impl SteppingClock {
    /// A clock whose first reading is `start_ns` and each later one `step_ns` more.
    #[must_use]
    pub const fn new(start_ns: u64, step_ns: u64) -> Self {
        Self {
            next_ns: AtomicU64::new(start_ns),
            step_ns,
        }
    }
}

impl Clock for SteppingClock {
    fn now_unix_ns(&self) -> u64 {
        self.next_ns.fetch_add(self.step_ns, Ordering::Relaxed)
    }
}
