//! What a verb was refused with, whichever way it went.

use std::ffi::CStr;

use mmsb_engine::{
    CheckpointError, ReadError, RecoveryError, RestoreDeviceError, TransactionError,
};
use mmsb_ffi::failure::{mmsb_last_error_kind, mmsb_last_error_message};
use mmsb_ffi::status::MMSB_OK;

use crate::scenario::ErrorKind;
use crate::world::failure::Fault;

/// A refusal: its stable name, and what a scenario makes of it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) kind: String,
    fault: Box<Fault>,
}

impl Refused {
    /// The C ABI cannot do it.
    pub(crate) fn absent(what: &str) -> Self {
        Self {
            kind: "abi.absent".to_owned(),
            fault: Fault::new(format!("the C ABI has nothing for {what}; use `via: rust`")),
        }
    }

    /// What the last call of this thread was refused with.
    pub(crate) fn last() -> Self {
        let text = |pointer| {
            // SAFETY: both functions give a string that stands until the next call of this thread that fails.
            let text = unsafe { CStr::from_ptr(pointer) };
            text.to_string_lossy().into_owned()
        };
        let (kind, message) = (
            text(mmsb_last_error_kind()),
            text(mmsb_last_error_message()),
        );
        let fault = match known(&kind) {
            Some(known) => Fault::of(known, message),
            None => Fault::new(format!("{message} [{kind}]")),
        };
        Self { kind, fault }
    }

    /// Refuses unless the call worked.
    pub(crate) fn check(status: i32) -> Result<(), Self> {
        match status {
            MMSB_OK => Ok(()),
            _ => Err(Self::last()),
        }
    }

    pub(crate) fn is_stale_page(&self) -> bool {
        self.kind == "page.stale"
    }

    pub(crate) fn is_stale_derived(&self) -> bool {
        self.kind == "derived.stale"
    }

    pub(crate) fn is_of_device(&self) -> bool {
        self.kind.starts_with("device.")
    }
}

impl From<Refused> for Box<Fault> {
    fn from(refused: Refused) -> Self {
        refused.fault
    }
}

macro_rules! from_engine {
    ($($Error:ty),+) => {
        $(impl From<$Error> for Refused {
            fn from(error: $Error) -> Self {
                Self {
                    kind: error.kind().to_owned(),
                    fault: error.into(),
                }
            }
        })+
    };
}

from_engine!(
    ReadError,
    RecoveryError,
    RestoreDeviceError,
    TransactionError
);

impl From<CheckpointError> for Refused {
    fn from(error: CheckpointError) -> Self {
        Self {
            kind: "checkpoint.failed".to_owned(),
            fault: error.into(),
        }
    }
}

/// What scenarios call the kinds of errors that come across the C ABI.
fn known(kind: &str) -> Option<ErrorKind> {
    Some(match kind {
        "page.unknown" | "page.foreign" => ErrorKind::PageUnknown,
        "page.stale" => ErrorKind::PageStale,
        "page.given-up-twice" => ErrorKind::PageGivenUpTwice,
        "page.has-dependents" => ErrorKind::PageHasDependents,
        "write.empty" => ErrorKind::DeltaEmpty,
        "write.out-of-range" => ErrorKind::PageOutOfRange,
        "write.derived" => ErrorKind::PageDerived,
        "graph.cycle" => ErrorKind::GraphCycle,
        "graph.already-derived" => ErrorKind::GraphAlreadyDerived,
        "graph.not-derived" => ErrorKind::PageNotDerived,
        "graph.refused" => ErrorKind::GraphBadParents,
        "derived.stale" => ErrorKind::GraphStale,
        "transform.unknown" => ErrorKind::GraphUnknownTransform,
        "transform.params" => ErrorKind::GraphBadTransform,
        "memory.out-of-space" | "memory.table-full" => ErrorKind::MemoryExhausted,
        "memory.length" => ErrorKind::PageBadSize,
        "memory.location" => ErrorKind::DeviceUnavailable,
        "metadata.limit" => ErrorKind::PageBadAnnotation,
        "transaction.too-large" => ErrorKind::TransactionTooLarge,
        "bus.poisoned" => ErrorKind::BusPoisoned,
        "checkpoint.failed" => ErrorKind::StorageFailed,
        "view.held" | "guard.held" => ErrorKind::TransactionConflict,
        "device.released" => ErrorKind::DeviceFailed,
        _ => {
            return ErrorKind::ALL
                .iter()
                .copied()
                .find(|known| known.as_str() == kind && kind.starts_with("device."));
        }
    })
}
