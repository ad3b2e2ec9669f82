//! From a gathered transaction to a place in the order.

use crate::planted::planted;
use std::collections::BTreeSet;

use super::builder::PROVISIONAL_GENERATION;
use super::{Intent, NewPage, PageRef, Transaction, TransactionError};
use crate::checksum::crc32c;
use crate::codec;
use crate::event::Event;
use crate::log::Durability;
use crate::log::compression::{Packed, pack};
use crate::log::format::{
    LARGE_RUN_BYTES, MAX_OPS_BYTES, RECORD_ALIGN_BYTES, RUN_HEAD_BYTES, Runs, align_up,
    encode_run_head, rename_pages, run_position,
};
use crate::log::record::Op;
use crate::log::writer::RecordParts;
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::state::State;
use crate::state::stripes::{Exclusive, Patience, StripeSet};
use crate::state::structure::{Journal, Structure, home_stripe};
use crate::state::wave::StripeState;

/// What a commit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// Its place in the order.
    pub lsn: Lsn,
    /// The ids of the pages that it allocated, in the order of the calls.
    pub allocated: Vec<PageId>,
    /// The old and the new id of each page that it transferred.
    pub transferred: Vec<(PageId, PageId)>,
}

impl Commit {
    /// The id of a page that the transaction allocated.
    #[must_use]
    pub fn page(&self, page: NewPage) -> Option<PageId> {
        self.allocated.get(page.ordinal as usize).copied()
    }

    /// The new id of a page that the transaction transferred.
    #[must_use]
    pub fn transferred(&self, old: PageId) -> Option<PageId> {
        self.transferred
            .iter()
            .find_map(|(from, to)| (*from == old).then_some(*to))
    }
}

type Locked<'a> = Exclusive<'a, StripeState>;

/// What the structural part of a transaction came to.
#[derive(Default)]
struct Resolved {
    ops: Vec<Op>,
    allocated: Vec<PageId>,
    transferred: Vec<(PageId, PageId)>,
    connected: Vec<PageId>,
    disconnected: Vec<PageId>,
    freed: Vec<PageId>,
}

impl Resolved {
    fn resolve(&self, page: PageId) -> Option<PageId> {
        if page.generation() == PROVISIONAL_GENERATION {
            return self.allocated.get(page.index() as usize).copied();
        }
        self.transferred
            .iter()
            .find_map(|(from, to)| (*from == page).then_some(*to))
    }

    fn of(&self, page: PageRef) -> Result<PageId, TransactionError> {
        match page {
            PageRef::New(new) => self.allocated.get(new.ordinal as usize).copied().ok_or(
                TransactionError::ForeignNewPage {
                    ordinal: new.ordinal,
                },
            ),
            PageRef::Existing(page) => Ok(self.resolve(page).unwrap_or(page)),
        }
    }
}

impl Transaction<'_> {
    pub(super) fn run_commit(
        &mut self,
        durability: Durability,
    ) -> Result<Commit, TransactionError> {
        let guards = crate::state::stripes::held(self.bus.state().stripes.owner());
        if guards > 0 {
            return Err(TransactionError::GuardHeld { guards });
        }
        let commit = if self.intents.is_empty() {
            self.commit_writes()?
        } else {
            self.commit_structure()?
        };
        let log = self.bus.log();
        let reached = match durability {
            // Its own append may have met the error.
            Durability::Memory => log.check(),
            Durability::Buffered => log.flush(commit.lsn),
            Durability::Sync => log.sync(commit.lsn),
        };
        match reached {
            Ok(()) => Ok(commit),
            Err(cause) => Err(TransactionError::InDoubt {
                commit: Box::new(commit),
                cause,
            }),
        }
    }

    /// The common case: nothing but writes. Runs in parallel with every commit of other stripes.
    fn commit_writes(&mut self) -> Result<Commit, TransactionError> {
        let bus = self.bus;
        let state = bus.state();
        let packed = self.pack();
        let ops = EncodedOps::default();
        let parts = self.parts(&ops, packed.as_ref());
        let mut patience = Patience::new(&state.stripes);
        loop {
            let structure = state.structure.read();
            let stripes = self.check_runs(state)?;
            let mut locked = match state.stripes.try_exclusive(stripes) {
                Ok(locked) => locked,
                Err(busy) => {
                    drop(structure);
                    state.stripes.refuse_detached(busy)?;
                    patience.wait_for(busy);
                    continue;
                }
            };
            let mut event = self.event(&Resolved::default());
            let late = if planted!(PublishedTooLate) {
                event.take()
            } else {
                None
            };
            let lsn = bus.log().append(&parts, |lsn| bus.publish(event, lsn))?;
            bus.publish(late, lsn);
            if planted!(LetsGoBeforeApplying) {
                drop(locked);
                locked = lock_again(state, stripes);
            }
            state.write_runs(&structure.graph, &mut locked, self.runs(), lsn);
            state.after_writes(&structure.graph, &mut locked);
            return Ok(Commit {
                lsn,
                allocated: Vec::new(),
                transferred: Vec::new(),
            });
        }
    }

    /// A transaction that changes which pages there are: excludes all others while it runs.
    fn commit_structure(&mut self) -> Result<Commit, TransactionError> {
        let bus = self.bus;
        let state = bus.state();
        let mut patience = Patience::new(&state.stripes);
        loop {
            let mut structure = state.structure.write();
            let stripes = self.structural_stripes(state, &structure)?;
            match state.stripes.try_exclusive(stripes) {
                Ok(mut locked) => return self.commit_locked(state, &mut structure, &mut locked),
                Err(busy) => {
                    drop(structure);
                    state.stripes.refuse_detached(busy)?;
                    patience.wait_for(busy);
                }
            }
        }
    }

    fn commit_locked(
        &mut self,
        state: &State,
        structure: &mut Structure,
        locked: &mut Locked<'_>,
    ) -> Result<Commit, TransactionError> {
        let bus = self.bus;
        if self.changes_graph() {
            // Nodes may change their stripe: nothing must be pending under the old one.
            state.run_pending(&structure.graph, locked);
        }
        let mut journal = Journal::default();
        let kept_runs = (self.stream.len(), self.run_count, self.has_large_run);
        let result = self
            .apply_intents(state, structure, locked, &mut journal)
            .and_then(|resolved| {
                let ops = encode_ops(&resolved.ops)?;
                let event = self.event(&resolved);
                let packed = self.pack();
                let parts = self.parts(&ops, packed.as_ref());
                let lsn = bus.log().append(&parts, |lsn| bus.publish(event, lsn))?;
                Ok((resolved, lsn))
            });
        let (resolved, lsn) = match result {
            Ok(done) => done,
            Err(error) => {
                state.undo(structure, journal);
                if self.changes_graph() {
                    // Components that were joined stay joined, so stale pages may have moved all the same.
                    state.settle_graph(structure, locked, &[]);
                    state.run_pending(&structure.graph, locked);
                }
                self.stream.truncate(kept_runs.0);
                (self.run_count, self.has_large_run) = (kept_runs.1, kept_runs.2);
                return Err(error);
            }
        };
        structure.lsn = lsn;
        state.note_births(&resolved.allocated, lsn);
        if self.changes_graph() {
            state.settle_graph(structure, locked, &resolved.connected);
        }
        state.write_runs(&structure.graph, locked, self.runs(), lsn);
        state.after_writes(&structure.graph, locked);
        for slot in resolved
            .disconnected
            .iter()
            .filter_map(|page| state.table.live(*page))
        {
            state.note_derived(slot);
        }
        for (_, page) in &resolved.transferred {
            // Who has the old id has no business with the page any more.
            state.end_export(locked, page.index(), true);
        }
        for page in resolved.freed {
            state.forget(&structure.graph, locked, page);
            // Everything that could refuse it was checked before the record was written.
            let freed = state.free(structure, page);
            debug_assert!(freed.is_ok(), "{freed:?}");
        }
        Ok(Commit {
            lsn,
            allocated: resolved.allocated,
            transferred: resolved.transferred,
        })
    }

    fn runs(&self) -> Runs<'_> {
        Runs::new(&self.stream, self.run_count)
    }

    /// The stream compressed, if the bus was opened so and it is worth it.
    fn pack(&self) -> Option<Packed> {
        let log = self.bus.log();
        (log.takes_compressed()).then(|| pack(&self.stream))?
    }

    fn parts<'a>(&'a self, ops: &'a EncodedOps, packed: Option<&'a Packed>) -> RecordParts<'a> {
        let stream = packed.map_or(self.stream.as_slice(), Packed::bytes);
        let body_crc = if stream.is_empty() {
            crc32c(&ops.bytes)
        } else if ops.bytes.is_empty() {
            crc32c(stream)
        } else {
            // Rare enough, and short, that one buffer for the checksum is simpler than combining two.
            let mut body = Vec::with_capacity(ops.bytes.len() + stream.len());
            body.extend_from_slice(&ops.bytes);
            body.extend_from_slice(stream);
            crc32c(&body)
        };
        RecordParts {
            ops: &ops.bytes,
            ops_bytes: ops.len_bytes,
            stream,
            is_compressed: packed.is_some(),
            run_count: self.run_count,
            body_crc,
            has_large_run: self.has_large_run && packed.is_none(),
        }
    }

    /// Checks every run again, as the pages are now, and says which stripes they need.
    fn check_runs(&self, state: &State) -> Result<StripeSet, TransactionError> {
        let mut stripes = StripeSet::default();
        for run in self.runs().flatten() {
            if run.page.generation() == PROVISIONAL_GENERATION {
                continue;
            }
            let slot = state.require(run.page)?;
            if slot.is_derived() && self.intents.is_empty() {
                return Err(TransactionError::DerivedPage { page: run.page });
            }
            state.check_device(slot)?;
            stripes.insert(slot.stripe());
        }
        Ok(stripes)
    }

    fn changes_graph(&self) -> bool {
        self.intents
            .iter()
            .any(|intent| matches!(intent, Intent::Connect { .. } | Intent::Disconnect { .. }))
    }

    /// Connecting moves whole components to other stripes, so it takes all; everything else takes those of its pages.
    fn structural_stripes(
        &self,
        state: &State,
        structure: &Structure,
    ) -> Result<StripeSet, TransactionError> {
        let mut stripes = self.check_runs(state)?;
        if self.changes_graph() {
            return Ok(StripeSet::ALL);
        }
        for intent in &self.intents {
            if let Intent::Free { page } | Intent::Transfer { page } = intent {
                stripes.insert(state.require(*page)?.stripe());
            }
        }
        // Somebody may guess the id of a page that is just being made.
        let reused = structure.free.iter().rev().copied();
        let fresh = structure.used..;
        for index in reused.chain(fresh).take(self.new_lens.len()) {
            stripes.insert(home_stripe(index));
        }
        Ok(stripes)
    }

    /// Applies the intents in the order that [`Transaction`] documents, all but the frees, which are only checked.
    fn apply_intents(
        &mut self,
        state: &State,
        structure: &mut Structure,
        locked: &mut Locked<'_>,
        journal: &mut Journal,
    ) -> Result<Resolved, TransactionError> {
        let mut resolved = Resolved::default();
        for intent in &self.intents {
            if let Intent::Allocate {
                len_bytes,
                location,
            } = intent
            {
                let page = state.allocate(structure, *len_bytes, *location, journal)?;
                resolved.allocated.push(page);
                resolved.ops.push(Op::Allocate {
                    page: page.to_bits(),
                    len_bytes: *len_bytes,
                    location: *location,
                });
            }
        }
        let mut kept = Vec::new();
        let intents = std::mem::take(&mut self.intents);
        let applied = intents.iter().try_for_each(|intent| {
            apply_one(
                state,
                structure,
                locked,
                journal,
                intent,
                &mut resolved,
                &mut kept,
            )
        });
        self.intents = intents;
        applied?;
        if !(resolved.allocated.is_empty() && resolved.transferred.is_empty()) {
            let renamed = rename_pages(&mut self.stream, self.run_count, |page| {
                resolved.resolve(page)
            });
            debug_assert!(renamed.is_ok(), "{renamed:?}");
        }
        self.check_written(state)?;
        self.check_frees(state, structure, &mut resolved)?;
        for page in kept {
            // It may have been transferred after it was disconnected.
            let page = resolved.resolve(page).unwrap_or(page);
            // One that was connected anew has its bytes from its new parents.
            if !state.require(page)?.is_derived() {
                self.keep_bytes(state, page)?;
                resolved.disconnected.push(page);
            }
        }
        Ok(resolved)
    }

    /// A page that was written to may have become derived in this very transaction.
    fn check_written(&self, state: &State) -> Result<(), TransactionError> {
        for run in self.runs().flatten() {
            if state.require(run.page)?.is_derived() {
                return Err(TransactionError::DerivedPage { page: run.page });
            }
        }
        Ok(())
    }

    /// Checks that every page to free can be, and orders them so that no page goes before its dependents.
    fn check_frees(
        &self,
        state: &State,
        structure: &Structure,
        resolved: &mut Resolved,
    ) -> Result<(), TransactionError> {
        let mut given_up: BTreeSet<PageId> =
            resolved.transferred.iter().map(|(old, _)| *old).collect();
        let mut frees = Vec::new();
        for intent in &self.intents {
            if let Intent::Free { page } = intent {
                if !given_up.insert(*page) {
                    return Err(TransactionError::GivenUpTwice { page: *page });
                }
                state.require(*page)?;
                frees.push(*page);
            }
        }
        let graph = &structure.graph;
        for page in &frees {
            let Some(node) = graph.node_of(page.index()) else {
                continue;
            };
            for child in graph.children(node).filter_map(|child| graph.page(child)) {
                let generation = state.table.slot(child).map_or(0, |slot| slot.generation());
                let dependent = PageId::new(child, generation);
                if !frees.contains(&dependent) {
                    return Err(TransactionError::HasDependents {
                        page: *page,
                        dependent,
                    });
                }
            }
        }
        let level = |page: &PageId| {
            graph
                .node_of(page.index())
                .and_then(|node| graph.level(node))
                .unwrap_or(0)
        };
        frees.sort_by_key(|page| std::cmp::Reverse(level(page)));
        resolved.ops.extend(frees.iter().map(|page| Op::Free {
            page: page.to_bits(),
        }));
        resolved.freed = frees;
        Ok(())
    }

    /// Logs the present bytes of a page that is no longer derived: they are its own now. They go before
    /// the transaction's writes, which win over them.
    fn keep_bytes(&mut self, state: &State, page: PageId) -> Result<(), TransactionError> {
        let slot = state.require(page)?;
        // SAFETY: the commit holds all stripes, as it changes the graph.
        let bytes = unsafe { state.bytes(slot)? };
        let len_bytes = bytes.len() as u64;
        let mut stream = encode_run_head(page, 0, (len_bytes - 1) as u32).to_vec();
        stream.resize(
            run_position(RUN_HEAD_BYTES as u64, 0, len_bytes) as usize,
            0,
        );
        stream.extend_from_slice(&bytes);
        stream.resize(
            align_up(stream.len() as u64, RECORD_ALIGN_BYTES) as usize,
            0,
        );
        // Positions in a stream depend on what is before them, so the runs are laid out anew.
        let mut count = 1;
        for run in self.runs().flatten() {
            let run_bytes = run.bytes.len() as u64;
            let start = run_position(
                (stream.len() + RUN_HEAD_BYTES) as u64,
                run.offset,
                run_bytes,
            );
            stream.extend_from_slice(&encode_run_head(
                run.page,
                run.offset as u32,
                (run_bytes - 1) as u32,
            ));
            stream.resize(start as usize, 0);
            stream.extend_from_slice(run.bytes);
            stream.resize(
                align_up(stream.len() as u64, RECORD_ALIGN_BYTES) as usize,
                0,
            );
            count += 1;
        }
        self.stream = stream;
        self.run_count = count;
        self.has_large_run |= len_bytes >= LARGE_RUN_BYTES;
        Ok(())
    }

    /// The pages that the commit concerns, if anybody wants to know.
    fn event(&self, resolved: &Resolved) -> Option<BTreeSet<PageId>> {
        if planted!(MemoryLeaked) {
            std::mem::forget(vec![0xa5_u8; 512]);
        }
        if !self.bus.publisher().is_wanted() {
            return None;
        }
        let mut pages: BTreeSet<PageId> = self.runs().flatten().map(|run| run.page).collect();
        for op in &resolved.ops {
            let bits = match op {
                Op::Allocate { page, .. } | Op::Free { page } | Op::Annotate { page, .. } => page,
                Op::Transfer { new, .. } => new,
                Op::Connect { child, .. } | Op::Disconnect { child } => child,
            };
            if planted!(EventForgetsFree) && matches!(op, Op::Free { .. }) {
                continue;
            }
            // Subscribers are told the ids that are valid after the commit.
            let page = PageId::from_bits(*bits);
            pages.insert(resolved.resolve(page).unwrap_or(page));
        }
        Some(pages)
    }
}

/// Applies one intent that is neither an allocation nor a free.
fn apply_one(
    state: &State,
    structure: &mut Structure,
    locked: &mut Locked<'_>,
    journal: &mut Journal,
    intent: &Intent,
    resolved: &mut Resolved,
    kept: &mut Vec<PageId>,
) -> Result<(), TransactionError> {
    match intent {
        Intent::Allocate { .. } | Intent::Free { .. } => {}
        Intent::Transfer { page } => {
            if resolved.transferred.iter().any(|(old, _)| old == page) {
                return Err(TransactionError::GivenUpTwice { page: *page });
            }
            let new = state.transfer(*page, journal)?;
            resolved.transferred.push((*page, new));
            resolved.ops.push(Op::Transfer {
                old: page.to_bits(),
                new: new.to_bits(),
            });
        }
        Intent::Connect {
            child,
            transform,
            parents,
        } => {
            let child = resolved.of(*child)?;
            let parents = parents
                .iter()
                .map(|parent| resolved.of(*parent))
                .collect::<Result<Vec<_>, _>>()?;
            state.connect(structure, child, transform, &parents, journal)?;
            resolved.connected.push(child);
            resolved.ops.push(Op::Connect {
                child: child.to_bits(),
                transform: transform.clone(),
                parents: parents.iter().map(|page| page.to_bits()).collect(),
            });
        }
        Intent::Disconnect { child } => {
            let child = resolved.resolve(*child).unwrap_or(*child);
            let slot = state.require(child)?;
            let is_stale = locked.get_mut(slot.stripe()).is_some_and(|stripe| {
                state
                    .stale_reason(&structure.graph, child, stripe)
                    .is_some()
            });
            if is_stale {
                return Err(TransactionError::StaleDerived { page: child });
            }
            state.disconnect(structure, child, journal)?;
            kept.push(child);
            resolved.ops.push(Op::Disconnect {
                child: child.to_bits(),
            });
        }
        Intent::Annotate { page, key, value } => {
            let page = resolved.of(*page)?;
            state.annotate(structure, page, key, value.as_deref(), journal)?;
            resolved.ops.push(Op::Annotate {
                page: page.to_bits(),
                key: key.clone(),
                value: value.clone(),
            });
        }
    }
    Ok(())
}

/// For a planted bug: locks what was let go of.
fn lock_again(state: &State, stripes: StripeSet) -> Locked<'_> {
    loop {
        match state.stripes.try_exclusive(stripes) {
            Ok(locked) => return locked,
            Err(busy) => state.stripes.wait_for(busy),
        }
    }
}

#[derive(Default)]
struct EncodedOps {
    /// Padded to [`RECORD_ALIGN_BYTES`].
    bytes: Vec<u8>,
    len_bytes: u32,
}

fn encode_ops(ops: &[Op]) -> Result<EncodedOps, TransactionError> {
    let mut bytes = Vec::new();
    let too_large = TransactionError::TooLarge { what: "operations" };
    if codec::encode_into(&ops, &mut bytes).is_err() || bytes.len() > MAX_OPS_BYTES {
        return Err(too_large);
    }
    let len_bytes = u32::try_from(bytes.len()).map_err(|_| too_large)?;
    bytes.resize(align_up(bytes.len() as u64, RECORD_ALIGN_BYTES) as usize, 0);
    Ok(EncodedOps { bytes, len_bytes })
}

/// The event of a commit that concerns `pages`.
pub(crate) fn event_of(pages: BTreeSet<PageId>, lsn: Lsn) -> Event {
    Event {
        lsn,
        pages: pages.into_iter().collect(),
    }
}
