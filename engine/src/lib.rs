//! MMSB: a memory-mapped state bus.
//!
//! Named, page-granular state that changes **only** through deltas which are totally ordered in one log. So a run can be replayed:
//! the same log gives byte-identical pages, whatever the number of threads or the crash in between.
//!
//! Start with [`Bus::open`]; change pages through [`Bus::begin`], read them with [`Bus::read`] and
//! [`Bus::view`], rebuild any state of the past with [`replay`].

pub mod delta;
pub mod device;
pub mod graph;
pub mod inspect;
pub mod memory;

mod advice;
mod bus;
mod checkpoint;
mod checksum;
mod clock;
mod codec;
mod digest;
mod event;
mod log;
mod lsn;
mod options;
mod page;
#[cfg(mmsb_planted)]
pub mod planted;
#[cfg(not(mmsb_planted))]
mod planted;
mod recovery;
mod refill;
mod replay;
mod state;
mod storage;
mod sync;
mod transaction;

pub use bus::{
    Bus, DetachedDevicePage, DetachedPage, DetachedView, DevicePage, DeviceRestored, OpenError,
    OpenReport, PageInfo, ReadError, ReadGuard, Residency, RestoreDeviceError, Statistics, View,
};
#[cfg(all(target_os = "linux", not(miri)))]
pub use bus::{ExportError, Moment, SharedPage, SharedReadError};
pub use checkpoint::{CheckpointDamage, CheckpointError, CheckpointReport};
pub use clock::{Clock, SteppingClock, SystemClock};
pub use codec::CodecError;
pub use delta::{Delta, DeltaError, DiffOptions};
pub use digest::{Digest, StateDigester};
pub use event::{Drained, Event, Subscription, WakeFn};
pub use log::LogError;
pub use log::tail::Torn;
pub use log::{Durability, LogStatistics, Poison, TransformId};
pub use lsn::Lsn;
pub use options::{
    Compression, DeviceOptions, Options, Progress, ProgressFn, Propagation, Retention,
};
pub use page::{Location, MAX_PAGE_LEN_BYTES, MIN_PAGE_LEN_BYTES, PageId, PageIndex};
pub use recovery::RecoveryError;
pub use replay::{Replayed, replay, replay_from};
pub use state::device::{DeviceStatistics, ResidentPages};
pub use storage::{FileStorage, Storage, StorageFile, StorageLock};
pub use transaction::{Commit, NewPage, PageRef, Transaction, TransactionError};

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
