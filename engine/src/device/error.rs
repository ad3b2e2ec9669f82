//! What can go wrong on a device.

/// Why a device did not do what it was asked.
///
/// Apart from [`DeviceError::OutOfMemory`], [`DeviceError::Full`], [`DeviceError::Unreadable`], [`DeviceError::PinnedExhausted`] and
/// [`DeviceError::Unavailable`], which refuse one request
/// and change nothing, an error means that the contents of device memory are unknown from here on: they are to be taken from the log again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no such device here, or it cannot be used.
    #[error("no {kind} device: {reason}")]
    Unavailable {
        /// What was looked for.
        kind: &'static str,
        /// Why there is none, and what would help.
        reason: String,
    },
    /// The device has no memory left for this.
    #[error(
        "the device is out of memory: {asked_bytes} bytes were asked for, {mapped_bytes} of {capacity_bytes} are in use; \
         free pages, or evict some"
    )]
    OutOfMemory {
        /// Bytes asked for.
        asked_bytes: u64,
        /// Bytes in use.
        mapped_bytes: u64,
        /// Bytes there are.
        capacity_bytes: u64,
    },
    /// The device has no memory left for this, and nothing more can be evicted for it.
    #[error(
        "the device is out of memory: {asked_bytes} bytes were asked for, {mapped_bytes} of {capacity_bytes} are in use by {} pages \
         of {} bytes, of which {} are derived and {} are pinned, by handles or by what asks, and by {} mirrors of {} bytes, of which {} are \
         pinned; {} more pages are evicted; free pages, drop handles, or raise the limit",
        resident.pages, resident.page_bytes, resident.derived_pages, resident.pinned_pages, resident.mirrors,
        resident.mirror_bytes, resident.pinned_mirrors, resident.evicted_pages
    )]
    Full {
        /// Bytes asked for.
        asked_bytes: u64,
        /// Bytes in use, in whole granules.
        mapped_bytes: u64,
        /// Bytes that pages may use.
        capacity_bytes: u64,
        /// What uses them.
        resident: Box<crate::state::device::ResidentPages>,
    },
    /// An evicted page cannot be brought back. It stays evicted, and nothing else has changed.
    #[error("an evicted page cannot be read back from the log: {reason}")]
    Unreadable {
        /// What is wrong with the log.
        reason: String,
    },
    /// Host memory could not be pinned.
    #[error(
        "cannot pin {asked_bytes} bytes of host memory: {reason}; raise the limit on locked memory"
    )]
    PinnedExhausted {
        /// Bytes asked for.
        asked_bytes: u64,
        /// What the system said.
        reason: String,
    },
    /// Work could not be started, or failed while it ran.
    #[error("{work} failed on the device: {reason}")]
    Failed {
        /// The kind of work, see [`super::Work::name`].
        work: &'static str,
        /// What the device said.
        reason: String,
    },
    /// What arrived in device memory, or came from there, is not what was sent.
    #[error(
        "a copy of {len_bytes} bytes to or from device offset {offset} did not arrive as it was sent"
    )]
    CorruptCopy {
        /// Where it went or came from.
        offset: u64,
        /// How long it was.
        len_bytes: u64,
    },
    /// The device is gone: it fell off the bus, or an earlier error took its context with it.
    #[error("the device is lost: {reason}; reopen the bus, which restores its pages from the log")]
    Lost {
        /// What the device said.
        reason: String,
    },
    /// The memory of the device was given back on request.
    #[error("the memory of the device was given back; restore the device from the log")]
    Released,
    /// A request that no correct caller makes: an offset outside of mapped memory, a table that contradicts itself.
    #[error("bad request to the device: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

impl DeviceError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "device.unavailable",
            Self::OutOfMemory { .. } | Self::Full { .. } => "device.out-of-memory",
            Self::Unreadable { .. } => "device.unreadable",
            Self::PinnedExhausted { .. } => "device.pinned",
            Self::Failed { .. } => "device.failed",
            Self::CorruptCopy { .. } => "device.corrupt-copy",
            Self::Lost { .. } => "device.lost",
            Self::Released => "device.released",
            Self::Invalid { .. } => "device.invalid",
        }
    }

    /// Whether only this request was refused, and device memory is as it was.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::OutOfMemory { .. }
                | Self::Full { .. }
                | Self::Unreadable { .. }
                | Self::PinnedExhausted { .. }
        )
    }
}
