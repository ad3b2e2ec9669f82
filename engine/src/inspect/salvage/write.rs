//! Writes what was planned.

use std::collections::BTreeMap;
use std::io;

use super::plan::{Part, Plan};
use super::report::SalvageError;
use crate::checkpoint::format::{images_name, manifest_name};
use crate::inspect::files::Inspection;
use crate::log::format::{
    PLAIN_VERSION, RECORD_HEADER_BYTES, RecordHeader, RecordKind, SEGMENT_HEADER_BYTES, Seed,
    SegmentHeader,
};
use crate::log::segment::segment_name;
use crate::lsn::Lsn;
use crate::storage::{Storage, StorageFile};

/// How much is copied at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// Length of a segment that holds no transaction yet.
const EMPTY_SEGMENT_BYTES: u64 = 64 << 20;

fn failed(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> SalvageError {
    let file = file.to_owned();
    move |source| SalvageError::Io {
        operation,
        file,
        source,
    }
}

/// Makes sure that nothing is overwritten.
pub(super) fn require_empty(target: &dyn Storage) -> Result<(), SalvageError> {
    let names = target.list().map_err(failed("list", &target.describe()))?;
    names.into_iter().next().map_or(Ok(()), |file| {
        Err(SalvageError::NotEmpty {
            place: target.describe(),
            file,
        })
    })
}

/// Removes what was written.
pub(super) fn clear(target: &dyn Storage, files: &[String]) -> Result<(), SalvageError> {
    for file in files {
        target.remove(file).map_err(failed("remove", file))?;
    }
    Ok(())
}

/// Writes segments, images and manifests, in this order, and makes them durable. Gives their names.
pub(super) fn write(
    inspection: &Inspection<'_>,
    plan: &Plan,
    target: &dyn Storage,
) -> Result<Vec<String>, SalvageError> {
    let source = inspection.storage;
    let mut files = Vec::new();
    match &plan.chain {
        Some(chain) => {
            for part in &chain.parts {
                let header = part.header(inspection, plan.identity);
                segment(source, target, part, &header)?;
                files.push(part.file.clone());
            }
        }
        None => files.push(empty_segment(plan, target)?),
    }
    // A file of images may be in several chains, each of which needs it up to some length.
    let mut images: BTreeMap<u64, u64> = BTreeMap::new();
    for file in plan.manifests.iter().flat_map(|manifest| &manifest.images) {
        let len_bytes = images.entry(file.sequence).or_default();
        *len_bytes = file.len_bytes.max(*len_bytes);
    }
    for (sequence, len_bytes) in images {
        let name = images_name(sequence);
        let to = target.create(&name).map_err(failed("create", &name))?;
        copy(source, &name, &*to, 0, len_bytes)?;
        to.sync().map_err(failed("sync", &name))?;
        files.push(name);
    }
    for manifest in &plan.manifests {
        let name = manifest_name(manifest.sequence);
        // It was decoded from no more bytes than these, so this cannot fail for its size.
        let bytes = manifest
            .encode(&plan.identity)
            .map_err(|error| failed("encode", &name)(io::Error::other(error)))?;
        let to = target.create(&name).map_err(failed("create", &name))?;
        to.write_all_at(&bytes, 0)
            .and_then(|()| to.sync())
            .map_err(failed("write", &name))?;
        files.push(name);
    }
    target
        .sync_names()
        .map_err(failed("sync", &target.describe()))?;
    Ok(files)
}

/// The records of a part at the offsets that they had, with padding over what is not kept between them.
fn segment(
    source: &dyn Storage,
    target: &dyn Storage,
    part: &Part,
    header: &SegmentHeader,
) -> Result<(), SalvageError> {
    let name = &part.file;
    let to = target.create(name).map_err(failed("create", name))?;
    let seed = Seed::new(&header.identity, header.sequence);
    let mut position = SEGMENT_HEADER_BYTES;
    let before = part.start - SEGMENT_HEADER_BYTES;
    let first = (before > 0).then_some((position, before, part.first_lsn.previous()));
    for (offset, len_bytes, lsn) in first.into_iter().chain(part.holes.iter().copied()) {
        copy(source, name, &*to, position, offset)?;
        padding(&*to, offset, len_bytes, lsn, &seed).map_err(failed("write", name))?;
        position = offset + len_bytes;
    }
    copy(source, name, &*to, position, part.end)?;
    finish(&*to, part.end, header).map_err(failed("write", name))
}

/// A log that holds nothing, and goes on after the state.
fn empty_segment(plan: &Plan, target: &dyn Storage) -> Result<String, SalvageError> {
    let header = SegmentHeader {
        version: PLAIN_VERSION,
        identity: plan.identity,
        sequence: plan.free_sequence,
        first_lsn: plan.first_lsn(),
        durable_lsn: Lsn::ZERO,
        created_unix_ns: 0,
        segment_bytes: EMPTY_SEGMENT_BYTES,
    };
    let name = segment_name(header.sequence);
    let to = target.create(&name).map_err(failed("create", &name))?;
    finish(&*to, SEGMENT_HEADER_BYTES, &header).map_err(failed("write", &name))?;
    Ok(name)
}

/// The zeros behind the last record, and the header last: a segment without one is no segment.
fn finish(to: &dyn StorageFile, end: u64, header: &SegmentHeader) -> io::Result<()> {
    let left = header.segment_bytes.saturating_sub(end);
    let zeros = [0; RECORD_HEADER_BYTES];
    let len = usize::try_from(left).unwrap_or(usize::MAX);
    to.write_all_at(zeros.get(..len).unwrap_or(&zeros), end)?;
    to.write_all_at(&header.encode(), 0)?;
    to.sync()
}

/// A padding record over `len_bytes`. Its body is zeros already: nothing was written there.
fn padding(
    to: &dyn StorageFile,
    offset: u64,
    len_bytes: u64,
    lsn: Lsn,
    seed: &Seed,
) -> io::Result<()> {
    let header = RecordHeader {
        kind: RecordKind::Padding,
        len_bytes,
        lsn,
        durable_lsn: Lsn::ZERO,
        body_crc: 0,
        run_count: 0,
        ops_bytes: 0,
    };
    to.write_all_at(&header.encode(seed), offset)
}

fn copy(
    source: &dyn Storage,
    name: &str,
    to: &dyn StorageFile,
    from: u64,
    end: u64,
) -> Result<(), SalvageError> {
    let file = source.open(name, false).map_err(failed("open", name))?;
    let mut chunk =
        vec![0; usize::try_from(CHUNK_BYTES.min(end.saturating_sub(from))).unwrap_or(0)];
    let mut position = from;
    while position < end {
        let len = usize::try_from((end - position).min(CHUNK_BYTES)).unwrap_or(0);
        let part = chunk.get_mut(..len).unwrap_or_default();
        file.read_exact_at(part, position)
            .map_err(failed("read", name))?;
        to.write_all_at(part, position)
            .map_err(failed("write", name))?;
        position += len as u64;
    }
    Ok(())
}
