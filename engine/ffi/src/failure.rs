//! Errors on their way to the caller: a status, a stable kind and a message, kept per thread.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use mmsb_engine::inspect::InspectError;
use mmsb_engine::{OpenError, ReadError, RecoveryError, RestoreDeviceError, TransactionError};

use crate::status;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: i32,
    kind: String,
    message: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: i32, kind: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(status::MMSB_INVALID_ARGUMENT, "argument", message)
    }

    pub(crate) fn state(message: &str) -> Self {
        Self::new(status::MMSB_STATE, "state", message)
    }

    pub(crate) fn io(kind: &str, error: &std::io::Error) -> Self {
        Self::new(status::MMSB_IO, kind, error.to_string())
    }

    fn of(kind: &str, error: &dyn std::error::Error) -> Self {
        Self::new(status::of_kind(kind), kind, error.to_string())
    }
}

macro_rules! from_engine {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(error.kind(), &error)
            }
        })*
    };
}

from_engine!(OpenError, ReadError, RecoveryError, RestoreDeviceError);

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        let mut failure = Self::of(error.kind(), &error);
        if matches!(error, TransactionError::InDoubt { .. }) {
            failure.status = status::MMSB_IN_DOUBT;
        }
        failure
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::new(status::MMSB_IO, "inspect.io", error.to_string())
    }
}

struct Last {
    kind: CString,
    message: CString,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// A C string of any text: a zero byte would end it.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Remembers the failure for the thread, and gives the status.
pub(crate) fn remember(failure: &Failure) -> i32 {
    let last = Last {
        kind: c_string(&failure.kind),
        message: c_string(&failure.message),
    };
    // The thread may be ending: then nobody asks.
    let _ = LAST.try_with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut() {
            *slot = Some(last);
        }
    });
    failure.status
}

fn last(part: impl Fn(&Last) -> &CStr) -> *const c_char {
    LAST.try_with(|slot| match slot.try_borrow().as_deref() {
        Ok(Some(last)) => part(last).as_ptr(),
        _ => c"".as_ptr(),
    })
    .unwrap_or(c"".as_ptr())
}

/// What went wrong in the last call of this thread that failed, in words: UTF-8, never null, empty if none did. It is valid until
/// the next call of this thread that fails. Calls that work leave it alone.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_last_error_message() -> *const c_char {
    last(|last| &last.message)
}

/// As `mmsb_last_error_message`, but the stable name of the kind of error, such as `page.stale`: for programs to compare.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_last_error_kind() -> *const c_char {
    last(|last| &last.kind)
}
