//! Reading and writing the bytes of pages, under the locks of their stripes.

use crate::planted::planted;

use super::State;
use super::memory::DeviceRuns;
use super::stripes::{Exclusive, Held};
use super::table::Slot;
use super::wave::StripeState;
use crate::graph::{Graph, StaleReason};
use crate::log::format::Runs;
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::sync::RwLockReadGuard;

/// Proof that the stripe of a page is locked, shared.
pub(crate) type SharedLock<'a> = RwLockReadGuard<'a, StripeState>;

impl State {
    /// Locks the stripe of `page` shared and makes sure that the page is still there.
    pub(crate) fn lock_shared(&self, page: PageId) -> Option<(&Slot, SharedLock<'_>)> {
        let recursively = self.stripes.is_reader();
        if !recursively {
            self.stripes.pass();
        }
        loop {
            let slot = self.table.live(page)?;
            let stripe = slot.stripe();
            let lock = self.stripes.shared(stripe, recursively)?;
            // Between the look-up and the lock the page may have gone, or moved to another stripe.
            if !slot.holds(page.generation()) && !planted!(ReadNotCheckedAgain) {
                return None;
            }
            if slot.stripe() == stripe {
                return Some((slot, lock));
            }
        }
    }

    pub(crate) fn count_guard(&self) -> Held {
        Held::new(self.stripes.owner())
    }

    /// Applies the runs of a commit. The caller holds the stripes of all its pages exclusively and has
    /// checked every run, so none is refused here.
    pub(crate) fn write_runs(
        &self,
        graph: &Graph,
        locked: &mut Exclusive<'_, StripeState>,
        runs: Runs<'_>,
        lsn: Lsn,
    ) {
        let mut device_runs = DeviceRuns::default();
        for run in runs.flatten() {
            let Some(slot) = self.table.slot(run.page.index()) else {
                continue;
            };
            let len_bytes = run.bytes.len() as u64;
            // SAFETY: the caller holds the page's stripe exclusively, and checked the run against its length.
            let copied = unsafe { self.arena.copy_in(slot.offset() + run.offset, run.bytes) };
            if copied.is_none() {
                let written = device_runs.write(self, slot.offset() + run.offset, run.bytes);
                debug_assert!(written, "the table places a page outside of the arena");
            }
            if planted!(EpochNotMoved) && slot.has_children() {
                slot.set_lsn(lsn.0);
            } else {
                slot.touch(lsn.0);
            }
            slot.mark_dirty(run.offset, len_bytes);
            let range = run.offset..run.offset + len_bytes;
            if !planted!(MirrorNotMarked) {
                device_runs.note_changed(self, run.page.index(), slot, range);
            }
            if slot.has_children()
                && let Some(node) = graph.node_of(run.page.index())
                && let Some(stripe) = locked.get_mut(slot.stripe())
            {
                stripe
                    .pending
                    .push((node, run.offset..run.offset + len_bytes));
            }
        }
    }

    /// What keeps a page stale, if anything: the page whose transform failed, and why.
    pub(crate) fn stale_reason(
        &self,
        graph: &Graph,
        page: PageId,
        stripe: &StripeState,
    ) -> Option<(PageId, StaleReason)> {
        if stripe.stale.is_empty() {
            return None;
        }
        let stale = stripe.stale.get(graph.node_of(page.index())?)?;
        let origin = graph.page(stale.origin)?;
        let generation = self.table.slot(origin)?.generation();
        Some((PageId::new(origin, generation), stale.reason.clone()))
    }
}
