//! Handles: what a caller holds in the place of a pointer, and the tables behind them.
//!
//! A handle is `kind:8 | generation:32 | slot:24`. The slot's generation moves on when the object is released, so every older
//! handle is told from the object that lives there now; a slot whose generations are used up is never given away again.
//! Slots never move, and a look-up takes no lock: one atomic operation to pin the object, one to let it go. A call that needs
//! the object alone (to change or release it) does not wait for others, nor they for it: whoever comes second is told `busy`.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::failure::{Failure, Outcome};
use crate::status;

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Bus = 1,
    Transaction = 2,
    View = 3,
    Events = 4,
    Registry = 5,
    Replay = 6,
    Shared = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Bus,
        Self::Transaction,
        Self::View,
        Self::Events,
        Self::Registry,
        Self::Replay,
        Self::Shared,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Transaction => "transaction",
            Self::View => "view",
            Self::Events => "events",
            Self::Registry => "registry",
            Self::Replay => "replay",
            Self::Shared => "shared page",
        }
    }

    fn of(handle: u64) -> Option<Self> {
        let code = handle >> KIND_SHIFT;
        Self::ALL.into_iter().find(|kind| *kind as u64 == code)
    }
}

const KIND_SHIFT: u32 = 56;
const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// In the low half of a slot's word: the object is there; somebody has it alone; how many share it.
const LIVE: u64 = 1 << 31;
const ALONE: u64 = 1 << 30;
const SHARED_MASK: u64 = ALONE - 1;

struct Slot<T> {
    /// `generation:32 | LIVE | ALONE | shared:30`
    word: AtomicU64,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is only reached through `Shared` (for `&T`) and `Alone` (for `&mut T`), of which the word allows several of
// the one or one of the other, and is moved between threads, so it is what a lock asks for.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// Chunk `n` has `FIRST_CHUNK << n` slots, so that together they are as many as a handle can name.
const FIRST_CHUNK_LOG2: u32 = 6;
const CHUNKS: usize = (SLOT_BITS - FIRST_CHUNK_LOG2) as usize;

#[derive(Default)]
struct Free {
    slots: Vec<u32>,
    used: u32,
}

/// All objects of one kind.
pub(crate) struct Table<T> {
    kind: Kind,
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    free: Mutex<Free>,
}

/// An object that others may use at the same time, for the length of a call.
pub(crate) struct Shared<'a, T> {
    word: &'a AtomicU64,
    value: &'a T,
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Shared<'_, T> {
    fn drop(&mut self) {
        self.word.fetch_sub(1, Ordering::Release);
    }
}

/// An object that nobody else uses, for the length of a call.
pub(crate) struct Alone<'a, T> {
    table: &'a Table<T>,
    index: u32,
    /// What to leave in the slot.
    word: u64,
    slot: &'a Slot<T>,
    value: &'a mut T,
}

impl<T> Deref for Alone<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Alone<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T> Drop for Alone<'_, T> {
    fn drop(&mut self) {
        // A plain store will do: nobody else changes the word of an object that is not shared.
        self.slot.word.store(self.word, Ordering::Release);
    }
}

impl<T> Alone<'_, T> {
    /// Ends the handle, and gives the object.
    pub(crate) fn remove(self) -> Option<T> {
        let (table, index, slot) = (self.table, self.index, self.slot);
        // The bit is let go below, together with the generation.
        std::mem::forget(self);
        // SAFETY: the word still says that this call has the object alone, and the reference to it is gone.
        let value = unsafe { (*slot.value.get()).take() };
        let generation = slot.word.load(Ordering::Relaxed) >> 32;
        let next = generation.wrapping_add(1) & 0xffff_ffff;
        slot.word.store(next << 32, Ordering::Release);
        if next != 0 {
            table.free.lock().slots.push(index);
        }
        value
    }
}

impl<T: Send + Sync> Table<T> {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            chunks: [const { OnceLock::new() }; CHUNKS],
            free: Mutex::new(Free {
                slots: Vec::new(),
                used: 0,
            }),
        }
    }

    /// Chunk and position in it of a slot.
    const fn place(index: u32) -> (usize, usize) {
        let position = index + (1 << FIRST_CHUNK_LOG2);
        let chunk = position.ilog2() - FIRST_CHUNK_LOG2;
        (
            chunk as usize,
            (position - (1 << (chunk + FIRST_CHUNK_LOG2))) as usize,
        )
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let (chunk, position) = Self::place(index);
        self.chunks.get(chunk)?.get()?.get(position)
    }

    /// A handle for `value`.
    pub(crate) fn insert(&self, value: T) -> Outcome<u64> {
        let mut free = self.free.lock();
        let index = match free.slots.pop() {
            Some(index) => index,
            None => {
                let index = free.used;
                let (chunk, _) = Self::place(index);
                let Some(chunk_slots) = self.chunks.get(chunk) else {
                    let message = format!("there are too many open {} handles", self.kind.name());
                    return Err(Failure::new(
                        status::MMSB_OUT_OF_SPACE,
                        "handle.full",
                        message,
                    ));
                };
                chunk_slots.get_or_init(|| {
                    let len = 1_usize << (chunk as u32 + FIRST_CHUNK_LOG2);
                    let fresh = || Slot {
                        word: AtomicU64::new(1 << 32),
                        value: UnsafeCell::new(None),
                    };
                    std::iter::repeat_with(fresh).take(len).collect()
                });
                free.used += 1;
                index
            }
        };
        drop(free);
        let slot = self
            .slot(index)
            .ok_or_else(|| Failure::state("the table of handles lost a slot"))?;
        // SAFETY: the slot is not live and was on no list but ours, so nobody reads its value.
        unsafe { *slot.value.get() = Some(value) };
        let generation = slot.word.load(Ordering::Relaxed) >> 32;
        slot.word
            .store((generation << 32) | LIVE, Ordering::Release);
        Ok(((self.kind as u64) << KIND_SHIFT) | (generation << SLOT_BITS) | u64::from(index))
    }

    #[inline]
    fn find(&self, handle: u64) -> Outcome<(&Slot<T>, u64)> {
        if handle >> KIND_SHIFT != self.kind as u64 {
            return Err(self.refuse_kind(handle));
        }
        let index = (handle & SLOT_MASK) as u32;
        let generation = (handle >> SLOT_BITS) & 0xffff_ffff;
        match self.slot(index) {
            Some(slot) => Ok((slot, (generation << 32) | LIVE)),
            None => Err(self.refuse_unknown(handle)),
        }
    }

    /// The object, for a call that does not change it.
    #[inline]
    pub(crate) fn share(&self, handle: u64) -> Outcome<Shared<'_, T>> {
        let (slot, wanted) = self.find(handle)?;
        let mut word = slot.word.load(Ordering::Relaxed);
        loop {
            if word & !SHARED_MASK != wanted {
                return Err(self.refuse(handle, word, wanted));
            }
            let pinned = slot.word.compare_exchange_weak(
                word,
                word + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match pinned {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // SAFETY: the word counts this use, so nobody has the object alone until `Shared` is dropped.
        let value = unsafe { (*slot.value.get()).as_ref() };
        match value {
            Some(value) => Ok(Shared {
                word: &slot.word,
                value,
            }),
            None => Err(self.refuse_unknown(handle)),
        }
    }

    /// The object, for a call that changes or releases it.
    #[inline]
    pub(crate) fn alone(&self, handle: u64) -> Outcome<Alone<'_, T>> {
        let (slot, wanted) = self.find(handle)?;
        if let Err(word) =
            slot.word
                .compare_exchange(wanted, wanted | ALONE, Ordering::Acquire, Ordering::Relaxed)
        {
            return Err(self.refuse(handle, word, wanted));
        }
        // SAFETY: the word says that this call has the object alone until `Alone` is dropped.
        let value = unsafe { (*slot.value.get()).as_mut() };
        match value {
            Some(value) => Ok(Alone {
                table: self,
                index: (handle & SLOT_MASK) as u32,
                word: wanted,
                slot,
                value,
            }),
            None => Err(self.refuse_unknown(handle)),
        }
    }

    /// Ends the handle, and gives the object.
    pub(crate) fn remove(&self, handle: u64) -> Outcome<T> {
        let removed = self.alone(handle)?.remove();
        removed.ok_or_else(|| self.refuse_unknown(handle))
    }

    #[cold]
    fn refuse(&self, handle: u64, word: u64, wanted: u64) -> Failure {
        let name = self.kind.name();
        if (word >> 32, word & LIVE) == (wanted >> 32, LIVE) {
            let message =
                format!("{name} {handle:#x} is in use by another call; let that return first");
            return Failure::new(status::MMSB_BUSY, "handle.busy", message);
        }
        if wanted >> 32 >= word >> 32 {
            return self.refuse_unknown(handle);
        }
        let message =
            format!("{name} {handle:#x} was released; release each handle once, and last");
        Failure::new(status::MMSB_INVALID_HANDLE, "handle.stale", message)
    }

    #[cold]
    fn refuse_unknown(&self, handle: u64) -> Failure {
        let message = format!("{handle:#x} was never the handle of a {}", self.kind.name());
        Failure::new(status::MMSB_INVALID_HANDLE, "handle.unknown", message)
    }

    #[cold]
    fn refuse_kind(&self, handle: u64) -> Failure {
        let name = self.kind.name();
        match Kind::of(handle) {
            Some(kind) => Failure::new(
                status::MMSB_WRONG_KIND,
                "handle.kind",
                format!(
                    "{handle:#x} is the handle of a {}, and this takes a {name}",
                    kind.name()
                ),
            ),
            None if handle == 0 => Failure::new(
                status::MMSB_INVALID_HANDLE,
                "handle.null",
                format!("the handle is zero, and this takes a {name}"),
            ),
            None => self.refuse_unknown(handle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of<T>(outcome: Outcome<T>) -> (i32, String) {
        let failure = outcome.err().unwrap();
        (failure.status, format!("{failure:?}"))
    }

    #[test]
    fn a_handle_is_good_once() {
        let table = Table::new(Kind::View);
        let first = table.insert(1).unwrap();
        assert_eq!(*table.share(first).unwrap(), 1);
        assert_eq!(table.remove(first).unwrap(), 1);
        let second = table.insert(2).unwrap();
        assert_eq!(
            first & SLOT_MASK,
            second & SLOT_MASK,
            "the slot is used again"
        );
        for stale in [table.share(first).map(drop), table.remove(first).map(drop)] {
            let (status, text) = status_of(stale);
            assert_eq!(status, status::MMSB_INVALID_HANDLE);
            assert!(text.contains("handle.stale"), "{text}");
        }
        assert_eq!(*table.share(second).unwrap(), 2);
    }

    #[test]
    fn nobody_waits() {
        let table = Table::new(Kind::Bus);
        let handle = table.insert(()).unwrap();
        let shared = table.share(handle).unwrap();
        assert!(table.share(handle).is_ok());
        assert_eq!(status_of(table.alone(handle)).0, status::MMSB_BUSY);
        drop(shared);
        let alone = table.alone(handle).unwrap();
        assert_eq!(status_of(table.share(handle)).0, status::MMSB_BUSY);
        assert_eq!(status_of(table.alone(handle)).0, status::MMSB_BUSY);
        drop(alone);
        assert!(table.remove(handle).is_ok());
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let table = Table::new(Kind::Bus);
        let handle = table.insert(()).unwrap();
        let other = handle & !(0xff << KIND_SHIFT) | (Kind::View as u64) << KIND_SHIFT;
        assert_eq!(status_of(table.share(other)).0, status::MMSB_WRONG_KIND);
        for guess in [
            0,
            u64::MAX,
            handle + 1,
            handle + (1 << SLOT_BITS),
            handle | SLOT_MASK,
        ] {
            let (status, text) = status_of(table.share(guess));
            assert_eq!(status, status::MMSB_INVALID_HANDLE, "{guess:#x} {text}");
        }
    }

    #[test]
    fn many_at_once() {
        let table = Table::new(Kind::View);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let table = &table;
                scope.spawn(move || {
                    let handles: Vec<u64> = (0..500)
                        .map(|n| table.insert(thread * 1000 + n).unwrap())
                        .collect();
                    for (n, handle) in handles.into_iter().enumerate() {
                        assert_eq!(table.remove(handle).unwrap(), thread * 1000 + n as u64);
                        assert!(table.remove(handle).is_err());
                    }
                });
            }
        });
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_stays_empty() {
        let table = Table::new(Kind::View);
        let handle = table.insert(1).unwrap();
        let slot = table.slot(0).unwrap();
        slot.word
            .store((0xffff_ffff << 32) | LIVE, Ordering::Relaxed);
        let last = (handle & !(0xffff_ffff << SLOT_BITS)) | (0xffff_ffff << SLOT_BITS);
        assert_eq!(table.remove(last).unwrap(), 1);
        let next = table.insert(2).unwrap();
        assert_eq!(next & SLOT_MASK, 1, "another slot");
    }
}
