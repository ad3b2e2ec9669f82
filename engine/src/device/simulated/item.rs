//! Work that waits in a queue.

use std::fmt;
use std::ops::Range;

use super::fault::DeviceFaultKind;
use crate::device::{Queue, Work};

/// One piece of work, with everything that it borrowed.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) label: Label,
    work: Work<'static>,
    inputs: Vec<u64>,
    ranges: Vec<Range<u64>>,
    /// How many pieces of the other queue must be done before this one starts.
    pub(super) after: u64,
    /// How many pieces of the other queue are certain to be before this one, whichever way: through `order`, or because the host waited.
    pub(super) known: u64,
    /// The `sum64` of the pinned memory that it names, as it was submitted, if nothing that the device does can change it before.
    pub(super) pinned_sum: Option<u64>,
    /// How it will fail.
    pub(super) fault: Option<DeviceFaultKind>,
}

/// Names a piece of work in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) queue: Queue,
    /// The first piece of work of a queue is 1, which is what a fence after it says.
    pub(super) sequence: u64,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = match self.queue {
            Queue::Copy => "copy",
            Queue::Compute => "compute",
        };
        write!(
            f,
            "{} (number {} of the {queue} queue)",
            self.name, self.sequence
        )
    }
}

impl Item {
    pub(super) fn new(label: Label, work: &Work<'_>, after: u64, known: u64) -> Self {
        let (mut inputs, mut ranges) = (Vec::new(), Vec::new());
        let work = match work.clone() {
            Work::Combine {
                combine,
                inputs: parents,
                output,
                range,
                changed,
            } => {
                inputs.extend_from_slice(parents);
                Work::Combine {
                    combine,
                    inputs: &[],
                    output,
                    range,
                    changed,
                }
            }
            Work::Digest { ranges: parts, to } => {
                ranges.extend_from_slice(parts);
                Work::Digest { ranges: &[], to }
            }
            Work::Upload { from, to } => Work::Upload { from, to },
            Work::Download { from, to } => Work::Download { from, to },
            Work::Copy { from, to } => Work::Copy { from, to },
            Work::Fill { range, byte } => Work::Fill { range, byte },
            Work::Apply {
                tiles,
                tile_count,
                runs,
                run_count,
                payload,
            } => Work::Apply {
                tiles,
                tile_count,
                runs,
                run_count,
                payload,
            },
            Work::Move { from, to, changed } => Work::Move { from, to, changed },
            Work::Sum { range, to } => Work::Sum { range, to },
        };
        Self {
            label,
            work,
            inputs,
            ranges,
            after,
            known,
            pinned_sum: None,
            fault: None,
        }
    }

    /// The work as it was submitted.
    pub(super) fn work(&self) -> Work<'_> {
        match self.work.clone() {
            Work::Combine {
                combine,
                output,
                range,
                changed,
                ..
            } => Work::Combine {
                combine,
                inputs: &self.inputs,
                output,
                range,
                changed,
            },
            Work::Digest { to, .. } => Work::Digest {
                ranges: &self.ranges,
                to,
            },
            other => other,
        }
    }
}
