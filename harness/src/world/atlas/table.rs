//! What is promised: one entry a kind of file and fault.

use std::fmt::Write as _;

use crate::scenario::fault::{Act, FaultKind, Holds, Site};

/// What a fault may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Everything acknowledged is there after the next open.
    Recovered,
    /// The next open recovers everything, or refuses, or tells of the loss.
    Noticed,
}

impl Promise {
    /// The word of the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Noticed => "detected",
        }
    }
}

/// One promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The operation that fails.
    pub on: Site,
    /// How it fails.
    pub kind: FaultKind,
    /// What may come of it.
    pub promise: Promise,
}

const FILES: [Holds; 5] = [
    Holds::Log,
    Holds::Spare,
    Holds::Manifest,
    Holds::Images,
    Holds::Closed,
];

/// What is promised of a fault on a file of this kind.
const fn promise(holds: Holds, act: Act, kind: FaultKind) -> Promise {
    match (holds, act, kind) {
        // The log alone is the truth: where the disk lies about it, no other copy can stand in, but the lie is noticed.
        (
            Holds::Log,
            Act::Write,
            FaultKind::Lost | FaultKind::Misdirected | FaultKind::Rot | FaultKind::Unreadable,
        )
        | (Holds::Log | Holds::Names, Act::Sync, FaultKind::Lost)
        | (Holds::Log, Act::Read, FaultKind::Misdirected | FaultKind::Rot) => Promise::Noticed,
        // Once older segments are gone, images that several checkpoints share are the only way to what they held.
        // Of manifests there are two.
        (
            Holds::Images,
            Act::Write,
            FaultKind::Lost | FaultKind::Misdirected | FaultKind::Rot | FaultKind::Unreadable,
        )
        | (Holds::Images, Act::Sync, FaultKind::Lost)
        | (
            Holds::Images,
            Act::Read,
            FaultKind::Misdirected | FaultKind::Rot | FaultKind::Unreadable,
        )
        | (Holds::Log, Act::Read, FaultKind::Unreadable) => Promise::Noticed,
        _ => Promise::Recovered,
    }
}

/// Operations that the engine never asks for.
fn is_asked_for(on: Site) -> bool {
    !matches!(
        (on.holds, on.act),
        (Holds::Images, Act::Rename) | (Holds::Spare, Act::Read) | (Holds::Closed, Act::Remove)
    )
}

/// Every promise, in the order of the table.
pub static ATLAS: std::sync::LazyLock<Vec<Entry>> = std::sync::LazyLock::new(|| {
    let mut entries = Vec::new();
    for holds in FILES.into_iter().chain([Holds::Names]) {
        for act in Act::ALL {
            let on = Site { holds, act: *act };
            for kind in FaultKind::ALL {
                if on.exists() && is_asked_for(on) && kind.fits(on.act) {
                    entries.push(Entry {
                        on,
                        kind,
                        promise: promise(holds, on.act, kind),
                    });
                }
            }
        }
    }
    entries
});

/// The table as `docs/GUARANTEES.md` has it: operations down, faults across.
#[must_use]
pub fn markdown() -> String {
    let kinds = FaultKind::ALL
        .into_iter()
        .filter(|kind| kind.is_of_storage());
    let mut out = String::from("| |");
    for kind in kinds.clone() {
        let _ = write!(out, " {} |", kind.as_str());
    }
    let _ = write!(out, "\n|{}\n", " --- |".repeat(kinds.clone().count() + 1));
    let mut sites: Vec<Site> = ATLAS.iter().map(|entry| entry.on).collect();
    sites.dedup();
    for site in sites {
        let _ = write!(out, "| `{site}` |");
        for kind in kinds.clone() {
            let entry = ATLAS
                .iter()
                .find(|entry| entry.on == site && entry.kind == kind);
            let word = entry.map_or("", |entry| entry.promise.as_str());
            let _ = write!(out, " {word} |");
        }
        out.push('\n');
    }
    out
}
