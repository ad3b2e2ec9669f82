//! Many deltas of one page folded into one that does the same.

use std::borrow::Borrow;
use std::cmp::Ordering;

use super::runs::{Delta, Run};

impl Delta {
    /// The delta that does what `self` and then `later` do: where both write, `later` wins.
    ///
    /// Runs that touch or overlap become one. Linear in the runs and bytes of both.
    #[must_use]
    pub fn merge(&self, later: &Self) -> Self {
        let mut merged = Merged::with_room_for(self, later);
        let mut early_runs = self.runs();
        // What is left of the current run of `self`.
        let mut early = early_runs.next();
        for (offset, bytes) in later.runs() {
            let end = offset + bytes.len() as u64;
            while let Some((early_offset, early_bytes)) = early {
                if early_offset >= offset {
                    break;
                }
                let before = usize::try_from(offset - early_offset).unwrap_or(usize::MAX);
                let (head, tail) = split_at_most(early_bytes, before);
                merged.push(early_offset, head);
                early = if tail.is_empty() {
                    early_runs.next()
                } else {
                    Some((offset, tail))
                };
            }
            merged.push(offset, bytes);
            while let Some((early_offset, early_bytes)) = early {
                if early_offset >= end {
                    break;
                }
                let hidden = usize::try_from(end - early_offset).unwrap_or(usize::MAX);
                let (_, tail) = split_at_most(early_bytes, hidden);
                if !tail.is_empty() {
                    early = Some((end, tail));
                    break;
                }
                early = early_runs.next();
            }
        }
        for (offset, bytes) in early.into_iter().chain(early_runs) {
            merged.push(offset, bytes);
        }
        merged.finish()
    }

    /// The delta that does what all of these do, one after the other; the empty one for none.
    ///
    /// Neighbours of about equal size are merged with each other first, as in a merge sort:
    /// `O(n log k)` for `k` deltas of `n` bytes and runs in all, where folding from the left would
    /// copy the growing result `k` times.
    #[must_use]
    pub fn compact<D: Borrow<Self>>(deltas: impl IntoIterator<Item = D>) -> Self {
        // Adjacent partial results with the number of deltas in each, a power of two, falling from
        // the bottom to the top: a binary counter.
        let mut partial: Vec<(usize, Self)> = Vec::new();
        for delta in deltas {
            let mut count = 1;
            let mut merged = match partial.last() {
                Some((1, _)) => None,
                _ => Some(delta.borrow().clone()),
            };
            while let Some((_, earlier)) = partial.pop_if(|(of, _)| *of == count) {
                merged = Some(earlier.merge(merged.as_ref().unwrap_or(delta.borrow())));
                count *= 2;
            }
            partial.extend(merged.map(|merged| (count, merged)));
        }
        let mut newest_first = partial.into_iter().rev().map(|(_, delta)| delta);
        let newest = newest_first.next().unwrap_or_default();
        newest_first.fold(newest, |later, earlier| earlier.merge(&later))
    }
}

/// A delta in the making, fed in order of offset.
struct Merged {
    runs: Vec<Run>,
    payload: Vec<u8>,
}

impl Merged {
    fn with_room_for(a: &Delta, b: &Delta) -> Self {
        // Each run of the later delta can cut one of the earlier in two.
        Self {
            runs: Vec::with_capacity(a.run_count() + 2 * b.run_count()),
            payload: Vec::with_capacity(a.payload().len() + b.payload().len()),
        }
    }

    fn push(&mut self, offset: u64, bytes: &[u8]) {
        // The pieces come from valid runs, so this fails for an empty piece only: skipped.
        let Ok(run) = Run::new(self.runs.len(), offset, bytes.len()) else {
            return;
        };
        self.payload.extend_from_slice(bytes);
        match self.runs.last_mut() {
            Some(last) if last.end().cmp(&offset) == Ordering::Equal => last.last = run.last,
            _ => self.runs.push(run),
        }
    }

    fn finish(self) -> Delta {
        Delta::from_canonical(self.runs, self.payload)
    }
}

/// Like `split_at`, with the whole slice on the left when it is shorter than `mid`.
fn split_at_most(bytes: &[u8], mid: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(mid).unwrap_or((bytes, &[]))
}
