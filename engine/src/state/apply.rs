//! Applying the writes of records from the log, some at a time.
//!
//! A log writes to its pages in an order that no memory can foresee: every run waits for its entry in the
//! page table, and then for the bytes of its page. So some runs are looked at together: the entries of all of
//! them are asked for, then their bytes, and then they are copied, in the order of the log.
//!
//! What is asked for goes to the second-level cache, which can wait for many more lines at a time than the first. Yet a
//! request holds the processor up until it knows where in the machine's memory the page is. Meanwhile the processor looks
//! only a few hundred instructions ahead, and requests among these wait together. So the loop that asks for bytes does
//! nothing else.

use super::State;
use super::memory::DeviceRuns;
use super::table::Slot;
use crate::log::compression::UnpackFault;
use crate::log::format::{MalformedRun, Runs};
use crate::log::record::Record;
use crate::lsn::Lsn;
use crate::memory::prefetch;
use crate::page::PageId;
use crate::planted::planted;

/// Runs that are looked at together: enough to keep the processor's requests to memory busy, few enough
/// that what the first ones brought is still there for the last.
const TOGETHER: usize = 64;

/// Why a record cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyFault {
    #[error(transparent)]
    Malformed(#[from] MalformedRun),
    #[error(transparent)]
    Packed(#[from] UnpackFault),
    #[error("it writes to page {page}, which does not exist at this point")]
    NoPage { page: PageId },
    #[error("it writes {offset}..{end} of page {page}, which has {page_len_bytes} bytes")]
    OutOfRange {
        page: PageId,
        offset: u64,
        end: u64,
        page_len_bytes: u64,
    },
}

/// A run that waits for its memory.
struct Waiting<'r, 's> {
    lsn: Lsn,
    page: PageId,
    offset: u64,
    bytes: &'r [u8],
    slot: Option<&'s Slot>,
}

impl State {
    /// Applies the runs of records from the log to the pages of one shard of `shards`. The first that cannot be
    /// applied ends it, and is named with the LSN of its record.
    ///
    /// # Safety
    /// Nobody else reads or writes the pages of this shard meanwhile.
    pub(crate) unsafe fn apply_records<'r>(
        &self,
        records: impl Iterator<Item = Record<'r>>,
        shard: u32,
        shards: u32,
    ) -> Result<(), (Lsn, ApplyFault)> {
        let mut group = Vec::with_capacity(TOGETHER);
        for record in records {
            if let Some(fault) = record.fault {
                // What is wrong with an earlier run is told first.
                // SAFETY: the caller's contract is the same.
                unsafe { self.apply_group(&mut group) }?;
                return Err((record.lsn, fault.into()));
            }
            for run in Runs::new(record.stream, record.run_count) {
                let run = match run {
                    Ok(run) => run,
                    Err(malformed) => {
                        // What is wrong with an earlier run is told first.
                        // SAFETY: the caller's contract is the same.
                        unsafe { self.apply_group(&mut group) }?;
                        return Err((record.lsn, malformed.into()));
                    }
                };
                let index = run.page.index();
                if planted!(ApplierSkips) && shards > 1 && index > 3 && shard + 1 == shards {
                    continue;
                }
                if shards > 1 && index % shards != shard {
                    continue;
                }
                let slot = self.table.slot(index);
                if let Some(slot) = slot {
                    prefetch(slot);
                }
                group.push(Waiting {
                    lsn: record.lsn,
                    page: run.page,
                    offset: run.offset,
                    bytes: run.bytes,
                    slot,
                });
                if group.len() == TOGETHER {
                    // SAFETY: the caller's contract is the same.
                    unsafe { self.apply_group(&mut group) }?;
                }
            }
        }
        // SAFETY: the caller's contract is the same.
        unsafe { self.apply_group(&mut group) }
    }

    /// Applies the runs of a group in their order, and empties it.
    ///
    /// # Safety
    /// Nobody else reads or writes the pages that they name.
    unsafe fn apply_group(
        &self,
        group: &mut Vec<Waiting<'_, '_>>,
    ) -> Result<(), (Lsn, ApplyFault)> {
        for waiting in group.iter() {
            // Whether the page is the one that is meant is seen later: a request does no harm.
            if let Some(slot) = waiting.slot {
                let start = slot.offset() + waiting.offset;
                self.arena.prefetch(start, waiting.bytes.len());
            }
        }
        for waiting in group.drain(..) {
            // SAFETY: the caller's contract is the same.
            unsafe { self.apply_run(&waiting) }.map_err(|fault| (waiting.lsn, fault))?;
        }
        Ok(())
    }

    /// Applies one run, unless a checkpoint brought its page and that is newer. A record with the very LSN of
    /// the page is applied again, which changes nothing.
    ///
    /// # Safety
    /// Nobody else reads or writes the page.
    #[inline]
    unsafe fn apply_run(&self, run: &Waiting<'_, '_>) -> Result<(), ApplyFault> {
        let slot = run
            .slot
            .filter(|slot| slot.holds(run.page.generation()))
            .ok_or(ApplyFault::NoPage { page: run.page })?;
        let end = run.offset + run.bytes.len() as u64;
        if end > slot.len_bytes() {
            return Err(ApplyFault::OutOfRange {
                page: run.page,
                offset: run.offset,
                end,
                page_len_bytes: slot.len_bytes(),
            });
        }
        if run.lsn.0 < slot.lsn() {
            return Ok(());
        }
        // SAFETY: the range is inside the page, and the caller keeps everybody else away from it.
        let copied = unsafe { self.arena.copy_in(slot.offset() + run.offset, run.bytes) };
        if copied.is_none() {
            // On the device; or in the arena of another state than this, which is a shadow.
            DeviceRuns::default().write(self, slot.offset() + run.offset, run.bytes);
        }
        slot.touch(run.lsn.0);
        slot.mark_dirty(run.offset, run.bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::encode_run_head;
    use crate::options::Options;
    use crate::page::Location;
    use crate::state::structure::Journal;

    /// Pages of 64 bytes.
    fn state(pages: usize) -> (State, Vec<PageId>) {
        let state = State::new(&Options {
            arena_bytes: 1 << 20,
            ..Options::default()
        })
        .unwrap();
        let mut structure = state.structure.write();
        let pages = (0..pages)
            .map(|_| {
                let mut journal = Journal::default();
                state
                    .allocate(&mut structure, 64, Location::Host, &mut journal)
                    .unwrap()
            })
            .collect();
        drop(structure);
        (state, pages)
    }

    fn run(page: PageId, offset: u32, byte: u8) -> Vec<u8> {
        let mut stream = encode_run_head(page, offset, 15).to_vec();
        stream.extend_from_slice(&[byte; 16]);
        stream
    }

    fn apply(state: &State, streams: &[Vec<u8>], shards: u32) -> Result<(), (Lsn, ApplyFault)> {
        let records = || {
            streams.iter().zip(1..).map(|(stream, lsn)| Record {
                lsn: Lsn(lsn),
                ops: &[],
                run_count: (stream.len() / 32).max(1) as u32,
                stream,
                fault: None,
            })
        };
        for shard in 0..shards {
            // SAFETY: the state is this thread's alone.
            unsafe { state.apply_records(records(), shard, shards) }?;
        }
        Ok(())
    }

    #[test]
    fn the_last_write_wins_however_many_are_looked_at_together() {
        // Less than a group, one, and more than two that are no multiple of one.
        for (count, shards) in [(1, 1), (64, 1), (65, 1), (200, 1), (200, 3)] {
            let (state, pages) = state(3);
            let streams: Vec<_> = (0..count)
                .map(|at| run(pages[at % 3], 16, at as u8 + 1))
                .collect();
            apply(&state, &streams, shards).unwrap();
            for (at, page) in pages.iter().enumerate() {
                let last = (0..count).rev().find(|run| run % 3 == at);
                let slot = state.table.live(*page).unwrap();
                // SAFETY: the state is this thread's alone.
                let bytes = unsafe { state.bytes(slot) }.unwrap();
                assert_eq!(
                    bytes[16],
                    last.map_or(0, |run| run as u8 + 1),
                    "{count} runs"
                );
                assert_eq!(slot.lsn(), last.map_or(0, |run| run as u64 + 1));
            }
        }
    }

    #[test]
    fn the_fault_of_the_earliest_run_is_told_and_nothing_after_it_is_applied() {
        for before in [0, 3, 63, 64, 100] {
            let (state, pages) = state(2);
            let mut streams: Vec<_> = (0..before).map(|_| run(pages[0], 0, 1)).collect();
            streams.push(run(pages[0], 64, 2));
            streams.push(run(pages[1], 0, 3));
            streams.push(vec![0; 8]);
            let (lsn, fault) = apply(&state, &streams, 1).unwrap_err();
            assert_eq!(lsn, Lsn(before as u64 + 1));
            assert!(
                matches!(fault, ApplyFault::OutOfRange { end: 80, .. }),
                "{fault}"
            );
            let second = state.table.live(pages[1]).unwrap();
            assert_eq!(second.lsn(), 0);
            // Without the run that does not fit, the malformed one is next.
            streams.remove(before);
            let (lsn, fault) = apply(&state, &streams, 1).unwrap_err();
            assert_eq!(lsn, Lsn(before as u64 + 2));
            assert!(matches!(fault, ApplyFault::Malformed(_)), "{fault}");
        }
        let (state, _) = state(1);
        let (lsn, fault) = apply(&state, &[run(PageId::new(7, 1), 0, 1)], 1).unwrap_err();
        assert_eq!(
            (lsn, fault),
            (
                Lsn(1),
                ApplyFault::NoPage {
                    page: PageId::new(7, 1)
                }
            )
        );
    }
}
