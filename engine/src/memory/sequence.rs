//! How a reader tells that bytes which it cannot lock did not change under it: a sequence lock of one word.
//!
//! The word is even while nothing changes, odd while something may, and moves on with each change. A reader takes the
//! word, looks at the bytes, and takes the word again: what it saw is of one moment if both are the same even number.
//! Whoever changes the bytes waits for nobody. There is one who changes them at a time; the lock of the page sees to that.

use crate::sync::atomic::{Ordering, fence};

/// The page was released, transferred or withdrawn: nothing will change any more. Odd, as are the other words that stay.
pub(crate) const GONE: u64 = u64::MAX;
/// The bus was closed.
pub(crate) const CLOSED: u64 = u64::MAX - 2;

/// The word, wherever it is.
pub(crate) trait Word {
    fn get(&self, order: Ordering) -> u64;
    fn put(&self, value: u64, order: Ordering);
}

impl Word for std::sync::atomic::AtomicU64 {
    #[inline]
    fn get(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn put(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

#[cfg(any(shuttle, loom))]
impl Word for crate::sync::atomic::AtomicU64 {
    fn get(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn put(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

/// From here on the bytes may change.
pub(crate) fn begin_change(word: &impl Word) {
    let now = word.get(Ordering::Relaxed);
    if now.is_multiple_of(2) {
        word.put(now + 1, Ordering::Relaxed);
    }
    // Whoever sees one of the writes that follow sees the odd word.
    fence(Ordering::Release);
}

/// They do not change any more. Does nothing where nothing was begun, and to a word that stays.
pub(crate) fn end_change(word: &impl Word) {
    let now = word.get(Ordering::Relaxed);
    if !now.is_multiple_of(2) && now < CLOSED {
        // Wrapping would take centuries; the words that stay are never reached by counting.
        word.put(now + 1, Ordering::Release);
    }
}

/// Puts one of the words that stay.
pub(crate) fn end_for_good(word: &impl Word, last: u64) {
    fence(Ordering::Release);
    word.put(last, Ordering::Release);
}

/// The word before looking at the bytes.
pub(crate) fn begin_read(word: &impl Word) -> u64 {
    // A relaxed load and a fence, as memory that cannot be written to allows no other load.
    let now = word.get(Ordering::Relaxed);
    fence(Ordering::Acquire);
    now
}

/// The word after looking at them.
pub(crate) fn end_read(word: &impl Word) -> u64 {
    // Whatever was read is read before the word is.
    fence(Ordering::Acquire);
    word.get(Ordering::Relaxed)
}

/// As [`end_for_good`], unless that was done before.
pub(crate) fn end_unless_ended(word: &impl Word, last: u64) {
    if word.get(Ordering::Relaxed) < CLOSED {
        end_for_good(word, last);
    }
}
