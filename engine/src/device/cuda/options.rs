//! How a GPU is opened.

/// How [`super::CudaDevice::open`] sets a device up. All lengths are in bytes; what is not given is taken from the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaOptions {
    /// Memory to use for pages at most. All of the device's if `None`.
    pub memory_limit_bytes: Option<u64>,
    /// Length of the range of addresses to reserve; rounded up to the granule. Twice the memory if `None`, so that long pages find a
    /// place also when short ones lie scattered. Costs addresses, not memory.
    pub reserved_bytes: Option<u64>,
    /// The unit in which memory is mapped; rounded up to a power of two and to what the driver can do, which is 2 MiB. Larger ones are
    /// faster to map, and waste more at the ends of ranges.
    pub granule_bytes: u64,
    /// Memory that stays taken from the device when it is unmapped, to be mapped again without asking for it.
    pub spare_bytes: u64,
    /// Pinned host memory for tables, for each of the two queues. Submitting waits when it is full of tables still to be read; the
    /// tables of one piece of work take half of it at most. At least 2 MiB.
    pub table_bytes: u32,
    /// Whether waiting sleeps instead of asking again and again: it takes longer, and leaves the processor to others.
    pub is_wait_blocking: bool,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self {
            memory_limit_bytes: None,
            reserved_bytes: None,
            granule_bytes: 2 << 20,
            spare_bytes: 0,
            table_bytes: 4 << 20,
            is_wait_blocking: false,
        }
    }
}
