//! What a wave needs from its caller and tells it: memory, reports and a summary.

use std::ops::Range;

use super::{
    dag::{Extent, Node},
    stale::StaleReason,
    transform::{Transform, TransformError},
};
use crate::page::PageIndex;

/// Extents from here on lie in memory that the processor cannot address, on a device: their bytes are copied.
pub const REMOTE_START: u64 = 1 << 62;

/// The memory that pages lie in.
///
/// # Safety
/// For every range that lies in the memory below [`REMOTE_START`], `bytes` and `bytes_mut` return exactly the bytes there, at the
/// same address each time, and disjoint ranges never alias. No method looks at other bytes.
pub unsafe trait PageBytes: Sync {
    /// The bytes from `offset` on.
    ///
    /// # Safety
    /// The range lies in the memory, and nothing writes to it while the result is in use.
    unsafe fn bytes(&self, offset: u64, len: usize) -> &[u8];

    /// The bytes from `offset` on, to be written.
    ///
    /// # Safety
    /// The range lies in the memory, and nothing else accesses it while the result is in use.
    #[expect(
        clippy::mut_from_ref,
        reason = "exclusion is the caller's, by locks and by levels"
    )]
    unsafe fn bytes_mut(&self, offset: u64, len: usize) -> &mut [u8];

    /// Copies the bytes from `offset` on, which is at [`REMOTE_START`] or beyond, to `into`.
    ///
    /// # Errors
    /// When the memory fails, or there is none.
    ///
    /// # Safety
    /// The range lies in the memory, and nothing writes to it meanwhile.
    unsafe fn fetch(&self, offset: u64, into: &mut [u8]) -> Result<(), TransformError> {
        let _ = (offset, into);
        Err(TransformError::failed("there is no device"))
    }

    /// Copies `bytes` to `offset`, which is at [`REMOTE_START`] or beyond.
    ///
    /// # Errors
    /// When the memory fails, or there is none.
    ///
    /// # Safety
    /// The range lies in the memory, and nothing else accesses it meanwhile.
    unsafe fn store(&self, offset: u64, bytes: &[u8]) -> Result<(), TransformError> {
        let _ = (offset, bytes);
        Err(TransformError::failed("there is no device"))
    }

    /// Has a device compute `range` of a page, where that has all the bytes, or can have them, and knows how. Pages are given with their
    /// positions in the page table. Says which bytes changed; `None` leaves it to the processor.
    ///
    /// # Safety
    /// The extents lie in the memory, the output apart from the inputs; nothing else accesses the output, and nothing
    /// writes to the inputs, meanwhile.
    unsafe fn offload(
        &self,
        transform: &dyn Transform,
        inputs: &[(PageIndex, Extent)],
        output: (PageIndex, Extent),
        range: Range<u64>,
    ) -> Option<Result<Option<Range<u64>>, TransformError>> {
        let _ = (transform, inputs, output, range);
        None
    }
}

/// Told what a wave does, in an order that is the same for any number of threads.
pub trait WaveObserver {
    /// Bytes of a derived page changed. At most once a page and wave; `ranges` are ascending, apart
    /// and as narrow as the comparison with the old bytes allows.
    fn changed(&mut self, node: Node, page: PageIndex, ranges: &[Range<u64>]);

    /// The transform of a page failed; the page keeps its bytes and is stale.
    fn failed(&mut self, node: Node, page: PageIndex, reason: &StaleReason) {
        let _ = (node, page, reason);
    }

    /// A page became stale, or stays so for a new cause: it depends on `origin`, which failed.
    fn staled(&mut self, node: Node, page: PageIndex, origin: Node) {
        let _ = (node, page, origin);
    }

    /// A page that was stale was computed.
    fn restored(&mut self, node: Node, page: PageIndex) {
        let _ = (node, page);
    }
}

/// For callers that need the summary alone.
impl WaveObserver for () {
    fn changed(&mut self, _node: Node, _page: PageIndex, _ranges: &[Range<u64>]) {}
}

/// What a wave did, in pages unless the name says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct WaveSummary {
    /// Computed, with whatever result: `changed + cut_off + failed`.
    pub recomputed: u64,
    /// Computed to other bytes than before.
    pub changed: u64,
    /// Computed to the same bytes, so that the wave ended there.
    pub cut_off: u64,
    /// Whose transform failed.
    pub failed: u64,
    /// Reached and not computed, because a parent is stale.
    pub held_stale: u64,
    /// Stale before and computed now.
    pub restored: u64,
    /// Bytes that transforms computed without an error, changed or not.
    pub computed_bytes: u64,
    /// Levels that had a page to compute.
    pub levels: u64,
}
