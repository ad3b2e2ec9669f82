//! The bytes of one simulated file: what a reader sees, what is durable, and what is wrong with the medium.

use std::io;
use std::ops::Range;

/// What is wrong with a range of a file, on top of bytes that are as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    /// Other bytes stand there.
    Bytes(Vec<u8>),
    /// It cannot be read.
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Patch {
    range: Range<usize>,
    wrong: Wrong,
}

/// The bytes of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// Which file it is, whatever its name; given by the disk.
    pub(super) id: u32,
    /// As the engine wrote it.
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Where the two may differ, so that a sync costs what was written since the last one.
    unsynced: Vec<Range<usize>>,
    /// Where a failed sync has left them different, without anybody going to write them again.
    orphaned: Vec<Range<usize>>,
    /// Faults of the medium, later ones over earlier ones. The true bytes are always known, so faults can be lifted.
    patches: Vec<Patch>,
}

impl Content {
    /// A file that holds these bytes, durably.
    pub(super) fn durable(id: u32, bytes: Vec<u8>) -> Self {
        Self {
            id,
            current: bytes.clone(),
            durable: bytes,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    /// The true bytes.
    pub(super) fn pristine(&self) -> &[u8] {
        &self.current
    }

    /// The bytes with the faults of the medium; what cannot be read is zeros.
    pub(super) fn seen(&self) -> Vec<u8> {
        let mut bytes = self.current.clone();
        let _ = self.patch(&mut bytes, 0);
        bytes
    }

    /// Whether the first bytes would be the same after a crash.
    pub(super) fn starts_durably(&self, len: usize) -> bool {
        let (now, then) = (self.current.get(..len), self.durable.get(..len));
        now.is_some() && now == then
    }

    pub(super) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Copies as much as there is from `start` on, and says how much that was.
    pub(super) fn read(&self, buffer: &mut [u8], start: usize) -> io::Result<usize> {
        let rest = self.current.get(start..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.patch(to, start)?;
        Ok(len)
    }

    /// Puts what is wrong with the medium over bytes that were read from `start` on.
    fn patch(&self, bytes: &mut [u8], start: usize) -> io::Result<()> {
        let end = start + bytes.len();
        let mut result = Ok(());
        for patch in &self.patches {
            let from = patch.range.start.max(start);
            let to = patch.range.end.min(end);
            if from >= to {
                continue;
            }
            match &patch.wrong {
                Wrong::Unreadable => {
                    result = Err(io::Error::other("simulated: the sector cannot be read"));
                }
                Wrong::Bytes(wrong) => {
                    let wrong = wrong.get(from - patch.range.start..to - patch.range.start);
                    let target = bytes.get_mut(from - start..to - start);
                    if let (Some(target), Some(wrong)) = (target, wrong) {
                        target.copy_from_slice(wrong);
                    }
                }
            }
        }
        result
    }

    pub(super) fn write(&mut self, bytes: &[u8], start: usize) -> io::Result<()> {
        let end = start
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        // A gap that is filled with zeros is written too: the durable bytes may have something else there.
        let noted = start.min(self.current.len());
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        let target = self
            .current
            .get_mut(start..end)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        target.copy_from_slice(bytes);
        self.note(noted..end);
        if !self.patches.is_empty() {
            self.overwrite(start..end);
        }
        Ok(())
    }

    /// Notes a range that was written; one that continues the last one extends it.
    fn note(&mut self, range: Range<usize>) {
        match self.unsynced.last_mut() {
            Some(last) if last.start <= range.start && range.start <= last.end => {
                last.end = last.end.max(range.end)
            }
            _ => self.unsynced.push(range),
        }
    }

    /// Whoever writes a range anew gets a sound one.
    fn overwrite(&mut self, range: Range<usize>) {
        let mut kept = Vec::with_capacity(self.patches.len());
        for patch in self.patches.drain(..) {
            let sides = [
                patch.range.start..patch.range.end.min(range.start),
                patch.range.start.max(range.end)..patch.range.end,
            ];
            for side in sides.into_iter().filter(|side| side.start < side.end) {
                let from = side.start - patch.range.start;
                let wrong = match &patch.wrong {
                    Wrong::Unreadable => Wrong::Unreadable,
                    Wrong::Bytes(bytes) => Wrong::Bytes(
                        bytes
                            .get(from..from + side.len())
                            .unwrap_or_default()
                            .to_vec(),
                    ),
                };
                kept.push(Patch { range: side, wrong });
            }
        }
        self.patches = kept;
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let old = self.current.len();
        self.current.resize(len, 0);
        if len > old {
            self.note(old..len);
        }
        self.patches.retain(|patch| patch.range.end <= len);
    }

    pub(super) fn sync(&mut self) {
        let Self {
            current,
            durable,
            unsynced,
            ..
        } = self;
        carry(current, durable, unsynced);
    }

    /// A sync that failed: nothing more reached the disk, and the cache holds it for clean.
    pub(super) fn orphan(&mut self) {
        self.orphaned.append(&mut self.unsynced);
    }

    /// Loses whatever is not durable.
    pub(super) fn crash(&mut self) {
        let Self {
            current,
            durable,
            unsynced,
            orphaned,
            ..
        } = self;
        unsynced.append(orphaned);
        // A file that was cut and then extended differs beyond the cut too.
        if current.len() < durable.len() {
            unsynced.push(current.len()..durable.len());
        }
        carry(durable, current, unsynced);
    }

    /// From now on other bytes stand at `start`, as far as the file reaches.
    pub(super) fn corrupt(&mut self, start: usize, mut bytes: Vec<u8>) {
        bytes.truncate(self.current.len().saturating_sub(start));
        if !bytes.is_empty() {
            self.patches.push(Patch {
                range: start..start + bytes.len(),
                wrong: Wrong::Bytes(bytes),
            });
        }
    }

    /// From now on the range cannot be read.
    pub(super) fn spoil(&mut self, range: Range<usize>) {
        self.patches.push(Patch {
            range,
            wrong: Wrong::Unreadable,
        });
    }

    /// Makes the medium sound again.
    pub(super) fn heal(&mut self) {
        self.patches.clear();
    }
}

/// Makes `to` equal to `from`, which it is except in `ranges` and in its length.
fn carry(from: &[u8], to: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) {
    to.resize(from.len(), 0);
    for range in ranges.drain(..) {
        let range = range.start.min(from.len())..range.end.min(from.len());
        if let (Some(from), Some(to)) = (from.get(range.clone()), to.get_mut(range)) {
            to.copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content, start: usize, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let read = content.read(&mut buffer, start)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    #[test]
    fn faults_lie_over_the_true_bytes_until_they_are_lifted_or_overwritten() {
        let mut content = Content::durable(0, b"0123456789".to_vec());
        content.corrupt(2, b"xyz".to_vec());
        content.spoil(8..9);
        assert_eq!(read(&content, 1, 5).unwrap(), b"1xyz5");
        assert!(read(&content, 6, 4).is_err());
        assert_eq!(content.pristine(), b"0123456789");
        content.write(b"A", 3).unwrap();
        assert_eq!(read(&content, 0, 8).unwrap(), b"01xAz567");
        content.write(b"8", 8).unwrap();
        assert_eq!(read(&content, 6, 4).unwrap(), b"6789");
        content.heal();
        assert_eq!(read(&content, 0, 99).unwrap(), b"012A456789");
    }

    #[test]
    fn what_a_failed_sync_left_behind_is_seen_until_the_crash_and_synced_only_if_written_again() {
        let mut content = Content::durable(0, b"old".to_vec());
        content.write(b"new", 0).unwrap();
        content.orphan();
        content.sync();
        assert_eq!(read(&content, 0, 3).unwrap(), b"new");
        content.clone().crash();
        let mut crashed = content.clone();
        crashed.crash();
        assert_eq!(read(&crashed, 0, 3).unwrap(), b"old");
        content.write(b"new", 0).unwrap();
        content.sync();
        content.crash();
        assert_eq!(read(&content, 0, 3).unwrap(), b"new");
    }
}
