//! What was done to a disk, in order: from it every state that a crash can leave is built.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names and bytes of all files: a disk on which everything is durable.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// Something that was done to the disk, or that was known at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A change that is durable only after a sync.
    Effect(Effect),
    /// The bytes of a file were made durable.
    Sync { file: u32 },
    /// The names were made durable.
    SyncNames,
    /// A sync failed and left the unsynced bytes of a file to be lost.
    Orphan { file: u32 },
    /// From here on a commit with this LSN may be on the disk, and none with a higher one.
    Issued(u64),
    /// From here on everything up to this LSN must survive.
    Safe(u64),
}

/// A change that is durable only after a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Write {
        file: u32,
        at: usize,
        bytes: Arc<[u8]>,
    },
    SetLen {
        file: u32,
        len: usize,
    },
    Create {
        name: String,
        file: u32,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
}

impl Event {
    /// Whether it is an input or output operation, before and after which a crash may come.
    pub(crate) fn is_io(&self) -> bool {
        !matches!(self, Self::Issued(_) | Self::Safe(_))
    }
}

/// The events since a moment at which everything was durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The files of that moment, and which they are.
    pub(crate) base: BTreeMap<String, (u32, Vec<u8>)>,
    /// Everything up to this LSN was safe then.
    pub(crate) safe_lsn: u64,
    /// The last LSN that there was then.
    pub(crate) issued_lsn: u64,
    pub(crate) events: Vec<Event>,
    /// Why the journal does not tell all, if it does not.
    pub(crate) unfit: Option<&'static str>,
}

impl Journal {
    /// How many operations there are.
    pub(crate) fn io_count(&self) -> usize {
        self.events.iter().filter(|event| event.is_io()).count()
    }
}
