//! What of a damaged directory is not in the salvaged one.

use std::collections::BTreeSet;

use super::plan::{Chain, Plan};
use super::report::Loss;
use crate::inspect::files::{FileFault, FileKind, Head, Inspection};
use crate::inspect::records::{Entry, GapKind, Operation, Record, RecordKind};
use crate::lsn::Lsn;
use crate::page::PageId;

/// The losses, in the order of LSNs, then those of files.
pub(super) fn find(inspection: &Inspection<'_>, plan: &Plan) -> Vec<Loss> {
    let mut losses = Vec::new();
    history(inspection, plan, &mut losses);
    let scan = Scan::run(inspection, plan);
    transactions(plan, &scan, &mut losses);
    if let Some((file, offset)) = scan.tail
        && losses.is_empty()
    {
        losses.push(Loss::Tail { file, offset });
    }
    files(inspection, plan, &mut losses);
    losses
}

/// What is in the state, but was in the log as well.
fn history(inspection: &Inspection<'_>, plan: &Plan, losses: &mut Vec<Loss>) {
    let last = plan.first_lsn().previous();
    let oldest_header = inspection.files.iter().find_map(|file| match &file.head {
        Some(Head::Segment { first_lsn, .. }) => Some(*first_lsn),
        _ => None,
    });
    let oldest_record = plan.chains.iter().map(|chain| chain.first_lsn).min();
    let first = oldest_header.into_iter().chain(oldest_record).min();
    if let Some(first) = first
        && plan.checkpoint().is_some()
        && first <= last
    {
        losses.push(Loss::History { first, last });
    }
}

/// What a second reading of the log finds beyond what is kept.
struct Scan {
    /// The highest LSN that anything intact has or names as durable.
    highest: Lsn,
    /// Intact transactions beyond what is kept, in ranges, with their file and their pages.
    stranded: Vec<(Lsn, Lsn, String, BTreeSet<PageId>)>,
    /// Where bytes that are no record begin, behind the last transaction that is kept.
    tail: Option<(String, u64)>,
}

impl Scan {
    fn run(inspection: &Inspection<'_>, plan: &Plan) -> Self {
        let mut scan = Self {
            highest: plan.last_lsn(),
            stranded: Vec::new(),
            tail: None,
        };
        for file in &inspection.files {
            if let Some(Head::Segment { durable_lsn, .. } | Head::Manifest { durable_lsn, .. }) =
                &file.head
            {
                scan.highest = scan.highest.max(*durable_lsn);
            }
        }
        let last_part = plan.chain.as_ref().and_then(|chain| chain.parts.last());
        let mut is_first_after = true;
        for entry in inspection.entries() {
            match entry {
                Entry::Record(record) if record.kind == RecordKind::Transaction => {
                    scan.highest = scan.highest.max(record.durable_lsn).max(record.lsn);
                    if record.lsn > plan.last_lsn() {
                        scan.strand(&record);
                    }
                }
                Entry::Record(record) => scan.highest = scan.highest.max(record.durable_lsn),
                Entry::Gap {
                    file, offset, kind, ..
                } => {
                    // What stands right behind the last record; an earlier life may have left the rest.
                    let is_behind = last_part.is_none_or(|part| part.file == file)
                        && last_part.is_none_or(|part| offset >= part.end);
                    if is_behind && is_first_after {
                        is_first_after = false;
                        if kind != GapKind::Zeros {
                            scan.tail = Some((file, offset));
                        }
                    }
                }
                Entry::Segment { .. } | Entry::Missing { .. } => {}
            }
        }
        scan
    }

    fn strand(&mut self, record: &Record) {
        let is_next = |range: &(Lsn, Lsn, String, BTreeSet<PageId>)| range.1.next() == record.lsn;
        if !self.stranded.last().is_some_and(is_next) {
            let range = (record.lsn, record.lsn, record.file.clone(), BTreeSet::new());
            self.stranded.push(range);
        }
        if let Some((_, last, _, pages)) = self.stranded.last_mut() {
            *last = record.lsn;
            pages.extend(record.runs.iter().map(|run| run.page));
            pages.extend(record.operations.iter().map(Operation::page));
        }
    }
}

/// Every LSN between what is kept and the highest that is known is lost: its record is intact, or it is not.
fn transactions(plan: &Plan, scan: &Scan, losses: &mut Vec<Loss>) {
    let mut stranded: Vec<_> = scan.stranded.iter().collect();
    stranded.sort_by_key(|(first, ..)| *first);
    let mut next = plan.last_lsn().next();
    for (first, last, file, pages) in stranded {
        if *first > next {
            losses.push(Loss::Transactions {
                first: next,
                last: first.previous(),
            });
        }
        losses.push(Loss::Stranded {
            first: *first,
            last: *last,
            file: file.clone(),
            pages: pages.iter().copied().collect(),
        });
        next = next.max(last.next());
    }
    if next <= scan.highest {
        losses.push(Loss::Transactions {
            first: next,
            last: scan.highest,
        });
    }
}

/// Files that were of no use though they should have been.
fn files(inspection: &Inspection<'_>, plan: &Plan, losses: &mut Vec<Loss>) {
    let kept = |name: &str| {
        let parts = plan.chain.iter().flat_map(|chain: &Chain| &chain.parts);
        parts.into_iter().any(|part| part.file == name)
    };
    for file in &inspection.files {
        let why = match (&file.fault, file.kind) {
            // Its records were kept, or it was being made and held none.
            (Some(_), FileKind::Segment(_)) if kept(&file.name) => continue,
            (Some(FileFault::Blank | FileFault::Stale), FileKind::Segment(_)) => continue,
            (Some(fault), _) => fault.to_string(),
            (None, FileKind::Manifest(sequence)) => {
                let is_kept = plan
                    .manifests
                    .iter()
                    .any(|manifest| manifest.sequence == sequence);
                if is_kept {
                    continue;
                }
                "is of no use: its images are damaged, or it goes beyond what is kept".to_owned()
            }
            (None, _) => continue,
        };
        losses.push(Loss::File {
            file: file.name.clone(),
            why,
        });
    }
}
