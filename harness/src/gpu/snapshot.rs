//! Snapshots for PyTorch's memory viewer (pytorch.org/memory_viz).

use std::io::{self, Write};
use std::ops::Range;

use mmsb_engine::device::pool::Pool;

use super::pickle::Writer;
use super::simulate::{Happened, Simulated};

/// Where the address range begins in a snapshot. Offsets are what counts; zero would look like a null pointer.
pub const BASE_ADDRESS: u64 = 1 << 40;

/// Writes what `torch.cuda.memory._dump_snapshot` would: a pickle with `segments` and `device_traces`.
///
/// A segment is a range of granules that have memory, and is expandable in PyTorch's words: it grows and shrinks by `segment_map` and
/// `segment_unmap` events (`segment_alloc` stands for segments of one piece, which the viewer takes away as a whole). Its blocks lie behind
/// each other without gaps; a free slot of a slab is an inactive block. There is one stream. `events` are numbers of events of the
/// trace with what happened; the numbers stand for microseconds, since a trace has no times.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: impl Write,
    simulated: &Simulated,
    events: &[(usize, Happened)],
) -> io::Result<()> {
    let mut writer = Writer::new(out)?;
    writer.dict(|writer| {
        writer.text("segments")?;
        writer.list(|writer| {
            let mut live = simulated.pool.live().peekable();
            for range in &simulated.mapped {
                // Pages are mapped where they lie, so each lies in one range.
                let mut pages = Vec::new();
                while let Some(page) = live.next_if(|(offset, _)| *offset < range.end) {
                    pages.push(page);
                }
                segment(writer, range, &pages)?;
            }
            Ok(())
        })?;
        writer.text("device_traces")?;
        writer.list(|writer| {
            writer.list(|writer| {
                for (number, happened) in events {
                    event(writer, *number as u64, happened)?;
                }
                Ok(())
            })
        })?;
        writer.text("allocator_settings")?;
        writer.dict(|_| Ok(()))?;
        writer.text("external_annotations")?;
        writer.list(|_| Ok(()))
    })?;
    writer.finish().map(drop)
}

fn entry<W: Write>(writer: &mut Writer<W>, key: &str, value: u64) -> io::Result<()> {
    writer.text(key)?;
    writer.int(value)
}

fn frames<W: Write>(writer: &mut Writer<W>) -> io::Result<()> {
    writer.text("frames")?;
    writer.list(|_| Ok(()))
}

fn segment<W: Write>(
    writer: &mut Writer<W>,
    range: &Range<u64>,
    pages: &[(u64, u64)],
) -> io::Result<()> {
    let active_bytes: u64 = pages
        .iter()
        .map(|(_, len)| Pool::occupied_bytes(*len))
        .sum();
    writer.dict(|writer| {
        entry(writer, "device", 0)?;
        entry(writer, "address", BASE_ADDRESS + range.start)?;
        entry(writer, "total_size", range.end - range.start)?;
        entry(writer, "allocated_size", active_bytes)?;
        entry(writer, "active_size", active_bytes)?;
        entry(
            writer,
            "requested_size",
            pages.iter().map(|(_, len)| len).sum(),
        )?;
        entry(writer, "stream", 0)?;
        writer.text("segment_type")?;
        writer.text("large")?;
        writer.text("segment_pool_id")?;
        writer.tuple(|writer| {
            writer.int(0)?;
            writer.int(0)
        })?;
        writer.text("is_expandable")?;
        writer.bool(true)?;
        frames(writer)?;
        writer.text("blocks")?;
        writer.list(|writer| {
            let mut at = range.start;
            for (offset, len_bytes) in pages {
                block(writer, at, offset - at, 0)?;
                let occupied_bytes = Pool::occupied_bytes(*len_bytes);
                block(writer, *offset, occupied_bytes, *len_bytes)?;
                at = offset + occupied_bytes;
            }
            block(writer, at, range.end - at, 0)
        })
    })
}

/// A block; one of no bytes is none, and one that nothing was requested of is free.
fn block<W: Write>(
    writer: &mut Writer<W>,
    offset: u64,
    len_bytes: u64,
    requested_bytes: u64,
) -> io::Result<()> {
    if len_bytes == 0 {
        return Ok(());
    }
    writer.dict(|writer| {
        entry(writer, "address", BASE_ADDRESS + offset)?;
        entry(writer, "size", len_bytes)?;
        entry(writer, "requested_size", requested_bytes)?;
        writer.text("state")?;
        writer.text(if requested_bytes == 0 {
            "inactive"
        } else {
            "active_allocated"
        })?;
        frames(writer)
    })
}

fn event<W: Write>(writer: &mut Writer<W>, time_us: u64, happened: &Happened) -> io::Result<()> {
    let (actions, offset, len_bytes): (&[&str], u64, u64) = match happened {
        Happened::Mapped(range) => (&["segment_map"], range.start, range.end - range.start),
        Happened::Unmapped(range) => (&["segment_unmap"], range.start, range.end - range.start),
        Happened::Allocated(offset, len) => (&["alloc"], *offset, Pool::occupied_bytes(*len)),
        Happened::Freed(offset, len) => (
            &["free_requested", "free_completed"],
            *offset,
            Pool::occupied_bytes(*len),
        ),
        Happened::Refused(len) => (&["oom"], 0, *len),
    };
    for action in actions {
        writer.dict(|writer| {
            writer.text("action")?;
            writer.text(action)?;
            entry(writer, "addr", BASE_ADDRESS + offset)?;
            entry(writer, "size", len_bytes)?;
            entry(writer, "stream", 0)?;
            entry(writer, "time_us", time_us)?;
            if *action == "oom" {
                entry(writer, "device_free", 0)?;
            }
            frames(writer)
        })?;
    }
    Ok(())
}
