//! Follows pages through the log: from the allocation over transfers to the free.

use std::collections::BTreeMap;

use super::extents::{Extent, Extents};
use crate::inspect::records::{Operation, Record};
use crate::log::segment::parse_segment_name;
use crate::lsn::Lsn;
use crate::page::{PageId, PageIndex};

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub lsn: Lsn,
    /// Number of the segment.
    pub sequence: u64,
    pub record_offset: u64,
}

/// One page, from its allocation to its end, under all ids that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Oldest first, with the transaction that gave each; `None` where that was before the log begins.
    pub ids: Vec<(PageId, Option<Lsn>)>,
    /// `None` if that was before the log begins.
    pub allocated: Option<Place>,
    pub len_bytes: Option<u64>,
    /// Set while it is derived; since which transaction, if that is known.
    pub derived: Option<Option<Lsn>>,
    /// Whether `derived` is known: it was allocated, connected or disconnected in the log.
    pub is_settled: bool,
    pub freed: Option<Lsn>,
    pub extents: Extents,
}

impl Life {
    /// A page that was there before the log begins.
    pub(super) fn unknown(page: PageId) -> Self {
        Self {
            ids: vec![(page, None)],
            allocated: None,
            len_bytes: None,
            derived: None,
            is_settled: false,
            freed: None,
            extents: Extents::default(),
        }
    }
}

/// What is followed: one byte of one page, or everything.
pub(super) struct Lives {
    byte: Option<(PageIndex, u64)>,
    lives: BTreeMap<PageIndex, Vec<Life>>,
}

impl Lives {
    /// Follows all pages.
    pub(super) const fn of_all() -> Self {
        Self {
            byte: None,
            lives: BTreeMap::new(),
        }
    }

    /// Follows the pages that ever had the position of `page`, and of their bytes only the one at `offset`.
    pub(super) const fn of_byte(page: PageId, offset: u64) -> Self {
        Self {
            byte: Some((page.index(), offset)),
            lives: BTreeMap::new(),
        }
    }

    /// The page that ever had this id.
    pub(super) fn find(&self, page: PageId) -> Option<&Life> {
        let had = |life: &&Life| life.ids.iter().any(|(id, _)| *id == page);
        self.lives.get(&page.index())?.iter().rev().find(had)
    }

    /// All pages, by position and age.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Life> {
        self.lives.values().flatten()
    }

    /// Follows one transaction: operations but frees, writes, frees.
    pub(super) fn apply(&mut self, record: &Record) {
        let place = Place {
            lsn: record.lsn,
            sequence: parse_segment_name(&record.file).unwrap_or(0),
            record_offset: record.offset,
        };
        let mut disconnected = Vec::new();
        for operation in &record.operations {
            if self.wants(operation.page()) {
                self.operation(operation, place, &mut disconnected);
            }
        }
        for run in &record.runs {
            if !self.wants(run.page) {
                continue;
            }
            // The bytes that a disconnect keeps come before what the transaction writes.
            let index = run.page.index();
            let kept = disconnected.iter().position(|page| *page == index);
            if let Some(kept) = kept {
                disconnected.swap_remove(kept);
            }
            let mut extent = Extent {
                start: run.offset,
                end: run.offset + run.len_bytes,
                lsn: place.lsn,
                sequence: place.sequence,
                record_offset: place.record_offset,
                byte_offset: run.place,
                by_disconnect: kept.is_some(),
            };
            if let Some((_, offset)) = self.byte {
                if offset < extent.start || offset >= extent.end {
                    // It is noted that the page exists, but not who else wrote to it.
                    self.current(run.page);
                    continue;
                }
                extent.byte_offset += offset - extent.start;
                (extent.start, extent.end) = (offset, offset + 1);
            }
            self.current(run.page).extents.insert(extent);
        }
        for operation in &record.operations {
            if let Operation::Free { page } = operation
                && self.wants(*page)
            {
                self.current(*page).freed = Some(place.lsn);
            }
        }
    }

    fn operation(
        &mut self,
        operation: &Operation,
        place: Place,
        disconnected: &mut Vec<PageIndex>,
    ) {
        match operation {
            Operation::Allocate {
                page, len_bytes, ..
            } => {
                let life = Life {
                    ids: vec![(*page, Some(place.lsn))],
                    allocated: Some(place),
                    len_bytes: Some(*len_bytes),
                    is_settled: true,
                    ..Life::unknown(*page)
                };
                self.lives.entry(page.index()).or_default().push(life);
            }
            Operation::Transfer { old, new } => {
                self.current(*old).ids.push((*new, Some(place.lsn)));
            }
            Operation::Connect { child, .. } => {
                let life = self.current(*child);
                life.derived = Some(Some(place.lsn));
                life.is_settled = true;
                // Its own bytes are gone: a disconnect writes all of them.
                life.extents.clear();
            }
            Operation::Disconnect { child } => {
                let life = self.current(*child);
                life.derived = None;
                life.is_settled = true;
                disconnected.push(child.index());
            }
            Operation::Annotate { page, .. } => {
                self.current(*page);
            }
            Operation::Free { .. } => {}
        }
    }

    /// Notes which pages were derived before the log begins, and still are.
    pub(super) fn settle(&mut self, is_derived: impl Fn(PageId) -> bool) {
        for life in self.lives.values_mut().flatten() {
            if !life.is_settled && life.ids.iter().any(|(id, _)| is_derived(*id)) {
                life.derived = Some(None);
            }
        }
    }

    fn wants(&self, page: PageId) -> bool {
        self.byte.is_none_or(|(index, _)| index == page.index())
    }

    /// The page that has this id now; one that was there before the log begins, if none has.
    fn current(&mut self, page: PageId) -> &mut Life {
        let lives = self.lives.entry(page.index()).or_default();
        let has_it = |life: &Life| life.ids.last().is_some_and(|(id, _)| *id == page);
        if !lives.last().is_some_and(has_it) {
            lives.push(Life::unknown(page));
        }
        let last = lives.len() - 1;
        #[allow(
            clippy::indexing_slicing,
            reason = "the vector has just been made to have an element"
        )]
        &mut lives[last]
    }
}
