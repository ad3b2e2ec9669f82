//! What is said when a scenario fails: where, what, and which byte.

use std::fmt;

use mmsb_engine::device::DeviceError;
use mmsb_engine::graph::GraphError;
use mmsb_engine::{
    CheckpointError, DeltaError, OpenError, ReadError, RecoveryError, RestoreDeviceError,
    TransactionError,
};

use crate::scenario::ErrorKind;
use crate::scenario::data::DataError;
use crate::scenario::num::EvalError;
use crate::scenario::value::Span;

/// Why a scenario failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The step, such as `steps[3].repeat[7].steps[0].write`.
    pub path: String,
    /// Where the step stands in its file.
    pub span: Span,
    /// The kind of error that the engine gave, where it gave one.
    pub error: Option<ErrorKind>,
    /// What happened, in one sentence.
    pub message: String,
    /// The first difference, where bytes differ.
    pub difference: Option<Difference>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.span.is_known() {
            write!(f, " ({}:{})", self.span.line, self.span.column)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.difference {
            Some(difference) => write!(f, "\n{difference}"),
            None => Ok(()),
        }
    }
}

/// The first byte in which a page is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The page, by name and id where it has both.
    pub page: String,
    /// The transaction that last wrote to the page, according to the model; `None` for none, or a derived page.
    pub lsn: Option<u64>,
    /// The offset in the page.
    pub offset: u64,
    /// What the sides are called.
    pub sides: [&'static str; 2],
    /// Both sides around the first difference, 16 bytes a row, with the differing bytes marked below.
    pub rows: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  page {} differs from byte {} (0x{:x}) on",
            self.page, self.offset, self.offset
        )?;
        if let Some(lsn) = self.lsn {
            write!(f, "; LSN {lsn} was the last to write to it")?;
        }
        write!(f, "\n{}", self.rows.trim_end_matches('\n'))
    }
}

/// Bytes a row.
const ROW_BYTES: usize = 16;
/// Rows that are shown from the first that differs on; one is shown before it.
const ROWS: usize = 3;

impl Difference {
    /// Compares two ranges that start at `base` of a page; `None` if they are equal.
    ///
    /// `sides` names what was expected and what was found, in this order.
    #[must_use]
    pub fn between(
        page: &str,
        base: u64,
        sides: [&'static str; 2],
        expected: &[u8],
        found: &[u8],
    ) -> Option<Self> {
        let differing = expected
            .iter()
            .zip(found)
            .position(|(expected, found)| expected != found);
        let first = differing
            .or_else(|| (expected.len() != found.len()).then(|| expected.len().min(found.len())))?;
        // Rows lie at multiples of 16 of the page, wherever the range starts.
        let shift = usize::try_from(base % ROW_BYTES as u64).unwrap_or_default();
        let row_of = |position: usize| (position + shift) / ROW_BYTES;
        let last = row_of(expected.len().max(found.len()).saturating_sub(1));
        let from = row_of(first).saturating_sub(1);
        let to = (row_of(first) + ROWS - 1).min(last);
        let mut rows = String::new();
        for row in from..=to {
            push_row(
                &mut rows,
                base - shift as u64,
                row,
                shift,
                sides,
                expected,
                found,
            );
        }
        Some(Self {
            page: page.to_owned(),
            lsn: None,
            offset: base + first as u64,
            sides,
            rows,
        })
    }
}

/// Writes one row of both sides; where they are equal it is written once.
fn push_row(
    out: &mut String,
    base: u64,
    row: usize,
    shift: usize,
    sides: [&'static str; 2],
    expected: &[u8],
    found: &[u8],
) {
    let cells = |bytes: &[u8]| -> Vec<Option<u8>> {
        (row * ROW_BYTES..(row + 1) * ROW_BYTES)
            .map(|position| bytes.get(position.checked_sub(shift)?).copied())
            .collect()
    };
    let (expected, found) = (cells(expected), cells(found));
    let offset = base + (row * ROW_BYTES) as u64;
    let line = |label: &str, cells: &[Option<u8>]| {
        let cell = |cell: &Option<u8>| cell.map_or("  ".to_owned(), |byte| format!("{byte:02x}"));
        let text = cells.iter().map(cell).collect::<Vec<_>>().join(" ");
        format!("  {label:<9}{offset:08x}  {text}")
            .trim_end()
            .to_owned()
            + "\n"
    };
    let [expected_side, found_side] = sides;
    if expected == found {
        out.push_str(&line("", &expected));
        return;
    }
    out.push_str(&line(expected_side, &expected));
    out.push_str(&line(found_side, &found));
    let mark = |(expected, found)| if expected == found { "  " } else { "^^" };
    let marks = expected
        .iter()
        .zip(&found)
        .map(mark)
        .collect::<Vec<_>>()
        .join(" ");
    out.push_str(format!("{:21}{marks}", "").trim_end());
    out.push('\n');
}

/// A failure that does not know yet where it happened.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) error: Option<ErrorKind>,
    pub(crate) message: String,
    pub(crate) difference: Option<Difference>,
    /// The step, once known; the innermost counts.
    pub(crate) place: Option<(String, Span)>,
}

/// What a step comes to. Boxed, because failing is rare and results are passed on at every level.
pub(crate) type Outcome<T = ()> = Result<T, Box<Fault>>;

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            error: None,
            message: message.into(),
            difference: None,
            place: None,
        })
    }

    pub(crate) fn of(error: ErrorKind, message: impl fmt::Display) -> Box<Self> {
        let mut fault = Self::new(message.to_string());
        fault.error = Some(error);
        fault
    }

    pub(crate) fn at(mut self: Box<Self>, place: impl FnOnce() -> (String, Span)) -> Box<Self> {
        self.place.get_or_insert_with(place);
        self
    }

    pub(crate) fn into_failure(self) -> Failure {
        let (path, span) = self
            .place
            .unwrap_or_else(|| ("end".to_owned(), Span::default()));
        Failure {
            path,
            span,
            error: self.error,
            message: self.message,
            difference: self.difference,
        }
    }
}

impl From<EvalError> for Box<Fault> {
    fn from(error: EvalError) -> Self {
        Fault::new(error.to_string())
    }
}

impl From<DataError> for Box<Fault> {
    fn from(error: DataError) -> Self {
        Fault::new(error.to_string())
    }
}

impl From<TransactionError> for Box<Fault> {
    fn from(error: TransactionError) -> Self {
        Fault::of(transaction_kind(&error), error)
    }
}

impl From<ReadError> for Box<Fault> {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::StalePage { .. } => ErrorKind::PageStale,
            ReadError::StaleDerived { .. } => ErrorKind::GraphStale,
            ReadError::GuardHeld { .. } => ErrorKind::TransactionConflict,
            ReadError::Device { ref fault, .. } => device_kind(fault),
            _ => ErrorKind::PageUnknown,
        };
        Fault::of(kind, error)
    }
}

impl From<DeltaError> for Box<Fault> {
    fn from(error: DeltaError) -> Self {
        let kind = match error {
            DeltaError::MaskMismatch { .. } => ErrorKind::DeltaBadMask,
            DeltaError::Empty { .. } => ErrorKind::DeltaEmpty,
            _ => ErrorKind::PageOutOfRange,
        };
        Fault::of(kind, error)
    }
}

impl From<OpenError> for Box<Fault> {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::InUse(_) => ErrorKind::BusLocked,
            OpenError::Option { .. } => ErrorKind::BusBadOptions,
            OpenError::Recovery(error) => recovery_kind(error),
            OpenError::Io { source, .. } => io_kind(source),
            _ => ErrorKind::StorageFailed,
        };
        Fault::of(kind, error)
    }
}

impl From<RecoveryError> for Box<Fault> {
    fn from(error: RecoveryError) -> Self {
        Fault::of(recovery_kind(&error), error)
    }
}

impl From<CheckpointError> for Box<Fault> {
    fn from(error: CheckpointError) -> Self {
        let kind = match &error {
            CheckpointError::Poisoned(_) => ErrorKind::BusPoisoned,
            CheckpointError::GuardHeld { .. } => ErrorKind::TransactionConflict,
            _ => ErrorKind::StorageFailed,
        };
        Fault::of(kind, error)
    }
}

impl From<std::io::Error> for Box<Fault> {
    fn from(error: std::io::Error) -> Self {
        Fault::of(io_kind(&error), error)
    }
}

fn io_kind(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ErrorKind::StorageFull
        }
        _ => ErrorKind::StorageFailed,
    }
}

fn transaction_kind(error: &TransactionError) -> ErrorKind {
    match error {
        TransactionError::Graph(error) => return graph_kind(error),
        TransactionError::Device(error) => return device_kind(error),
        TransactionError::Transform(mmsb_engine::graph::RegistryError::Params { .. }) => {
            return ErrorKind::GraphBadTransform;
        }
        _ => {}
    }
    match error.kind() {
        "page.unknown" | "page.foreign" => ErrorKind::PageUnknown,
        "page.stale" => ErrorKind::PageStale,
        "page.given-up-twice" => ErrorKind::PageGivenUpTwice,
        "page.has-dependents" => ErrorKind::PageHasDependents,
        "write.empty" => ErrorKind::DeltaEmpty,
        "write.out-of-range" => ErrorKind::PageOutOfRange,
        "write.derived" => ErrorKind::PageDerived,
        "graph.not-derived" => ErrorKind::PageNotDerived,
        "derived.stale" => ErrorKind::GraphStale,
        "transform.unknown" => ErrorKind::GraphUnknownTransform,
        "memory.out-of-space" | "memory.table-full" => ErrorKind::MemoryExhausted,
        "memory.length" => ErrorKind::PageBadSize,
        "metadata.limit" => ErrorKind::PageBadAnnotation,
        "transaction.too-large" => ErrorKind::TransactionTooLarge,
        "bus.poisoned" => ErrorKind::BusPoisoned,
        _ => ErrorKind::TransactionConflict,
    }
}

fn graph_kind(error: &GraphError) -> ErrorKind {
    match error {
        GraphError::Cycle { .. } | GraphError::SelfDependency { .. } => ErrorKind::GraphCycle,
        GraphError::AlreadyDerived { .. } => ErrorKind::GraphAlreadyDerived,
        GraphError::NotDerived { .. } => ErrorKind::PageNotDerived,
        GraphError::HasDependents { .. } => ErrorKind::PageHasDependents,
        GraphError::TooManyNodes => ErrorKind::MemoryExhausted,
        _ => ErrorKind::GraphBadParents,
    }
}

fn device_kind(error: &DeviceError) -> ErrorKind {
    match error {
        DeviceError::Unavailable { .. } => ErrorKind::DeviceUnavailable,
        DeviceError::OutOfMemory { .. } | DeviceError::Full { .. } => ErrorKind::DeviceOutOfMemory,
        DeviceError::Unreadable { .. } => ErrorKind::DeviceUnreadable,
        DeviceError::PinnedExhausted { .. } => ErrorKind::DevicePinned,
        DeviceError::CorruptCopy { .. } => ErrorKind::DeviceCorruptCopy,
        DeviceError::Lost { .. } => ErrorKind::DeviceLost,
        DeviceError::Invalid { .. } => ErrorKind::DeviceInvalid,
        _ => ErrorKind::DeviceFailed,
    }
}

impl From<DeviceError> for Box<Fault> {
    fn from(error: DeviceError) -> Self {
        Fault::of(device_kind(&error), error)
    }
}

impl From<RestoreDeviceError> for Box<Fault> {
    fn from(error: RestoreDeviceError) -> Self {
        let kind = match &error {
            RestoreDeviceError::Device(error) => device_kind(error),
            RestoreDeviceError::Log(_) => ErrorKind::DeviceLog,
            RestoreDeviceError::GuardHeld { .. } => ErrorKind::TransactionConflict,
            // Nothing that a scenario can expect.
            _ => return Fault::new(error.to_string()),
        };
        Fault::of(kind, error)
    }
}

fn recovery_kind(error: &RecoveryError) -> ErrorKind {
    if let RecoveryError::Device(error) = error {
        return device_kind(error);
    }
    match error.kind() {
        "log.foreign" => ErrorKind::LogForeign,
        "log.newer" => ErrorKind::LogTooNew,
        "log.missing" | "log.none" => ErrorKind::LogMissing,
        "log.io" | "open.aborted" => ErrorKind::StorageFailed,
        "log.truncated" => ErrorKind::CheckpointDamaged,
        "replay.not-retained" => ErrorKind::LogTrimmed,
        "replay.beyond-end" => ErrorKind::LogBeyondEnd,
        "memory.arena" | "open.option" => ErrorKind::BusBadOptions,
        _ => ErrorKind::LogDamaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: [&str; 2] = ["model", "engine"];

    #[test]
    fn equal_bytes_have_no_difference() {
        assert_eq!(Difference::between("a", 0, SIDES, b"same", b"same"), None);
        assert_eq!(Difference::between("a", 0, SIDES, b"", b""), None);
    }

    #[test]
    fn the_first_differing_byte_is_shown_with_its_row() {
        let expected: Vec<u8> = (0..48).collect();
        let mut found = expected.clone();
        found[17] = 0xff;
        found[31] = 0xee;
        let difference = Difference::between("a", 0, SIDES, &expected, &found).unwrap();
        assert_eq!(difference.offset, 17);
        assert_eq!(
            difference.rows,
            "           00000000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n  \
             model    00000010  10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f\n  \
             engine   00000010  10 ff 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e ee\n                        \
             ^^                                        ^^\n           \
             00000020  20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f\n"
        );
    }

    #[test]
    fn ranges_keep_the_offsets_of_the_page_and_lengths_count() {
        let difference = Difference::between("a", 30, SIDES, &[1, 2, 3], &[1, 2]).unwrap();
        assert_eq!(difference.offset, 32);
        assert!(
            difference.rows.contains("model    00000020  03\n"),
            "{}",
            difference.rows
        );
        assert!(
            difference.rows.contains("engine   00000020\n"),
            "{}",
            difference.rows
        );
    }
}
