//! Which pages there are: allocation, ids, graph and metadata.
//!
//! Everything here is a pure function of the sequence of operations: positions in the page table are
//! reused last-freed-first, places in the arena are given by [`Placement`].

use crate::planted::planted;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::State;
use super::memory::{DEVICE_START, offset_at, place_of};
use super::table::{NO_NODE, PageFault, Slot};
use crate::graph::{Extent, Graph, Merged, Node, TransformRegistry};
use crate::log::TransformId;
use crate::log::record::Op;
use crate::lsn::Lsn;
use crate::memory::{History, Placement, PlacementError};
use crate::page::{Location, PageId, PageIndex};
use crate::transaction::TransactionError;

/// Places pages on the device.
#[cfg(feature = "gpu-allocator")]
pub(crate) type DevicePlacement = crate::device::pool::Pool;
/// Places pages on the device.
#[cfg(not(feature = "gpu-allocator"))]
pub(crate) type DevicePlacement = Placement;

/// From this length on a freed page's memory goes back to the operating system; below, the call would cost more than zeroing.
const DISCARD_BYTES: u64 = 64 * 1024;
/// The last generation of a position; the one after stands for ids that are still to be given.
const MAX_GENERATION: u32 = u32::MAX - 1;

/// What only the exclusive structure lock may change.
pub(crate) struct Structure {
    pub placement: Placement,
    /// Of pages on the device; of no capacity before there was one.
    pub device_placement: DevicePlacement,
    pub graph: Graph,
    pub transforms: TransformRegistry,
    pub metadata: BTreeMap<PageIndex, BTreeMap<String, Vec<u8>>>,
    /// Positions in the page table that are free again; the last one is used next.
    pub free: Vec<PageIndex>,
    /// Positions that were ever used.
    pub used: PageIndex,
    /// LSN of the last transaction that changed the structure.
    pub lsn: Lsn,
}

/// How to take back one operation of a transaction that fails later.
enum Undo {
    Allocate {
        page: PageId,
    },
    Transfer {
        old: PageId,
        dirty: u64,
    },
    Connect {
        child: Node,
        page: PageIndex,
    },
    Disconnect {
        epoch: u64,
        child: Node,
        transform: std::sync::Arc<dyn crate::graph::Transform>,
        parents: Vec<Node>,
    },
    Annotate {
        page: PageIndex,
        key: String,
        value: Option<Vec<u8>>,
    },
}

/// The operations that were applied, so that they can be taken back.
#[derive(Default)]
pub(crate) struct Journal {
    undo: Vec<Undo>,
    /// The counters of both allocators before the first allocation.
    history: Option<(History, History)>,
}

impl Structure {
    pub(crate) fn new(arena_bytes: u64, transforms: TransformRegistry) -> Self {
        Self {
            placement: Placement::new(arena_bytes),
            device_placement: DevicePlacement::new(0),
            graph: Graph::new(),
            transforms,
            metadata: BTreeMap::new(),
            free: Vec::new(),
            used: 0,
            lsn: Lsn::ZERO,
        }
    }
}

impl Structure {
    /// Gives back the place of a page.
    fn release(&mut self, offset: u64, len_bytes: u64) -> Result<(), PlacementError> {
        if offset >= DEVICE_START {
            return self.device_placement.release(place_of(offset), len_bytes);
        }
        self.placement.release(offset, len_bytes)
    }
}

/// Runs code of a transform. A panic in it refuses the transaction, which can then be taken back.
fn guarded<T>(page: PageId, run: impl FnOnce() -> T) -> Result<T, TransactionError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned());
        TransactionError::TransformPanicked {
            page,
            reason: reason.unwrap_or_default(),
        }
    })
}

/// Whether a position with this generation will never be used again.
pub(crate) const fn is_retired(generation: u32) -> bool {
    generation >= MAX_GENERATION
}

/// The stripe that a page has before the graph gives it another.
pub(crate) const fn home_stripe(index: PageIndex) -> u32 {
    index % super::stripes::STRIPES as u32
}

impl State {
    /// The slot of a live page, or why there is none.
    pub(crate) fn require(&self, page: PageId) -> Result<&Slot, TransactionError> {
        self.table
            .live(page)
            .ok_or_else(|| match self.table.explain(page) {
                PageFault::Stale => TransactionError::StalePage { page },
                PageFault::Unknown => TransactionError::UnknownPage { page },
            })
    }

    /// Allocates a page of zeros.
    pub(crate) fn allocate(
        &self,
        structure: &mut Structure,
        len_bytes: u64,
        location: Location,
        journal: &mut Journal,
    ) -> Result<PageId, TransactionError> {
        let index = match structure.free.last() {
            Some(index) => *index,
            None if structure.used < PageIndex::MAX => structure.used,
            None => return Err(TransactionError::TableFull),
        };
        let slot = self
            .table
            .slot_or_grow(index)
            .ok_or(TransactionError::TableFull)?;
        let history = structure.placement.history();
        let device_history = structure.device_placement.history();
        let offset = self.place(structure, len_bytes, location, index)?;
        journal.history.get_or_insert((history, device_history));
        if structure.free.pop().is_none() {
            structure.used += 1;
        }
        let raised = u32::from(!(planted!(GenerationNotRaised) && slot.generation() > 0));
        let page = PageId::new(index, slot.generation() + raised);
        self.arena.unpoison(offset, len_bytes as usize);
        slot.occupy(
            page.generation(),
            offset,
            len_bytes,
            location,
            home_stripe(index),
        );
        journal.undo.push(Undo::Allocate { page });
        Ok(page)
    }

    /// Finds room for a page at its location, and makes sure that there is memory.
    fn place(
        &self,
        structure: &mut Structure,
        len_bytes: u64,
        location: Location,
        index: PageIndex,
    ) -> Result<u64, TransactionError> {
        if location != Location::Device {
            return Ok(structure.placement.allocate(len_bytes)?);
        }
        if self.sink.is_none() {
            self.device_space()?.check()?;
        }
        let placement = &mut structure.device_placement;
        if placement.capacity_bytes() == 0 {
            *placement = DevicePlacement::new(self.device_pages_bytes().unwrap_or_default());
        }
        let place = placement.allocate(len_bytes)?;
        if let Err(error) = self.occupy_device(place..place + len_bytes, index) {
            // It was given a moment ago with this length.
            let _ = placement.release(place, len_bytes);
            return Err(error.into());
        }
        Ok(offset_at(location, place))
    }

    /// Notes the transaction that allocated these pages, once it has its LSN.
    pub(crate) fn note_births(&self, pages: &[PageId], lsn: Lsn) {
        for slot in pages.iter().filter_map(|page| self.table.live(*page)) {
            slot.set_born(lsn.0);
            if slot.offset() >= DEVICE_START
                && let Some(space) = self.device.get()
            {
                space.note_birth(place_of(slot.offset()));
            }
        }
    }

    /// Frees a page. Its memory is zeros afterwards, which is what the next page there starts with.
    /// The caller has checked that it is live and has no dependents, and holds its stripe.
    pub(crate) fn free(
        &self,
        structure: &mut Structure,
        page: PageId,
    ) -> Result<(), TransactionError> {
        let slot = self.require(page)?;
        if let Some(node) = node_of(&structure.graph, slot, page.index()) {
            structure.graph.remove(node)?;
        }
        structure.metadata.remove(&page.index());
        let (offset, len_bytes) = (slot.offset(), slot.len_bytes());
        let is_unified = slot.location() == Location::Unified;
        slot.vacate();
        // SAFETY: the caller holds the page's stripe exclusively and the slot is empty now, so no
        // reader has a reference to these bytes and none can get one. What is on the device, or of another arena because
        // this state is a shadow, is out of bounds, and zeroed when it is given to the next page.
        let _ = unsafe {
            if planted!(FreedPageNotZeroed) {
                Some(())
            } else if len_bytes >= DISCARD_BYTES {
                self.arena.discard(offset, len_bytes as usize)
            } else {
                self.arena.zero(offset, len_bytes as usize)
            }
        };
        self.arena.poison(offset, len_bytes as usize);
        self.vacate_device(offset);
        // Whatever its flag says: a mirror that was dropped has a place still.
        if is_unified && let Some(space) = self.device.get() {
            space.forget_mirror(page.index());
        }
        structure.release(offset, len_bytes)?;
        // A position whose generations are used up is retired, so that no id ever means two pages.
        if !is_retired(page.generation()) {
            structure.free.push(page.index());
        }
        Ok(())
    }

    /// Forgets a page that was at `offset`, if that is on the device.
    fn vacate_device(&self, offset: u64) {
        if offset >= DEVICE_START
            && let Some(space) = self.device.get()
        {
            space.vacate(place_of(offset));
        }
    }

    /// Gives a page the next generation.
    pub(crate) fn transfer(
        &self,
        page: PageId,
        journal: &mut Journal,
    ) -> Result<PageId, TransactionError> {
        let slot = self.require(page)?;
        if is_retired(page.generation()) {
            return Err(TransactionError::TableFull);
        }
        let new = PageId::new(page.index(), page.generation() + 1);
        slot.set_generation(new.generation());
        journal.undo.push(Undo::Transfer {
            old: page,
            dirty: slot.dirty(),
        });
        // Images of earlier checkpoints carry the old id, so the next one must hold the whole page.
        if !planted!(TransferKeepsImages) {
            slot.set_dirty(u64::MAX);
        }
        Ok(new)
    }

    /// Makes `child` derived. The caller holds all stripes.
    pub(crate) fn connect(
        &self,
        structure: &mut Structure,
        child: PageId,
        transform: &TransformId,
        parents: &[PageId],
        journal: &mut Journal,
    ) -> Result<(), TransactionError> {
        let transforms = &structure.transforms;
        let made = guarded(child, || {
            transforms.create(&transform.name, transform.version, &transform.params)
        })??;
        let child_node = self.node(structure, child)?;
        let parent_nodes = parents
            .iter()
            .map(|parent| self.node(structure, *parent))
            .collect::<Result<Vec<_>, _>>()?;
        // The graph asks the transform everything before it changes anything.
        let graph = &mut structure.graph;
        let merged = guarded(child, || graph.connect(child_node, made, &parent_nodes))??;
        self.after_connect(&merged, child.index());
        for parent in parents {
            self.require(*parent)?.set_has_children(true);
        }
        journal.undo.push(Undo::Connect {
            child: child_node,
            page: child.index(),
        });
        let slot = self.require(child)?;
        self.bring_to_derive(slot)?;
        slot.set_derived(true);
        Ok(())
    }

    /// All pages of a component share one stripe.
    fn after_connect(&self, merged: &Merged, child: PageIndex) {
        let stripe = merged.component.index() % super::stripes::STRIPES as u32;
        for index in merged.moved.iter().copied().chain([child]) {
            if let Some(slot) = self.table.slot(index) {
                slot.set_stripe(stripe);
            }
        }
    }

    /// Makes `child` an ordinary page. The caller holds all stripes.
    pub(crate) fn disconnect(
        &self,
        structure: &mut Structure,
        child: PageId,
        journal: &mut Journal,
    ) -> Result<(), TransactionError> {
        let slot = self.require(child)?;
        let node = node_of(&structure.graph, slot, child.index())
            .filter(|_| slot.is_derived())
            .ok_or(TransactionError::NotDerived { page: child })?;
        let derivation = structure.graph.disconnect(node)?;
        slot.set_derived(false);
        self.refresh_parents(structure, &derivation.parents);
        let epoch = slot.epoch();
        // Until now it counted waves, which no log records: from here on it counts transactions.
        slot.set_epoch(0);
        journal.undo.push(Undo::Disconnect {
            epoch,
            child: node,
            transform: derivation.transform,
            parents: derivation.parents,
        });
        Ok(())
    }

    /// Notes which of these pages still have children.
    fn refresh_parents(&self, structure: &Structure, parents: &[Node]) {
        for parent in parents {
            if let Some(slot) = structure
                .graph
                .page(*parent)
                .and_then(|page| self.table.slot(page))
            {
                let has_children = structure.graph.children(*parent).next().is_some();
                slot.set_has_children(has_children && !planted!(SiblingsForgotten));
            }
        }
    }

    pub(crate) fn annotate(
        &self,
        structure: &mut Structure,
        page: PageId,
        key: &str,
        value: Option<&[u8]>,
        journal: &mut Journal,
    ) -> Result<(), TransactionError> {
        self.require(page)?;
        let old = set_annotation(
            &mut structure.metadata,
            page.index(),
            key,
            value.map(<[u8]>::to_vec),
        );
        journal.undo.push(Undo::Annotate {
            page: page.index(),
            key: key.to_owned(),
            value: old,
        });
        Ok(())
    }

    /// The node of a page; it gets one when it is connected for the first time. Its stripe is that
    /// of its component from then on, so the caller holds all stripes.
    pub(crate) fn node(
        &self,
        structure: &mut Structure,
        page: PageId,
    ) -> Result<Node, TransactionError> {
        let slot = self.require(page)?;
        if let Some(node) = node_of(&structure.graph, slot, page.index()) {
            return Ok(node);
        }
        let extent = Extent {
            offset: slot.offset(),
            len: slot.len_bytes(),
        };
        let node = structure.graph.add_page(page.index(), extent)?;
        slot.set_node(node.index());
        if let Some(component) = structure.graph.component(node) {
            slot.set_stripe(component.index() % super::stripes::STRIPES as u32);
        }
        Ok(node)
    }

    /// Takes back what `journal` says, newest first.
    pub(crate) fn undo(&self, structure: &mut Structure, journal: Journal) {
        let history = journal.history;
        let mut connected = Vec::new();
        for undo in journal.undo.into_iter().rev() {
            match undo {
                Undo::Allocate { page } => self.undo_allocate(structure, page),
                Undo::Transfer { old, dirty } => {
                    if let Some(slot) = self.table.slot(old.index()) {
                        slot.set_generation(old.generation());
                        slot.set_dirty(dirty);
                    }
                }
                Undo::Connect { child, page } => {
                    if let Some(slot) = self.table.slot(page) {
                        slot.set_derived(false);
                        connected.push(page);
                    }
                    // It was connected a moment ago, so this cannot fail.
                    if let Ok(derivation) = structure.graph.disconnect(child) {
                        self.refresh_parents(structure, &derivation.parents);
                    }
                }
                Undo::Disconnect {
                    epoch,
                    child,
                    transform,
                    parents,
                } => {
                    let page = structure.graph.page(child);
                    if structure.graph.connect(child, transform, &parents).is_ok() {
                        self.refresh_parents(structure, &parents);
                        if let Some(slot) = page.and_then(|page| self.table.slot(page)) {
                            slot.set_derived(true);
                            slot.set_epoch(epoch);
                        }
                    }
                }
                Undo::Annotate { page, key, value } => {
                    set_annotation(&mut structure.metadata, page, &key, value);
                }
            }
        }
        for slot in connected
            .into_iter()
            .filter_map(|page| self.table.slot(page))
        {
            if slot.is_live() {
                self.note_derived(slot);
            }
        }
        if let Some((history, device_history)) = history {
            structure.placement.rewind(history);
            structure.device_placement.rewind(device_history);
        }
    }

    fn undo_allocate(&self, structure: &mut Structure, page: PageId) {
        let Some(slot) = self.table.slot(page.index()) else {
            return;
        };
        if let Some(node) = node_of(&structure.graph, slot, page.index()) {
            // Connections to it were taken back before.
            let _ = structure.graph.remove(node);
        }
        let (offset, len_bytes) = (slot.offset(), slot.len_bytes());
        slot.vacate();
        slot.set_generation(page.generation() - 1);
        self.arena.poison(offset, len_bytes as usize);
        self.vacate_device(offset);
        // It was allocated a moment ago with this length.
        let _ = structure.release(offset, len_bytes);
        // Only a position that was never used before has its first generation now.
        if page.generation() == 1 {
            structure.used -= 1;
        } else {
            structure.free.push(page.index());
        }
    }

    /// Applies an operation that the log has recorded. It must come to the ids that it came to then.
    pub(crate) fn replay_op(
        &self,
        structure: &mut Structure,
        op: &Op,
        lsn: Lsn,
    ) -> Result<(), ReplayFault> {
        let mut journal = Journal::default();
        let id = PageId::from_bits;
        match op {
            Op::Allocate {
                page,
                len_bytes,
                location,
            } => {
                let got = self.allocate(structure, *len_bytes, *location, &mut journal)?;
                self.note_births(&[got], lsn);
                expect_id(id(*page), got)
            }
            Op::Free { page } => Ok(self.free(structure, id(*page))?),
            Op::Transfer { old, new } => {
                let got = self.transfer(id(*old), &mut journal)?;
                expect_id(id(*new), got)
            }
            Op::Connect {
                child,
                transform,
                parents,
            } => {
                let parents: Vec<_> = parents.iter().copied().map(id).collect();
                Ok(self.connect(structure, id(*child), transform, &parents, &mut journal)?)
            }
            Op::Disconnect { child } => {
                let slot = self.require(id(*child))?;
                let epoch = slot.epoch();
                self.disconnect(structure, id(*child), &mut journal)?;
                self.note_derived(slot);
                if slot.lsn() >= lsn.0 {
                    // The image was taken after this, so its epoch counts from here already.
                    slot.set_epoch(epoch);
                }
                Ok(())
            }
            Op::Annotate { page, key, value } => {
                Ok(self.annotate(structure, id(*page), key, value.as_deref(), &mut journal)?)
            }
        }
    }
}

/// Why a recorded operation cannot be repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayFault {
    #[error(transparent)]
    Refused(#[from] TransactionError),
    #[error("page {recorded} was recorded, but the same operations now give page {got}")]
    Diverged { recorded: PageId, got: PageId },
}

fn expect_id(recorded: PageId, got: PageId) -> Result<(), ReplayFault> {
    if recorded == got {
        Ok(())
    } else {
        Err(ReplayFault::Diverged { recorded, got })
    }
}

fn node_of(graph: &Graph, slot: &Slot, page: PageIndex) -> Option<Node> {
    if slot.node() == NO_NODE {
        None
    } else {
        graph.node_of(page)
    }
}

fn set_annotation(
    metadata: &mut BTreeMap<PageIndex, BTreeMap<String, Vec<u8>>>,
    page: PageIndex,
    key: &str,
    value: Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    match value {
        Some(value) => metadata
            .entry(page)
            .or_default()
            .insert(key.to_owned(), value),
        None => {
            let of_page = metadata.get_mut(&page)?;
            let old = of_page.remove(key);
            if of_page.is_empty() {
                metadata.remove(&page);
            }
            old
        }
    }
}
