//! Filling a device from the log, at the speed of the copy: nothing but the bytes of its pages is looked at.
//!
//! `walk` finds the records, `prepare` reads and checks them in pinned memory and makes the tables that a kernel applies,
//! `submit` gives them to the device in the order of the log. With several threads, one walks, one submits and the
//! others prepare; a slot of pinned memory goes round among them. With one, the same happens in turn.
//!
//! It takes the log as it should be: intact, from the birth of every page on. Whatever is not so ends it, and
//! the caller goes the slow way, which is a recovery, and knows what to say. So nothing is judged here that is judged there.
//!
//! Invariant: payloads are not copied on the host. They are read from the file to where the device takes them from, and applied
//! from where it put them.

mod prepare;
mod submit;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::Builder;

use crate::device::{DeviceError, PinnedBuffer};
use crate::log::discover::LogMap;
use crate::lsn::Lsn;
use crate::page::{PageId, PageIndex};
use crate::state::State;
use crate::state::device::Pipe;
use crate::state::memory::{DEVICE_START, place_of};
use crate::storage::Storage;
use prepare::{Prepared, prepare};
use submit::Submitter;
use walk::{Job, Walker};

/// Length of a slot, if the stage has room for enough of them. Giving one to the device takes some ten calls of its driver, so it is not short; reading, checking and summing
/// go through it step by step.
///
/// Somewhat more than 2 MiB, so that records of 4 MiB, which many writers make, take two and not three.
const SLOT_BYTES: usize = 9 << 18;
/// A shorter one would hold few records, and their tables.
const MIN_SLOT_BYTES: usize = 512 << 10;
/// With fewer slots than these everybody waits for everybody.
const ENOUGH_SLOTS: usize = 14;

/// Why the log was not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// This is not for here.
    #[error("{0}")]
    Irregular(&'static str),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What is to be read.
pub(crate) struct Source<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) map: &'a LogMap,
    /// The state, whose structure does not change meanwhile.
    pub(crate) state: &'a State,
    /// Its last LSN, which the log holds.
    pub(crate) last_lsn: Lsn,
    /// LSN of the first record that is needed.
    pub(crate) first_lsn: Lsn,
    /// Threads that prepare, from 1.
    pub(crate) workers: usize,
    /// The positions of the pages that are filled, where these are not all that are on the device.
    pub(crate) wanted: Option<&'a BTreeSet<PageIndex>>,
}

impl Source<'_> {
    /// Where on the device a run of a record goes, if its page is one that is filled from the log. A position of the page table
    /// has one page from the birth of that on, whatever ids it had meanwhile.
    fn place(
        &self,
        page: PageId,
        lsn: Lsn,
        offset: u64,
        len_bytes: u64,
    ) -> Result<Option<u64>, Stop> {
        let is_wanted = self
            .wanted
            .is_none_or(|wanted| wanted.contains(&page.index()));
        let slot = self.state.table.slot(page.index()).filter(|slot| {
            is_wanted
                && slot.is_live()
                && slot.offset() >= DEVICE_START
                && !slot.is_derived()
                && lsn.0 >= slot.born()
        });
        let Some(slot) = slot else {
            return Ok(None);
        };
        if offset + len_bytes > slot.len_bytes() || page.generation() > slot.generation() {
            return Err(Stop::Irregular("a run does not fit its page"));
        }
        Ok(Some(place_of(slot.offset()) + offset))
    }
}

/// A part of the pinned memory that one thread at a time has.
struct Slot<'a> {
    start: usize,
    len_bytes: usize,
    pinned: &'a PinnedBuffer,
}

impl Slot<'_> {
    /// Its bytes.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: a slot exists once, is given from hand to hand, and comes back only when the device is done with it.
        unsafe { self.pinned.bytes_mut(self.range()) }.unwrap_or_default()
    }

    /// Where it is in pinned memory.
    fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len_bytes
    }
}

/// Applies the log to the device, whose pages are all zeros. Gives the number of records read.
pub(crate) fn fill(source: &Source<'_>, pipe: &Pipe<'_>) -> Result<u64, Stop> {
    let fair = pipe.len_bytes() / ENOUGH_SLOTS;
    let len_bytes = fair.clamp(MIN_SLOT_BYTES, SLOT_BYTES) & !4095;
    let count = pipe.len_bytes() / len_bytes;
    if count == 0 {
        return Err(Stop::Irregular("the stage is too short"));
    }
    let slots = (0..count).map(|position| Slot {
        start: position * len_bytes,
        len_bytes,
        pinned: pipe.pinned(),
    });
    let mut submitter = Submitter::new(pipe, count);
    let mut walker = Walker::new(source, len_bytes)?;
    if source.workers <= 1 {
        return fill_in_turn(source, &mut walker, &mut submitter, slots.collect());
    }
    fill_together(source, walker, &mut submitter, slots.collect())
}

fn fill_in_turn<'a>(
    source: &Source<'_>,
    walker: &mut Walker<'_>,
    submitter: &mut Submitter<'_, 'a>,
    mut free: Vec<Slot<'a>>,
) -> Result<u64, Stop> {
    free.reverse();
    loop {
        while let Some(slot) = submitter.take_back(free.is_empty())? {
            free.insert(0, slot);
        }
        let mut slot = free.pop().ok_or(Stop::Irregular("no slot came back"))?;
        let Some(job) = walker.next(slot.bytes())? else {
            submitter.finish()?;
            return Ok(walker.records());
        };
        let prepared = prepare(source, job, slot.bytes())?;
        if let Some(slot) = submitter.submit(slot, prepared)? {
            free.push(slot);
        }
    }
}

/// So many times somebody who waits asks before it sleeps, some hundreds of microseconds. Being woken takes tens of microseconds where the processor is virtual, which is as long as
/// a slot takes, and nobody waits longer than a slot or two while the log is read at full speed.
const ASKS: u32 = 150;

const NO_THREAD: &str = "no thread can be had";

fn thread(name: &str) -> Builder {
    Builder::new().name(name.to_owned())
}

/// The next message; `None` when there will be none.
fn receive<T>(from: &Receiver<T>) -> Option<T> {
    for _ in 0..ASKS {
        for _ in 0..64 {
            match from.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
            }
        }
        // Others may have no processor of their own.
        std::thread::yield_now();
    }
    from.recv().ok()
}

/// Results in the order of their jobs.
struct Ordered<'a> {
    results: Receiver<(u64, Slot<'a>, Result<Prepared, Stop>)>,
    early: BTreeMap<u64, (Slot<'a>, Result<Prepared, Stop>)>,
    next: u64,
}

impl<'a> Ordered<'a> {
    fn next(&mut self) -> Option<(Slot<'a>, Result<Prepared, Stop>)> {
        loop {
            if let Some(result) = self.early.remove(&self.next) {
                self.next += 1;
                return Some(result);
            }
            let (number, slot, result) = receive(&self.results)?;
            self.early.insert(number, (slot, result));
        }
    }
}

fn fill_together<'a>(
    source: &Source<'_>,
    mut walker: Walker<'_>,
    submitter: &mut Submitter<'_, 'a>,
    slots: Vec<Slot<'a>>,
) -> Result<u64, Stop> {
    // A slot that is free goes to the walker, which hands it on with a job, to the workers in turn.
    let (give_free, take_free) = channel();
    let (give_result, results) = channel();
    for slot in slots {
        let _ = give_free.send(slot);
    }
    std::thread::scope(|scope| {
        let mut give_jobs = Vec::new();
        for _ in 0..source.workers {
            let (give_job, take_job) = channel::<(u64, Slot<'a>, Job)>();
            let give_result = give_result.clone();
            let started = thread("mmsb-refill").spawn_scoped(scope, move || {
                while let Some((number, mut slot, job)) = receive(&take_job) {
                    let result = prepare(source, job, slot.bytes());
                    if give_result.send((number, slot, result)).is_err() {
                        return;
                    }
                }
            });
            // Where no more threads can be had the others take its share.
            if started.is_err() {
                break;
            }
            give_jobs.push(give_job);
        }
        drop(give_result);
        if give_jobs.is_empty() {
            return Err(Stop::Irregular(NO_THREAD));
        }
        let walking = thread("mmsb-walk").spawn_scoped(scope, move || {
            for (number, give_job) in (0..).zip(give_jobs.iter().cycle()) {
                let Some(mut slot) = receive(&take_free) else {
                    break;
                };
                let Some(job) = walker.next(slot.bytes())? else {
                    break;
                };
                if give_job.send((number, slot, job)).is_err() {
                    break;
                }
            }
            // The workers end when they have done what is left, and then the submitter does.
            Ok(walker.records())
        });
        let walking = walking.map_err(|_| Stop::Irregular(NO_THREAD))?;
        let mut ordered = Ordered {
            results,
            early: BTreeMap::new(),
            next: 0,
        };
        let submitted = submit_all(submitter, &mut ordered, &give_free);
        // Whoever waits for a slot, or for somebody to take a result, goes home.
        drop((give_free, ordered));
        let walked = walking
            .join()
            .unwrap_or(Err(Stop::Irregular("the walker panicked")));
        submitted.and(walked)
    })
}

fn submit_all<'a>(
    submitter: &mut Submitter<'_, 'a>,
    ordered: &mut Ordered<'a>,
    give_free: &std::sync::mpsc::Sender<Slot<'a>>,
) -> Result<(), Stop> {
    while let Some((slot, result)) = ordered.next() {
        if let Some(slot) = submitter.submit(slot, result?)? {
            let _ = give_free.send(slot);
        }
        let must = submitter.holds_most();
        while let Some(slot) = submitter.take_back(must && submitter.holds_most())? {
            let _ = give_free.send(slot);
        }
    }
    submitter.finish()
}
