//! Which field of which format every byte of a directory belongs to.

use super::error::InspectError;
use super::files::{FileKind, Inspection};
use super::walk::{Piece, PieceKind, Walk};
use super::window::Window;
use crate::checkpoint::format::{
    FILE_HEAD_BYTES, IMAGE_ALIGN_BYTES, IMAGE_HEAD_BYTES, IMAGE_HEAD_LAYOUT, IMAGES_HEAD_LAYOUT,
    ImageHead, MANIFEST_HEAD_LAYOUT,
};
use crate::log::compression::{PACKED_HEAD_LAYOUT, split};
use crate::log::format::{
    RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RECORD_HEADER_LAYOUT, RUN_HEAD_LAYOUT, RecordHeader,
    RecordKind, Runs, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LAYOUT, Seed, align_up,
};
use crate::log::mark::MARK_LAYOUT;
use crate::lsn::Lsn;
use crate::storage::Storage;

/// How many zeros the writer puts behind its last record.
const TERMINATOR_BYTES: u64 = RECORD_HEADER_BYTES as u64;

/// Some bytes of a file, and which field of the format they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Offset in the file.
    pub offset: u64,
    /// Length; never zero.
    pub len_bytes: u64,
    /// What it is: the artefact, a dot, and the field, as in `docs/FORMAT.md`.
    pub name: &'static str,
    /// The LSN of the record or the image that it belongs to, if it belongs to one.
    pub lsn: Option<Lsn>,
}

/// Collects fields without gaps: each starts where the one before ended.
struct Fields {
    fields: Vec<Field>,
    position: u64,
    /// Nothing is reported behind the end of the file.
    end: u64,
}

impl Fields {
    fn push(&mut self, len_bytes: u64, name: &'static str, lsn: Option<Lsn>) {
        let len_bytes = len_bytes.min(self.end - self.position);
        if len_bytes > 0 {
            self.fields.push(Field {
                offset: self.position,
                len_bytes,
                name,
                lsn,
            });
            self.position += len_bytes;
        }
    }

    fn layout(&mut self, layout: &'static [(&'static str, u64)], lsn: Option<Lsn>) {
        for (name, len_bytes) in layout {
            self.push(*len_bytes, name, lsn);
        }
    }

    /// Everything up to `position`.
    fn until(&mut self, position: u64, name: &'static str, lsn: Option<Lsn>) {
        self.push(position.saturating_sub(self.position), name, lsn);
    }
}

impl Inspection<'_> {
    /// The fields of a file, in order: every byte of the file belongs to exactly one.
    ///
    /// Names are stable; those of a healthy directory are `segment header.…`, `record header.…`, `record.operations`,
    /// `record.run head.…`, `record.payload`, `record.uncompressed length`, `record.compressed length`,
    /// `record.compressed stream`, `record.alignment`, `padding header`, `padding`, `close header`, `terminator`,
    /// `unused`, `manifest head.…`, `manifest body`, `images head.…`, `image head.…`, `image bytes`, `image alignment`,
    /// `spare`, `unfinished manifest` and `other`. What is none of these is `unknown` or `unreadable`.
    /// Takes memory in proportion to the records of the file.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be opened.
    pub fn fields(&self, file: &str) -> Result<Vec<Field>, InspectError> {
        let info = self.file(file)?;
        let mut fields = Fields {
            fields: Vec::new(),
            position: 0,
            end: info.len_bytes,
        };
        match info.kind {
            FileKind::Segment(sequence) => {
                let identity = self.identity.unwrap_or_default();
                let seed = Seed::new(&identity, sequence);
                fields.layout(SEGMENT_HEADER_LAYOUT, None);
                segment(self.storage, file, seed, info.limit(), &mut fields)?;
            }
            FileKind::Manifest(_) => {
                fields.layout(MANIFEST_HEAD_LAYOUT, None);
                fields.until(info.len_bytes, "manifest body", None);
            }
            FileKind::Images(sequence) => {
                fields.layout(IMAGES_HEAD_LAYOUT, None);
                images(self.storage, file, sequence, &mut fields)?;
            }
            FileKind::CloseMark => {
                fields.layout(MARK_LAYOUT, None);
                fields.until(info.len_bytes, "unknown", None);
            }
            FileKind::Spare(_) => fields.until(info.len_bytes, "spare", None),
            FileKind::Unfinished => fields.until(info.len_bytes, "unfinished manifest", None),
            FileKind::Other => fields.until(info.len_bytes, "other", None),
        }
        Ok(fields.fields)
    }
}

fn segment(
    storage: &dyn Storage,
    name: &str,
    seed: Seed,
    limit: u64,
    fields: &mut Fields,
) -> Result<(), InspectError> {
    if limit <= SEGMENT_HEADER_BYTES {
        fields.until(fields.end, "unused", None);
        return Ok(());
    }
    let failed = InspectError::io(name);
    let opened = storage.open(name, false);
    let mut walk = opened
        .and_then(|file| Walk::new(file, seed, limit))
        .map_err(failed)?;
    let mut after_record = false;
    while let Some(piece) = walk.next() {
        match piece.kind {
            PieceKind::Record(header) => record(&mut walk, &piece, &header, fields),
            PieceKind::Zeros => {
                if after_record {
                    fields.push(piece.len_bytes.min(TERMINATOR_BYTES), "terminator", None);
                }
                fields.until(piece.offset + piece.len_bytes, "unused", None);
            }
            PieceKind::Unknown => fields.push(piece.len_bytes, "unknown", None),
            PieceKind::Unreadable => fields.push(piece.len_bytes, "unreadable", None),
        }
        after_record = matches!(piece.kind, PieceKind::Record(_));
    }
    fields.until(fields.end, "unused", None);
    Ok(())
}

fn record(walk: &mut Walk, piece: &Piece, header: &RecordHeader, fields: &mut Fields) {
    let end = piece.offset + piece.len_bytes;
    let lsn = Some(header.lsn);
    match header.kind {
        RecordKind::Padding => {
            fields.push(RECORD_HEADER_BYTES as u64, "padding header", lsn);
            fields.until(end, "padding", lsn);
        }
        RecordKind::Close => {
            fields.push(RECORD_HEADER_BYTES as u64, "close header", lsn);
            fields.until(end, "close body", lsn);
        }
        RecordKind::Transaction | RecordKind::CompressedTransaction => {
            fields.layout(RECORD_HEADER_LAYOUT, lsn);
            fields.push(u64::from(header.ops_bytes), "record.operations", lsn);
            let body = piece.offset + RECORD_HEADER_BYTES as u64;
            let stream = align_up(u64::from(header.ops_bytes), RECORD_ALIGN_BYTES);
            fields.until(body + stream, "record.operations alignment", lsn);
            let bytes = walk.body(piece.offset, header).unwrap_or_default();
            let stored = usize::try_from(stream).ok().and_then(|at| bytes.get(at..));
            let stored = stored.unwrap_or_default();
            if header.kind == RecordKind::CompressedTransaction {
                fields.layout(PACKED_HEAD_LAYOUT, lsn);
                let frame_bytes = split(stored).map_or(0, |(_, frame)| frame.len() as u64);
                fields.push(frame_bytes, "record.compressed stream", lsn);
            } else {
                runs_of(stored, body + stream, header, fields);
            }
            fields.until(end, "record.alignment", lsn);
        }
    }
}

fn runs_of(stream: &[u8], start: u64, header: &RecordHeader, fields: &mut Fields) {
    let lsn = Some(header.lsn);
    let mut runs = Runs::new(stream, header.run_count);
    loop {
        let head = start + runs.position();
        let Some(Ok(run)) = runs.next() else {
            return;
        };
        // Behind the bytes of the run before.
        fields.until(head, "record.alignment", lsn);
        fields.layout(RUN_HEAD_LAYOUT, lsn);
        fields.until(start + run.position, "record.alignment", lsn);
        fields.push(run.bytes.len() as u64, "record.payload", lsn);
    }
}

fn images(
    storage: &dyn Storage,
    name: &str,
    sequence: u64,
    fields: &mut Fields,
) -> Result<(), InspectError> {
    let opened = storage.open(name, false);
    let mut window = opened
        .and_then(Window::new)
        .map_err(InspectError::io(name))?;
    let mut position = FILE_HEAD_BYTES as u64;
    while position < fields.end {
        let head = window.get(position, IMAGE_HEAD_BYTES as u64);
        let Some(head) = head.and_then(|head| ImageHead::decode(head, sequence)) else {
            break;
        };
        let lsn = Some(head.lsn);
        fields.layout(IMAGE_HEAD_LAYOUT, lsn);
        fields.push(head.len_bytes, "image bytes", lsn);
        let end = position
            .saturating_add(IMAGE_HEAD_BYTES as u64)
            .saturating_add(head.len_bytes)
            .checked_next_multiple_of(IMAGE_ALIGN_BYTES);
        position = end.unwrap_or(u64::MAX);
        fields.until(position, "image alignment", lsn);
    }
    fields.until(fields.end, "unknown", None);
    Ok(())
}
