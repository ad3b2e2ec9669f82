//! What happens inside of a simulated device.

use super::counters::SimulatedCounters;
use super::fault::{DeviceFaultKind, DeviceOperation, Plan};
use super::item::{Item, Label};
use super::queue::{LateUpload, QueueState};
use super::race::{Touched, pinned_overlap};
use super::random::Random;
use crate::device::granules::Granules;
use crate::device::layout::sum64;
use crate::device::pinned_heap::PinnedHeap;
use crate::device::reference::{self, PinnedUse, Space, invalid, pinned_use};
use crate::device::{DeviceError, Fence, Queue, Work};

/// At most so many pieces of one queue run before the other may have its turn.
const BURST: u64 = 3;

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: Random,
    pub(super) memory: Granules,
    pub(super) pinned: PinnedHeap,
    pub(super) plan: Plan,
    pub(super) counters: SimulatedCounters,
    /// Why nothing works any more.
    pub(super) failure: Option<DeviceError>,
    /// Whether a reset does not help either.
    pub(super) is_lost: bool,
    copy: QueueState,
    compute: QueueState,
}

const fn other(queue: Queue) -> Queue {
    match queue {
        Queue::Copy => Queue::Compute,
        Queue::Compute => Queue::Copy,
    }
}

impl State {
    pub(super) fn new(seed: u64, memory: Granules, pinned: PinnedHeap) -> Self {
        Self {
            random: Random::new(seed),
            memory,
            pinned,
            plan: Plan::default(),
            counters: SimulatedCounters::default(),
            failure: None,
            is_lost: false,
            copy: QueueState::default(),
            compute: QueueState::default(),
        }
    }

    pub(super) const fn queue(&self, queue: Queue) -> &QueueState {
        match queue {
            Queue::Copy => &self.copy,
            Queue::Compute => &self.compute,
        }
    }

    const fn queue_mut(&mut self, queue: Queue) -> &mut QueueState {
        match queue {
            Queue::Copy => &mut self.copy,
            Queue::Compute => &mut self.compute,
        }
    }

    /// What each call does first: nothing, if the device has failed; else what is late arrives, if it is due.
    pub(super) fn enter(&mut self) -> Result<(), DeviceError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.deliver();
        Ok(())
    }

    /// Lets the uploads arrive that are late, and due.
    fn deliver(&mut self) {
        for queue in Queue::ALL {
            let late = std::mem::take(&mut self.queue_mut(queue).late);
            let (due, not_due): (Vec<_>, Vec<_>) = late.into_iter().partition(|late| late.is_due);
            self.queue_mut(queue).late = not_due;
            for LateUpload { to, bytes, .. } in due {
                // Where there is no memory any more, nothing arrives.
                if let Ok(into) = self.memory.bytes_mut(&(to..to + bytes.len() as u64)) {
                    into.copy_from_slice(&bytes);
                }
            }
        }
    }

    /// Counts an operation, and fails if a fault strikes it and it fails at once.
    pub(super) fn strike(&mut self, on: DeviceOperation) -> Option<DeviceFaultKind> {
        let struck = self.plan.strike(on);
        self.counters.faults += u64::from(struck.is_some());
        struck
    }

    /// From now on everything fails like this.
    pub(super) fn fail(&mut self, error: DeviceError) -> DeviceError {
        self.is_lost |= matches!(error, DeviceError::Lost { .. });
        self.failure.get_or_insert(error).clone()
    }

    pub(super) fn check_fence(&self, fence: Fence) -> Result<(), DeviceError> {
        let submitted = self.queue(fence.queue).submitted;
        if fence.sequence > submitted {
            return Err(invalid(format!(
                "a fence after {} pieces of work in a queue that was given {submitted}",
                fence.sequence
            )));
        }
        Ok(())
    }

    pub(super) fn submit(&mut self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError> {
        let fault = self.strike(DeviceOperation::of(work));
        if let Some(error) = fault.and_then(|fault| fault.error(work.name()))
            && self.random.coin()
        {
            return Err(self.fail(error));
        }
        let waited = self.queue(other(queue)).waited;
        let mine = self.queue_mut(queue);
        mine.submitted += 1;
        let sequence = mine.submitted;
        let label = Label {
            name: work.name(),
            queue,
            sequence,
        };
        let after = mine.ordered;
        mine.learn(sequence, after.max(waited));
        let mut item = Item::new(label, work, after, mine.known_at(sequence));
        item.fault = fault;
        item.pinned_sum = match self.claim_pinned(work) {
            Ok(sum) => sum,
            Err(error) => return Err(self.fail(error)),
        };
        self.queue_mut(queue).pending.push_back(item);
        Ok(())
    }

    /// Takes the pinned memory of `work` over from the host. What work will write is poisoned, so that who reads it too early knows.
    /// Gives back the sum that the memory must still have when the work runs, or `None` if pending work may change it before.
    fn claim_pinned(&mut self, work: &Work<'_>) -> Result<Option<u64>, DeviceError> {
        let mut pending = self.copy.pending.iter().chain(&self.compute.pending);
        match pinned_use(work) {
            PinnedUse::None => Ok(None),
            PinnedUse::Read(slice) => {
                let part = self.pinned.part(slice)?;
                let changes = pending.any(|item| {
                    matches!(pinned_use(&item.work()), PinnedUse::Write(to) if pinned_overlap(to, slice))
                });
                // SAFETY: the memory belongs to the device until a later fence was waited for, and all its work runs under one lock.
                Ok((!changes).then(|| sum64(unsafe { part.bytes() })))
            }
            PinnedUse::Write(slice) => {
                let part = self.pinned.part(slice)?;
                let is_used = pending.any(|item| match pinned_use(&item.work()) {
                    PinnedUse::Write(used) | PinnedUse::Read(used) => pinned_overlap(used, slice),
                    PinnedUse::None => false,
                });
                if is_used {
                    return Ok(None);
                }
                // SAFETY: as above.
                let bytes = unsafe { part.bytes_mut() };
                self.random.poison(bytes);
                Ok(Some(sum64(bytes)))
            }
        }
    }

    pub(super) fn order(&mut self, queue: Queue, fence: Fence) -> Result<(), DeviceError> {
        self.check_fence(fence)?;
        if fence.queue != queue {
            let mine = self.queue_mut(queue);
            mine.ordered = mine.ordered.max(fence.sequence);
        }
        Ok(())
    }

    /// Runs until `fence` is reached, and what else the seed wants.
    pub(super) fn run_to(&mut self, fence: Fence) -> Result<(), DeviceError> {
        while self.queue(fence.queue).done < fence.sequence {
            self.run_burst()?;
        }
        while self.random.below(4) == 0 && self.has_pending() {
            self.run_burst()?;
        }
        Ok(())
    }

    /// Runs everything that was submitted, and lets arrive whatever is late.
    pub(super) fn run_all(&mut self) -> Result<(), DeviceError> {
        while self.has_pending() {
            self.run_burst()?;
        }
        for queue in Queue::ALL {
            let sequence = self.queue(queue).submitted;
            self.reported(Fence { queue, sequence });
        }
        self.deliver();
        Ok(())
    }

    fn has_pending(&self) -> bool {
        !(self.copy.pending.is_empty() && self.compute.pending.is_empty())
    }

    /// Runs some work of one queue.
    pub(super) fn run_burst(&mut self) -> Result<(), DeviceError> {
        let can_run = |queue| {
            let done = self.queue(other(queue)).done;
            let head = self.queue(queue).pending.front();
            head.is_some_and(|item| item.after <= done)
        };
        let queue = match (can_run(Queue::Copy), can_run(Queue::Compute)) {
            (true, true) if self.random.coin() => Queue::Copy,
            (true, false) => Queue::Copy,
            (_, true) => Queue::Compute,
            (false, false) => {
                return Err(self.fail(invalid("the queues wait for each other".to_owned())));
            }
        };
        for _ in 0..=self.random.below(BURST) {
            let done = self.queue(other(queue)).done;
            let mine = self.queue_mut(queue);
            let Some(item) = mine.pending.pop_front_if(|item| item.after <= done) else {
                break;
            };
            if let Err(error) = self.run(&item) {
                return Err(self.fail(error));
            }
            self.queue_mut(queue).done = item.label.sequence;
        }
        self.forget();
        Ok(())
    }

    /// Forgets what nothing that can still come races with.
    fn forget(&mut self) {
        for queue in Queue::ALL {
            let theirs = self.queue(other(queue));
            let known = match theirs.pending.front() {
                Some(item) => item.known,
                None => theirs
                    .ordered
                    .max(theirs.known_at(u64::MAX))
                    .max(self.queue(queue).waited),
            };
            self.queue_mut(queue).forget(known);
        }
    }

    fn run(&mut self, item: &Item) -> Result<(), DeviceError> {
        let work = item.work();
        if let Some(error) = item.fault.and_then(|fault| fault.error(work.name())) {
            return Err(error);
        }
        let touched = Touched::by(item, &self.memory)?;
        let theirs = &self.queue(other(item.label.queue)).touched;
        for earlier in theirs
            .iter()
            .filter(|other| other.label.sequence > item.known)
        {
            touched.race_with(earlier)?;
        }
        self.execute(item, &work)?;
        self.count(&work);
        self.queue_mut(item.label.queue).touched.push_back(touched);
        Ok(())
    }

    fn execute(&mut self, item: &Item, work: &Work<'_>) -> Result<(), DeviceError> {
        let changed_by_host = |bytes: &[u8]| item.pinned_sum.is_some_and(|sum| sum != sum64(bytes));
        let race = || {
            Err(invalid(format!(
                "race: the host wrote to the pinned memory of {} while it belonged to the device; \
                 wait for a later fence before",
                item.label
            )))
        };
        match pinned_use(work) {
            PinnedUse::None => reference::execute(&mut self.memory, work, &[], &mut []),
            PinnedUse::Read(slice) => {
                let part = self.pinned.part(slice)?;
                // SAFETY: the memory belongs to the device until a later fence was waited for: that is the contract of
                // `PinnedBuffer::bytes_mut`. All work of the device runs under one lock.
                let bytes = unsafe { part.bytes() };
                if changed_by_host(bytes) {
                    return race();
                }
                let is_late = item.fault == Some(DeviceFaultKind::Late);
                if let (true, Work::Upload { to, .. }) = (is_late, work) {
                    return self.put_off(item.label, *to, bytes);
                }
                reference::execute(&mut self.memory, work, bytes, &mut [])?;
                if let (Some(DeviceFaultKind::Corrupt), Work::Upload { to, .. }) =
                    (item.fault, work)
                {
                    let end = to + bytes.len() as u64;
                    flip(&mut self.random, self.memory.bytes_mut(&(*to..end))?);
                }
                Ok(())
            }
            PinnedUse::Write(slice) => {
                let part = self.pinned.part(slice)?;
                // SAFETY: as above.
                let bytes = unsafe { part.bytes_mut() };
                if changed_by_host(bytes) {
                    return race();
                }
                if item.fault == Some(DeviceFaultKind::Late) {
                    return Ok(());
                }
                reference::execute(&mut self.memory, work, &[], bytes)?;
                if item.fault == Some(DeviceFaultKind::Corrupt) {
                    flip(&mut self.random, bytes);
                }
                Ok(())
            }
        }
    }

    /// Keeps an upload for later.
    fn put_off(&mut self, label: Label, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let range = reference::range_at(to, bytes.len() as u64)?;
        self.memory.bytes(&range)?;
        self.queue_mut(label.queue).late.push(LateUpload {
            sequence: label.sequence,
            to,
            bytes: bytes.to_vec(),
            is_due: false,
        });
        Ok(())
    }

    const fn count(&mut self, work: &Work<'_>) {
        let counters = &mut self.counters;
        match work {
            Work::Upload { from, .. } => {
                counters.uploads += 1;
                counters.uploaded_bytes += from.len_bytes() as u64;
            }
            Work::Download { to, .. } => {
                counters.downloads += 1;
                counters.downloaded_bytes += to.len_bytes() as u64;
            }
            _ => counters.launches += 1,
        }
    }

    /// The host has been told that `fence` is reached.
    pub(super) fn reported(&mut self, fence: Fence) {
        // What was before it in the other queue need not be noted: whatever comes after it in this one knows of that by itself.
        let mine = self.queue_mut(fence.queue);
        mine.waited_for(fence.sequence);
        mine.reported(fence.sequence);
        self.forget();
    }

    /// Starts over.
    pub(super) fn reset(&mut self) {
        self.copy.give_up();
        self.compute.give_up();
        self.memory.unmap_all();
        self.failure = None;
        self.counters.resets += 1;
    }
}

/// Flips one bit.
fn flip(random: &mut Random, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    let bit = random.below(bytes.len() as u64 * 8);
    if let Some(byte) = usize::try_from(bit / 8)
        .ok()
        .and_then(|at| bytes.get_mut(at))
    {
        *byte ^= 1 << (bit % 8);
    }
}
