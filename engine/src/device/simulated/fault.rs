//! Faults that are injected into a simulated device.

use crate::device::{DeviceError, Work};

/// What a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceOperation {
    /// Giving memory to a part of the address range.
    Map,
    /// Pinning host memory.
    Pin,
    /// Copying from pinned to device memory.
    Upload,
    /// Copying from device to pinned memory.
    Download,
    /// Any other work.
    Launch,
    /// Waiting for a fence.
    Wait,
}

impl DeviceOperation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Map,
        Self::Pin,
        Self::Upload,
        Self::Download,
        Self::Launch,
        Self::Wait,
    ];

    /// The name used in scenarios and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Pin => "pin",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Launch => "launch",
            Self::Wait => "wait",
        }
    }

    /// Which operation submitting `work` is.
    #[must_use]
    pub const fn of(work: &Work<'_>) -> Self {
        match work {
            Work::Upload { .. } => Self::Upload,
            Work::Download { .. } => Self::Download,
            _ => Self::Launch,
        }
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceFaultKind {
    /// There is no memory left for this one request.
    OutOfMemory,
    /// No host memory can be pinned for this one request.
    PinnedExhausted,
    /// The operation fails: at once or, for work, when it would run, as the seed decides. The device is of no use until it is reset.
    Failed,
    /// The device is gone, as with [`DeviceFaultKind::Failed`], and cannot be reset before [`super::SimulatedDevice::heal`].
    Lost,
    /// One bit of what arrives is flipped; nobody is told.
    Corrupt,
    /// The copy has no effect on what runs before, and up to, the next fence of its queue that is reported as reached. An upload takes
    /// effect after that. A download never does: its pinned memory is the host's again by then.
    Late,
}

impl DeviceFaultKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OutOfMemory,
        Self::PinnedExhausted,
        Self::Failed,
        Self::Lost,
        Self::Corrupt,
        Self::Late,
    ];

    /// The name used in scenarios and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out-of-memory",
            Self::PinnedExhausted => "exhausted",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Corrupt => "corrupt",
            Self::Late => "late",
        }
    }

    /// Whether `operation` can fail in this way.
    #[must_use]
    pub const fn strikes(self, operation: DeviceOperation) -> bool {
        match self {
            Self::OutOfMemory => matches!(operation, DeviceOperation::Map),
            Self::PinnedExhausted => matches!(operation, DeviceOperation::Pin),
            Self::Corrupt | Self::Late => matches!(
                operation,
                DeviceOperation::Upload | DeviceOperation::Download
            ),
            Self::Failed | Self::Lost => true,
        }
    }

    /// The error of an operation that fails in this way; `None` if it seems to succeed, or is refused with figures that the device has.
    pub(super) fn error(self, operation: &'static str) -> Option<DeviceError> {
        match self {
            Self::Failed => Some(DeviceError::Failed {
                work: operation,
                reason: "an injected fault".to_owned(),
            }),
            Self::Lost => Some(DeviceError::Lost {
                reason: format!("an injected fault of {operation}"),
            }),
            Self::OutOfMemory | Self::PinnedExhausted | Self::Corrupt | Self::Late => None,
        }
    }
}

/// A fault that strikes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFault {
    /// What it strikes.
    pub on: DeviceOperation,
    /// Which one from now on; the next is 1.
    pub nth: u64,
    /// How.
    pub kind: DeviceFaultKind,
}

/// The faults that have not struck yet.
#[derive(Debug, Default)]
pub(super) struct Plan(Vec<DeviceFault>);

impl Plan {
    pub(super) fn add(&mut self, fault: DeviceFault) -> Result<(), DeviceError> {
        if fault.nth == 0 || !fault.kind.strikes(fault.on) {
            return Err(DeviceError::Invalid {
                reason: format!(
                    "there is no fault `{}` of `{}` number {}",
                    fault.kind.name(),
                    fault.on.name(),
                    fault.nth
                ),
            });
        }
        self.0.push(fault);
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn pending(&self) -> Vec<DeviceFault> {
        self.0.clone()
    }

    /// Counts an operation; the fault that strikes it, if any. Of several the one that was injected first strikes.
    pub(super) fn strike(&mut self, on: DeviceOperation) -> Option<DeviceFaultKind> {
        let mut struck = None;
        for fault in self.0.iter_mut().filter(|fault| fault.on == on) {
            fault.nth -= 1;
            if fault.nth == 0 {
                struck = struck.or(Some(fault.kind));
            }
        }
        self.0.retain(|fault| fault.nth > 0);
        struck
    }
}
