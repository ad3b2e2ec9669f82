//! Why a trace cannot be read.

use thiserror::Error;

use super::pickle::PickleError;

/// Why a file is no trace, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct TraceError {
    /// The line, from 1; of a pickle, which has none, 1.
    pub line: u64,
    /// What is wrong there.
    pub problem: TraceProblem,
}

impl TraceError {
    /// A problem at a line.
    #[must_use]
    pub const fn at(line: u64, problem: TraceProblem) -> Self {
        Self { line, problem }
    }
}

/// What can be wrong with a trace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TraceProblem {
    /// It begins like none of the formats.
    #[error(
        "this is no trace: it must begin with `mmsb-allocation-trace 1`, with the header of an RMM log \
         (Thread,Time,Action,Pointer,Size,Stream), or be a pickle of protocol 2 or later from \
         torch.cuda.memory._dump_snapshot"
    )]
    UnknownFormat,
    /// A newer version of the format.
    #[error(
        "`{found}` is a version of the format that this build does not read; it reads `mmsb-allocation-trace 1`"
    )]
    UnknownVersion {
        /// The first line.
        found: String,
    },
    /// A line that means nothing.
    #[error("`{found}` is no event: write `a ID SIZE` for an allocation and `f ID` for a free")]
    NoEvent {
        /// The line, or its beginning.
        found: String,
    },
    /// The id is in use.
    #[error("{id} is allocated already: free it first")]
    LiveId {
        /// The id.
        id: u64,
    },
    /// The id is not in use.
    #[error("{id} is not allocated: it was freed before, or never allocated")]
    UnknownId {
        /// The id.
        id: u64,
    },
    /// An allocation of nothing.
    #[error("an allocation has at least one byte")]
    EmptyAllocation,
    /// More than can be numbered.
    #[error("there are more than 4294967295 allocations: cut the trace")]
    TooLong,
    /// A column of a log is missing.
    #[error(
        "the column {column} is missing: an RMM log has Thread,Time,Action,Pointer,Size,Stream"
    )]
    MissingColumn {
        /// Its name.
        column: &'static str,
    },
    /// A cell of a log cannot be read.
    #[error("`{found}` in column {column} is no {expected}")]
    BadCell {
        /// The name of the column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// The pickle cannot be read.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// The pickle is no snapshot.
    #[error(
        "this pickle is no memory snapshot: {what}; make one with torch.cuda.memory._dump_snapshot"
    )]
    NoSnapshot {
        /// What is missing or of the wrong type.
        what: String,
    },
}
