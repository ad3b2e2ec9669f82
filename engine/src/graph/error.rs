//! What the graph refuses, and what to do about it.

use thiserror::Error;

use super::{
    dag::Extent,
    transform::{Mapping, TransformError},
};
use crate::page::PageIndex;

/// Why the graph refused a change; it is then as it was.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The page is in the graph.
    #[error("page {page} is in the graph already")]
    PageExists {
        /// The page.
        page: PageIndex,
    },
    /// No page can lie there.
    #[error("page {page} has a bad extent {extent:?}; a page has 1 to 4294967296 bytes")]
    BadExtent {
        /// The page.
        page: PageIndex,
        /// What it was given.
        extent: Extent,
    },
    /// The graph is full.
    #[error("the graph holds 4294967294 pages and no more; remove some")]
    TooManyNodes,
    /// The node was never given, or its page was removed.
    #[error("no node {node}; its page was removed or never added")]
    UnknownNode {
        /// The number of the node.
        node: u32,
    },
    /// The edge would make a page depend on itself by way of others.
    #[error("cycle: {}; leave out one of these edges", arrows(path))]
    Cycle {
        /// From the parent to the new child and along existing edges back to the parent.
        path: Vec<PageIndex>,
    },
    /// The page has a transform.
    #[error("page {page} is derived already; disconnect it first")]
    AlreadyDerived {
        /// The page.
        page: PageIndex,
    },
    /// The page has no transform.
    #[error("page {page} is not derived")]
    NotDerived {
        /// The page.
        page: PageIndex,
    },
    /// The page was named among its own parents.
    #[error("page {page} cannot be derived from itself")]
    SelfDependency {
        /// The page.
        page: PageIndex,
    },
    /// There was nothing to derive the page from.
    #[error("page {page} needs at least one parent to be derived from")]
    NoParents {
        /// The page.
        page: PageIndex,
    },
    /// There are more parents than an edge can count.
    #[error("page {page} cannot have 2147483648 or more parents; derive it in several steps")]
    TooManyParents {
        /// The page.
        page: PageIndex,
    },
    /// The transform does not take these parents for this page.
    #[error("cannot derive page {page}: {source}")]
    Transform {
        /// The page.
        page: PageIndex,
        /// What does not fit.
        source: TransformError,
    },
    /// The transform maps bytes that the parent or the page does not have.
    #[error("the transform of page {page} maps parent {position} out of bounds: {mapping:?}")]
    BadMapping {
        /// The page.
        page: PageIndex,
        /// Which parent.
        position: usize,
        /// What the transform said.
        mapping: Mapping,
    },
    /// The transform has a granule that is no power of two.
    #[error(
        "the transform of page {page} has a granule of {granule_bytes} bytes; use a power of two"
    )]
    BadGranule {
        /// The page.
        page: PageIndex,
        /// What the transform said.
        granule_bytes: u32,
    },
    /// Other pages are computed from the page.
    #[error("page {page} has dependents {dependents:?}; disconnect them first")]
    HasDependents {
        /// The page.
        page: PageIndex,
        /// The pages computed from it, in order.
        dependents: Vec<PageIndex>,
    },
}

fn arrows(path: &[PageIndex]) -> String {
    path.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" → ")
}
