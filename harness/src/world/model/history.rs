//! How the model finds its way back: what each transaction replaced.

use std::collections::VecDeque;

use mmsb_engine::PageId;

use super::Page;

/// How much of the past is wanted. Runs that need none keep none, so that a trace of any length takes
/// constant memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    #[default]
    Nothing,
    /// What a crash may undo: the transactions that may not be durable yet.
    Unsafe,
    /// Everything, for replays to any LSN.
    All,
}

/// One thing that a transaction replaced.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    Generation {
        index: u32,
        old: Option<u32>,
    },
    Page {
        index: u32,
        old: Option<Box<Page>>,
    },
    Bytes {
        index: u32,
        at: u64,
        old: Vec<u8>,
    },
    Stamp {
        index: u32,
        epoch: u64,
        lsn: u64,
    },
    Id {
        index: u32,
        old: PageId,
    },
    Meta {
        index: u32,
        key: String,
        old: Option<Vec<u8>>,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    keep: Keep,
    /// Of consecutive transactions up to the last one, oldest first.
    transactions: VecDeque<(u64, Vec<Undo>)>,
}

impl History {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            transactions: VecDeque::new(),
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.keep != Keep::Nothing
    }

    pub(crate) fn push(&mut self, lsn: u64, undo: Vec<Undo>) {
        if self.is_wanted() {
            self.transactions.push_back((lsn, undo));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Vec<Undo>> {
        self.transactions.pop_back().map(|(_, undo)| undo)
    }

    /// What the newest so many transactions replaced, newest first.
    pub(crate) fn newest(&self, count: usize) -> impl Iterator<Item = &[Undo]> {
        let newest = self.transactions.iter().rev().take(count);
        newest.map(|(_, undo)| undo.as_slice())
    }

    /// Whether the state as of `lsn`, older than the present one, can be had.
    pub(crate) fn reaches(&self, lsn: u64) -> bool {
        self.transactions
            .front()
            .is_some_and(|(first, _)| *first <= lsn.saturating_add(1))
    }

    /// Forgets what no crash can undo any more.
    pub(crate) fn durable(&mut self, lsn: u64) {
        if self.keep == Keep::Unsafe {
            while self
                .transactions
                .front()
                .is_some_and(|(first, _)| *first <= lsn)
            {
                self.transactions.pop_front();
            }
        }
    }
}
