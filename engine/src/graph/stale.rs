//! Pages whose bytes are not what their transform would give, and why.

use thiserror::Error;

use super::{dag::Node, transform::TransformError};

/// No cause: the page is fresh.
const FRESH: u32 = 0;

/// Why a page could not be computed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum StaleReason {
    /// The transform returned an error.
    #[error("transform failed: {0}")]
    Failed(TransformError),
    /// The transform panicked.
    #[error("transform panicked: {0}")]
    Panicked(String),
}

/// What keeps a page stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale<'a> {
    /// The node whose transform failed; the stale node itself, or one that it depends on.
    pub origin: Node,
    /// Why.
    pub reason: &'a StaleReason,
}

/// The stale nodes of a graph.
///
/// A node whose transform fails keeps the bytes that it had and is stale, and so is every node that
/// depends on it. The next wave that asks for the failed node tries again, in full; when it
/// succeeds the nodes that were stale because of it are computed in full as well.
#[derive(Clone, Debug, Default)]
pub struct StaleSet {
    /// For each node [`FRESH`], or one more than the position of its cause.
    cause_of: Vec<u32>,
    causes: Vec<Option<Cause>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Cause {
    origin: u32,
    reason: StaleReason,
    /// Nodes that refer to it. It goes with the last.
    nodes: usize,
}

impl StaleSet {
    /// A set without stale nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether every node is fresh. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of stale nodes. O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What keeps a node stale, or `None` if it is fresh. O(1).
    #[must_use]
    pub fn get(&self, node: Node) -> Option<Stale<'_>> {
        let cause = self.cause(self.mark(node.0)?)?;
        Some(Stale {
            origin: Node(cause.origin),
            reason: &cause.reason,
        })
    }

    /// The stale nodes in ascending order. O(nodes of the graph).
    pub fn iter(&self) -> impl Iterator<Item = (Node, Stale<'_>)> {
        (0_u32..)
            .zip(&self.cause_of)
            .filter(|(_, mark)| **mark != FRESH)
            .filter_map(|(node, _)| Some((Node(node), self.get(Node(node))?)))
    }

    /// Makes a node fresh without computing it: for one that was disconnected or removed. Seed a
    /// wave with the whole of it, so that what was stale because of it is computed.
    pub fn clear(&mut self, node: Node) {
        self.set(node.0, FRESH);
    }

    /// The mark of a stale node, which is the same for all that have one cause.
    pub(super) fn mark(&self, node: u32) -> Option<u32> {
        self.cause_of
            .get(node as usize)
            .copied()
            .filter(|mark| *mark != FRESH)
    }

    pub(super) fn origin(&self, mark: u32) -> Option<Node> {
        self.cause(mark).map(|cause| Node(cause.origin))
    }

    fn cause(&self, mark: u32) -> Option<&Cause> {
        self.causes.get((mark as usize).checked_sub(1)?)?.as_ref()
    }

    /// Makes `node` stale with the cause of another, or fresh.
    pub(super) fn set(&mut self, node: u32, mark: u32) {
        if self.cause_of.len() <= node as usize {
            if mark == FRESH {
                return;
            }
            self.cause_of.resize(node as usize + 1, FRESH);
        }
        let Some(slot) = self.cause_of.get_mut(node as usize) else {
            return;
        };
        let old = std::mem::replace(slot, mark);
        self.count(mark, true);
        self.count(old, false);
    }

    /// Makes `node` the origin of its own staleness.
    pub(super) fn fail(&mut self, node: u32, reason: StaleReason) {
        let own = self
            .mark(node)
            .filter(|mark| self.origin(*mark) == Some(Node(node)));
        if let Some(own) = own {
            // The cause stays the same, so those that share it need not be visited.
            let slot = (own as usize)
                .checked_sub(1)
                .and_then(|at| self.causes.get_mut(at));
            if let Some(Some(cause)) = slot {
                cause.reason = reason;
            }
            return;
        }
        let cause = Some(Cause {
            origin: node,
            reason,
            nodes: 0,
        });
        let mark = match self.free.pop() {
            Some(mark) => {
                if let Some(slot) = self.causes.get_mut(mark as usize - 1) {
                    *slot = cause;
                }
                mark
            }
            None => {
                self.causes.push(cause);
                self.causes.len() as u32
            }
        };
        self.set(node, mark);
    }

    fn count(&mut self, mark: u32, is_added: bool) {
        let Some(at) = (mark as usize).checked_sub(1) else {
            return;
        };
        let Some(slot) = self.causes.get_mut(at) else {
            return;
        };
        let Some(cause) = slot else { return };
        if is_added {
            cause.nodes += 1;
            self.len += 1;
            return;
        }
        cause.nodes -= 1;
        self.len -= 1;
        if cause.nodes == 0 {
            *slot = None;
            self.free.push(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> StaleReason {
        StaleReason::Panicked(text.to_owned())
    }

    #[test]
    fn causes_are_shared_and_go_with_the_last_node() {
        let mut stale = StaleSet::new();
        stale.fail(7, reason("a"));
        let mark = stale.mark(7).unwrap();
        stale.set(9, mark);
        assert_eq!(stale.len(), 2);
        assert_eq!(stale.get(Node(9)).unwrap().origin, Node(7));
        stale.fail(7, reason("b"));
        assert_eq!(stale.get(Node(9)).unwrap().reason, &reason("b"));
        stale.clear(Node(7));
        assert_eq!(
            stale.iter().map(|(node, _)| node.0).collect::<Vec<_>>(),
            [9]
        );
        stale.clear(Node(9));
        stale.clear(Node(1000));
        assert!(stale.is_empty());
        stale.fail(1, reason("c"));
        assert_eq!(stale.causes.len(), 1);
    }
}
