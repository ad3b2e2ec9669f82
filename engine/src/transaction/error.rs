//! Why a transaction is refused.

use super::Commit;
use crate::device::DeviceError;
use crate::graph::{GraphError, RegistryError};
use crate::log::Poison;
use crate::memory::PlacementError;
use crate::page::PageId;
use crate::state::detached::ViewHeld;

/// Why a step of a transaction, or its commit, was refused. A refused commit changed nothing, unless
/// the error is [`TransactionError::InDoubt`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// No page ever had this id.
    #[error("page {page} does not exist")]
    UnknownPage {
        /// The id that was given.
        page: PageId,
    },
    /// The page was freed, or transferred to a new id.
    #[error("page {page} was freed or transferred; the id is stale")]
    StalePage {
        /// The id that was given.
        page: PageId,
    },
    /// A page that another transaction was to allocate.
    #[error("new page {ordinal} is not of this transaction; use the id that the commit gave it")]
    ForeignNewPage {
        /// Which new page of its transaction.
        ordinal: u32,
    },
    /// A write without bytes.
    #[error("write {write} to page {page} at offset {offset} has no bytes")]
    EmptyWrite {
        /// The page, as text because a new one has no id yet.
        page: String,
        /// Byte offset in the page.
        offset: u64,
        /// Which write of the transaction, from 0.
        write: u32,
    },
    /// A write that reaches past the end of the page.
    #[error(
        "write {write} to page {page} covers {offset}..{end}, but the page has {page_len_bytes} bytes"
    )]
    OutOfRange {
        /// The page, as text because a new one has no id yet.
        page: String,
        /// Byte offset in the page.
        offset: u64,
        /// Where the write would end.
        end: u64,
        /// Length of the page.
        page_len_bytes: u64,
        /// Which write of the transaction, from 0.
        write: u32,
    },
    /// A write to a page whose bytes are computed.
    #[error("page {page} is derived: write to its parents, or disconnect it first")]
    DerivedPage {
        /// The derived page.
        page: PageId,
    },
    /// A page that is not derived cannot be disconnected.
    #[error("page {page} is not derived, so there is nothing to disconnect")]
    NotDerived {
        /// The page.
        page: PageId,
    },
    /// A page cannot be freed while others are computed from it.
    #[error("page {page} is a parent of page {dependent}; disconnect or free that first")]
    HasDependents {
        /// The page that was to be freed.
        page: PageId,
        /// The first page that depends on it.
        dependent: PageId,
    },
    /// The bytes of a stale page mean nothing, so they cannot become a page's own.
    #[error("page {page} is stale: its transform failed; mend its parents, or free it")]
    StaleDerived {
        /// The derived page.
        page: PageId,
    },
    /// The same page is freed or transferred twice in one transaction.
    #[error("page {page} is given up twice in one transaction")]
    GivenUpTwice {
        /// The page.
        page: PageId,
    },
    /// The graph refuses the connection.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The transform is not one that the bus knows.
    #[error(transparent)]
    Transform(#[from] RegistryError),
    /// A transform panicked when it was asked whether it fits.
    #[error("the transform of page {page} panicked: {reason}")]
    TransformPanicked {
        /// The page that was to be derived.
        page: PageId,
        /// The message of the panic.
        reason: String,
    },
    /// There is no room, or the length is not one that a page can have.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The page table is full.
    #[error("the page table is full")]
    TableFull,
    /// The device has no room, or fails: since an error of it the pages on it mean nothing until they are restored.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// A key or value of the metadata is too long, or the key is empty.
    #[error("metadata {what} has {len_bytes} bytes; {limit}")]
    Metadata {
        /// `key` or `value`.
        what: &'static str,
        /// Its length.
        len_bytes: usize,
        /// What is allowed.
        limit: &'static str,
    },
    /// More operations, writes or bytes than one record can hold.
    #[error("the transaction is too large for one record ({what}); split it")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
    /// The thread holds a read guard, for which the commit might have to wait forever.
    #[error(
        "this thread holds {guards} read guards or views of the bus; drop them before changing it"
    )]
    GuardHeld {
        /// How many.
        guards: usize,
    },
    /// A lock that the commit needs is held by detached views, for which nobody waits. Nothing has changed.
    #[error("{views} detached views hold a lock that the commit needs; release them first")]
    ViewHeld {
        /// How many hold the first lock that was needed.
        views: usize,
    },
    /// An earlier error of the disk made the bus read-only. Nothing has changed.
    #[error("the bus is read-only since an error of its files: {0}; open it again")]
    Poisoned(#[from] Poison),
    /// The commit has its place in the order and every reader of this bus sees it, but it did not become as
    /// durable as asked, because the disk failed; the bus is read-only from here on. Whether
    /// it survives is known after the next open, from the LSN that the open comes to.
    #[error(
        "the bus is read-only since an error of its files: {cause}; open it again, which also tells whether the commit \
         with LSN {}, which met the error, survives",
        commit.lsn
    )]
    InDoubt {
        /// The commit as it would have been acknowledged.
        commit: Box<Commit>,
        /// What failed.
        cause: Poison,
    },
}

impl From<ViewHeld> for TransactionError {
    fn from(held: ViewHeld) -> Self {
        Self::ViewHeld { views: held.views }
    }
}

impl TransactionError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownPage { .. } => "page.unknown",
            Self::StalePage { .. } => "page.stale",
            Self::ForeignNewPage { .. } => "page.foreign",
            Self::EmptyWrite { .. } => "write.empty",
            Self::OutOfRange { .. } => "write.out-of-range",
            Self::DerivedPage { .. } => "write.derived",
            Self::NotDerived { .. } => "graph.not-derived",
            Self::HasDependents { .. } => "page.has-dependents",
            Self::StaleDerived { .. } => "derived.stale",
            Self::GivenUpTwice { .. } => "page.given-up-twice",
            Self::Graph(error) => match error {
                GraphError::Cycle { .. } | GraphError::SelfDependency { .. } => "graph.cycle",
                GraphError::AlreadyDerived { .. } => "graph.already-derived",
                GraphError::NotDerived { .. } => "graph.not-derived",
                GraphError::HasDependents { .. } => "page.has-dependents",
                GraphError::TooManyNodes => "memory.table-full",
                _ => "graph.refused",
            },
            Self::TransformPanicked { .. } => "graph.refused",
            Self::Transform(RegistryError::Params { .. }) => "transform.params",
            Self::Transform(_) => "transform.unknown",
            Self::Placement(PlacementError::OutOfSpace { .. }) => "memory.out-of-space",
            Self::Placement(_) => "memory.length",
            Self::TableFull => "memory.table-full",
            Self::Device(error) => error.kind(),
            Self::Metadata { .. } => "metadata.limit",
            Self::TooLarge { .. } => "transaction.too-large",
            Self::GuardHeld { .. } => "guard.held",
            Self::ViewHeld { .. } => "view.held",
            Self::Poisoned(_) | Self::InDoubt { .. } => "bus.poisoned",
        }
    }
}
