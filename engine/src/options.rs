//! What is chosen when a bus is opened.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::device::Device;
use crate::graph::TransformRegistry;
use crate::log::format::{COMPRESSED_VERSION, PLAIN_VERSION};

/// When derived pages are recomputed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// By the commit that changed a parent, before its locks are released.
    #[default]
    Eager,
    /// When a derived page is read, or [`crate::Bus::propagate`] is called: many commits, one wave.
    Deferred,
}

/// Which segments of the log a checkpoint may recycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// None: the whole history stays, and can be replayed from the first transaction. Unbounded.
    #[default]
    Everything,
    /// Those that neither of the two newest checkpoints needs. Bounded.
    Checkpoints,
    /// As [`Retention::Checkpoints`], but older checkpoints, and the log from the oldest of them on, are kept as long as
    /// without them states of less than so many bytes of log could be replayed. Whole segments count, but for the one
    /// that is being written. Bounded by this, one checkpoint more, and the page images of all of them.
    Bytes(u64),
}

/// How long transactions are compressed in the log. A build without the feature `zstd` knows no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// With zstd, at its level 1.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// How pages on a device are kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Pinned host memory, and as much on the device, through which bytes go there and back. Pinned when the bus is opened.
    /// At least 1 MiB is taken. Default 32 MiB; with 64 MiB gigabytes are restored about a fifth faster, if a dozen threads read.
    pub staging_bytes: u64,
    /// Whether the device sums what arrives, and the sum is compared with that of what was sent before anybody reads it.
    /// Costs one more read of the bytes on either side. Default true.
    pub verify_uploads: bool,
    /// Device memory that pages may take, in bytes, the stage not included. Beyond it those used longest ago are evicted, and come back
    /// from the log when they are needed. Whole granules count. Default none: the memory of the device is the limit.
    pub resident_bytes: Option<u64>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            staging_bytes: 32 << 20,
            verify_uploads: true,
            resident_bytes: None,
        }
    }
}

/// How far an open or a replay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of log and checkpoint read.
    pub done_bytes: u64,
    /// Bytes that there are to read.
    pub total_bytes: u64,
}

/// Called during recovery with the progress; breaking aborts it, and leaves the files as they are.
pub type ProgressFn = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// What is chosen when a bus is opened.
///
/// ```
/// use mmsb_engine::{Options, Propagation};
/// let options = Options { propagation: Propagation::Deferred, threads: 2, ..Options::default() };
/// assert_eq!(options.segment_bytes, 64 << 20);
/// ```
#[derive(Clone)]
pub struct Options {
    /// Address space for pages, in bytes; memory is used only where pages are. Default 256 GiB (1 GiB where memory
    /// cannot be reserved without being used).
    pub arena_bytes: u64,
    /// Length of a log segment in bytes, from 8 KiB. A transaction that is longer gets a longer segment. Default 64 MiB.
    pub segment_bytes: u64,
    /// Whether new segments are filled with zeros ahead of use, which makes every later sync of them
    /// cheaper. Default true.
    pub prefill: bool,
    /// Whether transactions that write from 4 KiB to 256 MiB are compressed in the log, where that saves at least an
    /// eighth of them. The commit takes the time to compress, recovery that to decompress.
    ///
    /// New segments are marked, so that builds that know nothing of it refuse the log by its version. A segment that
    /// was begun without compression takes no compressed records: they start with the next segment. Reading needs no
    /// option, and a log can go on without compression. Default none.
    pub compression: Option<Compression>,
    /// What checkpoints may remove. Default everything is kept.
    pub retention: Retention,
    /// When derived pages are recomputed. Default eager.
    pub propagation: Propagation,
    /// Threads that a large wave may use while it runs, from 1. Default 1.
    pub threads: usize,
    /// Threads that apply records during recovery, from 1. Default 1.
    pub appliers: usize,
    /// Who a new log is, instead of an identity drawn from the clock. Two logs with one identity must not meet.
    pub identity: Option<[u8; 16]>,
    /// Where pages at [`crate::Location::Device`] live. One device serves one bus at a time. Default host memory in the place of a
    /// device's, so that every log can be opened anywhere.
    pub device: Option<Arc<dyn Device>>,
    /// How they are kept there.
    pub device_options: DeviceOptions,
    /// Transforms that derived pages may use. Default the built-in ones.
    pub transforms: TransformRegistry,
    /// Told how recovery goes. Default nobody.
    pub progress: Option<ProgressFn>,
}

/// Default of [`Options::arena_bytes`].
const ARENA_BYTES: u64 = if cfg!(all(target_os = "linux", not(miri))) {
    256 << 30
} else if cfg!(miri) {
    1 << 20
} else {
    1 << 30
};

impl Default for Options {
    fn default() -> Self {
        Self {
            arena_bytes: ARENA_BYTES,
            segment_bytes: 64 << 20,
            prefill: true,
            compression: None,
            retention: Retention::default(),
            propagation: Propagation::default(),
            threads: 1,
            appliers: 1,
            identity: None,
            device: None,
            device_options: DeviceOptions::default(),
            transforms: TransformRegistry::with_builtins(),
            progress: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("arena_bytes", &self.arena_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("prefill", &self.prefill)
            .field("compression", &self.compression)
            .field("retention", &self.retention)
            .field("propagation", &self.propagation)
            .field("threads", &self.threads)
            .field("appliers", &self.appliers)
            .field("identity", &self.identity)
            .field("device", &self.device)
            .field("device_options", &self.device_options)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The format version of new segments.
    pub(crate) const fn segment_version(&self) -> u32 {
        if self.compression.is_some() {
            COMPRESSED_VERSION
        } else {
            PLAIN_VERSION
        }
    }

    pub(crate) fn report(&self, done_bytes: u64, total_bytes: u64) -> ControlFlow<()> {
        self.progress
            .as_ref()
            .map_or(ControlFlow::Continue(()), |progress| {
                progress(Progress {
                    done_bytes,
                    total_bytes,
                })
            })
    }
}
