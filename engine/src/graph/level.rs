//! Levels and cycles: the order that a wave walks in, kept as edges come and go.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use super::dag::{Graph, Node};
use crate::page::PageIndex;

impl Graph {
    /// The cycle that edges from `parents` to `child` would close, as pages, from the parent over
    /// the child back to the parent; a shortest one.
    ///
    /// A descendant can lead to a parent only while its level is below the highest of theirs, which
    /// bounds the search; a child without children costs nothing.
    pub(super) fn find_cycle(&self, child: u32, parents: &[Node]) -> Option<Vec<PageIndex>> {
        let top = parents
            .iter()
            .filter_map(|parent| self.level(*parent))
            .max()?;
        if self.vertex(child)?.children.is_empty() {
            return None;
        }
        let mut targets: Vec<u32> = parents.iter().map(|parent| parent.0).collect();
        targets.sort_unstable();
        // Ordered map rather than a hash set: the path must not depend on hashing.
        let mut came_from = BTreeMap::from([(child, child)]);
        let mut queue = VecDeque::from([child]);
        while let Some(node) = queue.pop_front() {
            for next in &self.vertex(node)?.children {
                let is_near = self
                    .vertex(next.node)
                    .is_some_and(|vertex| vertex.level <= top);
                if !is_near || came_from.contains_key(&next.node) {
                    continue;
                }
                came_from.insert(next.node, node);
                if targets.binary_search(&next.node).is_ok() {
                    return Some(self.trace(&came_from, child, next.node));
                }
                queue.push_back(next.node);
            }
        }
        None
    }

    fn trace(&self, came_from: &BTreeMap<u32, u32>, child: u32, parent: u32) -> Vec<PageIndex> {
        let mut path = vec![parent];
        let mut at = parent;
        while at != child {
            let Some(previous) = came_from.get(&at) else {
                break;
            };
            at = *previous;
            path.push(at);
        }
        path.push(parent);
        path.reverse();
        path.into_iter()
            .filter_map(|node| self.page(Node(node)))
            .collect()
    }

    /// Makes levels exact again after the parents of `start` changed.
    ///
    /// Nodes are taken in the order of their old levels. That is a topological order of everything
    /// below `start`, because no edge below it changed, so each node is settled once.
    pub(super) fn relevel(&mut self, start: u32) {
        let mut queue = BinaryHeap::from([Reverse((0, start))]);
        while let Some(Reverse((_, node))) = queue.pop() {
            let Some(vertex) = self.vertices.get(node as usize) else {
                continue;
            };
            let level = vertex
                .parents
                .iter()
                .filter_map(|parent| self.vertices.get(parent.node as usize))
                .map(|parent| parent.level + 1)
                .max()
                .unwrap_or(0);
            let Some(vertex) = self.vertices.get_mut(node as usize) else {
                continue;
            };
            if vertex.level == level {
                continue;
            }
            vertex.level = level;
            let Some(vertex) = self.vertices.get(node as usize) else {
                continue;
            };
            for child in &vertex.children {
                if let Some(child_vertex) = self.vertices.get(child.node as usize) {
                    queue.push(Reverse((child_vertex.level, child.node)));
                }
            }
        }
    }
}
