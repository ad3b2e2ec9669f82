//! Reading a file that may be broken: what cannot be read is a place like any other.

use std::io;
use std::ops::Range;

use crate::storage::StorageFile;

/// How much is read at once; what must be seen in one piece and is longer is read whole.
const WINDOW_BYTES: u64 = 1 << 20;
/// Where a read fails it is tried again in pieces of this length, so that one bad sector hides no more than itself.
const BLOCK_BYTES: u64 = 4096;

/// Reads a file front to back through a buffer, around what cannot be read.
pub(super) struct Window {
    file: Box<dyn StorageFile>,
    len_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
    /// Ranges of the file inside of the buffer that could not be read; they are zeros there.
    unreadable: Vec<Range<u64>>,
}

impl Window {
    pub(super) fn new(file: Box<dyn StorageFile>) -> io::Result<Self> {
        let len_bytes = file.len_bytes()?;
        Ok(Self {
            file,
            len_bytes,
            start: 0,
            buffer: Vec::new(),
            unreadable: Vec::new(),
        })
    }

    /// The length of the file.
    pub(super) const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Some bytes. `None` if they are not all in the file, or cannot all be read.
    pub(super) fn get(&mut self, at: u64, len_bytes: u64) -> Option<&[u8]> {
        let end = at
            .checked_add(len_bytes)
            .filter(|end| *end <= self.len_bytes)?;
        self.load(at, end)?;
        let is_bad = |bad: &Range<u64>| bad.start < end && at < bad.end;
        if self.unreadable.iter().any(is_bad) {
            return None;
        }
        let from = usize::try_from(at - self.start).ok()?;
        self.buffer
            .get(from..from + usize::try_from(len_bytes).ok()?)
    }

    /// If the byte at `at` cannot be read: where the first that can be comes after it.
    pub(super) fn unreadable_until(&mut self, at: u64) -> Option<u64> {
        if at >= self.len_bytes {
            return None;
        }
        self.load(at, at + 1)?;
        let bad = self.unreadable.iter().find(|bad| bad.contains(&at))?;
        Some(bad.end)
    }

    /// Makes sure that the buffer holds `at..end`, which is inside of the file.
    fn load(&mut self, at: u64, end: u64) -> Option<()> {
        let held = self.start..self.start + self.buffer.len() as u64;
        if held.start <= at && end <= held.end {
            return Some(());
        }
        let until = end.max((at + WINDOW_BYTES).min(self.len_bytes));
        let len = usize::try_from(until - at).ok()?;
        self.buffer.resize(len, 0);
        self.start = at;
        self.unreadable.clear();
        if self.file.read_exact_at(&mut self.buffer, at).is_err() {
            self.load_blocks(until);
        }
        Some(())
    }

    fn load_blocks(&mut self, until: u64) {
        let mut at = self.start;
        while at < until {
            let next = (at + 1).next_multiple_of(BLOCK_BYTES).min(until);
            let range = (at - self.start) as usize..(next - self.start) as usize;
            let block = self.buffer.get_mut(range).unwrap_or_default();
            if self.file.read_exact_at(block, at).is_err() {
                block.fill(0);
                match self.unreadable.last_mut() {
                    Some(last) if last.end == at => last.end = next,
                    _ => self.unreadable.push(at..next),
                }
            }
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of ascending bytes with a part that cannot be read.
    struct Scratched {
        len_bytes: u64,
        scratch: Range<u64>,
    }

    impl StorageFile for Scratched {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = offset + buffer.len() as u64;
            if end > self.len_bytes || (offset < self.scratch.end && self.scratch.start < end) {
                return Err(io::Error::other("scratched"));
            }
            for (byte, at) in buffer.iter_mut().zip(offset..) {
                *byte = at as u8;
            }
            Ok(buffer.len())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn len_bytes(&self) -> io::Result<u64> {
            Ok(self.len_bytes)
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn a_bad_sector_hides_no_more_than_its_block() {
        let file = Scratched {
            len_bytes: 40_000,
            scratch: 9000..9001,
        };
        let mut window = Window::new(Box::new(file)).unwrap();
        assert_eq!(window.get(8190, 2), Some(&[254, 255][..]));
        assert_eq!(window.unreadable_until(8191), None);
        assert_eq!(window.unreadable_until(8192), Some(12_288));
        assert_eq!(window.get(8191, 2), None);
        assert_eq!(window.get(12_287, 1), None);
        assert_eq!(window.get(12_288, 1), Some(&[0][..]));
        assert_eq!(window.get(39_999, 2), None, "behind the end");
        assert_eq!(window.get(u64::MAX, 2), None);
    }
}
