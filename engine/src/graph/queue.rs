//! The work of a wave: nodes to compute, by level, each with what of it is dirty.

use crate::planted::planted;
use std::{cmp::Reverse, collections::BinaryHeap};

use super::dirty::{Span, Spans};

/// `next` of a node that is not queued; a fresh slot is full of it.
const NOT_QUEUED: u32 = u32::MAX;
/// End of the list of a level.
pub(super) const END: u32 = u32::MAX - 1;
/// `many` of a node with one span.
const ONE: u32 = u32::MAX;

/// A node's place in the queue: a link of its level's list and its dirty span, or where its spans
/// are if they are several. 16 bytes, so that four share a cache line.
#[derive(Clone, Copy, Debug)]
struct Slot {
    next: u32,
    many: u32,
    span: Span,
}

const FREE_SLOT: Slot = Slot {
    next: NOT_QUEUED,
    many: ONE,
    span: Span { first: 0, last: 0 },
};

/// What is dirty of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dirty {
    One(Span),
    /// Several spans, see [`WorkQueue::many`].
    Many(u32),
}

/// Lists of nodes by level, linked through the slots: to queue a node allocates nothing, and only
/// what was queued is ever touched, however large the graph is.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    slots: Vec<Slot>,
    /// First node of each level, or [`END`].
    heads: Vec<u32>,
    /// Levels that were begun from further away than one; what is not queued any more is skipped.
    /// Walking `heads` instead would make a change near the sources of a deep graph pay for its
    /// depth.
    far: BinaryHeap<Reverse<u32>>,
    level: u32,
    many: Vec<Spans>,
    many_free: Vec<u32>,
}

impl WorkQueue {
    /// Makes room for a graph of that many nodes and starts before level 1.
    pub(super) fn begin(&mut self, nodes: usize) {
        if self.slots.len() < nodes {
            self.slots.resize(nodes, FREE_SLOT);
        }
        self.level = 0;
    }

    /// Forgets everything, for a wave that was cut short by a panic.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Queues `span` of a node at a level above the current one.
    #[inline]
    pub(super) fn push(&mut self, node: u32, level: u32, span: Span) {
        let Some(slot) = self.slots.get_mut(node as usize) else {
            return;
        };
        if slot.next != NOT_QUEUED {
            if planted!(SecondChangeDropped) {
                return;
            }
            if slot.many == ONE && slot.span.is_near(span) {
                slot.span = slot.span.union(span);
            } else {
                self.push_many(node, span);
            }
            return;
        }
        if level as usize >= self.heads.len() {
            self.heads.resize(level as usize + 1, END);
        }
        let Some(head) = self.heads.get_mut(level as usize) else {
            return;
        };
        if *head == END && level != self.level + 1 {
            self.far.push(Reverse(level));
        }
        *slot = Slot {
            next: *head,
            many: ONE,
            span,
        };
        *head = node;
    }

    #[cold]
    fn push_many(&mut self, node: u32, span: Span) {
        let Some(slot) = self.slots.get_mut(node as usize) else {
            return;
        };
        if slot.many == ONE {
            slot.many = self.many_free.pop().unwrap_or_else(|| {
                self.many.push(Spans::default());
                (self.many.len() - 1) as u32
            });
            if let Some(spans) = self.many.get_mut(slot.many as usize) {
                spans.set(slot.span);
            }
        }
        if let Some(spans) = self.many.get_mut(slot.many as usize) {
            spans.insert(span);
        }
    }

    /// Goes on to the lowest level with work and gives its list away.
    #[inline]
    pub(super) fn next_level(&mut self) -> Option<u32> {
        let mut level = self.level + 1;
        loop {
            if let Some(head) = self
                .heads
                .get_mut(level as usize)
                .filter(|head| **head != END)
            {
                self.level = level;
                return Some(std::mem::replace(head, END));
            }
            // Levels that were reached one by one in the meantime have no list any more.
            level = self.far.pop()?.0;
        }
    }

    /// Takes a node out of the list that it heads: the next node, and what is dirty of it.
    #[inline(always)]
    pub(super) fn pop(&mut self, node: u32) -> (u32, Dirty) {
        let Some(slot) = self.slots.get_mut(node as usize) else {
            return (END, Dirty::One(Span::default()));
        };
        let next = std::mem::replace(&mut slot.next, NOT_QUEUED);
        if slot.many == ONE {
            return (next, Dirty::One(slot.span));
        }
        self.many_free.push(slot.many);
        (next, Dirty::Many(slot.many))
    }

    /// The spans that [`Dirty::Many`] stands for; they are there until the next push.
    pub(super) fn many(&self, at: u32) -> Spans {
        self.many.get(at as usize).copied().unwrap_or_default()
    }

    /// The node after `node` in its list, and how many bytes of it are dirty.
    pub(super) fn peek(&self, node: u32) -> (u32, u64) {
        let Some(slot) = self.slots.get(node as usize) else {
            return (END, 0);
        };
        let bytes = match self.many.get(slot.many as usize) {
            Some(spans) => spans.as_slice().iter().map(|span| span.len_bytes()).sum(),
            None => slot.span.len_bytes(),
        };
        (slot.next, bytes)
    }
}
