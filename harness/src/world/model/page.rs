//! One page of the model.

use std::collections::BTreeMap;

use mmsb_engine::{Location, PageId};

use super::Function;

/// A page, base or derived.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) id: PageId,
    /// A label: bytes are bytes, wherever they lie.
    pub(crate) location: Location,
    /// Of a derived page, as of when it was last recomputed.
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: BTreeMap<String, Vec<u8>>,
    /// How many transactions wrote to it.
    pub(crate) epoch: u64,
    /// The epoch of a page that is or was derived counts waves, of which the model knows nothing.
    pub(crate) epoch_known: bool,
    /// The transaction that last wrote to it; 0 for none.
    pub(crate) lsn: u64,
    pub(crate) derivation: Option<Derivation>,
    pub(crate) freshness: Freshness,
}

/// How a derived page follows from others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Derivation {
    pub(crate) function: Function,
    /// Their positions: these stay when a page is transferred.
    pub(crate) parents: Vec<u32>,
}

/// What the bytes of a page are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// They are what they should be; always so for a base page.
    Fresh,
    /// They have to be recomputed before they are looked at.
    Dirty,
    /// They mean nothing, as the function failed, here or above.
    Stale,
}

impl Page {
    pub(crate) fn new(id: PageId, len: usize, location: Location) -> Self {
        Self {
            id,
            location,
            bytes: vec![0; len],
            meta: BTreeMap::new(),
            epoch: 0,
            epoch_known: true,
            lsn: 0,
            derivation: None,
            freshness: Freshness::Fresh,
        }
    }

    /// A range of the bytes; `None` if it reaches outside.
    pub(crate) fn get(&self, at: u64, len_bytes: u64) -> Option<&[u8]> {
        let start = usize::try_from(at).ok()?;
        let end = usize::try_from(at.checked_add(len_bytes)?).ok()?;
        self.bytes.get(start..end)
    }

    /// Overwrites a range, which lies inside.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let rest = self.bytes.get_mut(start..).unwrap_or_default();
        let len = rest.len().min(bytes.len());
        if let (Some(to), Some(from)) = (rest.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
    }

    /// Sets or removes an annotation, and returns the old one.
    pub(crate) fn annotate(&mut self, key: &str, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        match value {
            Some(value) => self.meta.insert(key.to_owned(), value),
            None => self.meta.remove(key),
        }
    }
}
