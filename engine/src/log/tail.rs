//! Tells the torn end of a crash from damage.
//!
//! Where no good record follows, there are three possibilities: the log simply ends; a crash tore
//! what was being written; or something that had been durable was damaged later. The first two are
//! told from the third by what *other* intact places say: every record, every segment header and every
//! checkpoint names the LSN up to which everything was durable when it was written. If any of them names
//! the LSN that is missing, it had been on the disk: that is damage, and is refused. If none does,
//! no acknowledged synchronous commit can be among what is cut, save one that was the very last thing
//! before the crash and that nothing intact ever followed.

use super::discover::{LogMap, Obstacle};
use super::error::LogError;
use super::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Seed,
};
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

/// Looks for intact records from `position` on, at every place where one could start, but not inside of those found:
/// what a page holds bears no witness.
///
/// Reads each byte twice at most, whatever stands there: records do not overlap, so bodies that turn out not to be
/// intact cannot be longer, all together, than what is searched, and any more of them were made to waste time.
fn search(
    file: &dyn StorageFile,
    name: &str,
    position: u64,
    len_bytes: u64,
    seed: &Seed,
    claims: &mut Claims,
) -> Result<(), LogError> {
    let mut broken_bytes_left = len_bytes.saturating_sub(position);
    // No more than there is to read: the rest of a short segment is what most opens look at.
    let buffer_len = usize::try_from(broken_bytes_left)
        .unwrap_or(usize::MAX)
        .min(SEARCH_BYTES);
    let mut buffer = vec![0; buffer_len];
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
            let mut step_bytes = RECORD_ALIGN_BYTES;
            let place = offset + at as u64;
            if let Some(header) = RecordHeader::decode(head, seed)
                && header.len_bytes <= broken_bytes_left
            {
                if is_intact(file, place, len_bytes, &header).map_err(|source| io(name, source))? {
                    claims.add(header.durable_lsn, || {
                        format!("the record at offset {place} of {name}")
                    });
                    claims.intact += u64::from(header.kind.is_transaction());
                    step_bytes = header.len_bytes;
                } else {
                    broken_bytes_left -= header.len_bytes;
                }
            }
            at = at.saturating_add(usize::try_from(step_bytes).unwrap_or(usize::MAX));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::log::format::RecordKind;

    /// A file in memory that counts what is read of it.
    struct Counted {
        bytes: Vec<u8>,
        read_bytes: AtomicU64,
    }

    impl StorageFile for Counted {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let rest = &self.bytes[offset as usize..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            self.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
            Ok(len)
        }

        fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::Unsupported.into())
        }

        fn len_bytes(&self) -> std::io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }

    const SEED: [u8; 16] = *b"0123456789abcdef";

    fn header(lsn: u64, len_bytes: u64, body_crc: u32) -> [u8; RECORD_HEADER_BYTES] {
        RecordHeader {
            kind: RecordKind::Transaction,
            len_bytes,
            lsn: Lsn(lsn),
            durable_lsn: Lsn(lsn - 1),
            body_crc,
            run_count: 0,
            ops_bytes: 0,
        }
        .encode(&Seed::new(&SEED, 1))
    }

    fn searched(bytes: Vec<u8>) -> (Claims, u64) {
        let file = Counted {
            bytes,
            read_bytes: AtomicU64::new(0),
        };
        let mut claims = Claims::default();
        let len_bytes = file.bytes.len() as u64;
        let seed = Seed::new(&SEED, 1);
        search(&file, "file", 0, len_bytes, &seed, &mut claims).unwrap();
        (claims, file.read_bytes.load(Ordering::Relaxed))
    }

    #[test]
    fn headers_inside_of_each_other_are_searched_in_linear_time() {
        let len = 1 << 18;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let rest = (len - bytes.len()) as u64;
            bytes.extend_from_slice(&header(9, rest, 1));
        }
        let (claims, read_bytes) = searched(bytes);
        assert_eq!(claims.intact, 0);
        assert!(read_bytes <= 2 * len as u64, "{read_bytes} bytes were read");
    }

    #[test]
    fn what_stands_inside_of_an_intact_record_bears_no_witness() {
        let inner = header(50, 32, crc32c(&[]));
        let mut bytes = header(5, 64, crc32c(&inner)).to_vec();
        bytes.extend_from_slice(&inner);
        bytes.extend_from_slice(&header(6, 32, crc32c(&[])));
        let (claims, _) = searched(bytes);
        assert_eq!((claims.intact, claims.durable_lsn), (2, Lsn(5)));
    }
}
