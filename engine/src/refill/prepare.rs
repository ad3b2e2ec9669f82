//! Reading and checking what a slot holds, and making the tables by which the device applies it.

use super::walk::{Job, Piece, read};
use super::{Source, Stop};
use crate::checksum::{crc32c, crc32c_combine};
use crate::device::layout::sum64;
use crate::log::format::{RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, Runs, align_up};
use crate::state::device::{Batch, Tables};

/// So much is read and checked at a time: it is in the processor's cache in between.
const STEP_BYTES: usize = 256 << 10;

/// What a slot came to.
pub(super) struct Prepared {
    /// The tables, and the sum of payload and tables; `None` if nothing of it is for the device.
    pub(super) batch: Option<(Tables, u64)>,
    /// What it says of a long record.
    pub(super) part: Option<Part>,
}

/// The checksum of a part of a long record.
pub(super) struct Part {
    pub(super) crc: u32,
    pub(super) len_bytes: u64,
    pub(super) is_first: bool,
    pub(super) body_crc: Option<u32>,
}

pub(super) fn prepare(source: &Source<'_>, job: Job, slot: &mut [u8]) -> Result<Prepared, Stop> {
    let mut batch = Batch::default();
    let part = match job {
        Job::Records(records) => {
            for (at, header) in records {
                add_record(source, &mut batch, slot, at, &header)?;
            }
            None
        }
        Job::Piece(piece) => Some(add_piece(&mut batch, slot, &piece)?),
    };
    if batch.is_empty() {
        return Ok(Prepared { batch: None, part });
    }
    let tables = batch
        .finish(slot)
        .ok_or(Stop::Irregular("the tables do not fit"))?;
    let sum = sum64(slot.get(..tables.len_bytes).unwrap_or_default());
    Ok(Prepared {
        batch: Some((tables, sum)),
        part,
    })
}

/// Checks a record that the slot holds at `at`, and adds its runs.
fn add_record(
    source: &Source<'_>,
    batch: &mut Batch,
    slot: &[u8],
    at: usize,
    header: &RecordHeader,
) -> Result<(), Stop> {
    let start = at + RECORD_HEADER_BYTES;
    let body = slot.get(start..at + header.len_bytes as usize);
    let body = body.ok_or(Stop::Irregular("a record is not in its slot"))?;
    if crc32c(body) != header.body_crc {
        return Err(Stop::Irregular("a record is not intact"));
    }
    let ops = align_up(u64::from(header.ops_bytes), RECORD_ALIGN_BYTES) as usize;
    let stream = body.get(ops..).unwrap_or_default();
    for run in Runs::new(stream, header.run_count) {
        let run = run.map_err(|_| Stop::Irregular("a run is malformed"))?;
        let len_bytes = run.bytes.len();
        if let Some(place) = source.place(run.page, header.lsn, run.offset, len_bytes as u64)? {
            batch.push(place, start + ops + run.position as usize, len_bytes);
        }
    }
    Ok(())
}

/// Reads a part of a long record to the slot, and adds what it writes.
fn add_piece(batch: &mut Batch, slot: &mut [u8], piece: &Piece) -> Result<Part, Stop> {
    let into = slot
        .get_mut(..piece.len_bytes)
        .ok_or(Stop::Irregular("a piece does not fit its slot"))?;
    let mut crc = None;
    let mut position = piece.position;
    for step in into.chunks_mut(STEP_BYTES) {
        read(&*piece.file, step, position)?;
        let of_step = crc32c(step);
        let len_bytes = step.len() as u64;
        crc = Some(crc.map_or(of_step, |crc| crc32c_combine(crc, of_step, len_bytes)));
        position += len_bytes;
    }
    for (at, place, len_bytes) in &piece.writes {
        batch.push(*place, *at, *len_bytes);
    }
    Ok(Part {
        crc: crc.unwrap_or_default(),
        len_bytes: piece.len_bytes as u64,
        is_first: piece.is_first,
        body_crc: piece.body_crc,
    })
}
