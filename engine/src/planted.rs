//! Bugs on purpose, for whoever wants to see that they are found.
//!
//! Only in a build with `--cfg mmsb_planted` is there any of it, and then at most one is live: the one that the
//! variable `MMSB_PLANTED` names when the process starts. Everywhere else `planted!` is the constant `false`, and what depends
//! on it is not compiled into the program.

/// Whether a bug is live.
macro_rules! planted {
    ($Bug:ident) => {{
        #[cfg(mmsb_planted)]
        {
            $crate::planted::is_live($crate::planted::Bug::$Bug)
        }
        #[cfg(not(mmsb_planted))]
        {
            false
        }
    }};
}
pub(crate) use planted;

#[cfg(mmsb_planted)]
pub use live::*;

#[cfg(mmsb_planted)]
mod live {
    use std::sync::LazyLock;

    macro_rules! bugs {
        (
            { $( $Bug:ident = $name:literal: $about:literal; )+ }
            { $( $Race:ident = $race:literal: $about_race:literal; )+ }
        ) => {
            /// A planted bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug {
                $( #[doc = $about] $Bug, )+
                $( #[doc = $about_race] $Race, )+
            }

            /// Every bug that one thread can meet, given enough scenarios: its name, and what it does.
            pub const ALL: &[(&str, &str)] = &[$(($name, $about)),+];

            /// Bugs that show only where threads meet at the wrong moment: for the exploration of schedules.
            pub const RACES: &[(&str, &str)] = &[$(($race, $about_race)),+];

            static LIVE: LazyLock<Option<Bug>> = LazyLock::new(|| {
                match std::env::var("MMSB_PLANTED").ok()?.as_str() {
                    $( $name => Some(Bug::$Bug), )+
                    $( $race => Some(Bug::$Race), )+
                    _ => None,
                }
            });
        };
    }

    bugs! {
        {
        FreedPageNotZeroed = "alloc-freed-page-not-zeroed": "A page starts with what a freed one held there.";
        SlotGivenTwice = "alloc-slot-given-twice": "Some slots of a slab are given to two pages.";
        ExtentOverlap = "alloc-extents-overlap": "The last 4 KiB of a long page are given to the next as well.";
        GenerationNotRaised = "alloc-generation-not-raised": "An id whose page was freed stands for the next page at its position.";
        DiffMissesTail = "delta-diff-misses-tail": "A difference in the last bytes, behind whole words, is not seen.";
        MaskShifted = "delta-mask-shifted": "The second range of a mask is written one byte too far.";
        RotationSkipsSync = "log-sync-skips-older-segments": "After a rotation only the newest segment is synced.";
        ChecksumShort = "log-checksum-too-short": "The last sector of long records and images is not covered by the checksum.";
        AcknowledgedUnsynced = "log-acknowledged-unsynced": "One in four syncs of the log is not done, and acknowledged.";
        SyncErrorForgotten = "log-sync-error-forgotten": "A sync that fails is tried again, and what the first one lost is taken for durable.";
        FlushLeftOut = "log-flush-left-out": "A buffered commit is acknowledged before it is handed to the operating system.";
        RotationSkipsNames = "log-rotation-skips-names": "The name of a new segment is not synced.";
        LostWakeUp = "log-lost-wake-up": "A commit that finds another one syncing waits for ever.";
        RecordRepeated = "recovery-repeats-a-record": "The last record that a checkpoint stands for is applied again.";
        BarrierForgotten = "recovery-forgets-a-barrier": "Writes that come before a transfer or a disconnection are applied after it.";
        ApplierSkips = "recovery-applier-skips-pages": "With several appliers nobody applies the writes of some pages.";
        ImageBeforeRecord = "checkpoint-image-before-record": "An image becomes durable before the record that it stands for.";
        DirtyTooShort = "checkpoint-dirty-too-short": "Of a long write only the first 4 KiB are noted as changed since the last checkpoint.";
        ManifestNotSynced = "checkpoint-manifest-not-synced": "A manifest is renamed into place before it is synced.";
        EpochNotRestored = "checkpoint-epoch-not-restored": "After recovery from a checkpoint epochs start at zero.";
        AnnotationsLost = "checkpoint-annotations-lost": "A checkpoint loses the annotations of pages.";
        TransferKeepsImages = "checkpoint-transfer-keeps-images": "The checkpoint after a transfer does not hold the page under its new id.";
        SecondChangeDropped = "wave-drops-second-change": "Of two changes that reach a page the second is forgotten.";
        CutOffTooEarly = "wave-cut-off-too-early": "A change of a single byte ends the wave.";
        WindowOffByOne = "wave-window-off-by-one": "Of a slice the last byte that a change reaches is not computed.";
        FailureForgotten = "wave-failure-forgotten": "A page whose transform fails keeps its old bytes and is not stale.";
        DeferredDropped = "wave-deferred-dropped": "Of changes that wait for a deferred wave only the first three are kept.";
        SiblingsForgotten = "graph-siblings-forgotten": "When a page is disconnected its former parents no longer tell their other children.";
        ViewBehind = "view-behind": "A view shows derived pages that are behind their parents.";
        LossNotCounted = "event-loss-not-counted": "A slow subscriber is not told how much it missed.";
        EventForgetsFree = "event-forgets-frees": "Subscribers are not told of freed pages.";
        MemoryLeaked = "leak-memory": "Each commit forgets 512 bytes.";
        DescriptorLeaked = "leak-descriptors": "One open in 64 forgets a descriptor.";
        EpochNotMoved = "page-epoch-not-moved": "The epoch of a page that others derive from stays behind.";
        MirrorNotMarked = "device-mirror-not-marked": "What a commit writes to a unified page is not noted for its mirror.";
        MirrorMissesWave = "device-mirror-misses-wave": "What a wave computes of a unified page is not noted for its mirror.";
        MirrorForgetsRange = "device-mirror-forgets-range": "Of more changes than are told apart the last is forgotten.";
        MirrorTakenForFresh = "device-mirror-taken-for-fresh": "A prefetch takes a mirror that is there for one that is up to date.";
        RefillMissesLast = "device-refill-misses-last": "An evicted page comes back without the last record of the log.";
        DerivedEvicted = "device-derived-evicted": "A page that is computed is evicted like any other.";
        UsedEvicted = "device-used-evicted": "A page goes for another one of the same operation.";
        RestoreForgetsWaves = "device-restore-forgets-waves": "Where a wave waits while the device is restored, only what is on the device is computed.";
        }
        {
        GroupReachesTooFar = "race-group-reaches-too-far": "A sync acknowledges what came into the order while it was under way.";
        WaitersMissTheError = "race-waiters-miss-the-error": "Whoever waits behind a sync that fails is told that all is well.";
        PublishedTooLate = "race-published-too-late": "Subscribers are told of a commit when others may have come after it.";
        LetsGoBeforeApplying = "race-lets-go-before-applying": "A commit lets go of its pages between its place in the order and its writes.";
        ViewPageByPage = "race-view-page-by-page": "A view takes one page after the other.";
        ReadNotCheckedAgain = "race-read-not-checked-again": "A page may be freed between its look-up and its lock.";
        GuardsQueue = "race-guards-queue": "A thread with a guard waits behind a writer that waits for it.";
        }
    }

    /// Whether this is the bug that is live.
    #[must_use]
    pub fn is_live(bug: Bug) -> bool {
        *LIVE == Some(bug)
    }
}
