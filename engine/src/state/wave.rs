//! Waves: which pages are to be recomputed, and doing so under the stripes that are held.

use crate::planted::planted;
use std::ops::Range;

use super::State;
use super::exported::Exported;
use super::memory::{DEVICE_START, DeviceRuns};
use super::stripes::Exclusive;
use super::structure::Structure;
use crate::graph::{self, Graph, Node, StaleSet, WaveObserver, WaveScratch, WaveSummary};
use crate::options::Propagation;
use crate::page::{PageId, PageIndex};
use crate::sync::Mutex;

/// So many idle scratch buffers are kept.
const KEPT_SCRATCHES: usize = 4;

/// Changes of one stripe that a deferred wave may wait with.
const MAX_PENDING: usize = 64 * 1024;

/// What the lock of a stripe protects besides page contents.
#[derive(Debug, Default)]
pub(crate) struct StripeState {
    /// Changes that no wave has carried on yet.
    pub pending: Vec<(Node, Range<u64>)>,
    /// Derived pages of this stripe whose bytes mean nothing.
    pub stale: StaleSet,
    /// Pages of this stripe that other processes map.
    pub exported: Vec<Exported>,
}

/// Working memory of waves, used again.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool {
    idle: Mutex<Vec<WaveScratch>>,
}

impl ScratchPool {
    fn take(&self) -> WaveScratch {
        self.idle.lock().pop().unwrap_or_default()
    }

    fn give(&self, scratch: WaveScratch) {
        let mut idle = self.idle.lock();
        if idle.len() < KEPT_SCRATCHES {
            idle.push(scratch);
        }
    }
}

/// Moves the epochs of derived pages on, and tells their mirrors what changed. A page that is computed from one that is mirrored is on a
/// higher level, so it is computed after this was told.
struct Epochs<'a> {
    state: &'a State,
}

impl WaveObserver for Epochs<'_> {
    fn changed(&mut self, _node: Node, page: PageIndex, ranges: &[Range<u64>]) {
        if let Some(slot) = self.state.table.slot(page) {
            slot.set_epoch(slot.epoch() + 1);
            let mut mirror = DeviceRuns::default();
            for range in ranges.iter().filter(|_| !planted!(MirrorMissesWave)) {
                mirror.note_changed(self.state, page, slot, range.clone());
            }
        }
    }
}

impl State {
    /// Carries the changes that are pending in one locked stripe through the graph.
    pub(crate) fn run_stripe(&self, graph: &Graph, stripe: &mut StripeState) -> WaveSummary {
        if stripe.pending.is_empty() {
            return WaveSummary::default();
        }
        let mut scratch = self.scratch.take();
        // SAFETY: all pages of a connected component belong to one stripe, and the caller holds this
        // one exclusively: nobody else reads or writes any page that the wave can reach.
        let summary = unsafe {
            graph::run(
                graph,
                &self.page_memory(),
                &mut scratch,
                &stripe.pending,
                self.threads,
                &mut stripe.stale,
                &mut Epochs { state: self },
            )
        };
        stripe.pending.clear();
        self.scratch.give(scratch);
        summary
    }

    /// Carries what is pending in all locked stripes.
    pub(crate) fn run_pending(&self, graph: &Graph, locked: &mut Exclusive<'_, StripeState>) {
        for (_, stripe) in locked.iter_mut() {
            self.run_stripe(graph, stripe);
        }
        self.note_exported(graph, locked);
    }

    /// What a commit does after its writes: a wave, unless waves are deferred.
    pub(crate) fn after_writes(&self, graph: &Graph, locked: &mut Exclusive<'_, StripeState>) {
        if self.propagation == Propagation::Eager {
            return self.run_pending(graph, locked);
        }
        for (_, stripe) in locked.iter_mut() {
            if planted!(DeferredDropped) {
                stripe.pending.truncate(3);
            }
            // Nobody has read a derived page for long: what is pending must not grow without bound.
            if stripe.pending.len() >= MAX_PENDING {
                self.run_stripe(graph, stripe);
            }
        }
        self.note_exported(graph, locked);
    }

    /// After connections changed, with all stripes locked: newly derived pages are to be computed, and
    /// stale pages whose component moved are to be tried again under their new stripe.
    pub(crate) fn settle_graph(
        &self,
        structure: &Structure,
        locked: &mut Exclusive<'_, StripeState>,
        connected: &[PageId],
    ) {
        self.move_exported(locked);
        let graph = &structure.graph;
        let mut whole: Vec<Node> = connected
            .iter()
            .filter_map(|page| graph.node_of(page.index()))
            .collect();
        for (number, stripe) in locked.iter_mut() {
            let moved: Vec<Node> = stripe
                .stale
                .iter()
                .map(|(node, _)| node)
                .filter(|node| {
                    self.stripe_of(graph, *node) != Some(number) || !graph.is_derived(*node)
                })
                .collect();
            for node in moved {
                stripe.stale.clear(node);
                whole.push(node);
            }
        }
        for node in whole {
            let (Some(extent), Some(number)) = (graph.extent(node), self.stripe_of(graph, node))
            else {
                continue;
            };
            if let Some(stripe) = locked.get_mut(number) {
                stripe.pending.push((node, 0..extent.len));
            }
        }
    }

    /// Forgets what is noted of a page that is about to be freed. The caller holds its stripe.
    pub(crate) fn forget(
        &self,
        graph: &Graph,
        locked: &mut Exclusive<'_, StripeState>,
        page: PageId,
    ) {
        self.end_export(locked, page.index(), false);
        let Some(node) = graph.node_of(page.index()) else {
            return;
        };
        let Some(stripe) = self
            .table
            .slot(page.index())
            .and_then(|slot| locked.get_mut(slot.stripe()))
        else {
            return;
        };
        stripe.pending.retain(|(pending, _)| *pending != node);
        stripe.stale.clear(node);
    }

    /// Computes every derived page, parents first. For recovery, when nobody else knows of the state yet.
    pub(crate) fn recompute_all(&self) {
        let structure = self.structure.read();
        let graph = &structure.graph;
        let Ok(mut locked) = self.stripes.try_exclusive(super::stripes::StripeSet::ALL) else {
            return;
        };
        for node in graph.derived() {
            if let (Some(extent), Some(number)) = (graph.extent(node), self.stripe_of(graph, node))
                && let Some(stripe) = locked.get_mut(number)
            {
                stripe.pending.push((node, 0..extent.len));
            }
        }
        self.run_pending(graph, &mut locked);
    }

    /// Computes every derived page on the device, and those that were stale, after the device was filled anew. The caller
    /// holds all stripes.
    pub(crate) fn recompute_device(
        &self,
        structure: &Structure,
        locked: &mut Exclusive<'_, StripeState>,
    ) {
        let graph = &structure.graph;
        // What had been computed before comes to the same bytes, which is no change.
        let mut epochs = Vec::new();
        let awaiting: Vec<u32> = locked
            .iter_mut()
            .filter(|(_, stripe)| !stripe.pending.is_empty())
            .map(|(number, _)| number)
            .collect();
        for node in graph.derived() {
            let (Some(extent), Some(number)) = (graph.extent(node), self.stripe_of(graph, node))
            else {
                continue;
            };
            let Some(stripe) = locked.get_mut(number) else {
                continue;
            };
            let is_stale = stripe.stale.get(node).is_some();
            let is_awaiting = awaiting.contains(&number) && !planted!(RestoreForgetsWaves);
            // A change that was waiting may reach pages in host memory through one on the device, and what that was before, by which it would be
            // told whether it changes, is gone. So where anything was waiting all is computed.
            if extent.offset < DEVICE_START && !is_stale && !is_awaiting {
                continue;
            }
            if let Some(slot) = graph.page(node).and_then(|page| self.table.slot(page))
                && !is_stale
                && !is_awaiting
            {
                epochs.push((slot, slot.epoch()));
            }
            stripe.pending.push((node, 0..extent.len));
        }
        self.run_pending(graph, locked);
        for (slot, epoch) in epochs {
            slot.set_epoch(epoch);
        }
    }

    fn stripe_of(&self, graph: &Graph, node: Node) -> Option<u32> {
        Some(self.table.slot(graph.page(node)?)?.stripe())
    }
}
