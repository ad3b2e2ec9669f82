//! Errors that came when something was dropped, which has nobody to return them to.

use parking_lot::Mutex;

use crate::device::DeviceError;

static LAST: Mutex<Option<DeviceError>> = Mutex::new(None);

/// Keeps the first error since the last time that somebody asked.
#[cold]
pub(super) fn report(work: &'static str, reason: &str) {
    keep(DeviceError::Failed {
        work,
        reason: reason.to_owned(),
    });
}

/// As [`report`].
pub(super) fn keep(error: DeviceError) {
    LAST.lock().get_or_insert(error);
}

/// The first error that closing a [`super::CudaDevice`], or dropping pinned memory of one, came to since the last call; `None` if all
/// went well. Of all devices of the process.
#[must_use]
pub fn take_closing_error() -> Option<DeviceError> {
    LAST.lock().take()
}
