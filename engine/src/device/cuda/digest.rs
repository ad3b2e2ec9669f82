//! BLAKE3 of ranges, as many at once as tables and scratch memory have room for.

use std::ops::Range;

use super::scratch::{DIGESTS, NODES};
use super::submit::Submission;
use crate::device::kernels::{DigestPlan, DigestPlanError};
use crate::device::{DeviceError, PinnedSlice};

const DIGEST_BYTES: usize = 32;

/// Bytes that one block of threads hashes at most.
const BLOCK_BYTES: u64 = 128 << 10;

/// How many of the ranges fit for sure into tables of `table_bytes` and the scratch memory; at least one.
fn fitting(ranges: &[Range<u64>], table_bytes: usize) -> usize {
    let (mut blocks, mut bytes) = (0u64, 0u64);
    let count = ranges
        .iter()
        .take(DIGESTS)
        .take_while(|range| {
            let own = range
                .end
                .saturating_sub(range.start)
                .div_ceil(BLOCK_BYTES)
                .max(1);
            blocks += own;
            // A row for the range, one for each block, and the position of a long range.
            bytes += 16 + 16 * own + 4;
            blocks <= u64::from(NODES) && bytes <= table_bytes as u64
        })
        .count();
    count.max(1)
}

fn refused(error: DigestPlanError) -> DeviceError {
    DeviceError::Invalid {
        reason: format!("digest: {error}"),
    }
}

impl Submission<'_> {
    pub(super) fn digest(
        &mut self,
        ranges: &[Range<u64>],
        to: &PinnedSlice,
    ) -> Result<(), DeviceError> {
        self.check_slice(to, ranges.len() * DIGEST_BYTES)?;
        for range in ranges {
            self.parts.memory.check(range)?;
        }
        let mut rest = ranges;
        let mut done = 0;
        while !rest.is_empty() {
            let count = fitting(rest, self.state.tables.half_bytes());
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            let plan = DigestPlan::new(now).map_err(refused)?;
            self.send_digest_tables(&plan, now)?;
            self.launch_digest(&plan)?;
            let part = done..done + count * DIGEST_BYTES;
            done = part.end;
            self.send_part_back(self.state.scratch.digests(), to, part, "digest")?;
            rest = later;
        }
        Ok(())
    }

    fn send_digest_tables(
        &mut self,
        plan: &DigestPlan,
        ranges: &[Range<u64>],
    ) -> Result<(), DeviceError> {
        let len_bytes = plan.table_bytes();
        let table = self.stream.take_table(self.state, len_bytes)?;
        // SAFETY: the table was taken just now, under the lock that is still held; work that reads it follows below.
        plan.write_tables(ranges, unsafe { table.bytes() })
            .map_err(refused)?;
        let to = self.state.scratch.table();
        self.stream.send_table(table, to, len_bytes, "digest")
    }

    fn launch_digest(&self, plan: &DigestPlan) -> Result<(), DeviceError> {
        let scratch = &self.state.scratch;
        let (chunks, roots) = plan.launches(
            self.address(0),
            scratch.table(),
            scratch.digests(),
            scratch.nodes(),
        );
        // SAFETY: ranges are mapped until work was waited for; tables, digests and nodes are in scratch memory, where `fitting` made sure
        // of their room.
        unsafe { self.launch(&chunks, "digest") }?;
        match roots {
            // SAFETY: as above.
            Some(roots) => unsafe { self.launch(&roots, "digest") },
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_has_room() {
        let ranges: Vec<Range<u64>> = (0..1000).map(|i| i..i + 1 + i * 1500).collect();
        let mut rest = ranges.as_slice();
        while !rest.is_empty() {
            let count = fitting(rest, 8192);
            let plan = DigestPlan::new(&rest[..count]).unwrap();
            assert!(plan.table_bytes() <= 8192 && count > 1);
            assert!(plan.scratch_bytes() <= u64::from(NODES) * 32);
            rest = &rest[count..];
        }
        let longest = [0..1 << 32, 0..1 << 32, 0..1 << 32];
        assert_eq!(fitting(&longest, 1 << 20), 1);
        assert!(DigestPlan::new(&longest[..1]).unwrap().table_bytes() <= 1 << 20);
        let short: Vec<Range<u64>> = (0..DIGESTS as u64 + 1).map(|_| 0..1).collect();
        assert_eq!(fitting(&short, 1 << 20), DIGESTS);
    }
}
