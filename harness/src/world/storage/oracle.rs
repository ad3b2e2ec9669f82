//! Watches the order in which things become durable, whatever they contain.
//!
//! It reads, with code of its own, the few fields of the files that say which transaction something stands for, and
//! follows which writes were synced. Three things must never happen: a commit is acknowledged as synced and its
//! record is not; a page image or a manifest is on its way to the disk before the records that it stands for are there;
//! a segment goes before the checkpoint that makes it superfluous, and the header of the segment after it, would survive a
//! crash.

use std::collections::{BTreeMap, BTreeSet};

const HEADER_BYTES: u64 = 4096;
const RECORD_HEAD_BYTES: usize = 32;
const ALIGN_BYTES: u64 = 16;
const FILE_HEAD_BYTES: usize = 64;
const IMAGE_HEAD_BYTES: usize = 48;
const TRANSACTION: u32 = 1;

/// A record of which not all bytes were written yet.
#[derive(Clone, Copy, Debug)]
struct Partial {
    lsn: Option<u64>,
    next: u64,
    end: u64,
}

/// What is known of one segment.
#[derive(Clone, Debug, Default)]
struct Segment {
    partial: Option<Partial>,
    /// LSNs of records that were written as a whole, and not synced.
    unsynced: Vec<u64>,
    /// The beginning of a record, too short to tell which, and where it stands.
    stub: Option<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    segments: BTreeMap<u32, Segment>,
    /// LSNs whose records are somewhere on their way.
    outstanding: BTreeSet<u64>,
    highest: u64,
    violation: Option<String>,
}

impl Oracle {
    /// Everything up to here is on the disk, as a recovery that was compared with the model found it there.
    pub(super) fn recovered(&mut self, lsn: u64) {
        let violation = self.violation.take();
        *self = Self {
            highest: lsn,
            violation,
            ..Self::default()
        };
    }

    /// The file is another from here on.
    pub(super) fn forget_file(&mut self, file: u32) {
        self.segments.remove(&file);
    }

    /// The first thing that went wrong.
    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    fn violated(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// The LSN up to which every record is durable.
    fn durable(&self) -> u64 {
        self.outstanding
            .first()
            .map_or(self.highest, |lsn| lsn.saturating_sub(1))
    }

    pub(super) fn acknowledged(&mut self, lsn: u64) {
        let durable = self.durable();
        if lsn > durable {
            self.violated(|| {
                format!(
                    "LSN {lsn} was acknowledged as synced, but only what is up to LSN {durable} was"
                )
            });
        }
    }

    pub(super) fn wrote(&mut self, name: &str, file: u32, start: u64, bytes: &[u8]) {
        if name.starts_with("log-") {
            self.wrote_log(file, start, bytes);
        } else if let Some(sequence) = name.strip_prefix("images-") {
            let sequence = u64::from_str_radix(sequence, 16).unwrap_or_default();
            self.wrote_images(name, sequence, start, bytes);
        } else if name.starts_with("checkpoint-") && start == 0 {
            self.wrote_manifest(name, bytes);
        }
    }

    fn wrote_log(&mut self, file: u32, start: u64, bytes: &[u8]) {
        let segment = self.segments.entry(file).or_default();
        match segment.stub.take() {
            Some((at, mut whole)) if at + whole.len() as u64 == start => {
                whole.extend_from_slice(bytes);
                self.walk(file, at, &whole);
            }
            _ => self.walk(file, start, bytes),
        }
    }

    fn walk(&mut self, file: u32, start: u64, bytes: &[u8]) {
        let segment = self.segments.entry(file).or_default();
        let end = start + bytes.len() as u64;
        let mut position = start.max(HEADER_BYTES);
        if let Some(partial) = &mut segment.partial {
            if start <= partial.next && partial.next < end {
                partial.next = end.min(partial.end);
                position = partial.end;
                if partial.next == partial.end {
                    segment.unsynced.extend(partial.lsn);
                    segment.partial = None;
                }
            } else if start >= partial.end {
                // The zeros behind a record that is written in two parts come before its second part.
                return;
            }
        }
        while position < end {
            let at = usize::try_from(position - start).unwrap_or(usize::MAX);
            let rest = bytes.get(at..).unwrap_or_default();
            let Some((len_bytes, lsn)) = record(rest) else {
                if rest.len() < RECORD_HEAD_BYTES {
                    segment.stub = Some((position, rest.to_vec()));
                }
                return;
            };
            let record_end = position + len_bytes;
            if let Some(lsn) = lsn {
                self.outstanding.insert(lsn);
                self.highest = self.highest.max(lsn);
            }
            if record_end <= end {
                segment.unsynced.extend(lsn);
            } else {
                segment.partial = Some(Partial {
                    lsn,
                    next: end,
                    end: record_end,
                });
            }
            position = record_end;
        }
    }

    fn wrote_images(&mut self, name: &str, sequence: u64, start: u64, bytes: &[u8]) {
        let durable = self.durable();
        let mut at = if start == 0 { FILE_HEAD_BYTES } else { 0 };
        while let Some(head) = bytes.get(at..at + IMAGE_HEAD_BYTES) {
            let (len_bytes, lsn) = (u64_at(head, 16), u64_at(head, 24));
            if u64_at(head, 32) != sequence {
                return;
            }
            if lsn > durable {
                self.violated(|| {
                    format!(
                        "an image as of LSN {lsn} is written to {name}, but the log is durable up to LSN {durable} only"
                    )
                });
            }
            let next = (at + IMAGE_HEAD_BYTES) as u64 + len_bytes;
            at = usize::try_from(next.next_multiple_of(ALIGN_BYTES)).unwrap_or(usize::MAX);
        }
    }

    /// The first numbers of a manifest's body: sequence, time, replay after, newest image, durable.
    fn wrote_manifest(&mut self, name: &str, bytes: &[u8]) {
        let durable = self.durable();
        let Some(body) = bytes.get(FILE_HEAD_BYTES..FILE_HEAD_BYTES + 40) else {
            return;
        };
        for at in [16, 24, 32] {
            let lsn = u64_at(body, at);
            if lsn > durable {
                self.violated(|| {
                    format!(
                        "{name} stands for LSN {lsn}, but the log is durable up to LSN {durable} only"
                    )
                });
            }
        }
    }

    /// A file was synced: whatever was written to it as a whole is on the disk.
    pub(super) fn synced(&mut self, file: u32) {
        if let Some(segment) = self.segments.get_mut(&file) {
            for lsn in segment.unsynced.drain(..) {
                self.outstanding.remove(&lsn);
            }
        }
    }

    pub(super) fn renamed(&mut self, from: &str, to: &str, synced: bool) {
        if (to.starts_with("checkpoint-") || to == "closed") && !synced {
            self.violated(|| {
                format!("{from} becomes {to}, but its bytes or those of its images are not synced")
            });
        }
    }

    pub(super) fn segment_goes(
        &mut self,
        name: &str,
        manifests_durable: bool,
        successor_durable: bool,
    ) {
        if !successor_durable {
            self.violated(|| {
                format!("{name} goes before the header of the segment after it is on the disk")
            });
        }
        if !manifests_durable {
            self.violated(|| {
                format!("{name} goes before the name of the checkpoint that replaces it is synced")
            });
        }
    }
}

/// Length and, of a transaction, LSN of the record that starts with these bytes, if one does.
fn record(bytes: &[u8]) -> Option<(u64, Option<u64>)> {
    let head = bytes.get(..RECORD_HEAD_BYTES)?;
    let len_bytes = u64::from(u32_at(head, 0)) * ALIGN_BYTES;
    if len_bytes < RECORD_HEAD_BYTES as u64 {
        return None;
    }
    // A transaction whose stream is compressed has another kind, and an LSN of its own all the same.
    let kind = u32_at(head, 24) >> 28;
    let lsn = u64_at(head, 8);
    match kind {
        TRANSACTION | 4 => Some((len_bytes, Some(lsn))),
        2 | 3 => Some((len_bytes, None)),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(lsn: u64, len_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; len_bytes];
        bytes[0..4].copy_from_slice(&(len_bytes as u32 / 16).to_le_bytes());
        bytes[8..16].copy_from_slice(&lsn.to_le_bytes());
        bytes[24..28].copy_from_slice(&(TRANSACTION << 28).to_le_bytes());
        bytes
    }

    #[test]
    fn a_commit_is_durable_when_all_of_its_record_was_synced() {
        let mut oracle = Oracle::default();
        let record = transaction(1, 96);
        oracle.wrote("log-1", 7, 4096, &record[..64]);
        oracle.wrote("log-1", 7, 4096 + 96, &[0; 32]);
        oracle.synced(7);
        oracle.clone().acknowledged(0);
        let mut early = oracle.clone();
        early.acknowledged(1);
        assert!(early.violation().is_some());
        oracle.wrote("log-1", 7, 4096 + 64, &record[64..]);
        let mut early = oracle.clone();
        early.acknowledged(1);
        assert!(early.violation().is_some());
        oracle.synced(7);
        oracle.acknowledged(1);
        assert_eq!(oracle.violation(), None);
        oracle.acknowledged(2);
        assert!(oracle.violation().is_some());
    }

    #[test]
    fn images_and_manifests_come_after_their_records() {
        let mut oracle = Oracle::default();
        oracle.wrote("log-1", 7, 4096, &transaction(3, 64));
        let mut image = vec![0; 64];
        image[16..24].copy_from_slice(&8u64.to_le_bytes());
        image[24..32].copy_from_slice(&3u64.to_le_bytes());
        image[32..40].copy_from_slice(&1u64.to_le_bytes());
        let mut manifest = vec![0; 128];
        manifest[64 + 24..64 + 32].copy_from_slice(&3u64.to_le_bytes());
        for (name, start, bytes) in [
            ("images-0000000000000001", 64, &image),
            ("checkpoint-1.tmp", 0, &manifest),
        ] {
            let mut early = oracle.clone();
            early.wrote(name, 8, start, bytes);
            assert!(early.violation().is_some(), "{name}");
            let mut late = oracle.clone();
            late.synced(7);
            late.wrote(name, 8, start, bytes);
            assert_eq!(late.violation(), None, "{name}");
        }
    }

    #[test]
    fn names_come_after_bytes_and_segments_go_last() {
        let mut oracle = Oracle::default();
        oracle.renamed("checkpoint-1.tmp", "checkpoint-1", true);
        oracle.renamed("closed.tmp", "closed", true);
        oracle.segment_goes("log-1", true, true);
        assert_eq!(oracle.violation(), None);
        let mut early = oracle.clone();
        early.renamed("closed.tmp", "closed", false);
        assert!(early.violation().is_some());
        let mut early = oracle.clone();
        early.segment_goes("log-1", true, false);
        assert!(early.violation().is_some());
        let mut early = oracle.clone();
        early.renamed("checkpoint-1.tmp", "checkpoint-1", false);
        assert!(early.violation().is_some());
        oracle.segment_goes("log-1", false, true);
        assert!(oracle.violation().is_some());
    }
}
