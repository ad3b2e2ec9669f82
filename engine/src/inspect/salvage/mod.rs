//! Writing a new directory with everything of a damaged one that can be proven good.
//!
//! `plan` finds what hangs together, `write` writes it, `losses` says what is left behind, `report` is what the caller
//! gets. A transaction is kept whole or not at all, and none is kept of which one before it is neither in
//! the log nor in a checkpoint. Records are copied bit for bit, at their offsets, so their checksums go on
//! protecting them and their LSNs stay.

mod losses;
mod plan;
mod report;
mod write;

use std::collections::BTreeSet;

pub use report::{Loss, SalvageError, Salvaged, Start};

use super::files::Inspection;
use super::records::{Entry, Operation, RecordKind};
use crate::lsn::Lsn;
use crate::options::Options;
use crate::recovery::{Rebuilt, RecoveryError, rebuild};
use crate::storage::Storage;
use plan::Plan;

/// How often a plan is made anew because a record or a checkpoint of the last one could not be applied.
const MAX_PLANS: usize = 16;

/// Writes to `target` a bus directory with everything of `source` that can be proven good.
///
/// What can be proven is the longest unbroken sequence of transactions from the beginning of the log, or from
/// a checkpoint that is intact, whichever reaches the higher LSN; the beginning if both reach as far. The result is opened
/// (read-only) with `options`, which must have an arena that is large enough and should have the transforms that the bus was used with.
///
/// `source` is only read. `target` must be empty, and is made durable.
///
/// # Errors
/// See [`SalvageError`]. What was written to the target by then stays there.
pub fn salvage(
    source: &dyn Storage,
    target: &dyn Storage,
    options: &Options,
) -> Result<Salvaged, SalvageError> {
    write::require_empty(target)?;
    let inspection = Inspection::new(source)?;
    let mut limit = Lsn(u64::MAX);
    let mut excluded = BTreeSet::new();
    for _ in 0..MAX_PLANS {
        let plan = Plan::make(&inspection, limit, &excluded)?;
        let written = write::write(&inspection, &plan, target)?;
        let (rebuilt, unverified) = match prove(target, options) {
            Ok(rebuilt) => (rebuilt, None),
            Err(RecoveryError::Record { lsn, why }) => {
                let is_ours = !uses_unknown_transform(&inspection, lsn, options);
                if is_ours && lsn <= plan.last_lsn() && lsn > Lsn::ZERO {
                    // Intact, but it does not follow from what is before it.
                    limit = lsn.previous();
                    write::clear(target, &written)?;
                    continue;
                }
                let why = format!("the transaction with LSN {lsn} cannot be repeated: {why}");
                (None, Some(why))
            }
            Err(RecoveryError::Truncated { .. }) if plan.checkpoint().is_some() => {
                excluded.extend(plan.checkpoint());
                write::clear(target, &written)?;
                continue;
            }
            Err(error) => return Err(SalvageError::Unproven(error)),
        };
        let digest = rebuilt.and_then(|rebuilt| rebuilt.state.digest().ok());
        let losses = losses::find(&inspection, &plan);
        return Ok(Salvaged {
            start: plan.start(),
            first_lsn: plan.first_lsn(),
            last_lsn: plan.last_lsn(),
            digest,
            unverified,
            losses,
            repairs: plan.repairs,
            files: written,
        });
    }
    Err(SalvageError::NothingProven)
}

/// Recovers the target as opening would.
fn prove(target: &dyn Storage, options: &Options) -> Result<Option<Rebuilt>, RecoveryError> {
    rebuild(target, options, None, false)
}

/// Whether the transaction connects a page by a transform that `options` does not have: then it is not the
/// log that is at fault.
fn uses_unknown_transform(inspection: &Inspection<'_>, lsn: Lsn, options: &Options) -> bool {
    let mut entries = inspection.entries_from(lsn);
    let record = entries.find_map(|entry| match entry {
        Entry::Record(record) if record.lsn == lsn && record.kind == RecordKind::Transaction => {
            Some(record)
        }
        _ => None,
    });
    record.is_some_and(|record| {
        record.operations.iter().any(|operation| match operation {
            Operation::Connect { transform, .. } => !options
                .transforms
                .iter()
                .any(|known| known == (transform.name.as_str(), transform.version)),
            _ => false,
        })
    })
}
