//! What opening would say, without opening: the same functions, on the same bytes, with nothing applied.

use super::error::InspectError;
use super::files::Inspection;
use crate::checkpoint::format::Manifest;
use crate::checkpoint::load;
use crate::log::discover::LogMap;
use crate::log::format::Identity;
use crate::log::reader::{Scanned, Scanner};
use crate::log::tail::{Tail, Torn};
use crate::lsn::Lsn;
use crate::recovery::{RecoveryError, find};
use crate::storage::Storage;

/// What [`crate::Bus::open`] would come to.
///
/// It goes by the bytes: whether an intact record can be applied, only replaying tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// There is no log; opening creates one.
    NoLog,
    /// It opens.
    Opens {
        /// The state would be as of this LSN.
        last_lsn: Lsn,
        /// The LSN after which the log would be applied, if a checkpoint would be used.
        checkpoint: Option<Lsn>,
        /// What would be cut off as the work of a crash.
        torn: Option<Torn>,
        /// What is wrong and can be done without.
        warnings: Vec<String>,
    },
    /// It is refused.
    Refused(RecoveryError),
}

impl Inspection<'_> {
    /// What [`crate::Bus::open`] would say. Reads what opening would read.
    ///
    /// # Errors
    /// When the directory cannot be listed any more. Everything else is part of the verdict.
    pub fn verdict(&self) -> Result<Verdict, InspectError> {
        match foresee(self.storage) {
            Ok(None) => Ok(Verdict::NoLog),
            Ok(Some((tail, checkpoint, warnings))) => Ok(Verdict::Opens {
                last_lsn: tail.last_lsn,
                checkpoint: checkpoint.map(|manifest| manifest.replay_after),
                torn: tail.torn,
                warnings,
            }),
            Err(error) => Ok(Verdict::Refused(error)),
        }
    }
}

type Foreseen = (Tail, Option<Manifest>, Vec<String>);

/// As [`crate::recovery::rebuild`], but for the state.
fn foresee(storage: &dyn Storage) -> Result<Option<Foreseen>, RecoveryError> {
    let Some(found) = find(storage)? else {
        return Ok(None);
    };
    let (map, known_durable) = (found.map, found.known_durable);
    let (mut manifests, mut warnings) = (found.manifests, found.warnings);
    let checkpoint = choose(storage, &map, &mut manifests, &mut warnings)?;
    let after = checkpoint
        .as_ref()
        .map_or(Lsn::ZERO, |manifest| manifest.replay_after);
    let mut scanner = Scanner::new(storage, &map, after.next(), known_durable);
    loop {
        match scanner.next()? {
            Scanned::Batch(batch) => scanner.recycle(batch),
            Scanned::End(tail) => return Ok(Some((tail, checkpoint, warnings))),
        }
    }
}

/// The newest checkpoint that is intact and from which the log goes on.
fn choose(
    storage: &dyn Storage,
    map: &LogMap,
    manifests: &mut Vec<Manifest>,
    warnings: &mut Vec<String>,
) -> Result<Option<Manifest>, RecoveryError> {
    let first = map
        .segments
        .first()
        .map_or(Lsn(1), |segment| segment.header.first_lsn);
    while let Some(manifest) = manifests.pop() {
        if manifest.replay_after.next() < first {
            continue;
        }
        match check_images(storage, &map.identity, &manifest) {
            Ok(()) => return Ok(Some(manifest)),
            Err(why) => warnings.push(why),
        }
    }
    if first <= Lsn(1) {
        return Ok(None);
    }
    Err(RecoveryError::Truncated {
        first,
        damage: warnings
            .iter()
            .map(|warning| format!("; {warning}"))
            .collect(),
    })
}

/// Whether all images of a checkpoint are intact; else why not.
pub(super) fn check_images(
    storage: &dyn Storage,
    identity: &Identity,
    manifest: &Manifest,
) -> Result<(), String> {
    manifest.images.iter().try_for_each(|file| {
        load::scan_images(storage, identity, file, |_, _| Ok(()))
            .map_err(|damage| damage.to_string())
    })
}
