//! Finds the segments of a log, in their order, and says what stands in the way of reading on.

use super::error::LogError;
use super::format::{
    Identity, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, SegmentHeaderError,
};
use super::segment::{parse_segment_name, segment_name};
use crate::storage::Storage;

/// How much of a file is read at once to see whether it is zeros.
const ZEROS_BYTES: u64 = 256 << 10;

/// A segment file with a good header.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub name: String,
    pub header: SegmentHeader,
    pub len_bytes: u64,
}

/// The segments of a log, oldest first, without gaps.
#[derive(Debug)]
pub(crate) struct LogMap {
    pub identity: Identity,
    pub segments: Vec<SegmentFile>,
    /// Files after the last usable segment, oldest first: their headers never got to the disk, or a file
    /// before them did not. Whether that is the work of a crash is for `tail` to judge.
    pub stranded: Vec<Stranded>,
    /// What is wrong with the first of them, if it turns out to be damage.
    pub obstacle: Option<Obstacle>,
}

/// A segment file that cannot be read in order.
#[derive(Clone, Debug)]
pub(crate) struct Stranded {
    pub name: String,
    pub sequence: u64,
    pub len_bytes: u64,
    /// Its header, if that is good.
    pub header: Option<SegmentHeader>,
}

/// Why the log cannot be read on after its last usable segment.
#[derive(Clone, Debug)]
pub(crate) enum Obstacle {
    /// The file is not there.
    Missing(String),
    /// Its header is not good.
    Header(String, String),
}

/// Looks at the directory. `None`: there is no log (a first file whose header never arrived counts as none).
pub(crate) fn discover(storage: &dyn Storage) -> Result<Option<LogMap>, LogError> {
    let names = storage.list().map_err(|source| LogError::Io {
        file: storage.describe(),
        source,
    })?;
    let mut sequences: Vec<u64> = names
        .iter()
        .filter_map(|name| parse_segment_name(name))
        .collect();
    sequences.sort_unstable();
    let mut segments: Vec<SegmentFile> = Vec::with_capacity(sequences.len());
    let mut stranded = Vec::new();
    let mut obstacle = None;
    for &sequence in &sequences {
        let name = segment_name(sequence);
        let (inspected, len_bytes) = inspect(storage, &name)?;
        let Some(last) = segments.last() else {
            match inspected {
                Inspected::Good(header) => {
                    check_kinship(&name, sequence, &header, None)?;
                    segments.push(segment(name, header, len_bytes));
                }
                // A log that is being created has its header before anything else: without it, and without
                // anything behind it, there is nothing that could have been lost.
                Inspected::Blank | Inspected::Bad(_)
                    if sequences == [1] && is_zero(storage, &name, len_bytes)? =>
                {
                    return Ok(None);
                }
                Inspected::Blank => {
                    return Err(LogError::DamagedHeader {
                        file: name,
                        why: "it is zeros".to_owned(),
                    });
                }
                Inspected::Bad(why) => return Err(LogError::DamagedHeader { file: name, why }),
            }
            continue;
        };
        let expected = last.header.sequence.saturating_add(1);
        let (header, fault) = match inspected {
            // A recycled file keeps the header of its earlier life until the new one is written.
            Inspected::Good(old)
                if old.identity == last.header.identity && old.sequence < sequence =>
            {
                (None, Some("it is that of an earlier segment".to_owned()))
            }
            Inspected::Good(header) => {
                check_kinship(&name, sequence, &header, Some(last))?;
                (Some(header), None)
            }
            Inspected::Blank => (None, Some("it is zeros".to_owned())),
            Inspected::Bad(why) => (None, Some(why)),
        };
        match (header, fault) {
            (Some(header), None) if stranded.is_empty() && sequence == expected => {
                segments.push(segment(name, header, len_bytes));
            }
            (header, fault) => {
                obstacle.get_or_insert_with(|| match fault {
                    Some(why) if sequence == expected => Obstacle::Header(name.clone(), why),
                    _ => Obstacle::Missing(segment_name(expected)),
                });
                stranded.push(Stranded {
                    name,
                    sequence,
                    len_bytes,
                    header,
                });
            }
        }
    }
    Ok(segments
        .first()
        .map(|first| first.header.identity)
        .map(|identity| LogMap {
            identity,
            segments,
            stranded,
            obstacle,
        }))
}

fn segment(name: String, header: SegmentHeader, len_bytes: u64) -> SegmentFile {
    SegmentFile {
        name,
        header,
        // A recycled file may be longer than the segment; what follows is of its earlier life.
        len_bytes: len_bytes.min(header.segment_bytes),
    }
}

enum Inspected {
    Good(SegmentHeader),
    /// Not intact, and why.
    Bad(String),
    /// Too short for a header, or zeros where it should be.
    Blank,
}

/// Reads the header of a segment file, and the length of the file.
fn inspect(storage: &dyn Storage, name: &str) -> Result<(Inspected, u64), LogError> {
    let failed = |source| LogError::Io {
        file: name.to_owned(),
        source,
    };
    let file = storage.open(name, false).map_err(failed)?;
    let len_bytes = file.len_bytes().map_err(failed)?;
    let mut header =
        vec![0; usize::try_from(len_bytes.min(SEGMENT_HEADER_BYTES)).unwrap_or_default()];
    file.read_exact_at(&mut header, 0).map_err(failed)?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok((Inspected::Blank, len_bytes));
    }
    let inspected = match SegmentHeader::decode(&header) {
        Ok(header) => Inspected::Good(header),
        Err(SegmentHeaderError::Newer(version)) => {
            return Err(LogError::Newer {
                file: name.to_owned(),
                version,
            });
        }
        Err(SegmentHeaderError::Foreign) if is_torn_magic(&header) => {
            Inspected::Bad("only a part of it is there".to_owned())
        }
        Err(error @ SegmentHeaderError::Foreign) => {
            return Err(LogError::Foreign {
                file: name.to_owned(),
                why: error.to_string(),
            });
        }
        Err(error @ SegmentHeaderError::Checksum) => Inspected::Bad(error.to_string()),
    };
    Ok((inspected, len_bytes))
}

/// Whether zeros stand where some bytes of the magic should, and nothing else does: so a crash leaves it.
fn is_torn_magic(header: &[u8]) -> bool {
    let mut magic = SEGMENT_MAGIC.iter().zip(header);
    magic.all(|(magic, byte)| byte == magic || *byte == 0)
}

/// Whether a file holds nothing but zeros behind its header, as one does whose creation a crash interrupted.
fn is_zero(storage: &dyn Storage, name: &str, len_bytes: u64) -> Result<bool, LogError> {
    let failed = |source| LogError::Io {
        file: name.to_owned(),
        source,
    };
    let file = storage.open(name, false).map_err(failed)?;
    let mut window = vec![0; usize::try_from(len_bytes.min(ZEROS_BYTES)).unwrap_or_default()];
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < len_bytes {
        let left = usize::try_from(len_bytes - offset).unwrap_or(usize::MAX);
        let len = left.min(window.len());
        let part = window.get_mut(..len).unwrap_or_default();
        file.read_exact_at(part, offset).map_err(failed)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += len as u64;
    }
    Ok(true)
}

fn check_kinship(
    name: &str,
    sequence: u64,
    header: &SegmentHeader,
    previous: Option<&SegmentFile>,
) -> Result<(), LogError> {
    let foreign = |why: &str| {
        Err(LogError::Foreign {
            file: name.to_owned(),
            why: why.to_owned(),
        })
    };
    if header.sequence != sequence {
        return foreign("its header has another sequence number");
    }
    if let Some(previous) = previous {
        if previous.header.identity != header.identity {
            return foreign("its header has another identity");
        }
        if header.first_lsn < previous.header.first_lsn {
            return foreign("its first LSN is below that of the segment before");
        }
    }
    Ok(())
}
