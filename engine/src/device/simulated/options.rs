//! What a simulated device is like.

/// What a simulated device is like. The same options and the same calls give the same behaviour, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedOptions {
    /// Decides whatever a device is free to decide: which queue advances, how far, and what memory holds that was just mapped.
    pub seed: u64,
    /// Memory for pages, in bytes.
    pub memory_bytes: u64,
    /// Length of the address range in bytes; a multiple of the granule.
    pub reserved_bytes: u64,
    /// The unit of mapping in bytes; a power of two from 4096 on.
    pub granule_bytes: u64,
    /// Host memory that can be pinned, in bytes.
    pub pinned_bytes: usize,
}

impl Default for SimulatedOptions {
    /// 1 GiB in an address range of 4 GiB, in granules of 64 KiB; 256 MiB of pinned memory.
    fn default() -> Self {
        Self {
            seed: 0,
            memory_bytes: 1 << 30,
            reserved_bytes: 4 << 30,
            granule_bytes: 64 * 1024,
            pinned_bytes: 256 << 20,
        }
    }
}
