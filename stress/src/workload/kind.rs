//! The workloads, and what each does how often.

use mmsb_harness::world::generate::{Profile, Verb};

use super::Rng;

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $Kind:ident = $word:literal, $version:literal; )+) => {
        /// A workload.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $( $(#[doc = $doc])+ $Kind, )+ }

        impl Kind {
            /// Every one. The order never changes, as seeds draw from the first ten of it; new ones come last.
            pub const ALL: &'static [Self] = &[$(Self::$Kind),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$Kind => $word, )+ }
            }

            /// Its version, to be raised whenever its scenarios change.
            #[must_use]
            pub const fn version(self) -> u32 {
                match self { $( Self::$Kind => $version, )+ }
            }
        }
    };
}

kinds! {
    /// A few pages that are written all the time, in every durability.
    SteadyWriters = "steady-writers", 2;
    /// One page that everything is done to.
    HotPage = "hot-page", 2;
    /// Pages come and go.
    Churn = "churn", 2;
    /// One page with many that derive from it.
    WideGraph = "wide-graph", 2;
    /// Long chains of derived pages.
    DeepGraph = "deep-graph", 2;
    /// Pages and writes so long that they fill segments.
    LargePages = "large-pages", 3;
    /// Very many pages of a few bytes.
    TinyPages = "tiny-pages", 2;
    /// A checkpoint after every few commits.
    CheckpointStorm = "checkpoint-storm", 2;
    /// The bus is opened again and again.
    ReopenStorm = "reopen-storm", 2;
    /// A bit of everything.
    Mixed = "mixed", 2;
    /// Pages on a simulated device with less memory than they need, and unified ones; it runs out of memory, and fails.
    DevicePressure = "device-pressure", 1;
}

/// Lengths of pages of most workloads.
const LENS: &[u64] = &[64, 64, 64, 8, 1, 200, 4096, 20_000];
const SMALL_LENS: &[u64] = &[64, 64, 128, 8, 300];
const TINY_LENS: &[u64] = &[1, 2, 3, 7, 8, 8, 16, 16, 31, 64];
const LARGE_LENS: &[u64] = &[4096, 4095, 8192, 20_000, 65_536, 70_001];
/// All sizes of the allocator's classes and of its extents.
const CHURN_LENS: &[u64] = &[
    1, 8, 16, 24, 64, 65, 200, 512, 1000, 2048, 4095, 4096, 4097, 8192, 12_288, 20_000,
];

/// Lengths of pages for a device whose memory comes in granules of 64 KiB: some share one, some need several.
const DEVICE_LENS: &[u64] = &[64, 64, 200, 4096, 20_000, 70_001, 131_072, 140_000];
/// One seed in so many is for [`Kind::DevicePressure`], which is as many as for each of the others.
const DEVICE_SEEDS: u64 = 11;
/// The workloads that all other seeds draw from. When that of the device came, the seeds that did not become its own kept their meaning.
const DRAWN: usize = 10;

impl Kind {
    /// The workload of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        if Rng::new(seed, "device workload").one_in(DEVICE_SEEDS) {
            return Self::DevicePressure;
        }
        let drawn = Self::ALL.get(..DRAWN).unwrap_or(Self::ALL);
        Rng::new(seed, "workload")
            .pick(drawn)
            .unwrap_or(Self::Mixed)
    }

    /// What pages and writes are like.
    #[must_use]
    pub fn profile(self) -> Profile {
        let base = Profile {
            devices: false,
            ..Profile::default()
        };
        match self {
            Self::SteadyWriters => Profile {
                lens: SMALL_LENS,
                max_pages: 6,
                ..base
            },
            Self::HotPage => Profile {
                lens: SMALL_LENS,
                max_pages: 2,
                ..base
            },
            Self::Churn => Profile {
                lens: CHURN_LENS,
                max_pages: 40,
                ..base
            },
            Self::WideGraph | Self::DeepGraph => Profile {
                lens: SMALL_LENS,
                max_pages: 60,
                ..base
            },
            Self::LargePages => Profile {
                lens: LARGE_LENS,
                max_pages: 6,
                max_write_bytes: 9000,
                ..base
            },
            Self::TinyPages => Profile {
                lens: TINY_LENS,
                max_pages: 200,
                ..base
            },
            Self::DevicePressure => Profile {
                devices: true,
                lens: DEVICE_LENS,
                max_pages: 16,
                max_write_bytes: 70_000,
                ..base
            },
            Self::CheckpointStorm | Self::ReopenStorm | Self::Mixed => Profile {
                lens: LENS,
                max_pages: 14,
                ..base
            },
        }
    }

    /// How often each verb comes, in proportion.
    #[must_use]
    pub fn weights(self) -> Vec<(Verb, u64)> {
        use Verb as V;
        // What every workload does now and then.
        let mut weights = vec![
            (V::Write, 20),
            (V::Commit, 20),
            (V::Fill, 2),
            (V::Delta, 4),
            (V::Masked, 2),
            (V::Diff, 2),
            (V::Scatter, 2),
            (V::Copy, 2),
            (V::Allocate, 3),
            (V::Derive, 3),
            (V::Deepen, 1),
            (V::Widen, 1),
            (V::Connect, 1),
            (V::Disconnect, 1),
            (V::Free, 2),
            (V::Transfer, 1),
            (V::Annotate, 1),
            (V::Abort, 1),
            (V::Check, 1),
            (V::Refused, 1),
            (V::Listen, 2),
            (V::Snapshot, 1),
            (V::Checkpoint, 2),
            (V::Reopen, 1),
            (V::Reconfigure, 1),
            (V::Crash, 1),
            (V::CrashProcess, 1),
            (V::CrashDrawn, 1),
            (V::BeginStorm, 2),
            (V::Mark, 1),
            (V::Replay, 1),
            (V::Propagate, 1),
            (V::Maintain, 2),
            (V::Concurrent, 2),
        ];
        let more: &[(Verb, u64)] = match self {
            Self::SteadyWriters => &[(V::Write, 60), (V::Commit, 50), (V::Delta, 10)],
            Self::HotPage => &[
                (V::Write, 30),
                (V::Masked, 10),
                (V::Scatter, 10),
                (V::Diff, 8),
                (V::Commit, 30),
            ],
            Self::Churn => &[
                (V::Allocate, 30),
                (V::Free, 25),
                (V::Transfer, 6),
                (V::Commit, 20),
            ],
            Self::WideGraph => &[(V::Widen, 25), (V::Free, 4), (V::Connect, 4)],
            Self::DeepGraph => &[(V::Deepen, 25), (V::Derive, 8), (V::Disconnect, 4)],
            Self::LargePages => &[
                (V::Write, 20),
                (V::Fill, 10),
                (V::Maintain, 6),
                (V::CrashDrawn, 6),
            ],
            Self::TinyPages => &[(V::Allocate, 60), (V::Free, 15)],
            Self::CheckpointStorm => &[(V::Checkpoint, 25), (V::Crash, 4)],
            Self::ReopenStorm => &[
                (V::Reopen, 10),
                (V::Reconfigure, 6),
                (V::Crash, 6),
                (V::CrashProcess, 4),
                (V::CrashDrawn, 6),
            ],
            Self::Mixed => &[(V::Derive, 5), (V::BeginStorm, 3)],
            Self::DevicePressure => {
                weights.extend([
                    (V::Evict, 10),
                    (V::Prefetch, 8),
                    (V::CheckDevice, 10),
                    (V::RestoreDevice, 2),
                    (V::LoseDevice, 3),
                    (V::ExhaustDevice, 4),
                ]);
                &[
                    (V::Allocate, 8),
                    (V::Derive, 4),
                    (V::Connect, 2),
                    (V::Check, 5),
                ]
            }
        };
        for (verb, extra) in more {
            if let Some((_, weight)) = weights.iter_mut().find(|(other, _)| other == verb) {
                *weight += extra;
            }
        }
        weights
    }
}
