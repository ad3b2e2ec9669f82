//! Bringing a state back from a checkpoint.

use crate::planted::planted;
use std::io;

use super::format::{
    FILE_HEAD_BYTES, HeadError, IMAGE_ALIGN_BYTES, IMAGE_HEAD_BYTES, ImageFile, ImageHead,
    Manifest, PageEntry, check_images_head, images_name, manifest_len_bytes, manifest_name,
    parse_images_name, parse_manifest_name,
};
use crate::checksum::crc32c;
use crate::device::DeviceError;
use crate::log::format::Identity;
use crate::memory::{History, Placement};
use crate::page::{Location, PageId};
use crate::state::State;
use crate::state::memory::{DeviceRuns, offset_at};
use crate::state::structure::DevicePlacement;
use crate::state::structure::{Journal, home_stripe, is_retired};
use crate::storage::{Storage, StorageFile};

/// How much of an image file is read at once; a longer image is read whole.
const WINDOW_BYTES: u64 = 4 << 20;

/// Why a checkpoint cannot be used. Recovery then tries the one before, and the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointDamage {
    /// The operating system refused.
    #[error("cannot read {file}: {source}")]
    Io {
        /// Name of the file.
        file: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file was written by a newer version.
    #[error("{file}: {why}; use a newer build")]
    Newer {
        /// Name of the file.
        file: String,
        /// Which version.
        why: String,
    },
    /// The file is not intact.
    #[error("{file} is damaged: {why}")]
    Damaged {
        /// Name of the file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The device cannot hold its pages, or fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its pages do not fit the arena.
    #[error("the arena is too small for the pages of the checkpoint")]
    ArenaTooSmall,
}

impl CheckpointDamage {
    fn head(file: String, error: &HeadError) -> Self {
        let why = error.to_string();
        match error {
            HeadError::Newer(_) => Self::Newer { file, why },
            _ => Self::Damaged { file, why },
        }
    }
}

/// The highest number that a checkpoint ever had, as far as its files are there; 0 if there are none.
pub(crate) fn highest(names: &[String]) -> u64 {
    let numbers = names
        .iter()
        .filter_map(|name| parse_manifest_name(name).or_else(|| parse_images_name(name)));
    numbers.max().unwrap_or_default()
}

/// The numbers of the manifests that there are, newest first.
pub(crate) fn list(names: &[String]) -> Vec<u64> {
    let mut sequences: Vec<u64> = names
        .iter()
        .filter_map(|name| parse_manifest_name(name))
        .collect();
    sequences.sort_unstable_by(|a, b| b.cmp(a));
    sequences
}

/// Reads the manifest of checkpoint `sequence`.
pub(crate) fn manifest(
    storage: &dyn Storage,
    identity: &Identity,
    sequence: u64,
) -> Result<Manifest, CheckpointDamage> {
    let name = manifest_name(sequence);
    let read = || -> io::Result<Vec<u8>> {
        let file = storage.open(&name, false)?;
        let len_bytes = file.len_bytes()?;
        let mut bytes =
            vec![0; usize::try_from(len_bytes.min(FILE_HEAD_BYTES as u64)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        // The head is checked before the file is believed to be as long as it says.
        if manifest_len_bytes(&bytes, identity, sequence) == Some(len_bytes) {
            bytes.resize(usize::try_from(len_bytes).unwrap_or(0), 0);
            file.read_exact_at(&mut bytes, 0)?;
        }
        Ok(bytes)
    };
    let bytes = read().map_err(|source| CheckpointDamage::Io {
        file: name.clone(),
        source,
    })?;
    Manifest::decode(&bytes, identity, sequence)
        .map_err(|error| CheckpointDamage::head(name, &error))
}

/// Fills an empty state with what the checkpoint holds.
pub(crate) fn restore(
    state: &State,
    storage: &dyn Storage,
    identity: &Identity,
    manifest: &Manifest,
) -> Result<(), CheckpointDamage> {
    let name = manifest_name(manifest.sequence);
    let arena_bytes = state.structure.read().placement.capacity_bytes();
    let on_device = |page: &PageEntry| page.location == Location::Device;
    let fits = |page: &PageEntry| {
        on_device(page) || page.offset.saturating_add(page.len_bytes) <= arena_bytes
    };
    if !manifest.pages.iter().all(fits) {
        return Err(CheckpointDamage::ArenaTooSmall);
    }
    if manifest.pages.iter().any(on_device) {
        occupy_device(state, manifest)?;
    }
    structure(state, manifest).map_err(|why| CheckpointDamage::Damaged { file: name, why })?;
    for file in &manifest.images {
        images(state, storage, identity, file)?;
    }
    Ok(())
}

/// Gives memory to the pages on the device.
fn occupy_device(state: &State, manifest: &Manifest) -> Result<(), CheckpointDamage> {
    if state.sink.is_none() {
        state.device_space()?;
    }
    let pages_bytes = state.device_pages_bytes().unwrap_or_default();
    let pages = manifest
        .pages
        .iter()
        .filter(|page| page.location == Location::Device);
    for page in pages {
        let end = page.offset.saturating_add(page.len_bytes);
        if end > pages_bytes {
            return Err(DeviceError::OutOfMemory {
                asked_bytes: end,
                mapped_bytes: state.device.get().map_or(0, |space| space.mapped_bytes()),
                capacity_bytes: pages_bytes,
            }
            .into());
        }
        state.occupy_device(page.offset..end, PageId::from_bits(page.page).index())?;
    }
    Ok(())
}

fn structure(state: &State, manifest: &Manifest) -> Result<(), String> {
    let mut structure = state.structure.write();
    let capacity_bytes = structure.placement.capacity_bytes();
    let places = |location: Location| {
        let pages = manifest.pages.iter();
        pages
            .filter(move |page| {
                (page.location == Location::Device) == (location == Location::Device)
            })
            .map(|page| (page.offset, page.len_bytes))
    };
    let (peak_footprint_bytes, allocations_total, releases_total) = manifest.history;
    structure.placement = Placement::restore(
        capacity_bytes,
        places(Location::Host),
        History {
            peak_footprint_bytes,
            allocations_total,
            releases_total,
        },
    )
    .map_err(|error| error.to_string())?;
    if let Some(pages_bytes) = state.device_pages_bytes() {
        structure.device_placement =
            DevicePlacement::restore(pages_bytes, places(Location::Device), History::default())
                .map_err(|error| error.to_string())?;
    }
    let positions = manifest.pages.len() + manifest.free.len() + manifest.retired.len();
    let indices = manifest
        .pages
        .iter()
        .map(|page| PageId::from_bits(page.page).index());
    let unused = manifest
        .free
        .iter()
        .chain(&manifest.retired)
        .map(|(index, _)| *index);
    if positions != manifest.used as usize
        || indices.chain(unused).any(|index| index >= manifest.used)
    {
        return Err("its page table is not whole".to_owned());
    }
    if manifest
        .free
        .iter()
        .any(|(_, generation)| is_retired(*generation))
    {
        return Err("it gives away positions that are used up".to_owned());
    }
    structure.used = manifest.used;
    structure.lsn = manifest.structure_lsn;
    for (index, generation) in manifest.free.iter().chain(&manifest.retired) {
        let slot = state
            .table
            .slot_or_grow(*index)
            .ok_or("the page table is full")?;
        slot.set_generation(*generation);
    }
    structure.free = manifest.free.iter().map(|(index, _)| *index).collect();
    for entry in &manifest.pages {
        let page = PageId::from_bits(entry.page);
        let slot = state
            .table
            .slot_or_grow(page.index())
            .ok_or("the page table is full")?;
        let stripe = home_stripe(page.index());
        slot.occupy(
            page.generation(),
            offset_at(entry.location, entry.offset),
            entry.len_bytes,
            entry.location,
            stripe,
        );
        if !planted!(EpochNotRestored) {
            slot.set_epoch(entry.epoch);
        }
        slot.set_lsn(entry.lsn.0);
        state
            .arena
            .unpoison(slot.offset(), entry.len_bytes as usize);
    }
    let mut journal = Journal::default();
    for connection in &manifest.connections {
        let parents: Vec<PageId> = connection
            .parents
            .iter()
            .copied()
            .map(PageId::from_bits)
            .collect();
        let child = PageId::from_bits(connection.child);
        state
            .connect(
                &mut structure,
                child,
                &connection.transform,
                &parents,
                &mut journal,
            )
            .map_err(|error| error.to_string())?;
    }
    for (page, key, value) in &manifest.metadata {
        if planted!(AnnotationsLost) {
            break;
        }
        state
            .annotate(
                &mut structure,
                PageId::from_bits(*page),
                key,
                Some(value),
                &mut journal,
            )
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn images(
    state: &State,
    storage: &dyn Storage,
    identity: &Identity,
    image_file: &ImageFile,
) -> Result<(), CheckpointDamage> {
    scan_images(storage, identity, image_file, |image, bytes| {
        // A page that is no more, or that has been given to another, needs no image.
        if let Some(slot) = state.table.live(PageId::from_bits(image.page)) {
            let end = image.offset.checked_add(image.len_bytes);
            if end.is_none_or(|end| end > slot.len_bytes()) {
                return Err("is outside of its page");
            }
            let offset = slot.offset() + image.offset;
            // SAFETY: the range is inside the page, and nobody else knows of this state yet.
            if unsafe { state.arena.copy_in(offset, bytes) }.is_none() {
                // On the device; or in the arena of another state than this, which is a shadow.
                DeviceRuns::default().write(state, offset, bytes);
            }
        }
        Ok(())
    })
}

/// Reads an image file front to back and checks everything in it. `visit` sees each image, and may refuse it.
pub(crate) fn scan_images(
    storage: &dyn Storage,
    identity: &Identity,
    image_file: &ImageFile,
    mut visit: impl FnMut(&ImageHead, &[u8]) -> Result<(), &'static str>,
) -> Result<(), CheckpointDamage> {
    let name = images_name(image_file.sequence);
    let io = |source| CheckpointDamage::Io {
        file: name.clone(),
        source,
    };
    let file = storage.open(&name, false).map_err(io)?;
    if file.len_bytes().map_err(io)? < image_file.len_bytes {
        return Err(CheckpointDamage::Damaged {
            file: name,
            why: "it is shorter than it was".to_owned(),
        });
    }
    let mut reader = Window {
        file: &*file,
        len_bytes: image_file.len_bytes,
        start: 0,
        buffer: Vec::new(),
    };
    let head = reader.get(0, FILE_HEAD_BYTES as u64).map_err(io)?;
    check_images_head(head, identity, image_file.sequence)
        .map_err(|error| CheckpointDamage::head(name.clone(), &error))?;
    let mut position = FILE_HEAD_BYTES as u64;
    while position < image_file.len_bytes {
        let damaged = |why: &str| CheckpointDamage::Damaged {
            file: name.clone(),
            why: format!("the image at offset {position} {why}"),
        };
        let head = reader.get(position, IMAGE_HEAD_BYTES as u64).map_err(io)?;
        let image = ImageHead::decode(head, image_file.sequence)
            .ok_or_else(|| damaged("has a bad head"))?;
        let body = position + IMAGE_HEAD_BYTES as u64;
        if image.len_bytes > image_file.len_bytes - body.min(image_file.len_bytes) {
            return Err(damaged("is longer than its file"));
        }
        let bytes = reader.get(body, image.len_bytes).map_err(io)?;
        if crc32c(bytes) != image.body_crc {
            return Err(damaged("does not match its checksum"));
        }
        visit(&image, bytes).map_err(damaged)?;
        position = (body + image.len_bytes).next_multiple_of(IMAGE_ALIGN_BYTES);
    }
    Ok(())
}

/// Reads a file front to back through a buffer.
struct Window<'a> {
    file: &'a dyn StorageFile,
    len_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl Window<'_> {
    fn get(&mut self, at: u64, len_bytes: u64) -> io::Result<&[u8]> {
        let end = at
            .checked_add(len_bytes)
            .filter(|end| *end <= self.len_bytes);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            let window = len_bytes.max(WINDOW_BYTES.min(self.len_bytes - at));
            self.buffer
                .resize(usize::try_from(window).unwrap_or(usize::MAX), 0);
            self.file.read_exact_at(&mut self.buffer, at)?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        self.buffer
            .get(from..from + len_bytes as usize)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
