//! Memory snapshots of PyTorch's caching allocator.

use super::error::{TraceError, TraceProblem};
use super::pickle::{Limits, NodeId, Pickle, read};
use super::trace::TraceBuilder;
use super::{Imported, note};

/// Reads a snapshot that `torch.cuda.memory._dump_snapshot` wrote.
///
/// The trace is that of the device with the most events, the lowest of several. What was allocated before the recording began comes
/// first, in order of address: whatever is freed without having been allocated, and the blocks that are live at the end without an
/// event. The order of the events is kept; their streams and stacks are not.
///
/// # Errors
/// See [`TraceProblem`].
pub fn import(bytes: &[u8]) -> Result<Imported, TraceError> {
    import_within(bytes, &Limits::default()).map_err(|problem| TraceError::at(1, problem))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Allocate,
    Free,
}

/// What the allocator was asked, as far as a trace has it.
struct Recorded {
    action: Action,
    address: u64,
    len_bytes: u64,
}

fn import_within(bytes: &[u8], limits: &Limits) -> Result<Imported, TraceProblem> {
    let pickle = read(bytes, limits)?;
    let root = pickle.root();
    let segments = items(&pickle, root, "segments")?;
    let traces = match pickle.get(root, "device_traces") {
        Some(_) => items(&pickle, root, "device_traces")?,
        None => &[],
    };
    let mut device = 0;
    let mut events: &[NodeId] = &[];
    for (number, trace) in traces.iter().enumerate() {
        let of_device = pickle
            .items(*trace)
            .ok_or_else(|| TraceProblem::NoSnapshot {
                what: format!("`device_traces` of device {number} is no list"),
            })?;
        if of_device.len() > events.len() {
            (device, events) = (number as u64, of_device);
        }
    }
    let recorded = recorded(&pickle, events)?;
    let blocks = live_blocks(&pickle, segments, device)?;
    assemble(&recorded, &blocks, events.is_empty())
}

/// The allocations and frees among the events of a device.
fn recorded(pickle: &Pickle<'_>, events: &[NodeId]) -> Result<Vec<Recorded>, TraceProblem> {
    let mut recorded = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let missing = |key: &str| TraceProblem::NoSnapshot {
            what: format!("event {number} of `device_traces` has no `{key}`, or a strange one"),
        };
        let action = pickle.get(*event, "action").and_then(|id| pickle.text(id));
        let action = match action.ok_or_else(|| missing("action"))? {
            "alloc" => Action::Allocate,
            // The memory can be used again only then; `free_requested` is when the program let go of it.
            "free_completed" | "free" => Action::Free,
            _ => continue,
        };
        let number_of = |key| pickle.get(*event, key).and_then(|id| pickle.unsigned(id));
        recorded.push(Recorded {
            action,
            address: number_of("addr").ok_or_else(|| missing("addr"))?,
            len_bytes: number_of("size").ok_or_else(|| missing("size"))?,
        });
    }
    Ok(recorded)
}

/// The blocks of a device that are live at the end, as (address, length).
fn live_blocks(
    pickle: &Pickle<'_>,
    segments: &[NodeId],
    device: u64,
) -> Result<Vec<(u64, u64)>, TraceProblem> {
    let mut live = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let missing = |key: &str| TraceProblem::NoSnapshot {
            what: format!("segment {number} has no `{key}`, or a strange one"),
        };
        let number_of = |id, key| pickle.get(id, key).and_then(|id| pickle.unsigned(id));
        if number_of(*segment, "device").unwrap_or(0) != device {
            continue;
        }
        // Older versions give no address of a block: they lie behind each other.
        let mut next = number_of(*segment, "address").ok_or_else(|| missing("address"))?;
        let blocks = pickle.get(*segment, "blocks");
        let blocks = blocks.and_then(|blocks| pickle.items(blocks));
        for block in blocks.ok_or_else(|| missing("blocks"))? {
            let size = number_of(*block, "size").ok_or_else(|| missing("size` of a block"))?;
            let address = number_of(*block, "address").unwrap_or(next);
            next = address.saturating_add(size);
            let state = pickle.get(*block, "state").and_then(|id| pickle.text(id));
            if state.is_some_and(|state| state.starts_with("active")) && size > 0 {
                let requested = number_of(*block, "requested_size");
                live.push((address, requested.filter(|len| *len > 0).unwrap_or(size)));
            }
        }
    }
    live.sort_unstable();
    live.dedup_by_key(|(address, _)| *address);
    Ok(live)
}

/// Puts what was allocated before the recording in front of what was recorded.
fn assemble(
    recorded: &[Recorded],
    blocks: &[(u64, u64)],
    has_no_events: bool,
) -> Result<Imported, TraceProblem> {
    // Addresses that have an event; only looked up.
    let mut seen = std::collections::HashSet::new();
    let mut before = Vec::new();
    for event in recorded {
        if seen.insert(event.address) && event.action == Action::Free {
            before.push((event.address, event.len_bytes));
        }
    }
    let without_event = blocks.iter().filter(|(address, _)| !seen.contains(address));
    before.extend(without_event);
    before.sort_unstable();
    let (mut empty, mut odd) = (0, 0);
    let mut builder = TraceBuilder::default();
    let mut earlier = 0;
    for (address, len_bytes) in before {
        if len_bytes > 0 {
            builder.allocate(address, len_bytes)?;
            earlier += 1;
        }
    }
    for event in recorded {
        let is_live = builder.is_live(event.address);
        match event.action {
            Action::Allocate if event.len_bytes == 0 => empty += 1,
            Action::Allocate => {
                if is_live {
                    odd += 1;
                    builder.free(event.address)?;
                }
                builder.allocate(event.address, event.len_bytes)?;
            }
            Action::Free if is_live => builder.free(event.address)?,
            Action::Free => empty += 1,
        }
    }
    let mut notes = Vec::new();
    if has_no_events {
        notes.push("the snapshot has no history: only what was live is allocated".to_owned());
    }
    note(
        &mut notes,
        earlier,
        "allocations are older than the recording and come first",
    );
    note(
        &mut notes,
        odd,
        "frees were missing and assumed where the address is allocated again",
    );
    note(&mut notes, empty, "events about no bytes were left out");
    Ok(Imported {
        trace: builder.finish(),
        format: "pytorch",
        notes,
    })
}

fn items<'p>(
    pickle: &'p Pickle<'_>,
    root: NodeId,
    key: &str,
) -> Result<&'p [NodeId], TraceProblem> {
    let list = pickle.get(root, key).and_then(|id| pickle.items(id));
    list.ok_or_else(|| TraceProblem::NoSnapshot {
        what: format!("it has no list `{key}`"),
    })
}
