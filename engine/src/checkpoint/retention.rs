//! Which checkpoints, and which segments of the log, may go.

use std::io::ErrorKind;

use super::format::{images_name, manifest_name};
use super::write::Checkpoints;
use crate::bus::Bus;
use crate::log::Poison;
use crate::log::discover::SegmentFile;
use crate::options::Retention;

/// Checkpoints that are kept, at least.
const KEPT_CHECKPOINTS: usize = 2;
/// Segments that wait to be used again.
const KEPT_SPARES: usize = 2;

impl Checkpoints {
    /// Removes checkpoints that nobody needs beyond the two newest, and image files that none refers to.
    pub(super) fn drop_old(&mut self, bus: &Bus, segments: &[SegmentFile]) -> Result<(), Poison> {
        let mut removed = Vec::new();
        while self.kept.len() > KEPT_CHECKPOINTS && self.second_suffices(bus, segments) {
            removed.push(self.kept.remove(0));
        }
        for old in &removed {
            remove(bus, &manifest_name(old.sequence))?;
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
            if !is_used {
                remove(bus, &images_name(sequence))?;
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
    pub(super) fn free_segments(&self, bus: &Bus, segments: &[SegmentFile]) -> Result<u64, Poison> {
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

/// Removes a file that nobody needs. That it is gone already is no error: a checkpoint that could not be read at an
/// earlier open was passed over then and counts again now, but images that it shared with others may have gone with them.
fn remove(bus: &Bus, name: &str) -> Result<(), Poison> {
    match bus.storage().remove(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(bus.log().poison("removal", name, None, &error)),
        Ok(()) => Ok(()),
    }
}

fn sync_names(bus: &Bus) -> Result<(), Poison> {
    let storage = bus.storage();
    storage.sync_names().map_err(|error| {
        bus.log()
            .poison("sync of names", &storage.describe(), None, &error)
    })
}
