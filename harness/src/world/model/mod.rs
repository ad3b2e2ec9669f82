//! The reference that the engine is compared with: naive, and obviously right.
//!
//! Pages are vectors in a map; a transaction is applied step by step in the documented order; derived
//! pages are recomputed in full when somebody asks for them. What is not modelled: where pages lie in memory.

mod apply;
mod derive;
mod history;
mod page;

use std::collections::{BTreeMap, BTreeSet};

use mmsb_engine::{Location, PageId};

pub(crate) use derive::Function;
pub(crate) use history::Keep;
use history::{History, Undo};
pub(crate) use page::{Derivation, Freshness, Page};

use super::stage::Committed;
use apply::Applying;

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
        let (effect, undo) = Applying::new(self, committed).run()?;
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

    /// The state as of `lsn`, beside this one, without a past of its own. `None` if the way back is not known.
    pub(crate) fn as_of(&self, lsn: u64) -> Option<Self> {
        if !self.remembers(lsn) {
            return None;
        }
        let mut past = Self {
            pages: self.pages.clone(),
            children: self.children.clone(),
            generations: self.generations.clone(),
            lsn,
            history: History::default(),
        };
        let newer = usize::try_from(self.lsn.checked_sub(lsn)?).ok()?;
        for undo in self.history.newest(newer) {
            undo.iter().rev().cloned().for_each(|undo| past.undo(undo));
        }
        Some(past)
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

    /// Whether the bytes of a page come from a device: it lies there, or something that it derives from does.
    pub(crate) fn needs_device(&self, id: PageId) -> bool {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![id.index()];
        while let Some(page) = waiting.pop().and_then(|index| self.pages.get(&index)) {
            if page.location == Location::Device {
                return true;
            }
            let parents = page
                .derivation
                .iter()
                .flat_map(|derivation| &derivation.parents);
            waiting.extend(parents.filter(|parent| seen.insert(**parent)));
        }
        false
    }

    /// How many pages lie on the device, and their bytes.
    pub(crate) fn on_device(&self) -> (u64, u64) {
        self.pages
            .values()
            .filter(|page| page.location == Location::Device)
            .fold((0, 0), |(pages, bytes), page| {
                (pages + 1, bytes + page.bytes.len() as u64)
            })
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
