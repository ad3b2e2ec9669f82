//! The reference that the engine is compared with: naive, and obviously right.
//!
//! Pages are vectors in a map; a transaction is applied step by step in the documented order; derived
//! pages are recomputed in full when somebody asks for them. What is not modelled: where pages lie in memory.

mod derive;
mod history;
mod page;

use std::collections::{BTreeMap, BTreeSet};

use mmsb_engine::PageId;

pub(crate) use derive::Function;
pub(crate) use history::Keep;
use history::{History, Undo};
pub(crate) use page::{Derivation, Freshness, Page};

use super::stage::{Committed, Op, PageKey};

/// The state that the engine must have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// By position, which is also the order of the state digest.
    pages: BTreeMap<u32, Page>,
    /// The derived pages that have the page among their parents.
    children: BTreeMap<u32, BTreeSet<u32>>,
    /// The last generation that each position had.
    generations: BTreeMap<u32, u32>,
    lsn: u64,
    history: History,
}

/// What a transaction touched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effect {
    /// Base pages that were written, with the ranges.
    pub(crate) written: Vec<(u32, u64, u64)>,
    /// Pages that were allocated, moved or connected, to be compared whole.
    pub(crate) changed: BTreeSet<u32>,
    /// The pages that an event of the transaction names.
    pub(crate) event: BTreeSet<PageId>,
}

impl Model {
    /// An empty state that keeps as much of its past as it is told to.
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            history: History::new(keep),
            ..Self::default()
        }
    }

    /// The LSN of the last transaction.
    pub(crate) fn lsn(&self) -> u64 {
        self.lsn
    }

    /// The live pages in id order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PageId> {
        self.pages.values().map(|page| page.id)
    }

    /// How many pages there are.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// How many of them are derived.
    pub(crate) fn derived_count(&self) -> usize {
        self.pages
            .values()
            .filter(|page| page.derivation.is_some())
            .count()
    }

    /// The live page of this id.
    pub(crate) fn page(&self, id: PageId) -> Option<&Page> {
        self.pages.get(&id.index()).filter(|page| page.id == id)
    }

    /// The page at this position.
    pub(crate) fn at(&self, index: u32) -> Option<&Page> {
        self.pages.get(&index)
    }

    /// Whether the past up to this LSN is kept.
    pub(crate) fn remembers(&self, lsn: u64) -> bool {
        lsn == self.lsn || self.history.reaches(lsn)
    }

    /// Applies a transaction that the engine has committed.
    ///
    /// Says what is wrong if the engine should not have committed it.
    pub(crate) fn apply(&mut self, committed: &Committed) -> Result<Effect, String> {
        if committed.lsn != self.lsn + 1 {
            return Err(format!(
                "the commit got LSN {}, but the last one was {}",
                committed.lsn, self.lsn
            ));
        }
        let mut applying = Applying {
            model: self,
            committed,
            effect: Effect::default(),
            undo: Vec::new(),
            stamped: BTreeSet::new(),
        };
        applying.run()?;
        let (effect, undo) = (applying.effect, applying.undo);
        self.lsn = committed.lsn;
        self.history.push(committed.lsn, undo);
        Ok(effect)
    }

    /// Forgets how to go back to before `lsn`, if only the way back to it is wanted.
    pub(crate) fn durable(&mut self, lsn: u64) {
        self.history.durable(lsn);
    }

    /// Goes back to the state as of `lsn`. `false` if the way is not known.
    pub(crate) fn roll_back(&mut self, lsn: u64) -> bool {
        if !self.remembers(lsn) {
            return false;
        }
        while self.lsn > lsn {
            let Some(undo) = self.history.pop() else {
                return false;
            };
            for undo in undo.into_iter().rev() {
                self.undo(undo);
            }
            self.lsn -= 1;
        }
        true
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Generation { index, old } => {
                match old {
                    Some(old) => self.generations.insert(index, old),
                    None => self.generations.remove(&index),
                };
            }
            Undo::Page { index, old } => {
                self.unlink(index);
                match old {
                    Some(page) => self.pages.insert(index, *page),
                    None => self.pages.remove(&index),
                };
                self.link(index);
                self.mark_dirty(index);
            }
            Undo::Bytes { index, at, old } => {
                if let Some(page) = self.pages.get_mut(&index) {
                    page.put(at, &old);
                }
                self.mark_dirty(index);
            }
            Undo::Stamp { index, epoch, lsn } => {
                if let Some(page) = self.pages.get_mut(&index) {
                    (page.epoch, page.lsn) = (epoch, lsn);
                }
            }
            Undo::Id { index, old } => {
                if let Some(page) = self.pages.get_mut(&index) {
                    page.id = old;
                }
            }
            Undo::Meta { index, key, old } => {
                if let Some(page) = self.pages.get_mut(&index) {
                    page.annotate(&key, old);
                }
            }
        }
    }

    /// Enters a page among the children of its parents.
    fn link(&mut self, index: u32) {
        let parents = self
            .pages
            .get(&index)
            .and_then(|page| page.derivation.as_ref());
        for parent in parents
            .into_iter()
            .flat_map(|derivation| &derivation.parents)
        {
            self.children.entry(*parent).or_default().insert(index);
        }
    }

    /// Takes a page out from among the children of its parents.
    fn unlink(&mut self, index: u32) {
        let parents = self
            .pages
            .get(&index)
            .and_then(|page| page.derivation.as_ref());
        for parent in parents
            .into_iter()
            .flat_map(|derivation| &derivation.parents)
        {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(&index);
                if children.is_empty() {
                    self.children.remove(parent);
                }
            }
        }
    }

    fn has_children(&self, index: u32) -> bool {
        self.children.contains_key(&index)
    }

    /// Notes that whatever derives from a page has to be recomputed; of the page itself too, if it is derived.
    fn mark_dirty(&mut self, index: u32) {
        if let Some(page) = self.pages.get_mut(&index)
            && page.derivation.is_some()
        {
            page.freshness = Freshness::Dirty;
        }
        let mut waiting = vec![index];
        while let Some(index) = waiting.pop() {
            for child in self.children.get(&index).into_iter().flatten() {
                // What is dirty already has dirty descendants.
                if let Some(page) = self.pages.get_mut(child)
                    && page.freshness != Freshness::Dirty
                {
                    page.freshness = Freshness::Dirty;
                    waiting.push(*child);
                }
            }
        }
    }

    /// The pages that derive from these, directly or not, nearest first; at most `limit`.
    pub(crate) fn descendants(&self, roots: impl Iterator<Item = u32>, limit: usize) -> Vec<u32> {
        let mut waiting: Vec<u32> = roots.collect();
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(index) = waiting.get(next).copied() {
            next += 1;
            for child in self.children.get(&index).into_iter().flatten() {
                if seen.insert(*child) {
                    if found.len() == limit {
                        return found;
                    }
                    found.push(*child);
                    waiting.push(*child);
                }
            }
        }
        found
    }

    /// The bytes of a page, recomputed if need be; `None` if there is no such page or it is stale.
    pub(crate) fn bytes(&mut self, id: PageId) -> Option<&[u8]> {
        self.evaluate(id.index());
        let page = self.page(id)?;
        (page.freshness != Freshness::Stale).then_some(page.bytes.as_slice())
    }

    /// Recomputes a page and before it all that it depends on, without recursion: chains may be long.
    fn evaluate(&mut self, index: u32) {
        let mut waiting = vec![index];
        while let Some(index) = waiting.last().copied() {
            let Some((page, derivation)) = self
                .pages
                .get(&index)
                .filter(|page| page.freshness == Freshness::Dirty)
                .and_then(|page| Some((page, page.derivation.as_ref()?)))
            else {
                waiting.pop();
                continue;
            };
            let parents: Vec<&Page> = derivation
                .parents
                .iter()
                .filter_map(|index| self.pages.get(index))
                .collect();
            let before = waiting.len();
            waiting.extend(
                parents
                    .iter()
                    .filter(|page| page.freshness == Freshness::Dirty)
                    .map(|page| page.id.index()),
            );
            if waiting.len() > before {
                continue;
            }
            let stale = parents
                .iter()
                .any(|page| page.freshness == Freshness::Stale);
            let inputs: Vec<&[u8]> = parents.iter().map(|page| page.bytes.as_slice()).collect();
            let computed = if stale {
                None
            } else {
                derivation.function.compute(page.bytes.len(), &inputs)
            };
            if let Some(page) = self.pages.get_mut(&index) {
                match computed {
                    Some(bytes) => {
                        page.bytes = bytes;
                        page.freshness = Freshness::Fresh;
                    }
                    None => page.freshness = Freshness::Stale,
                }
            }
            waiting.pop();
        }
    }

    /// The digest of a page; `None` if it is stale.
    pub(crate) fn page_digest(&mut self, id: PageId) -> Option<[u8; 32]> {
        self.bytes(id).map(|bytes| blake3::hash(bytes).into())
    }

    /// The state digest, as the engine documents it.
    pub(crate) fn digest(&mut self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let pages: Vec<(PageId, usize)> = self
            .pages
            .values()
            .map(|page| (page.id, page.bytes.len()))
            .collect();
        for (id, len_bytes) in pages {
            let digest = self.page_digest(id);
            hasher.update(&id.to_bits().to_le_bytes());
            hasher.update(&(len_bytes as u64).to_le_bytes());
            hasher.update(&[u8::from(digest.is_none())]);
            hasher.update(&digest.unwrap_or_default());
        }
        hasher.finalize().into()
    }
}

/// One transaction being applied.
struct Applying<'a> {
    model: &'a mut Model,
    committed: &'a Committed,
    effect: Effect,
    undo: Vec<Undo>,
    /// Pages whose epoch has moved in this transaction.
    stamped: BTreeSet<u32>,
}

impl Applying<'_> {
    /// First allocates, then changes graph and metadata and transfers, then writes, then frees.
    fn run(&mut self) -> Result<(), String> {
        let committed = self.committed;
        let mut allocated = committed.allocated.iter();
        for op in &committed.ops {
            if let Op::Allocate { len_bytes } = op {
                let id = *allocated
                    .next()
                    .ok_or("the commit tells too few ids of new pages")?;
                self.allocate(id, *len_bytes)?;
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
        Ok(())
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

    fn allocate(&mut self, id: PageId, len_bytes: u64) -> Result<(), String> {
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
        self.model.pages.insert(index, Page::new(id, len));
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
        self.stamp(index);
        self.model.mark_dirty(index);
        self.effect.written.push((index, at, bytes.len() as u64));
        self.effect.event.insert(id);
        Ok(())
    }

    /// Moves the epoch of a page on, once a transaction.
    fn stamp(&mut self, index: u32) {
        if !self.stamped.insert(index) {
            return;
        }
        let lsn = self.committed.lsn;
        let Some(page) = self.model.pages.get_mut(&index) else {
            return;
        };
        let old = Undo::Stamp {
            index,
            epoch: page.epoch,
            lsn: page.lsn,
        };
        page.epoch += 1;
        page.lsn = lsn;
        self.keep(|_| old);
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
