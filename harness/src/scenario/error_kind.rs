//! The closed list of errors that a scenario may expect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $key:literal => $Variant:ident, )+) => {
        /// A kind of error, as `fails: {error: ...}` names it.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        #[non_exhaustive]
        pub enum ErrorKind {
            $( $(#[doc = $doc])+ #[serde(rename = $key)] $Variant, )+
        }

        impl ErrorKind {
            /// Every kind, in the order of the reference.
            pub const ALL: &'static [ErrorKind] = &[$(Self::$Variant),+];

            /// The word by which scenarios name the kind.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$Variant => $key, )+
                }
            }
        }
    };
}

kinds! {
    /// The id stands for a page that was freed or transferred.
    "page.stale" => PageStale,
    /// The id never stood for a page.
    "page.unknown" => PageUnknown,
    /// The range reaches beyond the end of the page.
    "page.out-of-range" => PageOutOfRange,
    /// The length of a page is zero or above the limit.
    "page.bad-size" => PageBadSize,
    /// A derived page cannot be written.
    "page.derived" => PageDerived,
    /// The page is not derived.
    "page.not-derived" => PageNotDerived,
    /// Other pages derive from the page.
    "page.has-dependents" => PageHasDependents,
    /// An annotation's key or value is too long or there are too many.
    "page.bad-annotation" => PageBadAnnotation,
    /// The page is freed or transferred twice in one transaction.
    "page.given-up-twice" => PageGivenUpTwice,
    /// A write without bytes.
    "delta.empty" => DeltaEmpty,
    /// The mask is shorter or longer than its data.
    "delta.bad-mask" => DeltaBadMask,
    /// The delta or transaction is too large for the log.
    "transaction.too-large" => TransactionTooLarge,
    /// Another transaction changed what this one relied on.
    "transaction.conflict" => TransactionConflict,
    /// The arena has no room.
    "memory.exhausted" => MemoryExhausted,
    /// The edge would close a cycle.
    "graph.cycle" => GraphCycle,
    /// The page is derived already.
    "graph.already-derived" => GraphAlreadyDerived,
    /// The parents do not fit the transform: their number or their lengths.
    "graph.bad-parents" => GraphBadParents,
    /// No transform of this name and version is registered.
    "graph.unknown-transform" => GraphUnknownTransform,
    /// The transform does not take these parameters, or not on these lanes.
    "graph.bad-transform" => GraphBadTransform,
    /// The transform failed, or the page is stale because a parent's did.
    "graph.stale" => GraphStale,
    /// The bus is closed.
    "bus.closed" => BusClosed,
    /// Another bus has the directory open.
    "bus.locked" => BusLocked,
    /// The bus is read-only after an I/O error.
    "bus.poisoned" => BusPoisoned,
    /// An option is outside its limits, or contradicts what is on disk.
    "bus.bad-options" => BusBadOptions,
    /// The log is damaged at or below what is known to be durable.
    "log.damaged" => LogDamaged,
    /// A file that must be there is missing.
    "log.missing" => LogMissing,
    /// The file is not MMSB's.
    "log.foreign" => LogForeign,
    /// The file was written by a newer version.
    "log.too-new" => LogTooNew,
    /// The log begins after the LSN that was asked for.
    "log.trimmed" => LogTrimmed,
    /// The LSN lies beyond the end of the log.
    "log.beyond-end" => LogBeyondEnd,
    /// A checkpoint is damaged and the log no longer reaches back to before it.
    "checkpoint.damaged" => CheckpointDamaged,
    /// The storage is full.
    "storage.full" => StorageFull,
    /// The storage failed otherwise.
    "storage.failed" => StorageFailed,
    /// The device has no memory left.
    "device.out-of-memory" => DeviceOutOfMemory,
    /// There is no such device here, another bus has it, or it has no memory of the kind that was asked for.
    "device.unavailable" => DeviceUnavailable,
    /// No more host memory can be pinned for the device.
    "device.pinned" => DevicePinned,
    /// Work on the device failed; what is on it has to be restored.
    "device.failed" => DeviceFailed,
    /// A copy to the device did not arrive as it was sent; what is on it has to be restored.
    "device.corrupt-copy" => DeviceCorruptCopy,
    /// The device is lost; what is on it has to be restored, on it or on another one.
    "device.lost" => DeviceLost,
    /// The device was asked for what no correct caller asks for, such as two copies that race.
    "device.invalid" => DeviceInvalid,
    /// An evicted page cannot be brought back, because the log cannot be read.
    "device.unreadable" => DeviceUnreadable,
    /// The device cannot be restored, because the log cannot be read.
    "device.log" => DeviceLog,
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
