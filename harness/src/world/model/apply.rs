//! One transaction, applied to the model in the order that the engine documents.

use std::collections::BTreeSet;

use mmsb_engine::{Location, PageId};

use super::history::Undo;
use super::{Derivation, Effect, Freshness, Function, Model, Page};
use crate::world::stage::{Committed, Op, PageKey};

/// One transaction being applied.
pub(super) struct Applying<'a> {
    model: &'a mut Model,
    committed: &'a Committed,
    effect: Effect,
    undo: Vec<Undo>,
    /// Pages whose epoch has moved in this transaction.
    stamped: BTreeSet<u32>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(model: &'a mut Model, committed: &'a Committed) -> Self {
        Self {
            model,
            committed,
            effect: Effect::default(),
            undo: Vec::new(),
            stamped: BTreeSet::new(),
        }
    }

    /// First allocates, then changes graph and metadata and transfers, then writes, then frees.
    ///
    /// Says what it touched and how to take it back, or what the engine should not have accepted.
    pub(super) fn run(mut self) -> Result<(Effect, Vec<Undo>), String> {
        let committed = self.committed;
        let mut allocated = committed.allocated.iter();
        for op in &committed.ops {
            if let Op::Allocate {
                len_bytes,
                location,
            } = op
            {
                let id = *allocated
                    .next()
                    .ok_or("the commit tells too few ids of new pages")?;
                self.allocate(id, *len_bytes, *location)?;
            }
        }
        if allocated.next().is_some() {
            return Err("the commit tells more ids than pages were allocated".to_owned());
        }
        // A page that is disconnected keeps the bytes that it had before the transaction.
        for op in &committed.ops {
            if let Op::Disconnect { child } = op {
                self.model.evaluate(child.index());
            }
        }
        for op in &committed.ops {
            self.structure(op)?;
        }
        for op in &committed.ops {
            match op {
                Op::Write { page, at, bytes } => self.write(*page, *at, bytes)?,
                Op::Delta { page, meaning, .. } => {
                    for (at, bytes) in meaning {
                        self.write(*page, *at, bytes)?;
                    }
                }
                _ => {}
            }
        }
        self.free_all()?;
        // Whatever a page was called meanwhile, an event has the id by which it can be found.
        let event = std::mem::take(&mut self.effect.event);
        for id in event {
            let id = self.resolve(PageKey::Existing(id))?;
            self.effect.event.insert(id);
        }
        Ok((self.effect, self.undo))
    }

    /// The id that a page of the transaction has after it.
    fn resolve(&self, key: PageKey) -> Result<PageId, String> {
        match key {
            PageKey::New(ordinal) => self
                .committed
                .allocated
                .get(ordinal as usize)
                .copied()
                .ok_or_else(|| format!("new page {ordinal} has no id")),
            PageKey::Existing(id) => {
                let moved = self
                    .committed
                    .transferred
                    .iter()
                    .find(|(old, _)| *old == id);
                Ok(moved.map_or(id, |(_, new)| *new))
            }
        }
    }

    /// The position of a page that must be live, under its old or its new id.
    fn live(&self, key: PageKey) -> Result<u32, String> {
        let now = self.resolve(key)?;
        let is_live = |id: PageId| self.model.page(id).is_some();
        let old = if let PageKey::Existing(id) = key {
            is_live(id)
        } else {
            false
        };
        if old || is_live(now) {
            Ok(now.index())
        } else {
            Err(format!("the engine accepted page {now}, which is not live"))
        }
    }

    fn keep(&mut self, undo: impl FnOnce(&Model) -> Undo) {
        if self.model.history.is_wanted() {
            let undo = undo(self.model);
            self.undo.push(undo);
        }
    }

    fn keep_page(&mut self, index: u32) {
        self.keep(|model| Undo::Page {
            index,
            old: model.pages.get(&index).cloned().map(Box::new),
        });
    }

    fn allocate(&mut self, id: PageId, len_bytes: u64, location: Location) -> Result<(), String> {
        let index = id.index();
        let last = self.model.generations.get(&index).copied();
        if self.model.pages.contains_key(&index) || last.is_some_and(|last| last >= id.generation())
        {
            return Err(format!("the new page got id {id}, which was given before"));
        }
        let len = usize::try_from(len_bytes)
            .map_err(|_| "a page too long for this machine".to_owned())?;
        self.keep(|_| Undo::Generation { index, old: last });
        self.keep_page(index);
        self.model.generations.insert(index, id.generation());
        self.model.pages.insert(index, Page::new(id, len, location));
        self.effect.changed.insert(index);
        self.effect.event.insert(id);
        Ok(())
    }

    fn structure(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Transfer { page } => {
                let index = self.live(PageKey::Existing(*page))?;
                let new = self.resolve(PageKey::Existing(*page))?;
                if new.generation() <= page.generation() || new.index() != page.index() {
                    return Err(format!("page {page} was transferred to {new}"));
                }
                let last = self.model.generations.insert(index, new.generation());
                self.keep(|_| Undo::Generation { index, old: last });
                self.keep(|_| Undo::Id { index, old: *page });
                if let Some(page) = self.model.pages.get_mut(&index) {
                    page.id = new;
                }
                self.effect.event.insert(new);
                self.effect.changed.insert(index);
                Ok(())
            }
            Op::Connect {
                child,
                function,
                parents,
            } => self.connect(*child, function, parents),
            Op::Disconnect { child } => {
                let index = self.live(PageKey::Existing(*child))?;
                self.keep_page(index);
                self.model.unlink(index);
                let page = self
                    .model
                    .pages
                    .get_mut(&index)
                    .ok_or("no page to disconnect")?;
                if page.derivation.take().is_none() {
                    return Err(format!(
                        "the engine disconnected page {child}, which is not derived"
                    ));
                }
                if page.freshness == Freshness::Stale {
                    return Err(format!(
                        "the engine disconnected page {child}, which is stale"
                    ));
                }
                page.freshness = Freshness::Fresh;
                self.stamp(index);
                self.model.mark_dirty(index);
                self.effect.changed.insert(index);
                let id = self.resolve(PageKey::Existing(*child))?;
                self.effect.event.insert(id);
                Ok(())
            }
            Op::Annotate { page, key, value } => {
                let index = self.live(*page)?;
                let page = self
                    .model
                    .pages
                    .get_mut(&index)
                    .ok_or("no page to annotate")?;
                let old =
                    page.annotate(key, value.as_ref().map(|value| value.clone().into_bytes()));
                let id = page.id;
                self.keep(|_| Undo::Meta {
                    index,
                    key: key.clone(),
                    old,
                });
                self.effect.event.insert(id);
                self.effect.changed.insert(index);
                Ok(())
            }
            Op::Allocate { .. } | Op::Write { .. } | Op::Delta { .. } | Op::Free { .. } => Ok(()),
        }
    }

    fn connect(
        &mut self,
        child: PageKey,
        function: &Function,
        parents: &[PageKey],
    ) -> Result<(), String> {
        let index = self.live(child)?;
        let parents = parents
            .iter()
            .map(|parent| self.live(*parent))
            .collect::<Result<Vec<_>, _>>()?;
        let len = |index: &u32| {
            self.model
                .pages
                .get(index)
                .map_or(0, |page| page.bytes.len() as u64)
        };
        let parent_lens: Vec<u64> = parents.iter().map(len).collect();
        if !function.fits(len(&index), &parent_lens) {
            return Err(format!(
                "the engine connected page {index}, whose parents do not fit {function:?}"
            ));
        }
        if self.closes_cycle(index, &parents) {
            return Err(format!("the engine accepted a cycle through page {index}"));
        }
        self.keep_page(index);
        let page = self
            .model
            .pages
            .get_mut(&index)
            .ok_or("no page to connect")?;
        let id = page.id;
        if page.derivation.is_some() {
            return Err(format!(
                "the engine connected page {id}, which is derived already"
            ));
        }
        page.derivation = Some(Derivation {
            function: function.clone(),
            parents,
        });
        page.epoch_known = false;
        self.model.link(index);
        self.model.mark_dirty(index);
        self.effect.changed.insert(index);
        self.effect.event.insert(id);
        Ok(())
    }

    /// Whether the child is one of the parents or of what they derive from.
    fn closes_cycle(&self, child: u32, parents: &[u32]) -> bool {
        if parents.contains(&child) {
            return true;
        }
        if !self.model.has_children(child) {
            return false;
        }
        let mut waiting = parents.to_vec();
        let mut seen: BTreeSet<u32> = parents.iter().copied().collect();
        while let Some(index) = waiting.pop() {
            if index == child {
                return true;
            }
            let derivation = self
                .model
                .pages
                .get(&index)
                .and_then(|page| page.derivation.as_ref());
            for parent in derivation
                .into_iter()
                .flat_map(|derivation| &derivation.parents)
            {
                if seen.insert(*parent) {
                    waiting.push(*parent);
                }
            }
        }
        false
    }

    fn write(&mut self, key: PageKey, at: u64, bytes: &[u8]) -> Result<(), String> {
        let index = self.live(key)?;
        let page = self.model.pages.get(&index).ok_or("no page to write")?;
        let id = page.id;
        let old = page.get(at, bytes.len() as u64).ok_or_else(|| {
            format!(
                "the engine accepted {} bytes at {at} of page {id}, which are outside of it",
                bytes.len()
            )
        })?;
        if page.derivation.is_some() {
            return Err(format!(
                "the engine accepted a write to page {id}, which is derived"
            ));
        }
        if self.model.history.is_wanted() {
            self.undo.push(Undo::Bytes {
                index,
                at,
                old: old.to_vec(),
            });
        }
        if let Some(page) = self.model.pages.get_mut(&index) {
            page.put(at, bytes);
        }
        if self.stamp(index) {
            // Nothing is evaluated until the transaction is over, so what is dirty stays so.
            self.model.mark_dirty(index);
            self.effect.event.insert(id);
        }
        self.effect.written.push((index, at, bytes.len() as u64));
        Ok(())
    }

    /// Moves the epoch of a page on, once a transaction. `false` says that it had moved before.
    fn stamp(&mut self, index: u32) -> bool {
        if !self.stamped.insert(index) {
            return false;
        }
        let lsn = self.committed.lsn;
        let Some(page) = self.model.pages.get_mut(&index) else {
            return true;
        };
        let old = Undo::Stamp {
            index,
            epoch: page.epoch,
            lsn: page.lsn,
        };
        page.epoch += 1;
        page.lsn = lsn;
        self.keep(|_| old);
        true
    }

    fn free_all(&mut self) -> Result<(), String> {
        let ops = &self.committed.ops;
        let freed: BTreeSet<u32> = ops
            .iter()
            .filter_map(|op| {
                if let Op::Free { page } = op {
                    Some(page.index())
                } else {
                    None
                }
            })
            .collect();
        for op in ops {
            let Op::Free { page } = op else {
                continue;
            };
            if self.model.page(*page).is_none() {
                return Err(format!("the engine freed page {page}, which is not live"));
            }
            let index = page.index();
            let orphan = self
                .model
                .children
                .get(&index)
                .into_iter()
                .flatten()
                .find(|child| !freed.contains(child));
            if let Some(orphan) = orphan {
                return Err(format!(
                    "the engine freed page {page}, of which page {orphan} derives"
                ));
            }
            self.effect.event.insert(*page);
        }
        for index in freed {
            self.keep_page(index);
            self.model.unlink(index);
            self.model.pages.remove(&index);
            self.effect.changed.remove(&index);
            self.effect
                .written
                .retain(|(written, ..)| *written != index);
        }
        Ok(())
    }
}
