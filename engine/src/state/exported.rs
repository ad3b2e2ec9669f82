//! Pages that other processes map: which ones, and what their headers say.
//!
//! Readers in other processes know no locks. So whoever takes a stripe exclusively makes the words of the exported pages in it
//! odd before anything else, and even when it lets go ([`Contents`]): no way to change a page can be forgotten, as there
//! is none without its stripe.

use std::io;
use std::sync::atomic::Ordering;

use super::State;
use super::stripes::{Contents, Exclusive};
use super::table::Slot;
use super::wave::StripeState;
use crate::graph::Graph;
use crate::memory::exported::{BEHIND, ExportedMemory, FRESH, STALE};
use crate::memory::sequence;
use crate::page::{PageId, PageIndex};

/// A page that other processes map. It belongs to the stripe of its page.
#[derive(Debug)]
pub(crate) struct Exported {
    pub page: PageIndex,
    pub memory: ExportedMemory,
}

impl Contents for StripeState {
    fn begin_changes(&mut self) {
        for exported in &self.exported {
            sequence::begin_change(&exported.memory.header().sequence);
        }
    }

    fn end_changes(&mut self) {
        for exported in &self.exported {
            sequence::end_change(&exported.memory.header().sequence);
        }
    }
}

type Locked<'a> = Exclusive<'a, StripeState>;

impl State {
    /// Exports the page of `slot`, whose stripe is locked, unless it is.
    pub(crate) fn export<'a>(
        &self,
        graph: &Graph,
        locked: &'a mut Locked<'_>,
        page: PageId,
        slot: &Slot,
    ) -> io::Result<Option<&'a ExportedMemory>> {
        let number = slot.stripe();
        let Some(stripe) = locked.get_mut(number) else {
            return Ok(None);
        };
        let is_new = stripe.of(page.index()).is_none();
        if is_new {
            // SAFETY: the stripe is locked exclusively, so nobody refers to the bytes of the page.
            let memory = unsafe {
                self.arena
                    .export(slot.offset(), slot.len_bytes() as usize, page)?
            };
            sequence::begin_change(&memory.header().sequence);
            let page = page.index();
            stripe.exported.push(Exported { page, memory });
            self.stripes.exported.fetch_add(1, Ordering::Relaxed);
            self.note_exported(graph, locked);
        }
        let stripe = locked.get(number);
        Ok(stripe.and_then(|stripe| stripe.of(page.index()).map(|exported| &exported.memory)))
    }

    /// Ends the export of a page, if there is one: who maps it is told, and sees what was there last. The caller holds its stripe.
    pub(crate) fn end_export(&self, locked: &mut Locked<'_>, page: PageIndex, keep_bytes: bool) {
        if self.stripes.exported.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(slot) = self.table.slot(page) else {
            return;
        };
        let Some(stripe) = locked.get_mut(slot.stripe()) else {
            return;
        };
        let Some(at) = stripe.exported.iter().position(|one| one.page == page) else {
            return;
        };
        let ended = stripe.exported.swap_remove(at);
        self.stripes.exported.fetch_sub(1, Ordering::Relaxed);
        sequence::end_for_good(&ended.memory.header().sequence, sequence::GONE);
        // SAFETY: the stripe is locked exclusively, so nobody refers to the bytes of the page, and it was exported.
        let taken = unsafe {
            self.arena
                .take_back(slot.offset(), slot.len_bytes() as usize, keep_bytes)
        };
        // Then the page, and the next one in its place, still lie in memory that others map: they were told not to look,
        // and can write to it no more than before. It takes a system that has no memory left.
        debug_assert!(taken.is_ok(), "{taken:?}");
    }

    /// Moves exported pages to the stripes that their pages belong to now. The caller holds all stripes.
    pub(crate) fn move_exported(&self, locked: &mut Locked<'_>) {
        if self.stripes.exported.load(Ordering::Relaxed) == 0 {
            return;
        }
        let stripe_of = |page: PageIndex| self.table.slot(page).map(Slot::stripe);
        let mut moved = Vec::new();
        for (number, stripe) in locked.iter_mut() {
            let elsewhere = stripe
                .exported
                .extract_if(.., |one| stripe_of(one.page) != Some(number));
            moved.extend(elsewhere);
        }
        for exported in moved {
            let stripe = stripe_of(exported.page).and_then(|number| locked.get_mut(number));
            if let Some(stripe) = stripe {
                stripe.exported.push(exported);
            }
        }
    }

    /// Says in the headers of the exported pages of locked stripes what they hold now.
    #[inline]
    pub(crate) fn note_exported(&self, graph: &Graph, locked: &mut Locked<'_>) {
        if self.stripes.exported.load(Ordering::Relaxed) > 0 {
            self.write_headers(graph, locked);
        }
    }

    #[cold]
    fn write_headers(&self, graph: &Graph, locked: &mut Locked<'_>) {
        for (_, stripe) in locked.iter_mut() {
            for exported in &stripe.exported {
                let Some(slot) = self.table.slot(exported.page) else {
                    continue;
                };
                let is_stale = !stripe.stale.is_empty()
                    && graph
                        .node_of(exported.page)
                        .is_some_and(|node| stripe.stale.get(node).is_some());
                let condition = if is_stale {
                    STALE
                } else if slot.is_derived() && !stripe.pending.is_empty() {
                    BEHIND
                } else {
                    FRESH
                };
                let header = exported.memory.header();
                header.lsn.store(slot.lsn(), Ordering::Relaxed);
                header.epoch.store(slot.epoch(), Ordering::Relaxed);
                header.condition.store(condition, Ordering::Relaxed);
            }
        }
    }
}

impl StripeState {
    fn of(&self, page: PageIndex) -> Option<&Exported> {
        self.exported.iter().find(|one| one.page == page)
    }
}
