//! Segment files: names, creation, recycling.

use std::io;
use std::sync::Arc;

use super::format::{Identity, SEGMENT_HEADER_BYTES, Seed, SegmentHeader};
use crate::storage::{Storage, StorageFile};

const SEGMENT_PREFIX: &str = "log-";
const SPARE_PREFIX: &str = "spare-";
/// How much is written at once when a segment is filled with zeros.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// The file name of segment `sequence`; names sort as their numbers do.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("{SEGMENT_PREFIX}{sequence:016x}")
}

/// The sequence number in the name of a segment file.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    parse_name(name, SEGMENT_PREFIX)
}

/// The file name of a segment that waits to be used again.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{SPARE_PREFIX}{number:016x}")
}

/// The number in the name of a spare file.
pub(crate) fn parse_spare_name(name: &str) -> Option<u64> {
    parse_name(name, SPARE_PREFIX)
}

fn parse_name(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    // `from_str_radix` alone would take signs and any length.
    (digits.len() == 16
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
    .then(|| u64::from_str_radix(digits, 16).ok())?
}

/// A segment that is being written.
pub(crate) struct Segment {
    pub file: Box<dyn StorageFile>,
    pub header: SegmentHeader,
    pub seed: Seed,
}

impl Segment {
    pub(crate) fn new(file: Box<dyn StorageFile>, header: SegmentHeader) -> Arc<Self> {
        let seed = Seed::new(&header.identity, header.sequence);
        Arc::new(Self { file, header, seed })
    }

    pub(crate) fn name(&self) -> String {
        segment_name(self.header.sequence)
    }
}

/// The name of a file that was prepared for use as a segment, and its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub name: String,
    pub len_bytes: u64,
}

/// Fills `file` with zeros up to `len_bytes` and makes that durable.
///
/// On ext4 and XFS a range that was only preallocated is still marked unwritten, and the first write to
/// it costs a journal commit at the sync; ranges that were once written cost none.
pub(crate) fn fill_with_zeros(file: &dyn StorageFile, from: u64, len_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK_BYTES.min(usize::try_from(len_bytes).unwrap_or(usize::MAX))];
    let mut offset = from;
    while offset < len_bytes {
        let left = usize::try_from(len_bytes - offset).unwrap_or(usize::MAX);
        let chunk = zeros.get(..left.min(zeros.len())).unwrap_or(&zeros);
        file.write_all_at(chunk, offset)?;
        offset += chunk.len() as u64;
    }
    file.sync()
}

/// What the parts of the writer that open segments share.
#[derive(Clone)]
pub(crate) struct SegmentMaker {
    pub storage: Arc<dyn Storage>,
    /// The format version of new segments.
    pub version: u32,
    pub identity: Identity,
    pub segment_bytes: u64,
    pub prefill: bool,
}

impl SegmentMaker {
    /// Opens the file of segment `header.sequence`, out of `spare` if there is one that is long enough;
    /// else a new one, filled with zeros first if `prefill`. The name is not durable yet, and the header
    /// is not written.
    pub(crate) fn open(
        &self,
        header: SegmentHeader,
        spare: Option<&Spare>,
        prefill: bool,
    ) -> io::Result<Arc<Segment>> {
        let name = segment_name(header.sequence);
        let file = match spare {
            Some(spare) if spare.len_bytes >= header.segment_bytes => {
                self.storage.rename(&spare.name, &name)?;
                self.storage.open(&name, true)?
            }
            _ => {
                let file = self.storage.create(&name)?;
                if prefill {
                    fill_with_zeros(&*file, SEGMENT_HEADER_BYTES, header.segment_bytes)?;
                }
                file
            }
        };
        Ok(Segment::new(file, header))
    }

    /// Prepares a file of zeros for later use.
    pub(crate) fn prepare(&self, number: u64) -> io::Result<Spare> {
        let name = spare_name(number);
        let file = self.storage.create(&name)?;
        fill_with_zeros(&*file, 0, self.segment_bytes)?;
        self.storage.sync_names()?;
        Ok(Spare {
            name,
            len_bytes: self.segment_bytes,
        })
    }

    /// The length of a segment whose first record takes `record_bytes`, padding included.
    pub(crate) fn segment_bytes_for(&self, record_bytes: u64) -> u64 {
        let needed = SEGMENT_HEADER_BYTES + record_bytes;
        self.segment_bytes.max(needed.next_multiple_of(4096))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_not_taken() {
        assert_eq!(parse_segment_name(&segment_name(0xabc)), Some(0xabc));
        assert_eq!(parse_spare_name(&spare_name(1)), Some(1));
        for foreign in [
            "log-",
            "log-1",
            "log-000000000000000G",
            "log-+00000000000000a",
            "log-0000000000000001.tmp",
        ] {
            assert_eq!(parse_segment_name(foreign), None, "{foreign}");
        }
    }
}
