//! Where two directories part.

use super::error::InspectError;
use super::files::Inspection;
use super::records::{Entries, Entry, Record, RecordKind, RunInfo};
use crate::lsn::Lsn;
use crate::options::Options;
use crate::page::PageId;
use crate::recovery::RecoveryError;
use crate::replay::{Replayed, replay_from};
use crate::storage::Storage;

/// Why two directories cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// One of them cannot be read.
    #[error("{side}: {source}")]
    Inspect {
        /// Which: its description.
        side: String,
        /// Why.
        source: InspectError,
    },
    /// A state of one of them cannot be rebuilt.
    #[error("{side}: the state at LSN {lsn} cannot be rebuilt: {source}")]
    Replay {
        /// Which: its description.
        side: String,
        /// The LSN.
        lsn: Lsn,
        /// Why.
        source: RecoveryError,
    },
}

/// What two directories have in common, and where they part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Whether both say that they are the same log.
    pub is_same_identity: bool,
    /// The left one.
    pub left: Side,
    /// The right one.
    pub right: Side,
    /// The first transaction that both have, from which on they were compared.
    pub from: Lsn,
    /// How they relate.
    pub relation: Relation,
    /// The first transaction that is not the same in both, if there is one.
    pub first_record: Option<Lsn>,
    /// The first transaction after which the pages differ, if that was found.
    pub first_state: Option<StateDifference>,
}

/// How far a directory can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Side {
    /// Where it is.
    pub place: String,
    /// Its first transaction; one more than `last` if it has none.
    pub first: Lsn,
    /// Its last transaction, or the last before the first damage.
    pub last: Lsn,
    /// Whether the log breaks there.
    pub is_broken: bool,
}

/// How two logs relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relation {
    /// The same transactions.
    Same,
    /// The right one goes on where the left one ends.
    LeftIsPrefix,
    /// The left one goes on where the right one ends.
    RightIsPrefix,
    /// Other transactions that come to the same pages, as far as both go.
    OtherRecordsSamePages,
    /// Other pages.
    Diverged,
}

/// Where states part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateDifference {
    /// Before this transaction the pages are the same.
    pub lsn: Lsn,
    /// The first page that differs after it, by id.
    pub page: PageDifference,
}

/// How a page differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageDifference {
    /// Only the left one has it.
    OnlyLeft(PageId),
    /// Only the right one has it.
    OnlyRight(PageId),
    /// It has other lengths.
    Length {
        /// The page.
        page: PageId,
        /// In the left one, in bytes.
        left: u64,
        /// In the right one, in bytes.
        right: u64,
    },
    /// It has other bytes.
    Byte {
        /// The page.
        page: PageId,
        /// Offset of the first that differs.
        offset: u64,
        /// In the left one.
        left: u8,
        /// In the right one.
        right: u8,
    },
    /// It can be read in one of them only: its transform fails in the other.
    Stale(PageId),
}

/// Compares two directories, transaction by transaction, and where those differ the states that they come to.
/// `options` are what states are rebuilt with.
///
/// # Errors
/// See [`DiffError`].
pub fn diff(
    left: &dyn Storage,
    right: &dyn Storage,
    options: &Options,
) -> Result<Difference, DiffError> {
    let left = Reader::open(left)?;
    let right = Reader::open(right)?;
    let is_same_identity = left.inspection.identity == right.inspection.identity;
    let compared = compare(&left, &right)?;
    let common = compared.left.last.min(compared.right.last);
    // What was before the first common transaction is compared by what it came to.
    let is_partial = compared.from > Lsn(1);
    let states = States {
        left: &left,
        right: &right,
        options,
    };
    let first_state = match compared.first_record {
        Some(lsn) => states.first_difference(lsn, common)?,
        None if is_partial && compared.from <= common => states.at(common)?,
        None => None,
    };
    let relation = match (&first_state, compared.first_record) {
        (Some(_), _) => Relation::Diverged,
        (None, Some(_)) => Relation::OtherRecordsSamePages,
        (None, None) if compared.left.last < compared.right.last => Relation::LeftIsPrefix,
        (None, None) if compared.left.last > compared.right.last => Relation::RightIsPrefix,
        (None, None) => Relation::Same,
    };
    Ok(Difference {
        is_same_identity,
        left: compared.left,
        right: compared.right,
        from: compared.from,
        relation,
        first_record: compared.first_record,
        first_state,
    })
}

/// One of the two.
struct Reader<'a> {
    storage: &'a dyn Storage,
    inspection: Inspection<'a>,
}

impl<'a> Reader<'a> {
    fn open(storage: &'a dyn Storage) -> Result<Self, DiffError> {
        let inspection = Inspection::new(storage).map_err(|source| DiffError::Inspect {
            side: storage.describe(),
            source,
        })?;
        Ok(Self {
            storage,
            inspection,
        })
    }

    fn failed(&self, source: InspectError) -> DiffError {
        DiffError::Inspect {
            side: self.storage.describe(),
            source,
        }
    }

    /// The stream of a transaction, uncompressed.
    fn stream(&self, record: &Record) -> Result<Vec<u8>, DiffError> {
        let stream = self.inspection.stream(record);
        stream.map_err(|source| self.failed(source))
    }

    fn transactions(&'a self, from: Lsn) -> Transactions<'a> {
        Transactions {
            entries: self.inspection.entries_from(from),
            from,
            is_broken: false,
        }
    }

    fn replayed(&self, lsn: Lsn, options: &Options) -> Result<Replayed, DiffError> {
        replay_from(self.storage, Some(lsn), options).map_err(|source| DiffError::Replay {
            side: self.storage.describe(),
            lsn,
            source,
        })
    }
}

/// The transactions that recovery would come to.
struct Transactions<'a> {
    entries: Entries<'a>,
    from: Lsn,
    is_broken: bool,
}

impl Transactions<'_> {
    fn next(&mut self) -> Option<Record> {
        for entry in self.entries.by_ref() {
            match entry {
                Entry::Record(record) if record.kind != RecordKind::Transaction => {}
                Entry::Record(record) if !record.in_order => {
                    self.is_broken = true;
                    return None;
                }
                Entry::Record(record) if record.lsn >= self.from => return Some(record),
                _ => {}
            }
        }
        None
    }
}

struct Compared {
    left: Side,
    right: Side,
    from: Lsn,
    first_record: Option<Lsn>,
}

/// Goes through both logs at once, to the end of both.
fn compare(left: &Reader<'_>, right: &Reader<'_>) -> Result<Compared, DiffError> {
    let first = |reader: &Reader<'_>| reader.transactions(Lsn(1)).next().map(|record| record.lsn);
    let (first_left, first_right) = (first(left), first(right));
    let from = first_left.max(first_right).unwrap_or(Lsn(1));
    let (mut lefts, mut rights) = (left.transactions(from), right.transactions(from));
    let before = |first: Option<Lsn>| first.map_or(Lsn::ZERO, |first| first.max(from).previous());
    let (mut last_left, mut last_right) = (before(first_left), before(first_right));
    let mut first_record = None;
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) => break,
            (a, b) => {
                last_left = a.as_ref().map_or(last_left, |record| record.lsn);
                last_right = b.as_ref().map_or(last_right, |record| record.lsn);
                if let (Some(a), Some(b), None) = (&a, &b, first_record)
                    && !is_same(a, b, left, right)?
                {
                    first_record = Some(a.lsn.min(b.lsn));
                }
            }
        }
    }
    let side = |reader: &Reader<'_>, first: Option<Lsn>, last: Lsn, is_broken| Side {
        place: reader.storage.describe(),
        first: first.unwrap_or_else(|| last.next()),
        last,
        is_broken,
    };
    Ok(Compared {
        left: side(left, first_left, last_left, lefts.is_broken),
        right: side(right, first_right, last_right, rights.is_broken),
        from,
        first_record,
    })
}

/// Whether two transactions say the same, wherever they stand.
fn is_same(
    a: &Record,
    b: &Record,
    left: &Reader<'_>,
    right: &Reader<'_>,
) -> Result<bool, DiffError> {
    let form = |record: &Record| -> Vec<(PageId, u64, u64)> {
        let runs = record.runs.iter();
        runs.map(|run| (run.page, run.offset, run.len_bytes))
            .collect()
    };
    if a.lsn != b.lsn || a.operations != b.operations || form(a) != form(b) {
        return Ok(false);
    }
    if a.runs.is_empty() {
        return Ok(true);
    }
    let (left, right) = (left.stream(a)?, right.stream(b)?);
    let is_same = |(x, y): (&RunInfo, &RunInfo)| bytes(&left, x) == bytes(&right, y);
    Ok(a.runs.iter().zip(&b.runs).all(is_same))
}

/// The bytes of a run in its stream.
fn bytes<'s>(stream: &'s [u8], run: &RunInfo) -> Option<&'s [u8]> {
    let start = usize::try_from(run.stream_offset).ok()?;
    stream
        .get(start..)?
        .get(..usize::try_from(run.len_bytes).ok()?)
}

/// The states that the two come to.
struct States<'a> {
    left: &'a Reader<'a>,
    right: &'a Reader<'a>,
    options: &'a Options,
}

impl States<'_> {
    /// The first LSN from `first` on at which the pages differ, as far as both logs go. Before `first` they do not.
    fn first_difference(
        &self,
        first: Lsn,
        common: Lsn,
    ) -> Result<Option<StateDifference>, DiffError> {
        if first > common {
            return Ok(None);
        }
        if let Some(found) = self.at(first)? {
            return Ok(Some(found));
        }
        let Some(mut found) = self.at(common)? else {
            return Ok(None);
        };
        // Same at `same`, different at `found`: somewhere between two neighbours it begins.
        let mut same = first;
        while same.next() < found.lsn {
            let middle = Lsn(same.0 + (found.lsn.0 - same.0) / 2);
            match self.at(middle)? {
                Some(earlier) => found = earlier,
                None => same = middle,
            }
        }
        Ok(Some(found))
    }

    /// The first page that differs at `lsn`.
    fn at(&self, lsn: Lsn) -> Result<Option<StateDifference>, DiffError> {
        let left = self.left.replayed(lsn, self.options)?;
        let right = self.right.replayed(lsn, self.options)?;
        Ok(first_page(&left, &right).map(|page| StateDifference { lsn, page }))
    }
}

fn first_page(left: &Replayed, right: &Replayed) -> Option<PageDifference> {
    let (lefts, rights) = (left.pages(), right.pages());
    let (mut l, mut r) = (lefts.iter().peekable(), rights.iter().peekable());
    loop {
        match (l.peek().copied(), r.peek().copied()) {
            (None, None) => return None,
            (Some(page), None) => return Some(PageDifference::OnlyLeft(*page)),
            (None, Some(page)) => return Some(PageDifference::OnlyRight(*page)),
            (Some(a), Some(b)) if a < b => return Some(PageDifference::OnlyLeft(*a)),
            (Some(a), Some(b)) if a > b => return Some(PageDifference::OnlyRight(*b)),
            (Some(page), Some(_)) => {
                if let Some(found) = page_difference(*page, left, right) {
                    return Some(found);
                }
                l.next();
                r.next();
            }
        }
    }
}

fn page_difference(page: PageId, left: &Replayed, right: &Replayed) -> Option<PageDifference> {
    let (a, b) = match (left.read(page), right.read(page)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(_), Err(_)) => return None,
        _ => return Some(PageDifference::Stale(page)),
    };
    if a.len() != b.len() {
        return Some(PageDifference::Length {
            page,
            left: a.len() as u64,
            right: b.len() as u64,
        });
    }
    if *a == *b {
        return None;
    }
    let (offset, (x, y)) = a
        .iter()
        .zip(b.iter())
        .enumerate()
        .find(|(_, (x, y))| x != y)?;
    Some(PageDifference::Byte {
        page,
        offset: offset as u64,
        left: *x,
        right: *y,
    })
}
