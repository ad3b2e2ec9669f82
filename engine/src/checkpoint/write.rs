//! Taking a checkpoint while commits go on.

use std::io;

use super::format::{
    Connection, IMAGE_ALIGN_BYTES, IMAGE_HEAD_BYTES, ImageFile, ImageHead, Manifest, PageEntry,
    UNFINISHED_SUFFIX, images_head, images_name, manifest_name,
};
use crate::bus::Bus;
use crate::checksum::crc32c;
use crate::codec::CodecError;
use crate::log::format::Identity;
use crate::log::reader::{LogError, SegmentFile, discover};
use crate::log::{Poison, TransformId};
use crate::lsn::Lsn;
use crate::options::Retention;
use crate::page::PageId;
use crate::recovery::Rebuilt;
use crate::state::State;
use crate::state::content::SharedLock;
use crate::state::table::Slot;
use crate::storage::StorageFile;

/// Images gather in memory up to this length before the log is synced, and they are written and synced. A commit that
/// is synced meanwhile waits behind no more than this.
const BATCH_BYTES: usize = 1 << 20;
/// So much of a page is copied before commits to its stripe are let in between: some microseconds.
const CHUNK_BYTES: u64 = 16 << 10;
/// A chain of more files than this is begun anew.
const MAX_CHAIN_FILES: usize = 16;
/// A chain that takes this many times the bytes of all pages is begun anew.
const MAX_CHAIN_RATIO: u64 = 2;
/// Checkpoints that are kept, at least.
const KEPT_CHECKPOINTS: usize = 2;
/// Segments that wait to be used again.
const KEPT_SPARES: usize = 2;

/// Why a checkpoint was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk failed, now or earlier; the bus is read-only.
    #[error("the bus is read-only since an error of its files: {0}; open it again")]
    Poisoned(#[from] Poison),
    /// The thread holds a read guard, for which a commit that the checkpoint waits for may be waiting.
    #[error(
        "this thread holds {guards} read guards or views of the bus; drop them before the checkpoint"
    )]
    GuardHeld {
        /// How many.
        guards: usize,
    },
    /// The manifest is too large.
    #[error("the manifest cannot be encoded: {0}")]
    Codec(#[from] CodecError),
    /// The segments could not be listed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What a checkpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Recovery starts after this LSN.
    pub replay_after: Lsn,
    /// Number of the checkpoint.
    pub sequence: u64,
    /// Whether all pages were written, or only what changed.
    pub is_full: bool,
    /// Images written.
    pub images: u64,
    /// Bytes of the image file.
    pub image_bytes: u64,
    /// Segments of the log that were freed.
    pub freed_segments: u64,
}

/// A checkpoint that exists.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub sequence: u64,
    pub replay_after: Lsn,
    pub newest_image: Lsn,
    pub images: Vec<ImageFile>,
}

/// What is known of the checkpoints of an open bus.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    pub next_sequence: u64,
    /// Oldest first.
    pub kept: Vec<Kept>,
    pub identity: Identity,
}

impl Checkpoints {
    /// What recovery found.
    pub(crate) fn found(rebuilt: &Rebuilt) -> Self {
        // A checkpoint that could not be loaded must not be built upon.
        let used = rebuilt
            .checkpoint
            .as_ref()
            .map_or(0, |manifest| manifest.sequence);
        let kept = rebuilt
            .manifests
            .iter()
            .filter(|manifest| manifest.sequence <= used);
        Self {
            // A checkpoint that could not be read this time may be readable the next: its number is taken, and its
            // images must not be written over.
            next_sequence: rebuilt.highest_checkpoint.saturating_add(1),
            kept: kept
                .map(|manifest| Kept {
                    sequence: manifest.sequence,
                    replay_after: manifest.replay_after,
                    newest_image: manifest.newest_image,
                    images: manifest.images.clone(),
                })
                .collect(),
            identity: rebuilt.map.identity,
        }
    }

    pub(crate) fn take(&mut self, bus: &Bus) -> Result<CheckpointReport, CheckpointError> {
        let guards = crate::state::stripes::held(bus.state().stripes.owner());
        if guards > 0 {
            return Err(CheckpointError::GuardHeld { guards });
        }
        bus.log().check()?;
        let sequence = self.next_sequence;
        let mut manifest = snapshot_structure(bus, sequence);
        // What images are taken is taken off the list of changes, so it must be known before that the
        // manifest can be written.
        manifest.encode(&self.identity)?;
        let chain = self
            .kept
            .last()
            .map(|kept| kept.images.clone())
            .unwrap_or_default();
        let is_full = is_worn(&chain, &manifest);
        let mut images = ImageWriter::create(bus, sequence, manifest.replay_after, &self.identity)?;
        for entry in &mut manifest.pages {
            images.page(entry, is_full)?;
        }
        let written = images.finish()?;
        manifest.newest_image = written.newest.max(manifest.replay_after);
        if bus.state().structure.read().lsn != manifest.structure_lsn {
            // Pages that were freed or connected before their image was taken have none: no state before
            // that moment can be had from this checkpoint.
            manifest.newest_image = manifest.newest_image.max(bus.log().last_lsn());
        }
        manifest.images = if is_full { Vec::new() } else { chain };
        if written.count > 0 {
            manifest.images.push(ImageFile {
                sequence,
                len_bytes: written.len_bytes,
            });
        }
        // Whoever finds the manifest must find in the log all that its images stand for.
        bus.log().sync(manifest.newest_image)?;
        manifest.durable_lsn = bus.log().durable_lsn();
        write_manifest(bus, &manifest, &self.identity)?;
        self.next_sequence = sequence + 1;
        self.kept.push(Kept {
            sequence,
            replay_after: manifest.replay_after,
            newest_image: manifest.newest_image,
            images: manifest.images.clone(),
        });
        let segments = match bus.options().retention {
            Retention::Everything => Vec::new(),
            _ => discover(&**bus.storage())?.map_or_else(Vec::new, |map| map.segments),
        };
        self.drop_old(bus, &segments)?;
        let freed_segments = self.free_segments(bus, &segments)?;
        Ok(CheckpointReport {
            replay_after: manifest.replay_after,
            sequence,
            is_full,
            images: written.count,
            image_bytes: written.len_bytes,
            freed_segments,
        })
    }

    /// Removes checkpoints that nobody needs beyond the two newest, and image files that none refers to.
    fn drop_old(&mut self, bus: &Bus, segments: &[SegmentFile]) -> Result<(), Poison> {
        let storage = bus.storage();
        let mut removed = Vec::new();
        while self.kept.len() > KEPT_CHECKPOINTS && self.second_suffices(bus, segments) {
            removed.push(self.kept.remove(0));
        }
        for old in &removed {
            let name = manifest_name(old.sequence);
            storage
                .remove(&name)
                .map_err(|error| bus.log().poison("removal", &name, None, &error))?;
        }
        let mut unused: Vec<u64> = removed
            .iter()
            .flat_map(|old| &old.images)
            .map(|file| file.sequence)
            .collect();
        unused.sort_unstable();
        unused.dedup();
        for sequence in unused {
            let is_used = self
                .kept
                .iter()
                .flat_map(|kept| &kept.images)
                .any(|file| file.sequence == sequence);
            let name = images_name(sequence);
            if !is_used {
                storage
                    .remove(&name)
                    .map_err(|error| bus.log().poison("removal", &name, None, &error))?;
            }
        }
        sync_names(bus)
    }

    /// Whether the states that can be replayed from the second oldest checkpoint on are as many as are to be kept.
    fn second_suffices(&self, bus: &Bus, segments: &[SegmentFile]) -> bool {
        let Retention::Bytes(wanted_bytes) = bus.options().retention else {
            return true;
        };
        let Some(second) = self.kept.get(1) else {
            return false;
        };
        let current = bus.log().current_sequence();
        let window_bytes: u64 = segments
            .iter()
            .filter(|segment| {
                segment.header.first_lsn > second.newest_image && segment.header.sequence < current
            })
            .map(|segment| segment.len_bytes)
            .sum();
        window_bytes >= wanted_bytes
    }

    /// Frees the segments that no kept checkpoint needs.
    fn free_segments(&self, bus: &Bus, segments: &[SegmentFile]) -> Result<u64, Poison> {
        let Some(oldest) = self.kept.first() else {
            return Ok(0);
        };
        if self.kept.len() < KEPT_CHECKPOINTS {
            return Ok(0);
        }
        let current = bus.log().current_sequence();
        let followed = segments.iter().zip(segments.iter().skip(1));
        let freed: Vec<(u64, u64)> = followed
            .filter(|(segment, next)| {
                next.header.first_lsn <= oldest.replay_after.next()
                    && segment.header.sequence < current
            })
            .map(|(segment, _)| (segment.header.sequence, segment.len_bytes))
            .collect();
        if !freed.is_empty() {
            // What follows the last of them may be a segment whose header is in the cache alone: without it the log
            // would have no beginning.
            bus.log().sync(bus.log().last_lsn())?;
        }
        bus.log().recycle(&freed, KEPT_SPARES)?;
        Ok(freed.len() as u64)
    }
}

/// Whether a chain has become so long that a full checkpoint is cheaper to live with.
fn is_worn(chain: &[ImageFile], manifest: &Manifest) -> bool {
    let chain_bytes: u64 = chain.iter().map(|file| file.len_bytes).sum();
    let page_bytes: u64 = manifest.pages.iter().map(|page| page.len_bytes).sum();
    chain.len() >= MAX_CHAIN_FILES
        || chain_bytes > page_bytes.saturating_mul(MAX_CHAIN_RATIO).max(1 << 20)
}

/// Everything but contents, as of the last LSN. Structural commits wait while it is copied.
fn snapshot_structure(bus: &Bus, sequence: u64) -> Manifest {
    let state = bus.state();
    let structure = state.structure.read();
    // No structural commit is under way. Other commits may have their LSN and not have applied it yet,
    // but they hold the stripes of their pages, and images are taken under those.
    let replay_after = bus.log().last_lsn();
    let id = |index: u32, slot: &Slot| PageId::new(index, slot.generation()).to_bits();
    let mut pages = Vec::new();
    let mut retired = Vec::new();
    for index in 0..structure.used {
        match state.table.slot(index) {
            Some(slot) if slot.is_live() => pages.push(PageEntry {
                page: id(index, slot),
                offset: slot.offset(),
                len_bytes: slot.len_bytes(),
                location: slot.location(),
                epoch: 0,
                lsn: Lsn::ZERO,
            }),
            Some(slot) if crate::state::structure::is_retired(slot.generation()) => {
                retired.push((index, slot.generation()));
            }
            _ => {}
        }
    }
    let generation = |index: &u32| state.table.slot(*index).map_or(0, Slot::generation);
    let page_bits = |node| {
        let index = structure.graph.page(node)?;
        state.table.slot(index).map(|slot| id(index, slot))
    };
    let connections = structure.graph.derived().filter_map(|node| {
        let derivation = structure.graph.derivation(node)?;
        Some(Connection {
            child: page_bits(node)?,
            transform: TransformId {
                name: derivation.transform.name().to_owned(),
                version: derivation.transform.version(),
                params: derivation.transform.params(),
            },
            parents: derivation
                .parents
                .iter()
                .filter_map(|parent| page_bits(*parent))
                .collect(),
        })
    });
    let metadata = structure.metadata.iter().flat_map(|(index, of_page)| {
        let page = state.table.slot(*index).map_or(0, |slot| id(*index, slot));
        of_page
            .iter()
            .map(move |(key, value)| (page, key.clone(), value.clone()))
    });
    let statistics = structure.placement.statistics();
    Manifest {
        sequence,
        created_unix_ns: bus.clock().now_unix_ns(),
        replay_after,
        newest_image: replay_after,
        durable_lsn: Lsn::ZERO,
        structure_lsn: structure.lsn,
        used: structure.used,
        free: structure
            .free
            .iter()
            .map(|index| (*index, generation(index)))
            .collect(),
        retired,
        history: (
            statistics.peak_footprint_bytes,
            statistics.allocations_total,
            statistics.releases_total,
        ),
        connections: connections.collect(),
        metadata: metadata.collect(),
        pages,
        images: Vec::new(),
    }
}

/// What the image writer wrote.
struct Written {
    count: u64,
    len_bytes: u64,
    newest: Lsn,
}

struct ImageWriter<'a> {
    bus: &'a Bus,
    replay_after: Lsn,
    name: String,
    file: Box<dyn StorageFile>,
    sequence: u64,
    batch: Vec<u8>,
    /// Images in the batch whose heads are still to be written, and where.
    unsealed: Vec<(usize, ImageHead)>,
    position: u64,
    count: u64,
    newest: Lsn,
}

impl<'a> ImageWriter<'a> {
    fn create(
        bus: &'a Bus,
        sequence: u64,
        replay_after: Lsn,
        identity: &Identity,
    ) -> Result<Self, Poison> {
        let name = images_name(sequence);
        let file = bus
            .storage()
            .create(&name)
            .map_err(|error| bus.log().poison("creation", &name, None, &error))?;
        Ok(Self {
            bus,
            replay_after,
            name,
            file,
            sequence,
            batch: images_head(identity, sequence).to_vec(),
            unsealed: Vec::new(),
            position: 0,
            count: 0,
            newest: Lsn::ZERO,
        })
    }

    /// Writes what changed of a page since the last checkpoint, or all of it that is not zero, and notes its LSN and epoch.
    ///
    /// Those of the page are as of its first chunk; later chunks may be newer. Recovery then repeats writes that
    /// such a chunk holds already, all of them and in their order, which leaves every byte as the last one did.
    fn page(&mut self, entry: &mut PageEntry, is_full: bool) -> Result<(), Poison> {
        let state = self.bus.state();
        let mut chunks = None;
        loop {
            let Some((slot, lock, is_moved)) = find(state, entry, self.replay_after) else {
                // Freed meanwhile: the record that freed it comes after `replay_after`, and is replayed.
                return Ok(());
            };
            if slot.is_derived() {
                return Ok(());
            }
            let lsn = Lsn(slot.lsn());
            let chunks = chunks.get_or_insert_with(|| {
                entry.epoch = slot.epoch();
                entry.lsn = lsn;
                // Only checkpoints clear it, and they run one at a time; commits are kept out by the stripe.
                let dirty = slot.dirty();
                if !is_moved {
                    // Under its new id the next checkpoint needs all of it again.
                    slot.set_dirty(0);
                }
                let granules = match lsn {
                    Lsn::ZERO => 0,
                    _ if is_full => u64::MAX,
                    _ => dirty,
                };
                chunks_of(granules, slot.granule_bytes(), slot.len_bytes()).peekable()
            });
            if chunks.peek().is_none() {
                return Ok(());
            }
            self.newest = self.newest.max(lsn);
            // SAFETY: the stripe is locked until the images are copied.
            let bytes = unsafe { state.bytes(slot) };
            let mut looked_at = 0;
            while looked_at < CHUNK_BYTES
                && let Some((start, end)) = chunks.next()
            {
                looked_at += end - start;
                let Some(image) = bytes.get(start as usize..end as usize) else {
                    continue;
                };
                // A page starts as zeros, so a full checkpoint need not say so.
                if is_full && image.iter().all(|byte| *byte == 0) {
                    continue;
                }
                self.image(entry.page, lsn, start, image);
            }
            drop(lock);
            self.seal();
            if self.batch.len() >= BATCH_BYTES {
                self.write_batch()?;
            }
        }
    }

    /// Copies an image to the batch; its head is written by [`Self::seal`].
    fn image(&mut self, page: u64, lsn: Lsn, offset: u64, bytes: &[u8]) {
        let head = ImageHead {
            page,
            offset,
            len_bytes: bytes.len() as u64,
            lsn,
            body_crc: 0,
        };
        self.unsealed.push((self.batch.len(), head));
        self.batch.extend_from_slice(&[0; IMAGE_HEAD_BYTES]);
        self.batch.extend_from_slice(bytes);
        self.batch.resize(
            self.batch
                .len()
                .next_multiple_of(IMAGE_ALIGN_BYTES as usize),
            0,
        );
        self.count += 1;
    }

    /// Writes the heads of the images that were copied. Their checksums take time, which no commit need wait for.
    fn seal(&mut self) {
        for (at, mut head) in self.unsealed.drain(..) {
            let image = self.batch.get_mut(at..).unwrap_or_default();
            let Some((place, rest)) = image.split_first_chunk_mut::<IMAGE_HEAD_BYTES>() else {
                continue;
            };
            head.body_crc = rest.get(..head.len_bytes as usize).map_or(0, crc32c);
            *place = head.encode(self.sequence);
        }
    }

    /// No image may become durable before the records that it stands for: the log is synced first.
    fn write_batch(&mut self) -> Result<(), Poison> {
        let log = self.bus.log();
        log.sync(self.newest)?;
        self.file
            .write_all_at(&self.batch, self.position)
            .map_err(|error| log.poison("write", &self.name, Some(self.position), &error))?;
        self.file
            .sync()
            .map_err(|error| log.poison("sync", &self.name, None, &error))?;
        self.position += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Written, Poison> {
        let log = self.bus.log();
        if self.count == 0 {
            // Nothing changed: no manifest will refer to the file.
            self.bus
                .storage()
                .remove(&self.name)
                .map_err(|error| log.poison("removal", &self.name, None, &error))?;
        } else if !self.batch.is_empty() {
            self.write_batch()?;
        }
        Ok(Written {
            count: self.count,
            len_bytes: self.position,
            newest: self.newest,
        })
    }
}

/// The page of an entry, locked, and whether it has been transferred since the structure was copied:
/// then it has a new id, but the bytes are what replay will look for under the old one.
fn find<'a>(
    state: &'a State,
    entry: &PageEntry,
    replay_after: Lsn,
) -> Option<(&'a Slot, SharedLock<'a>, bool)> {
    let page = PageId::from_bits(entry.page);
    loop {
        if let Some((slot, lock)) = state.lock_shared(page) {
            return Some((slot, lock, false));
        }
        let slot = state.table.slot(page.index())?;
        let present = PageId::new(page.index(), slot.generation());
        if !slot.is_live() {
            return None;
        }
        if let Some((slot, lock)) = state.lock_shared(present) {
            return (slot.born() <= replay_after.0).then_some((slot, lock, true));
        }
    }
}

/// The byte ranges of runs of set granules.
fn dirty_ranges(
    granules: u64,
    granule_bytes: u64,
    len_bytes: u64,
) -> impl Iterator<Item = (u64, u64)> {
    let mut left = granules;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let first = left.trailing_zeros();
        let run = (left >> first).trailing_ones();
        left = if first + run >= 64 {
            0
        } else {
            left & (u64::MAX << (first + run))
        };
        let start = u64::from(first) * granule_bytes;
        let end = (u64::from(first + run) * granule_bytes).min(len_bytes);
        (start < end).then_some((start, end))
    })
}

/// The byte ranges of set granules, none longer than [`CHUNK_BYTES`].
fn chunks_of(
    granules: u64,
    granule_bytes: u64,
    len_bytes: u64,
) -> impl Iterator<Item = (u64, u64)> {
    dirty_ranges(granules, granule_bytes, len_bytes).flat_map(|(start, end)| {
        (start..end)
            .step_by(CHUNK_BYTES as usize)
            .map(move |at| (at, end.min(at + CHUNK_BYTES)))
    })
}

/// Written aside, synced, renamed, and the name synced: it is there in whole or not at all.
fn write_manifest(
    bus: &Bus,
    manifest: &Manifest,
    identity: &Identity,
) -> Result<(), CheckpointError> {
    let bytes = manifest.encode(identity)?;
    let name = manifest_name(manifest.sequence);
    let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
    let storage = bus.storage();
    let write = || -> io::Result<()> {
        let file = storage.create(&unfinished)?;
        file.write_all_at(&bytes, 0)?;
        file.sync()?;
        storage.rename(&unfinished, &name)?;
        storage.sync_names()
    };
    write().map_err(|error| bus.log().poison("write", &name, None, &error))?;
    Ok(())
}

fn sync_names(bus: &Bus) -> Result<(), Poison> {
    let storage = bus.storage();
    storage.sync_names().map_err(|error| {
        bus.log()
            .poison("sync of names", &storage.describe(), None, &error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_ranges_are_merged_and_cut_at_the_end_of_the_page() {
        let ranges = |granules, len| dirty_ranges(granules, 4096, len).collect::<Vec<_>>();
        assert_eq!(ranges(0b1011, 16384), [(0, 8192), (12288, 16384)]);
        assert_eq!(ranges(1, 100), [(0, 100)]);
        assert_eq!(ranges(u64::MAX, 5000), [(0, 5000)]);
        assert_eq!(ranges(1 << 63, 64 * 4096), [(63 * 4096, 64 * 4096)]);
        assert_eq!(ranges(0, 5000), []);
    }

    #[test]
    fn chunks_are_short_and_cover_what_changed() {
        let chunks = chunks_of(0b1101, 32 << 10, 100 << 10).collect::<Vec<_>>();
        let kib = |from: u64, to: u64| (from << 10, to << 10);
        assert_eq!(
            chunks,
            [
                kib(0, 16),
                kib(16, 32),
                kib(64, 80),
                kib(80, 96),
                kib(96, 100)
            ]
        );
    }
}
