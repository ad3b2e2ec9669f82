//! What a simulated device was asked to do.

/// How often a simulated device was asked to do what, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatedCounters {
    /// Calls of `map` that mapped something.
    pub maps: u64,
    /// Calls of `unmap` that took something back.
    pub unmaps: u64,
    /// Buffers pinned.
    pub pins: u64,
    /// Uploads that ran.
    pub uploads: u64,
    /// Bytes that they copied.
    pub uploaded_bytes: u64,
    /// Downloads that ran.
    pub downloads: u64,
    /// Bytes that they copied.
    pub downloaded_bytes: u64,
    /// Other work that ran.
    pub launches: u64,
    /// Fences made.
    pub fences: u64,
    /// Calls of `order`.
    pub orders: u64,
    /// Calls of `wait`.
    pub waits: u64,
    /// Resets that succeeded.
    pub resets: u64,
    /// Injected faults that struck.
    pub faults: u64,
}
