//! Finds what hangs together: unbroken sequences of transactions, and where they can start.

use std::collections::BTreeSet;

use super::report::{SalvageError, Start};
use crate::checkpoint::format::Manifest;
use crate::checkpoint::load;
use crate::inspect::files::{FileKind, Head, Inspection};
use crate::inspect::records::{Entry, Record, RecordKind};
use crate::inspect::verdict::check_images;
use crate::log::format::{
    COMPRESSED_VERSION, Identity, PLAIN_VERSION, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES,
    SegmentHeader,
};
use crate::lsn::Lsn;

/// What of one segment belongs to a chain.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub file: String,
    pub sequence: u64,
    /// Where the first record starts, and where the last one ends.
    pub start: u64,
    pub end: u64,
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    /// Whether any of its transactions is compressed.
    pub has_compressed: bool,
    /// Bytes between two consecutive transactions that are no record: the offset, the length, and the transaction before.
    pub holes: Vec<(u64, u64, Lsn)>,
}

/// Consecutive transactions, all intact.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    pub parts: Vec<Part>,
}

/// What is to be written.
pub(super) struct Plan {
    pub identity: Identity,
    /// Where the state starts, if not at the beginning.
    base: Option<Manifest>,
    /// The transactions that are kept; `None` if there are none.
    pub chain: Option<Chain>,
    /// Checkpoints that go with them, oldest first.
    pub manifests: Vec<Manifest>,
    /// All chains that there are, for the list of losses.
    pub chains: Vec<Chain>,
    pub repairs: Vec<String>,
    /// A sequence number that no file has.
    pub free_sequence: u64,
}

impl Plan {
    /// Chooses what reaches furthest. No transaction above `limit` is taken, and no `excluded` checkpoint.
    pub(super) fn make(
        inspection: &Inspection<'_>,
        limit: Lsn,
        excluded: &BTreeSet<u64>,
    ) -> Result<Self, SalvageError> {
        let identity = inspection.identity.ok_or(SalvageError::NothingProven)?;
        let chains = chains(inspection, limit);
        let intact = intact_manifests(inspection, &identity, excluded);
        let (base, chain) = choose(&chains, &intact, limit);
        let mut plan = Self {
            identity,
            chain: chain.cloned(),
            base: base.cloned(),
            manifests: Vec::new(),
            chains: Vec::new(),
            repairs: Vec::new(),
            free_sequence: free_sequence(inspection),
        };
        plan.manifests = plan.usable(intact);
        plan.repairs = plan.repairs_of(inspection);
        plan.chains = chains;
        Ok(plan)
    }

    pub(super) fn start(&self) -> Start {
        self.base
            .as_ref()
            .map_or(Start::Beginning, |manifest| Start::Checkpoint {
                sequence: manifest.sequence,
                replay_after: manifest.replay_after,
            })
    }

    pub(super) fn checkpoint(&self) -> Option<u64> {
        self.base.as_ref().map(|manifest| manifest.sequence)
    }

    /// First transaction of the new log.
    pub(super) fn first_lsn(&self) -> Lsn {
        let after = || {
            self.base
                .as_ref()
                .map_or(Lsn::ZERO, |base| base.replay_after)
        };
        self.chain
            .as_ref()
            .map_or_else(|| after().next(), |chain| chain.first_lsn)
    }

    /// The state is as of this one.
    pub(super) fn last_lsn(&self) -> Lsn {
        self.chain
            .as_ref()
            .map_or_else(|| self.first_lsn().previous(), |chain| chain.last_lsn)
    }

    /// Those checkpoints whose images stand for nothing that the new log does not hold.
    fn usable(&self, manifests: Vec<Manifest>) -> Vec<Manifest> {
        let (first, last) = (self.first_lsn(), self.last_lsn());
        let fits = |manifest: &Manifest| {
            manifest.newest_image <= last && manifest.replay_after.next() >= first
        };
        let mut usable: Vec<Manifest> = manifests.into_iter().filter(fits).collect();
        for manifest in &mut usable {
            // What it says was durable beyond the new log would make the new log look damaged.
            manifest.durable_lsn = manifest.durable_lsn.min(last);
        }
        usable
    }

    fn repairs_of(&self, inspection: &Inspection<'_>) -> Vec<String> {
        let mut repairs = Vec::new();
        for part in self.chain.iter().flat_map(|chain| &chain.parts) {
            let info = inspection.files.iter().find(|info| info.name == part.file);
            if let Some(fault) = info.and_then(|info| info.fault.as_ref()) {
                repairs.push(format!(
                    "the header of {} was rebuilt: it {fault}",
                    part.file
                ));
            }
            for (offset, len_bytes, _) in &part.holes {
                repairs.push(format!(
                    "padding was written over {} at offset {offset}+{len_bytes}: no transaction is missing there",
                    part.file
                ));
            }
        }
        repairs
    }
}

/// The start and the transactions that reach the highest LSN; among equals the beginning, then the longest history.
fn choose<'a>(
    chains: &'a [Chain],
    manifests: &'a [Manifest],
    limit: Lsn,
) -> (Option<&'a Manifest>, Option<&'a Chain>) {
    let from_beginning = chains.iter().filter(|chain| chain.first_lsn == Lsn(1));
    let mut best = (None, from_beginning.max_by_key(|chain| chain.last_lsn));
    let mut reach = best.1.map_or(Lsn::ZERO, |chain| chain.last_lsn);
    for manifest in manifests {
        let goes_on = |chain: &&Chain| {
            chain.first_lsn <= manifest.replay_after.next()
                && chain.last_lsn >= manifest.newest_image
        };
        let chain = chains
            .iter()
            .filter(goes_on)
            .max_by_key(|chain| chain.last_lsn);
        let reached = match chain {
            Some(chain) => chain.last_lsn,
            // The images are all of one moment, so they are a state by themselves.
            None if manifest.newest_image == manifest.replay_after => manifest.replay_after,
            None => continue,
        };
        if reached > reach && manifest.newest_image <= limit {
            reach = reached;
            best = (Some(manifest), chain);
        }
    }
    best
}

/// Manifests that are intact with all their images, oldest first.
fn intact_manifests(
    inspection: &Inspection<'_>,
    identity: &Identity,
    excluded: &BTreeSet<u64>,
) -> Vec<Manifest> {
    let mut manifests = Vec::new();
    for file in &inspection.files {
        let (FileKind::Manifest(sequence), Some(Head::Manifest { .. })) = (file.kind, &file.head)
        else {
            continue;
        };
        if excluded.contains(&sequence) {
            continue;
        }
        if let Ok(manifest) = load::manifest(inspection.storage, identity, sequence)
            && check_images(inspection.storage, identity, &manifest).is_ok()
        {
            manifests.push(manifest);
        }
    }
    manifests
}

fn free_sequence(inspection: &Inspection<'_>) -> u64 {
    let sequences = inspection.files.iter().filter_map(|file| match file.kind {
        FileKind::Segment(sequence) => Some(sequence),
        _ => None,
    });
    sequences.max().unwrap_or(0).saturating_add(1)
}

/// Collects the chains of a log.
struct Builder {
    limit: Lsn,
    chains: Vec<Chain>,
    /// The number of the segment that is being read, and where its last record ended.
    sequence: u64,
    position: u64,
    /// Nothing but whole records of the last chain were seen since it began.
    is_adjacent: bool,
    /// Padding at the very start of the segment: where it ends, and the transaction before it.
    lead: Option<(u64, Lsn)>,
}

/// All unbroken sequences of transactions up to `limit`, in the order of the files.
fn chains(inspection: &Inspection<'_>, limit: Lsn) -> Vec<Chain> {
    let mut builder = Builder {
        limit,
        chains: Vec::new(),
        sequence: 0,
        position: SEGMENT_HEADER_BYTES,
        is_adjacent: false,
        lead: None,
    };
    for entry in inspection.outline() {
        match entry {
            Entry::Segment { file, .. } => {
                builder.sequence = crate::log::segment::parse_segment_name(&file).unwrap_or(0);
                builder.position = SEGMENT_HEADER_BYTES;
                builder.is_adjacent = false;
                builder.lead = None;
            }
            Entry::Record(record) => builder.record(record),
            Entry::Gap { .. } => builder.is_adjacent = false,
            Entry::Missing { .. } => {}
        }
    }
    builder.chains
}

impl Builder {
    fn record(&mut self, record: Record) {
        let end = record.offset + record.len_bytes;
        if record.kind != RecordKind::Transaction {
            // Padding, and the note of a close, are kept behind the transaction that they name.
            if let Some(chain) = self.chains.last_mut()
                && self.is_adjacent
                && chain.last_lsn == record.lsn
                && let Some(part) = chain.parts.last_mut()
            {
                part.end = end;
                self.position = end;
            } else if record.kind == RecordKind::Padding && record.offset == SEGMENT_HEADER_BYTES {
                self.lead = Some((end, record.lsn));
            }
            return;
        }
        if record.lsn > self.limit || record.lsn == Lsn::ZERO {
            self.is_adjacent = false;
            return;
        }
        let hole = record.offset - self.position;
        // What is to be filled with padding must have room for the head of a record.
        let can_fill = hole == 0 || hole >= RECORD_HEADER_BYTES as u64;
        let sequence = self.sequence;
        let part = Part {
            file: record.file,
            sequence,
            start: match self.lead {
                Some(lead) if lead == (record.offset, record.lsn.previous()) => {
                    SEGMENT_HEADER_BYTES
                }
                _ => record.offset,
            },
            end,
            first_lsn: record.lsn,
            last_lsn: record.lsn,
            has_compressed: record.compression.is_some(),
            holes: Vec::new(),
        };
        match self.chains.last_mut() {
            Some(chain) if chain.last_lsn.next() == record.lsn && can_fill => {
                chain.last_lsn = record.lsn;
                match chain.parts.last_mut() {
                    Some(last) if last.sequence == sequence => {
                        if hole > 0 {
                            let before = record.lsn.previous();
                            last.holes.push((self.position, hole, before));
                        }
                        last.end = end;
                        last.last_lsn = record.lsn;
                        last.has_compressed |= part.has_compressed;
                    }
                    Some(last) if last.sequence.checked_add(1) == Some(sequence) => {
                        chain.parts.push(part);
                    }
                    _ => {
                        chain.last_lsn = record.lsn.previous();
                        self.begin(part);
                    }
                }
            }
            _ if record.offset == SEGMENT_HEADER_BYTES
                || record.offset >= SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES as u64 =>
            {
                self.begin(part);
            }
            _ => return,
        }
        self.position = end;
        self.is_adjacent = true;
    }

    fn begin(&mut self, part: Part) {
        self.chains.push(Chain {
            first_lsn: part.first_lsn,
            last_lsn: part.last_lsn,
            parts: vec![part],
        });
    }
}

impl Part {
    /// The header that the segment gets: its own, as far as that is known and fits.
    pub(super) fn header(&self, inspection: &Inspection<'_>, identity: Identity) -> SegmentHeader {
        let info = inspection.files.iter().find(|info| info.name == self.file);
        let before = self.first_lsn.previous();
        match info.and_then(|info| Some((info.head.as_ref()?, info.len_bytes))) {
            Some((
                Head::Segment {
                    version,
                    durable_lsn,
                    created_unix_ns,
                    segment_bytes,
                    ..
                },
                _,
            )) => SegmentHeader {
                version: *version,
                identity,
                sequence: self.sequence,
                first_lsn: self.first_lsn,
                durable_lsn: (*durable_lsn).min(before),
                created_unix_ns: *created_unix_ns,
                segment_bytes: *segment_bytes,
            },
            _ => SegmentHeader {
                version: if self.has_compressed {
                    COMPRESSED_VERSION
                } else {
                    PLAIN_VERSION
                },
                identity,
                sequence: self.sequence,
                first_lsn: self.first_lsn,
                durable_lsn: Lsn::ZERO,
                created_unix_ns: 0,
                segment_bytes: info.map_or(self.end, |info| info.len_bytes.max(self.end)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(first: u64, last: u64) -> Chain {
        Chain {
            first_lsn: Lsn(first),
            last_lsn: Lsn(last),
            parts: Vec::new(),
        }
    }

    fn manifest(sequence: u64, replay_after: u64, newest_image: u64) -> Manifest {
        Manifest {
            sequence,
            created_unix_ns: 0,
            replay_after: Lsn(replay_after),
            newest_image: Lsn(newest_image),
            durable_lsn: Lsn(newest_image + 5),
            structure_lsn: Lsn(1),
            used: 0,
            free: Vec::new(),
            retired: Vec::new(),
            pages: Vec::new(),
            history: (0, 0, 0),
            connections: Vec::new(),
            metadata: Vec::new(),
            images: Vec::new(),
        }
    }

    /// The number of the checkpoint, and the transactions.
    fn chosen(chains: &[Chain], manifests: &[Manifest]) -> (Option<u64>, Option<(u64, u64)>) {
        let (base, chain) = choose(chains, manifests, Lsn(u64::MAX));
        (
            base.map(|manifest| manifest.sequence),
            chain.map(|chain| (chain.first_lsn.0, chain.last_lsn.0)),
        )
    }

    #[test]
    fn what_reaches_further_wins_and_the_beginning_among_equals() {
        let chains = [chain(1, 9), chain(12, 30)];
        assert_eq!(chosen(&chains, &[]), (None, Some((1, 9))));
        assert_eq!(chosen(&chains, &[manifest(1, 5, 5)]), (None, Some((1, 9))));
        assert_eq!(
            chosen(&chains, &[manifest(1, 5, 5), manifest(2, 11, 12)]),
            (Some(2), Some((12, 30)))
        );
        assert_eq!(chosen(&[], &[]), (None, None));
    }

    #[test]
    fn images_of_several_moments_need_every_transaction_up_to_the_newest() {
        let chains = [chain(1, 9), chain(21, 30)];
        // Its images stand for up to 15, of which 10 to 15 are lost.
        assert_eq!(chosen(&chains, &[manifest(1, 9, 15)]), (None, Some((1, 9))));
        // These are all of one moment: a state by itself, with no transaction behind it.
        assert_eq!(chosen(&chains, &[manifest(1, 15, 15)]), (Some(1), None));
        assert_eq!(
            chosen(&chains, &[manifest(1, 20, 25)]),
            (Some(1), Some((21, 30)))
        );
        assert_eq!(
            chosen(&chains, &[manifest(1, 20, 31)]),
            (None, Some((1, 9)))
        );
    }

    #[test]
    fn checkpoints_beyond_what_is_kept_are_left_and_claims_beyond_it_taken_back() {
        let plan = Plan {
            identity: [0; 16],
            base: None,
            chain: Some(chain(1, 9)),
            manifests: Vec::new(),
            chains: Vec::new(),
            repairs: Vec::new(),
            free_sequence: 2,
        };
        let usable = plan.usable(vec![manifest(1, 7, 8), manifest(2, 8, 10)]);
        let kept: Vec<_> = usable
            .iter()
            .map(|manifest| (manifest.sequence, manifest.durable_lsn))
            .collect();
        assert_eq!(kept, [(1, Lsn(9))]);
    }
}
