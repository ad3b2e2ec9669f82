//! Reading and writing the bytes of pages, under the locks of their stripes.

use parking_lot::RwLockReadGuard;

use super::State;
use super::stripes::{Exclusive, Held};
use super::table::Slot;
use super::wave::StripeState;
use crate::graph::{Graph, StaleReason};
use crate::log::format::{MalformedRun, Runs};
use crate::log::record::Record;
use crate::lsn::Lsn;
use crate::page::PageId;

/// Proof that the stripe of a page is locked, shared.
pub(crate) type SharedLock<'a> = RwLockReadGuard<'a, StripeState>;

/// Why a record cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyFault {
    #[error(transparent)]
    Malformed(#[from] MalformedRun),
    #[error("it writes to page {page}, which does not exist at this point")]
    NoPage { page: PageId },
    #[error("it writes {offset}..{end} of page {page}, which has {page_len_bytes} bytes")]
    OutOfRange {
        page: PageId,
        offset: u64,
        end: u64,
        page_len_bytes: u64,
    },
}

impl State {
    /// The bytes of a page.
    ///
    /// # Safety
    /// The caller holds the stripe of the page, and keeps it for as long as the reference lives.
    pub(crate) unsafe fn bytes(&self, slot: &Slot) -> &[u8] {
        // SAFETY: nobody writes to the page while the caller holds its stripe.
        unsafe { self.arena.bytes(slot.offset(), slot.len_bytes() as usize) }.unwrap_or_default()
    }

    /// Locks the stripe of `page` shared and makes sure that the page is still there.
    pub(crate) fn lock_shared(&self, page: PageId) -> Option<(&Slot, SharedLock<'_>)> {
        let recursively = super::stripes::held(self.stripes.owner()) > 0;
        if !recursively {
            self.stripes.pass();
        }
        loop {
            let slot = self.table.live(page)?;
            let stripe = slot.stripe();
            let lock = self.stripes.shared(stripe, recursively)?;
            // Between the look-up and the lock the page may have gone, or moved to another stripe.
            if !slot.holds(page.generation()) {
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
        for run in runs.flatten() {
            let Some(slot) = self.table.slot(run.page.index()) else {
                continue;
            };
            let len_bytes = run.bytes.len() as u64;
            // SAFETY: the caller holds the page's stripe exclusively, and checked the run against its length.
            let copied = unsafe { self.arena.copy_in(slot.offset() + run.offset, run.bytes) };
            debug_assert!(
                copied.is_some(),
                "the table places a page outside of the arena"
            );
            slot.touch(lsn.0);
            slot.mark_dirty(run.offset, len_bytes);
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

    /// Applies the runs of a record from the log to the pages of one shard of `shards`.
    ///
    /// Pages that a checkpoint brought are newer than some records: those are passed over. A record with
    /// the very LSN of the page is applied again, which changes nothing.
    ///
    /// # Safety
    /// Nobody else reads or writes the pages of this shard meanwhile.
    pub(crate) unsafe fn apply_record(
        &self,
        record: &Record<'_>,
        shard: u32,
        shards: u32,
    ) -> Result<(), ApplyFault> {
        for run in Runs::new(record.stream, record.run_count) {
            let run = run?;
            let index = run.page.index();
            if shards > 1 && index % shards != shard {
                continue;
            }
            let slot = self
                .table
                .live(run.page)
                .ok_or(ApplyFault::NoPage { page: run.page })?;
            let end = run.offset + run.bytes.len() as u64;
            if end > slot.len_bytes() {
                return Err(ApplyFault::OutOfRange {
                    page: run.page,
                    offset: run.offset,
                    end,
                    page_len_bytes: slot.len_bytes(),
                });
            }
            if record.lsn.0 < slot.lsn() {
                continue;
            }
            // SAFETY: the range is inside the page, and the caller keeps everybody else away from it.
            let copied = unsafe { self.arena.copy_in(slot.offset() + run.offset, run.bytes) };
            debug_assert!(
                copied.is_some(),
                "the table places a page outside of the arena"
            );
            slot.touch(record.lsn.0);
            slot.mark_dirty(run.offset, run.bytes.len() as u64);
        }
        Ok(())
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
