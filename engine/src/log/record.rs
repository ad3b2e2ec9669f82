//! The structural operations of a transaction, as the log stores them.

use super::compression::UnpackFault;
use crate::lsn::Lsn;
use crate::page::Location;

/// One structural operation. Writes are not among them: they are the runs of the record.
///
/// The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) enum Op {
    Allocate {
        /// The id that the page got, as bits. Replay must come to the same.
        page: u64,
        len_bytes: u64,
        location: Location,
    },
    Free {
        page: u64,
    },
    Transfer {
        old: u64,
        new: u64,
    },
    Connect {
        child: u64,
        transform: TransformId,
        parents: Vec<u64>,
    },
    Disconnect {
        child: u64,
    },
    Annotate {
        page: u64,
        key: String,
        value: Option<Vec<u8>>,
    },
}

/// Identifies a transform: what the log stores instead of the bytes of derived pages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub struct TransformId {
    /// Name in the registry.
    pub name: String,
    /// Version in the registry. A transform that gives other bytes is another version.
    pub version: u32,
    /// What the transform was configured with, in its own encoding.
    pub params: Vec<u8>,
}

/// A record of the log, as it stands in the reader's buffer.
#[derive(Clone, Debug)]
pub(crate) struct Record<'a> {
    pub lsn: Lsn,
    /// Encoded operations; empty for most transactions.
    pub ops: &'a [u8],
    pub run_count: u32,
    /// The stream of runs.
    pub stream: &'a [u8],
    /// Why its compressed stream cannot be had, if so; then there are no runs.
    pub fault: Option<UnpackFault>,
}
