//! Taking the images of pages while commits go on: copied in chunks under the locks of their pages, summed and written
//! outside of them.

use super::format::{
    IMAGE_ALIGN_BYTES, IMAGE_HEAD_BYTES, ImageHead, PageEntry, images_head, images_name,
};
use super::write::CheckpointError;
use crate::bus::Bus;
use crate::checksum::crc32c;
use crate::log::Poison;
use crate::log::format::Identity;
use crate::lsn::Lsn;
use crate::page::PageId;
use crate::planted::planted;
use crate::state::State;
use crate::state::content::SharedLock;
use crate::state::memory::DEVICE_START;
use crate::state::table::Slot;
use crate::storage::StorageFile;

/// Images gather in memory up to this length before the log is synced, and they are written and synced. A commit that
/// is synced meanwhile waits behind no more than this.
const BATCH_BYTES: usize = 1 << 20;
/// So much of a page is copied before commits to its stripe are let in between: some microseconds.
const CHUNK_BYTES: u64 = 16 << 10;
/// The same of a page on a device, where each copy has to be waited for.
const DEVICE_CHUNK_BYTES: u64 = 1 << 20;

/// What the image writer wrote.
pub(super) struct Written {
    pub(super) count: u64,
    pub(super) len_bytes: u64,
    pub(super) newest: Lsn,
}

pub(super) struct ImageWriter<'a> {
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
    pub(super) fn create(
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
    ///
    /// # Errors
    /// When the disk fails, or a device that the page is on.
    pub(super) fn page(
        &mut self,
        entry: &mut PageEntry,
        is_full: bool,
    ) -> Result<(), CheckpointError> {
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
                let chunk_bytes = if slot.offset() >= DEVICE_START {
                    DEVICE_CHUNK_BYTES
                } else {
                    CHUNK_BYTES
                };
                chunks_of(
                    granules,
                    slot.granule_bytes(),
                    slot.len_bytes(),
                    chunk_bytes,
                )
                .peekable()
            });
            if chunks.peek().is_none() {
                return Ok(());
            }
            self.newest = self.newest.max(lsn);
            let mut looked_at = 0;
            while looked_at < CHUNK_BYTES
                && let Some((start, end)) = chunks.next()
            {
                looked_at += end - start;
                // SAFETY: the stripe is locked until the image is copied.
                let image = unsafe { state.content(slot, start..end)? };
                // A page starts as zeros, so a full checkpoint need not say so.
                if is_full && image.iter().all(|byte| *byte == 0) {
                    continue;
                }
                self.image(entry.page, lsn, start, &image);
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
        if !planted!(ImageBeforeRecord) {
            log.sync(self.newest)?;
        }
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

    /// Gives up; no manifest will refer to the file.
    pub(super) fn discard(self) -> Result<(), Poison> {
        let removed = self.bus.storage().remove(&self.name);
        removed.map_err(|error| self.bus.log().poison("removal", &self.name, None, &error))
    }

    pub(super) fn finish(mut self) -> Result<Written, Poison> {
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

/// The byte ranges of set granules, none longer than `chunk_bytes`.
fn chunks_of(
    granules: u64,
    granule_bytes: u64,
    len_bytes: u64,
    chunk_bytes: u64,
) -> impl Iterator<Item = (u64, u64)> {
    dirty_ranges(granules, granule_bytes, len_bytes).flat_map(move |(start, end)| {
        (start..end)
            .step_by(chunk_bytes as usize)
            .map(move |at| (at, end.min(at + chunk_bytes)))
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
        let chunks = chunks_of(0b1101, 32 << 10, 100 << 10, CHUNK_BYTES).collect::<Vec<_>>();
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
