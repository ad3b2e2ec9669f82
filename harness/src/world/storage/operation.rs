//! What is asked of the storage, and how often.

use crate::scenario::fault::{Act, Holds};

/// How often each operation was asked for, since the storage was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Files created or emptied.
    pub creates: u64,
    /// Files opened.
    pub opens: u64,
    /// Reads of file contents.
    pub reads: u64,
    /// Writes to files, changes of their length included.
    pub writes: u64,
    /// Bytes written to files.
    pub written_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of names.
    pub name_syncs: u64,
    /// Files renamed.
    pub renames: u64,
    /// Files removed.
    pub removes: u64,
}

/// What is asked of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Lock,
    Create,
    Open,
    List,
    Rename,
    Remove,
    SyncNames,
    Read,
    Write { len_bytes: u64 },
    Sync,
    Length,
}

impl Operation {
    /// The word by which faults know it.
    pub(super) fn act(self) -> Option<Act> {
        Some(match self {
            Self::Create => Act::Create,
            Self::Open => Act::Open,
            Self::List => Act::List,
            Self::Rename => Act::Rename,
            Self::Remove => Act::Remove,
            Self::Read => Act::Read,
            Self::Write { .. } => Act::Write,
            Self::Sync | Self::SyncNames => Act::Sync,
            Self::Lock | Self::Length => return None,
        })
    }
}

/// What a file of this name holds.
pub(crate) fn holds(name: &str) -> Holds {
    [
        ("log-", Holds::Log),
        ("spare-", Holds::Spare),
        ("checkpoint-", Holds::Manifest),
        ("images-", Holds::Images),
        ("closed", Holds::Closed),
    ]
    .into_iter()
    .find_map(|(prefix, holds)| name.starts_with(prefix).then_some(holds))
    .unwrap_or(Holds::Any)
}

impl Operations {
    pub(super) fn count(&mut self, operation: Operation) {
        match operation {
            Operation::Lock | Operation::List | Operation::Length => {}
            Operation::Create => self.creates += 1,
            Operation::Open => self.opens += 1,
            Operation::Rename => self.renames += 1,
            Operation::Remove => self.removes += 1,
            Operation::SyncNames => self.name_syncs += 1,
            Operation::Read => self.reads += 1,
            Operation::Write { len_bytes } => {
                self.writes += 1;
                self.written_bytes = self.written_bytes.saturating_add(len_bytes);
            }
            Operation::Sync => self.syncs += 1,
        }
    }
}
