//! Figures of a device.

use super::residency::ResidentPages;
use super::space::Inner;

/// What was done, counted since the space was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) evictions: u64,
    pub(super) evicted_bytes: u64,
    pub(super) fetched_pages: u64,
    pub(super) fetched_bytes: u64,
    pub(super) mirror_evictions: u64,
    pub(super) mirror_uploads: u64,
    pub(super) mirror_uploaded_bytes: u64,
}

/// Figures of the device that pages of a bus are on. Counts are those since the bus was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceStatistics {
    /// Which pages are in its memory now.
    pub resident: ResidentPages,
    /// Bytes of device memory behind pages, in whole granules, those in reserve included.
    pub mapped_bytes: u64,
    /// Those of them that no page needs.
    pub idle_bytes: u64,
    /// The most that they ever were.
    pub peak_mapped_bytes: u64,
    /// The most that they may be, if [`crate::DeviceOptions::resident_bytes`] says so.
    pub limit_bytes: Option<u64>,
    /// How often a page was evicted.
    pub evictions: u64,
    /// Bytes of the pages that were evicted.
    pub evicted_bytes: u64,
    /// How often an evicted page was brought back from the log.
    pub fetched_pages: u64,
    /// Bytes of the pages that were brought back.
    pub fetched_bytes: u64,
    /// How often a mirror of a unified page was dropped from device memory.
    pub mirror_evictions: u64,
    /// Ranges of unified pages that were sent to their mirrors.
    pub mirror_uploads: u64,
    /// Bytes of those ranges.
    pub mirror_uploaded_bytes: u64,
    /// Bytes sent to the device by commits and waves and for mirrors, tables included.
    pub uploaded_bytes: u64,
    /// Bytes that came from the device.
    pub downloaded_bytes: u64,
}

impl DeviceStatistics {
    pub(super) fn of(inner: &Inner, limit_bytes: Option<u64>) -> Self {
        let mapping = inner.residency.mapping().statistics();
        let (uploaded_bytes, downloaded_bytes) = inner.stage.transferred_bytes();
        Self {
            resident: inner.residency.counts(),
            mapped_bytes: mapping.mapped_bytes,
            idle_bytes: mapping.idle_bytes,
            peak_mapped_bytes: mapping.peak_mapped_bytes,
            limit_bytes,
            evictions: inner.counters.evictions,
            evicted_bytes: inner.counters.evicted_bytes,
            fetched_pages: inner.counters.fetched_pages,
            fetched_bytes: inner.counters.fetched_bytes,
            mirror_evictions: inner.counters.mirror_evictions,
            mirror_uploads: inner.counters.mirror_uploads,
            mirror_uploaded_bytes: inner.counters.mirror_uploaded_bytes,
            uploaded_bytes,
            downloaded_bytes,
        }
    }
}
