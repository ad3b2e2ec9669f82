//! Taking a checkpoint while commits go on.

use crate::planted::planted;
use std::io;

use super::format::{Connection, ImageFile, Manifest, PageEntry, UNFINISHED_SUFFIX, manifest_name};
use super::images::ImageWriter;
use crate::bus::Bus;
use crate::codec::CodecError;
use crate::device::DeviceError;
use crate::log::discover::discover;
use crate::log::error::LogError;
use crate::log::format::Identity;
use crate::log::{Poison, TransformId};
use crate::lsn::Lsn;
use crate::options::Retention;
use crate::page::PageId;
use crate::recovery::Rebuilt;
use crate::state::memory::place_of;
use crate::state::table::Slot;

/// A chain of more files than this is begun anew.
const MAX_CHAIN_FILES: usize = 16;
/// A chain that takes this many times the bytes of all pages is begun anew.
const MAX_CHAIN_RATIO: u64 = 2;

/// Why a checkpoint was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk failed, now or earlier; the bus is read-only.
    #[error("the bus is read-only since an error of its files: {0}; open it again")]
    Poisoned(#[from] Poison),
    /// A device failed, so the pages on it cannot be read; they have to be restored from the log first. Nothing has changed, but that the next checkpoint is a full one.
    #[error("pages on the device cannot be read: {0}")]
    Device(#[from] DeviceError),
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
    /// Whether a checkpoint was given up after it had taken images: the next one must be full.
    pub is_broken: bool,
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
            is_broken: false,
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
        let is_full = self.is_broken || is_worn(&chain, &manifest);
        let mut images = ImageWriter::create(bus, sequence, manifest.replay_after, &self.identity)?;
        for entry in &mut manifest.pages {
            if let Err(error) = images.page(entry, is_full) {
                if let CheckpointError::Device(_) = &error {
                    // What was copied up to here counts as unchanged, and nobody has it.
                    self.is_broken = true;
                    images.discard()?;
                }
                return Err(error);
            }
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
        self.is_broken = false;
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
        let owned = bus.own_files();
        self.drop_old(bus, &segments)?;
        let freed_segments = self.free_segments(bus, &segments)?;
        drop(owned);
        Ok(CheckpointReport {
            replay_after: manifest.replay_after,
            sequence,
            is_full,
            images: written.count,
            image_bytes: written.len_bytes,
            freed_segments,
        })
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
                offset: place_of(slot.offset()),
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
        if !planted!(ManifestNotSynced) {
            file.sync()?;
        }
        storage.rename(&unfinished, &name)?;
        storage.sync_names()
    };
    write().map_err(|error| bus.log().poison("write", &name, None, &error))?;
    Ok(())
}
