//! Writes again, at open, what nothing proves to be on the disk.
//!
//! After a failed `fsync` an operating system may keep the bytes in its cache, marked clean: whoever opens the log
//! on the same running machine reads them, and a sync of his own does not write them. Nothing tells such bytes
//! from those that are on the disk. But every record names an LSN up to which everything was durable
//! when it was written, so only what comes after the last such claim can be affected, and that is
//! written once more, byte for byte, before anything is built on it. On the disk the bytes are either the
//! same already, or belong to commits that were never acknowledged as durable; so a crash meanwhile does no harm.
//!
//! For the same reason the rest of the last segment is filled with zeros once more: an earlier open may have cut off a torn
//! end there, and only the cache may know.
//!
//! The cost is that of writing one segment, and what was not synced, or not claimed, when the process ended; after a
//! close it is that of one close record.
//! The problem is that of "fsyncgate" (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).

use std::io;

use super::discover::{LogMap, SegmentFile};
use super::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, Seed};
use super::segment::fill_with_zeros;
use super::tail::Tail;
use crate::lsn::Lsn;
use crate::storage::{Storage, StorageFile};

/// How much is read, and written, at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// An error with the name of the file.
pub(crate) type RenewError = (String, io::Error);

/// Writes what comes after the last durable claim again and syncs it: records, and also a close record and the header of
/// a segment without records, which no claim covers but what is appended behind them will rest on. Returns how many
/// bytes that were.
///
/// `known_durable` is what checkpoints claim. The log must have been cut at `tail` before.
pub(crate) fn renew(
    storage: &dyn Storage,
    map: &LogMap,
    tail: &Tail,
    known_durable: Lsn,
) -> Result<u64, RenewError> {
    let Some(last) = map.segments.get(tail.segment) else {
        return Ok(0);
    };
    let (claim, is_closed) = last_claim(storage, last, tail.position)?;
    let claim = claim.max(known_durable);
    let first = map
        .segments
        .partition_point(|segment| segment.header.first_lsn <= claim.next())
        .saturating_sub(1)
        .min(tail.segment);
    let mut renewed_bytes = 0;
    let affected = map.segments.iter().enumerate().take(tail.segment + 1);
    for (index, segment) in affected.skip(first) {
        // A file that was torn inside its header block is shorter than that.
        let end = if index == tail.segment {
            tail.position.min(segment.len_bytes)
        } else {
            segment.len_bytes
        };
        let start = if index == first {
            end_of(storage, segment, end, claim)?
        } else {
            0
        };
        if start < end {
            renewed_bytes += rewrite(storage, segment, start, end)?;
        }
    }
    if tail.torn.is_none() && !is_closed {
        // An earlier open may have cut a torn end, and its zeros may be in the cache alone.
        renewed_bytes += clear(storage, last, tail.position)?;
    }
    Ok(renewed_bytes)
}

/// Fills what is behind the end of the log with zeros, so that no later history can run into what an earlier one left.
fn clear(storage: &dyn Storage, segment: &SegmentFile, start: u64) -> Result<u64, RenewError> {
    if start >= segment.len_bytes {
        return Ok(0);
    }
    let failed = |error| (segment.name.clone(), error);
    let file = storage.open(&segment.name, true).map_err(failed)?;
    fill_with_zeros(&*file, start, segment.len_bytes).map_err(failed)?;
    Ok(segment.len_bytes - start)
}

/// The highest LSN that the segment, or its header, says was durable. Claims only grow along the log, so the last
/// segment knows the highest. Also whether the log was closed there.
fn last_claim(
    storage: &dyn Storage,
    segment: &SegmentFile,
    end: u64,
) -> Result<(Lsn, bool), RenewError> {
    let (mut claim, mut is_closed) = (segment.header.durable_lsn, false);
    walk(storage, segment, end, |header, _| {
        claim = claim.max(header.durable_lsn);
        is_closed = header.kind == RecordKind::Close;
    })?;
    Ok((claim, is_closed))
}

/// Where the transaction with this LSN ends; the beginning of the file, header included, if it is not in it.
fn end_of(
    storage: &dyn Storage,
    segment: &SegmentFile,
    end: u64,
    lsn: Lsn,
) -> Result<u64, RenewError> {
    let mut found = 0;
    if segment.header.first_lsn <= lsn {
        walk(storage, segment, end, |header, record_end| {
            if header.kind.is_transaction() && header.lsn <= lsn {
                found = record_end;
            }
        })?;
    }
    Ok(found)
}

/// Tells of every record up to `end`, and where it ends.
fn walk(
    storage: &dyn Storage,
    segment: &SegmentFile,
    end: u64,
    mut each: impl FnMut(&RecordHeader, u64),
) -> Result<(), RenewError> {
    let failed = |error| (segment.name.clone(), error);
    let file = storage.open(&segment.name, false).map_err(failed)?;
    let seed = Seed::new(&segment.header.identity, segment.header.sequence);
    let mut window = Vec::new();
    let mut window_start = 0;
    let mut position = SEGMENT_HEADER_BYTES;
    while position + RECORD_HEADER_BYTES as u64 <= end {
        let within = usize::try_from(position - window_start).unwrap_or(usize::MAX);
        let head = match window.get(within..within.saturating_add(RECORD_HEADER_BYTES)) {
            Some(head) => head,
            None => {
                read_window(&*file, &mut window, position, end).map_err(failed)?;
                window_start = position;
                window.as_slice()
            }
        };
        let Some(header) = RecordHeader::decode(head, &seed) else {
            break;
        };
        position += header.len_bytes;
        each(&header, position);
    }
    Ok(())
}

fn read_window(
    file: &dyn StorageFile,
    window: &mut Vec<u8>,
    position: u64,
    end: u64,
) -> io::Result<()> {
    let len_bytes = WINDOW_BYTES.min(end.saturating_sub(position));
    window.resize(usize::try_from(len_bytes).unwrap_or(0), 0);
    file.read_exact_at(window, position)
}

/// Reads a range of a segment and writes it where it was.
fn rewrite(
    storage: &dyn Storage,
    segment: &SegmentFile,
    start: u64,
    end: u64,
) -> Result<u64, RenewError> {
    let failed = |error| (segment.name.clone(), error);
    let file = storage.open(&segment.name, true).map_err(failed)?;
    let mut window = Vec::new();
    let mut position = start;
    while position < end {
        read_window(&*file, &mut window, position, end).map_err(failed)?;
        file.write_all_at(&window, position).map_err(failed)?;
        position += window.len() as u64;
    }
    file.sync().map_err(failed)?;
    Ok(end.saturating_sub(start))
}
