//! Locks, atomics and threads: the only way to them for code that runs while others commit and read.
//!
//! In an ordinary build these are `parking_lot`'s and `std`'s types themselves, re-exported: this module costs nothing. With
//! `--cfg shuttle` they are built on shuttle, with `--cfg loom` on loom: then each lock and each atomic access is a point at
//! which the explorer chooses who goes on (`ci/schedules`).
//!
//! What does not go through here: recovery and refill (their threads end before anybody else holds the bus, and are
//! ThreadSanitizer's business), devices and which of them are taken, [`crate::SteppingClock`] (the caller's world, not the engine), counters in statics, and tests.

#[cfg(any(shuttle, loom))]
mod model;
#[cfg(all(test, loom))]
mod orders;
#[cfg(all(test, shuttle))]
mod tiny;

#[cfg(not(any(shuttle, loom)))]
mod real {
    pub(crate) use std::sync::{OnceLock, atomic};
    pub(crate) use std::thread::scope;
    pub(crate) use std::thread_local;

    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    use std::io;
    use std::thread::{Builder, Scope, ScopedJoinHandle, park};

    /// Starts a thread that ends before `scope` does.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        name: &str,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)
    }

    /// Waits for ever, unless somebody wakes the thread: for planted bugs.
    pub(crate) fn hang() {
        park();
    }
}

#[cfg(any(shuttle, loom))]
pub(crate) use model::*;
#[cfg(not(any(shuttle, loom)))]
pub(crate) use real::*;
