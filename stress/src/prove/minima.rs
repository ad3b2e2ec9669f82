//! The fewest steps in which each planted bug is known to show itself: the best that any run came to, or what somebody reduced by
//! hand. A proof whose scenario is more than twice as long fails, so that the shrinker does not get worse unseen.

/// The bug, and its steps.
const MINIMA: &[(&str, usize)] = &[
    ("alloc-freed-page-not-zeroed", 7),
    ("alloc-slot-given-twice", 8),
    ("alloc-extents-overlap", 4),
    ("alloc-generation-not-raised", 8),
    ("delta-diff-misses-tail", 4),
    ("delta-mask-shifted", 3),
    ("log-sync-skips-older-segments", 4),
    ("log-checksum-too-short", 8),
    ("log-acknowledged-unsynced", 5),
    ("log-sync-error-forgotten", 2),
    ("log-flush-left-out", 5),
    ("log-rotation-skips-names", 6),
    ("recovery-repeats-a-record", 4),
    ("recovery-forgets-a-barrier", 5),
    ("recovery-applier-skips-pages", 8),
    ("checkpoint-image-before-record", 4),
    ("checkpoint-dirty-too-short", 6),
    ("checkpoint-manifest-not-synced", 2),
    ("checkpoint-epoch-not-restored", 5),
    ("checkpoint-annotations-lost", 5),
    ("checkpoint-transfer-keeps-images", 10),
    ("wave-drops-second-change", 8),
    ("wave-cut-off-too-early", 6),
    ("wave-window-off-by-one", 8),
    ("wave-failure-forgotten", 9),
    ("wave-deferred-dropped", 7),
    ("graph-siblings-forgotten", 8),
    ("view-behind", 4),
    ("event-loss-not-counted", 5),
    ("event-forgets-frees", 8),
    ("page-epoch-not-moved", 5),
];

/// The fewest steps known for a bug.
pub(super) fn of(name: &str) -> Option<usize> {
    let found = MINIMA.iter().find(|(known, _)| *known == name);
    found.map(|(_, steps)| *steps)
}
