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

/// What stood in a range before it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    range: Range<usize>,
    /// Where it ends before the range does, there was nothing, which becomes zeros if the file grows over it.
    old: Vec<u8>,
}

impl Before {
    /// Puts the old bytes back, as far as they are asked for.
    fn put_back(&self, bytes: &mut [u8]) {
        let end = self.range.end.min(bytes.len());
        let Some(target) = bytes.get_mut(self.range.start..end) else {
            return;
        };
        let known = self.old.len().min(target.len());
        let (kept, gone) = target.split_at_mut(known);
        kept.copy_from_slice(self.old.get(..known).unwrap_or_default());
        gone.fill(0);
    }

    /// What is left of it outside of a range.
    fn outside(self, range: &Range<usize>, left: &mut Vec<Self>) {
        if range.end <= self.range.start || self.range.end <= range.start {
            left.push(self);
            return;
        }
        let sides = [self.range.start..range.start, range.end..self.range.end];
        for side in sides.into_iter().filter(|side| side.start < side.end) {
            let known = |at: usize| (at - self.range.start).min(self.old.len());
            let old = self.old.get(known(side.start)..known(side.end));
            left.push(Self {
                old: old.unwrap_or_default().to_vec(),
                range: side,
            });
        }
    }
}

/// The bytes of one file.
///
/// What is durable is not kept beside what a reader sees, only what differs: so a file takes its length in memory, and a sync costs
/// nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// Which file it is, whatever its name; given by the disk.
    pub(super) id: u32,
    /// As the engine wrote it.
    current: Vec<u8>,
    /// How long it is after a crash.
    durable_len: usize,
    /// What was replaced since the last sync, oldest first.
    unsynced: Vec<Before>,
    /// What a failed sync has left replaced, without anybody going to write it again; older than what is unsynced.
    orphaned: Vec<Before>,
    /// Whether anything was written since the last sync; cutting a file writes nothing.
    is_written: bool,
    /// Faults of the medium, later ones over earlier ones. The true bytes are always known, so faults can be lifted.
    patches: Vec<Patch>,
}

impl Content {
    /// A file that holds these bytes, durably.
    pub(super) fn durable(id: u32, bytes: Vec<u8>) -> Self {
        Self {
            id,
            durable_len: bytes.len(),
            current: bytes,
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

    /// Whether a reader sees the same bytes in both.
    pub(super) fn is_seen_as(&self, other: &Self) -> bool {
        if self.patches.is_empty() && other.patches.is_empty() {
            self.current == other.current
        } else {
            self.seen() == other.seen()
        }
    }

    /// Whether the first bytes would be the same after a crash.
    pub(super) fn starts_durably(&self, len: usize) -> bool {
        let Some(now) = self.current.get(..len).filter(|_| len <= self.durable_len) else {
            return false;
        };
        let mut changes = self.orphaned.iter().chain(&self.unsynced);
        if !changes.any(|change| change.range.start < len) {
            return true;
        }
        let mut then = now.to_vec();
        self.put_back(&mut then);
        now == then
    }

    /// Puts back everything that is not durable, latest first.
    fn put_back(&self, bytes: &mut [u8]) {
        let changes = self.orphaned.iter().chain(&self.unsynced);
        changes.rev().for_each(|change| change.put_back(bytes));
    }

    pub(super) fn has_unsynced(&self) -> bool {
        self.is_written
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
        self.note(start.min(self.current.len())..end);
        self.is_written = true;
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        let target = self
            .current
            .get_mut(start..end)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        target.copy_from_slice(bytes);
        if !self.patches.is_empty() {
            self.overwrite(start..end);
        }
        Ok(())
    }

    /// Notes what stands in a range that is about to change. Where the last change reaches, what is older is known already.
    fn note(&mut self, range: Range<usize>) {
        let Self {
            current, unsynced, ..
        } = self;
        let there = |from: usize| {
            let end = range.end.min(current.len());
            current.get(from..end).unwrap_or_default()
        };
        match unsynced.last_mut() {
            Some(last) if last.range.contains(&range.start) || last.range.end == range.start => {
                if last.range.end < range.end {
                    let there = there(last.range.end);
                    if !there.is_empty() {
                        last.old.resize(last.range.len(), 0);
                        last.old.extend_from_slice(there);
                    }
                    last.range.end = range.end;
                }
            }
            _ => unsynced.push(Before {
                old: there(range.start).to_vec(),
                range,
            }),
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
        if len != old {
            self.note(len.min(old)..len.max(old));
            self.is_written |= len > old;
        }
        self.current.resize(len, 0);
        self.patches.retain(|patch| patch.range.end <= len);
    }

    pub(super) fn sync(&mut self) {
        self.durable_len = self.current.len();
        if !self.orphaned.is_empty() {
            self.adopt();
        }
        self.unsynced.clear();
        self.is_written = false;
    }

    /// What a failed sync had left is durable where it was written again, and gone behind the end.
    fn adopt(&mut self) {
        let behind = self.durable_len..usize::MAX;
        let ranges = self.unsynced.iter().map(|change| &change.range);
        for range in ranges.chain([&behind]) {
            let mut left = Vec::with_capacity(self.orphaned.len());
            for change in self.orphaned.drain(..) {
                change.outside(range, &mut left);
            }
            self.orphaned = left;
        }
    }

    /// A sync that failed: nothing more reached the disk, and the cache holds it for clean.
    pub(super) fn orphan(&mut self) {
        self.orphaned.append(&mut self.unsynced);
        self.is_written = false;
    }

    /// Loses whatever is not durable.
    pub(super) fn crash(&mut self) {
        let mut bytes = std::mem::take(&mut self.current);
        bytes.resize(bytes.len().max(self.durable_len), 0);
        self.put_back(&mut bytes);
        bytes.truncate(self.durable_len);
        self.current = bytes;
        self.unsynced.clear();
        self.orphaned.clear();
        self.is_written = false;
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

    /// Both states as a whole, and where they may differ: what [`Content`] is a shorter way to say.
    #[derive(Default)]
    struct Whole {
        current: Vec<u8>,
        durable: Vec<u8>,
        unsynced: Vec<Range<usize>>,
        orphaned: Vec<Range<usize>>,
    }

    impl Whole {
        fn write(&mut self, bytes: &[u8], start: usize) {
            let (noted, end) = (start.min(self.current.len()), start + bytes.len());
            self.current.resize(self.current.len().max(end), 0);
            self.current[start..end].copy_from_slice(bytes);
            self.unsynced.push(noted..end);
        }

        fn set_len(&mut self, len: usize) {
            let old = self.current.len();
            self.current.resize(len, 0);
            if len > old {
                self.unsynced.push(old..len);
            }
        }

        fn sync(&mut self) {
            carry(&self.current, &mut self.durable, &mut self.unsynced);
        }

        fn crash(&mut self) {
            self.unsynced.append(&mut self.orphaned);
            if self.current.len() < self.durable.len() {
                self.unsynced.push(self.current.len()..self.durable.len());
            }
            carry(&self.durable, &mut self.current, &mut self.unsynced);
        }
    }

    /// Makes `to` equal to `from`, which it is except in `ranges` and in its length.
    fn carry(from: &[u8], to: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) {
        to.resize(from.len(), 0);
        for range in ranges.drain(..) {
            let range = range.start.min(from.len())..range.end.min(from.len());
            to[range.clone()].copy_from_slice(&from[range]);
        }
    }

    #[test]
    fn what_survives_is_what_two_whole_copies_say() {
        let mut state = 1u64;
        let mut draw = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let (mut lost, mut kept) = (0, 0);
        for _ in 0..3000 {
            let (mut content, mut whole) = (Content::default(), Whole::default());
            for number in 0..24u8 {
                match draw(10) {
                    0..5 => {
                        let (start, len) = (draw(24), 1 + draw(12));
                        content.write(&vec![number + 1; len], start).unwrap();
                        whole.write(&vec![number + 1; len], start);
                    }
                    5..7 => {
                        let len = draw(40);
                        content.set_len(len);
                        whole.set_len(len);
                    }
                    7 => {
                        content.orphan();
                        whole.orphaned.append(&mut whole.unsynced);
                    }
                    8 => {
                        content.sync();
                        whole.sync();
                    }
                    _ => {
                        let before = content.pristine().to_vec();
                        content.crash();
                        whole.crash();
                        lost += usize::from(content.pristine() != before);
                        kept += usize::from(!content.pristine().is_empty());
                    }
                }
                assert_eq!(content.pristine(), whole.current);
                assert_eq!(content.has_unsynced(), !whole.unsynced.is_empty());
                let len = draw(30);
                let (now, then) = (whole.current.get(..len), whole.durable.get(..len));
                assert_eq!(content.starts_durably(len), now.is_some() && now == then);
            }
        }
        assert!(lost > 1000 && kept > 1000, "{lost} {kept}");
    }
}
