//! Where the bytes of evicted pages come from.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::sync::Mutex;

use super::pipe::Pipe;
use crate::device::DeviceError;
use crate::page::PageIndex;

/// Brings bytes of pages back, as of all that was committed up to the call. Nothing here knows of the log that it reads.
pub(crate) trait PageSource: Send + Sync {
    /// Fills pages, which are zeros, through the pipe, at the speed of the copy. `false` where that cannot be done this way:
    /// it is left to [`PageSource::read`] then, whatever was written.
    fn fill(&self, pages: &[PageIndex], pipe: &Pipe<'_>) -> Result<bool, DeviceError>;

    /// The bytes of pages, given by their places in ascending order, in any way there is.
    fn read(&self, pages: &[Range<u64>]) -> Result<Vec<Vec<u8>>, String>;

    /// Makes sure that what was committed up to now can be read back, whatever happens to this process' disk later.
    fn flush(&self) -> Result<(), String>;
}

/// Takes, of everything that a state writes to its device, what lies in some ranges.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Bytes of addresses that the device has for pages.
    pub(crate) pages_bytes: u64,
    parts: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Sink {
    /// Ranges must not overlap.
    pub(crate) fn new(pages_bytes: u64, ranges: &[Range<u64>]) -> Self {
        let parts = ranges
            .iter()
            .map(|range| (range.start, vec![0; (range.end - range.start) as usize]));
        Self {
            pages_bytes,
            parts: Mutex::new(parts.collect()),
        }
    }

    /// What is there, by place.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.parts.lock())
            .into_values()
            .collect()
    }

    pub(crate) fn zero(&self, range: &Range<u64>) {
        self.each(range, |part, _| part.fill(0));
    }

    pub(crate) fn write(&self, to: u64, bytes: &[u8]) {
        self.each(&(to..to + bytes.len() as u64), |part, skipped| {
            if let Some(bytes) = bytes.get(skipped..skipped + part.len()) {
                part.copy_from_slice(bytes);
            }
        });
    }

    /// Calls `change` for what is taken of `range`, with how much of that comes before.
    fn each(&self, range: &Range<u64>, mut change: impl FnMut(&mut [u8], usize)) {
        let mut parts = self.parts.lock();
        let first = parts.range(..=range.start).next_back();
        let first = first.map_or(range.start, |(start, _)| *start);
        for (start, bytes) in parts.range_mut(first..range.end) {
            let end = start + bytes.len() as u64;
            let (from, to) = (range.start.max(*start), range.end.min(end));
            if from < to
                && let Some(part) = bytes.get_mut((from - start) as usize..(to - start) as usize)
            {
                change(part, (from - range.start) as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_everything_it_keeps_what_lies_in_its_ranges() {
        let sink = Sink::new(100, &[10..14, 20..23]);
        sink.write(0, &[9; 9]);
        sink.write(8, &[1, 2, 3, 4]);
        sink.write(13, &[5, 6, 6, 6, 6, 6, 6, 7, 8, 9, 0]);
        sink.zero(&(21..22));
        assert_eq!(sink.take(), [vec![3, 4, 0, 5], vec![7, 0, 9]]);
    }
}
