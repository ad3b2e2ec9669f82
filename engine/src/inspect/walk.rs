//! Walks the bytes of one segment, whatever they are: every byte behind the header belongs to exactly one piece.

use std::io;

use super::window::Window;
use crate::checksum::crc32c;
use crate::log::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, Seed,
};
use crate::storage::StorageFile;

/// So many zeros among bytes that are no record end what is looked at as one piece.
const ZERO_STRETCH_BYTES: u64 = 4096;

/// Some bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub offset: u64,
    pub len_bytes: u64,
    pub kind: PieceKind,
}

/// What the bytes of a piece are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// A record of any kind whose checksums match.
    Record(RecordHeader),
    /// Zeros.
    Zeros,
    /// Neither a record nor zeros.
    Unknown,
    /// The operating system refused to read it.
    Unreadable,
}

/// Goes through a segment from behind its header to `limit`.
pub(super) struct Walk {
    window: Window,
    seed: Seed,
    limit: u64,
    position: u64,
}

impl Walk {
    /// `limit` is where the segment ends, if that is before the end of its file.
    pub(super) fn new(file: Box<dyn StorageFile>, seed: Seed, limit: u64) -> io::Result<Self> {
        let window = Window::new(file)?;
        let limit = limit.min(window.len_bytes());
        Ok(Self {
            window,
            seed,
            limit,
            position: SEGMENT_HEADER_BYTES,
        })
    }

    /// The next piece; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Piece> {
        let offset = self.position;
        if offset >= self.limit {
            return None;
        }
        let (end, kind) = if let Some(end) = self.window.unreadable_until(offset) {
            (end.min(self.limit), PieceKind::Unreadable)
        } else if let Some(header) = self.intact_at(offset) {
            (offset + header.len_bytes, PieceKind::Record(header))
        } else if self.is_zero(offset) {
            (self.end_of_zeros(offset), PieceKind::Zeros)
        } else {
            (self.end_of_unknown(offset), PieceKind::Unknown)
        };
        self.position = end;
        Some(Piece {
            offset,
            len_bytes: end - offset,
            kind,
        })
    }

    /// What stands in a record after its header.
    pub(super) fn body(&mut self, offset: u64, header: &RecordHeader) -> Option<&[u8]> {
        let head = RECORD_HEADER_BYTES as u64;
        self.window
            .get(offset + head, header.len_bytes.checked_sub(head)?)
    }

    fn intact_at(&mut self, at: u64) -> Option<RecordHeader> {
        if at + RECORD_HEADER_BYTES as u64 > self.limit {
            return None;
        }
        let seed = self.seed;
        let head = self.window.get(at, RECORD_HEADER_BYTES as u64)?;
        let header = RecordHeader::decode(head, &seed)?;
        if header.len_bytes > self.limit - at {
            return None;
        }
        // In one piece, so that the body is not read twice.
        self.window.get(at, header.len_bytes)?;
        let body = self.body(at, &header)?;
        let is_intact = match header.kind {
            RecordKind::Transaction | RecordKind::CompressedTransaction => {
                crc32c(body) == header.body_crc && header.ops_bytes as usize <= body.len()
            }
            // Nothing stands in it, so nothing in it can be wrong.
            RecordKind::Padding | RecordKind::Close => true,
        };
        is_intact.then_some(header)
    }

    /// Whether the unit at `at` is zeros; the last one may be shorter. What cannot be read is not.
    fn is_zero(&mut self, at: u64) -> bool {
        let len_bytes = RECORD_ALIGN_BYTES.min(self.limit - at);
        let unit = self.window.get(at, len_bytes);
        unit.is_some_and(|unit| unit.iter().all(|byte| *byte == 0))
    }

    fn end_of_zeros(&mut self, offset: u64) -> u64 {
        let mut end = offset;
        while end < self.limit && self.is_zero(end) {
            end += RECORD_ALIGN_BYTES;
        }
        end.min(self.limit)
    }

    /// Up to the next record, what cannot be read, or a stretch of zeros.
    fn end_of_unknown(&mut self, offset: u64) -> u64 {
        let mut end = offset + RECORD_ALIGN_BYTES;
        let mut zeros = 0;
        while end < self.limit && zeros < ZERO_STRETCH_BYTES {
            if self.is_zero(end) {
                zeros += RECORD_ALIGN_BYTES;
            } else if self.window.unreadable_until(end).is_some() || self.intact_at(end).is_some() {
                break;
            } else {
                zeros = 0;
            }
            end += RECORD_ALIGN_BYTES;
        }
        (end - zeros).min(self.limit)
    }
}
