//! The same types on an explorer of schedules, with the semantics of the real ones.
//!
//! Of the explorer only a mutex, a condition variable, atomics and threads are used. The reader-writer lock is built from these as
//! `parking_lot` builds its own: a writer that waits keeps new readers out, and recursive ones too once no reader is left.
//! shuttle's own lock has no such order, and calls a thread that reads twice a deadlock.
#![allow(
    clippy::panic,
    reason = "a model that contradicts itself must not go on"
)]

use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};

#[cfg(loom)]
use loom as explorer;
#[cfg(shuttle)]
use shuttle as explorer;

pub(crate) use explorer::sync::MutexGuard;
pub(crate) use explorer::sync::atomic;
#[cfg(shuttle)]
pub(crate) use shuttle::thread_local;

use atomic::{AtomicBool, Ordering};

#[cfg(shuttle)]
pub(crate) use shuttle::thread::scope;
// loom has no scoped threads: what starts any is not explored with it.
#[cfg(loom)]
pub(crate) use std::thread::scope;

#[cfg(shuttle)]
use shuttle::thread::{Scope, ScopedJoinHandle};
#[cfg(loom)]
use std::thread::{Scope, ScopedJoinHandle};

/// Starts a thread that ends before `scope` does.
pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    _name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
    Ok(scope.spawn(work))
}

/// Waits for ever: for planted bugs.
pub(crate) fn hang() {
    explorer::thread::park();
}

/// loom's macro knows no `const` initialisers.
#[cfg(loom)]
macro_rules! loom_thread_local {
    ($(#[$attr:meta])* static $name:ident: $Type:ty = const { $init:expr };) => {
        loom::thread_local! { $(#[$attr])* static $name: $Type = $init; }
    };
}
#[cfg(loom)]
pub(crate) use loom_thread_local as thread_local;

/// A mutex without poisoning.
#[derive(Debug)]
pub(crate) struct Mutex<T>(explorer::sync::Mutex<T>);

impl<T> Mutex<T> {
    #[cfg(shuttle)]
    pub(crate) const fn new(value: T) -> Self {
        Self(explorer::sync::Mutex::new(value))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self(explorer::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    // Planted bugs alone ask this.
    #[cfg_attr(not(mmsb_planted), allow(dead_code))]
    pub(crate) fn is_locked(&self) -> bool {
        self.try_lock().is_none()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Who holds a reader-writer lock.
#[derive(Debug, Default)]
struct Holders {
    readers: usize,
    /// A writer holds the lock, or waits for the last reader to go.
    is_claimed: bool,
}

/// A reader-writer lock without poisoning.
#[derive(Debug)]
pub(crate) struct RwLock<T> {
    holders: Mutex<Holders>,
    changed: explorer::sync::Condvar,
    /// Never waited for: `holders` says who may have it.
    value: std::sync::RwLock<T>,
}

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            holders: Mutex::default(),
            changed: explorer::sync::Condvar::new(),
            value: std::sync::RwLock::new(value),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.read_when(|holders| !holders.is_claimed)
    }

    pub(crate) fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        self.read_when(|holders| !holders.is_claimed || holders.readers > 0)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        let holders = self.wait(self.holders.lock(), |holders| !holders.is_claimed);
        let mut holders = holders;
        holders.is_claimed = true;
        drop(self.wait(holders, |holders| holders.readers == 0));
        self.written()
    }

    /// Time does not pass in a schedule: it tries once, and lets others go on.
    pub(crate) fn try_write_for(&self, _: std::time::Duration) -> Option<RwLockWriteGuard<'_, T>> {
        let guard = self.try_write();
        if guard.is_none() {
            explorer::thread::yield_now();
        }
        guard
    }

    pub(crate) fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let mut holders = self.holders.lock();
        if holders.is_claimed || holders.readers > 0 {
            return None;
        }
        holders.is_claimed = true;
        drop(holders);
        Some(self.written())
    }

    fn wait<'a>(
        &'a self,
        mut holders: MutexGuard<'a, Holders>,
        until: impl Fn(&Holders) -> bool,
    ) -> MutexGuard<'a, Holders> {
        while !until(&holders) {
            holders = self
                .changed
                .wait(holders)
                .unwrap_or_else(PoisonError::into_inner);
        }
        holders
    }

    fn read_when(&self, may_enter: impl Fn(&Holders) -> bool) -> RwLockReadGuard<'_, T> {
        let mut holders = self.wait(self.holders.lock(), may_enter);
        holders.readers += 1;
        drop(holders);
        match self.value.try_read() {
            Ok(value) => RwLockReadGuard {
                value,
                _leave: Leave {
                    holders: &self.holders,
                    changed: &self.changed,
                    is_writer: false,
                },
            },
            Err(TryLockError::Poisoned(_)) => panic!("a writer panicked"),
            Err(TryLockError::WouldBlock) => panic!("a reader came in beside a writer"),
        }
    }

    fn written(&self) -> RwLockWriteGuard<'_, T> {
        match self.value.try_write() {
            Ok(value) => RwLockWriteGuard {
                value,
                _leave: Leave {
                    holders: &self.holders,
                    changed: &self.changed,
                    is_writer: true,
                },
            },
            Err(TryLockError::Poisoned(_)) => panic!("a writer panicked"),
            Err(TryLockError::WouldBlock) => panic!("a writer came in beside others"),
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Leaves a lock when it is dropped, after the value has been let go of.
#[derive(Debug)]
struct Leave<'a> {
    holders: &'a Mutex<Holders>,
    changed: &'a explorer::sync::Condvar,
    is_writer: bool,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut holders = self.holders.lock();
        if self.is_writer {
            holders.is_claimed = false;
        } else {
            holders.readers -= 1;
        }
        drop(holders);
        self.changed.notify_all();
    }
}

/// A shared lock.
#[derive(Debug)]
pub(crate) struct RwLockReadGuard<'a, T> {
    // Dropped in this order.
    value: std::sync::RwLockReadGuard<'a, T>,
    _leave: Leave<'a>,
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// An exclusive lock.
#[derive(Debug)]
pub(crate) struct RwLockWriteGuard<'a, T> {
    // Dropped in this order.
    value: std::sync::RwLockWriteGuard<'a, T>,
    _leave: Leave<'a>,
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A value that is set once. Its lock and its flag belong to the explorer; the value itself is nobody's race.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    setting: Mutex<()>,
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            setting: Mutex::new(()),
            is_set: AtomicBool::new(false),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // A point of choice, and what orders the reader behind who set it.
        self.is_set.load(Ordering::Acquire);
        self.value.get()
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let setting = self.setting.lock();
        if self.value.get().is_none() {
            let _ = self.value.set(make());
            self.is_set.store(true, Ordering::Release);
        }
        drop(setting);
        match self.value.get() {
            Some(value) => value,
            None => panic!("a value that was set is gone"),
        }
    }
}
