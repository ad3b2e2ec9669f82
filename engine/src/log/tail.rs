//! Tells the torn end of a crash from damage.
//!
//! Where no good record follows, there are three possibilities: the log simply ends; a crash tore
//! what was being written; or something that had been durable was damaged later. The first two are
//! told from the third by what *other* intact places say: every record, every segment header and every
//! checkpoint names the LSN up to which everything was durable when it was written. If any of them names
//! the LSN that is missing, it had been on the disk: that is damage, and is refused. If none does,
//! no acknowledged synchronous commit can be among what is cut, save one that was the very last thing
//! before the crash and that nothing intact ever followed.

use super::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Seed,
};
use super::reader::{LogError, LogMap, Obstacle};
use crate::checksum::crc32c;
use crate::lsn::Lsn;
use crate::storage::{Storage, StorageFile};

/// How much the search for intact records reads at once.
const SEARCH_BYTES: usize = 1 << 20;

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The last good transaction.
    pub last_lsn: Lsn,
    /// Index of the segment in which the log goes on.
    pub segment: usize,
    /// Offset at which it goes on.
    pub position: u64,
    /// What a crash left behind the end, if anything.
    pub torn: Option<Torn>,
}

/// What was found behind the end of a log, and is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Torn {
    /// Name of the segment.
    pub file: String,
    /// Offset from which it is cut.
    pub offset: u64,
    /// LSN of the first transaction that is lost.
    pub lsn: Lsn,
    /// Intact records further on, which cannot be used because of the gap before them.
    pub intact_after: u64,
    /// Later segments, which are dropped.
    pub dropped_segments: u64,
}

/// Where reading stopped.
pub(crate) struct Break<'a> {
    pub storage: &'a dyn Storage,
    pub map: &'a LogMap,
    pub segment: usize,
    pub file: &'a dyn StorageFile,
    pub position: u64,
    pub expected: Lsn,
    pub known_durable: Lsn,
}

/// The end of a log without segments.
pub(crate) fn nothing(map: &LogMap, expected: Lsn) -> Tail {
    Tail {
        last_lsn: expected.previous(),
        segment: map.segments.len().saturating_sub(1),
        position: SEGMENT_HEADER_BYTES,
        torn: None,
    }
}

/// The highest claim found so far, who made it, and how many intact records there were.
#[derive(Default)]
struct Claims {
    durable_lsn: Lsn,
    evidence: String,
    intact: u64,
}

impl Claims {
    fn add(&mut self, durable_lsn: Lsn, evidence: impl FnOnce() -> String) {
        if durable_lsn > self.durable_lsn {
            self.durable_lsn = durable_lsn;
            self.evidence = evidence();
        }
    }
}

/// Decides what the break is. Reads the rest of the log, so it costs as much as reading it.
pub(crate) fn judge(at: &Break<'_>) -> Result<Tail, LogError> {
    let mut claims = Claims::default();
    claims.add(at.known_durable, || {
        "a checkpoint or the mark of a close".to_owned()
    });
    let mut blank_here = true;
    for (index, segment) in at.map.segments.iter().enumerate().skip(at.segment) {
        let seed = Seed::new(&segment.header.identity, segment.header.sequence);
        let name = &segment.name;
        if index == at.segment {
            blank_here = is_blank(at.file, at.position, segment.len_bytes)
                .map_err(|source| io(name, source))?;
            search(
                at.file,
                name,
                at.position,
                segment.len_bytes,
                &seed,
                &mut claims,
            )?;
        } else {
            claims.add(segment.header.durable_lsn, || {
                format!("the header of {name}")
            });
            let file = at
                .storage
                .open(name, false)
                .map_err(|source| io(name, source))?;
            search(
                &*file,
                name,
                SEGMENT_HEADER_BYTES,
                segment.len_bytes,
                &seed,
                &mut claims,
            )?;
        }
    }
    let mut dropped_segments = (at.map.segments.len() - at.segment - 1) as u64;
    for stranded in &at.map.stranded {
        let name = &stranded.name;
        if let Some(header) = &stranded.header {
            claims.add(header.durable_lsn, || format!("the header of {name}"));
            dropped_segments += 1;
        }
        let seed = Seed::new(&at.map.identity, stranded.sequence);
        let file = at
            .storage
            .open(name, false)
            .map_err(|source| io(name, source))?;
        search(
            &*file,
            name,
            SEGMENT_HEADER_BYTES,
            stranded.len_bytes,
            &seed,
            &mut claims,
        )?;
    }
    let file = at
        .map
        .segments
        .get(at.segment)
        .map(|segment| segment.name.clone())
        .unwrap_or_default();
    if claims.durable_lsn >= at.expected {
        return Err(damage(at, file, blank_here, claims));
    }
    let torn = (!blank_here || claims.intact > 0 || dropped_segments > 0).then_some(Torn {
        file,
        offset: at.position,
        lsn: at.expected,
        intact_after: claims.intact,
        dropped_segments,
    });
    Ok(Tail {
        last_lsn: at.expected.previous(),
        segment: at.segment,
        position: at.position,
        torn,
    })
}

/// The error for an LSN that had been durable and is not there: the record, or the file that held it.
fn damage(at: &Break<'_>, file: String, blank_here: bool, claims: Claims) -> LogError {
    let is_last = at.segment + 1 == at.map.segments.len();
    match &at.map.obstacle {
        Some(Obstacle::Missing(file)) if is_last && blank_here => {
            LogError::Missing { file: file.clone() }
        }
        Some(Obstacle::Header(file, why)) if is_last && blank_here => LogError::DamagedHeader {
            file: file.clone(),
            why: why.clone(),
        },
        _ => LogError::Damaged {
            file,
            offset: at.position,
            lsn: at.expected,
            known_durable: claims.durable_lsn,
            evidence: claims.evidence,
        },
    }
}

/// Whether zeros stand where the next record header would: nothing was ever begun there.
fn is_blank(file: &dyn StorageFile, position: u64, len_bytes: u64) -> std::io::Result<bool> {
    let mut head = [0; RECORD_HEADER_BYTES];
    let left = usize::try_from(len_bytes.saturating_sub(position)).unwrap_or(usize::MAX);
    let head = head
        .get_mut(..left.min(RECORD_HEADER_BYTES))
        .unwrap_or_default();
    file.read_exact_at(head, position)?;
    Ok(head.iter().all(|byte| *byte == 0))
}

/// Looks for intact records from `position` on, at every place where one could start.
fn search(
    file: &dyn StorageFile,
    name: &str,
    position: u64,
    len_bytes: u64,
    seed: &Seed,
    claims: &mut Claims,
) -> Result<(), LogError> {
    let mut buffer = vec![0; SEARCH_BYTES];
    let mut offset = position;
    while offset + RECORD_HEADER_BYTES as u64 <= len_bytes {
        let len = usize::try_from(len_bytes - offset)
            .unwrap_or(usize::MAX)
            .min(SEARCH_BYTES);
        let Some(window) = buffer.get_mut(..len) else {
            break;
        };
        file.read_exact_at(window, offset)
            .map_err(|source| io(name, source))?;
        let mut at = 0;
        while let Some(head) = window.get(at..at + RECORD_HEADER_BYTES) {
            if let Some(header) = RecordHeader::decode(head, seed)
                && is_intact(file, offset + at as u64, len_bytes, &header)
                    .map_err(|source| io(name, source))?
            {
                let place = offset + at as u64;
                claims.add(header.durable_lsn, || {
                    format!("the record at offset {place} of {name}")
                });
                claims.intact += u64::from(header.kind.is_transaction());
            }
            at += RECORD_ALIGN_BYTES as usize;
        }
        offset += at as u64;
    }
    Ok(())
}

/// Whether the record with this header has the body that the header promises.
fn is_intact(
    file: &dyn StorageFile,
    offset: u64,
    len_bytes: u64,
    header: &RecordHeader,
) -> std::io::Result<bool> {
    let end = offset.saturating_add(header.len_bytes);
    if end > len_bytes {
        return Ok(false);
    }
    if !header.kind.is_transaction() {
        return Ok(true);
    }
    // The header's own checksum matched, so the length is what was once written: bounded by the segment.
    let mut body =
        vec![0; usize::try_from(header.len_bytes).unwrap_or_default() - RECORD_HEADER_BYTES];
    file.read_exact_at(&mut body, offset + RECORD_HEADER_BYTES as u64)?;
    Ok(crc32c(&body) == header.body_crc)
}

fn io(file: &str, source: std::io::Error) -> LogError {
    LogError::Io {
        file: file.to_owned(),
        source,
    }
}
