//! One queue of a simulated device.

use std::collections::{BTreeMap, VecDeque};

use super::item::Item;
use super::race::Touched;

/// What was submitted, what of it is done, and what is known of the other queue.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) submitted: u64,
    pub(super) done: u64,
    pub(super) pending: VecDeque<Item>,
    /// What is submitted from now on starts after so many pieces of the other queue.
    pub(super) ordered: u64,
    /// What the host has waited for.
    pub(super) waited: u64,
    /// By sequence: how many pieces of the other queue are before this one and all later ones.
    knowledge: BTreeMap<u64, u64>,
    /// What done work touched that work of the other queue may still race with.
    pub(super) touched: VecDeque<Touched>,
    /// Uploads that will take effect when a fence after them has been reported as reached.
    pub(super) late: Vec<LateUpload>,
}

/// An upload that is late.
#[derive(Debug)]
pub(super) struct LateUpload {
    pub(super) sequence: u64,
    pub(super) to: u64,
    pub(super) bytes: Vec<u8>,
    /// Whether a fence after it has been reported as reached.
    pub(super) is_due: bool,
}

impl QueueState {
    /// Notes that work from `sequence` on is after `known` pieces of the other queue.
    pub(super) fn learn(&mut self, sequence: u64, known: u64) {
        if self.known_at(sequence) < known {
            self.knowledge.insert(sequence, known);
        }
    }

    /// How many pieces of the other queue are certain to be before piece `sequence`.
    pub(super) fn known_at(&self, sequence: u64) -> u64 {
        let last = self.knowledge.range(..=sequence).next_back();
        last.map_or(0, |(_, known)| *known)
    }

    /// The host has waited for the first `sequence` pieces: what was known at earlier ones will not be asked for again.
    pub(super) fn waited_for(&mut self, sequence: u64) {
        self.waited = self.waited.max(sequence);
        let known = self.known_at(self.waited);
        self.knowledge = self.knowledge.split_off(&self.waited);
        if known > 0 {
            self.knowledge.entry(self.waited).or_insert(known);
        }
    }

    /// The host was told that the first `sequence` pieces are done: what is late among them may arrive.
    pub(super) fn reported(&mut self, sequence: u64) {
        for late in &mut self.late {
            late.is_due |= late.sequence <= sequence;
        }
    }

    /// Forgets what the first `known` pieces touched: all that can still come is after them.
    pub(super) fn forget(&mut self, known: u64) {
        while self
            .touched
            .front()
            .is_some_and(|touched| touched.label.sequence <= known)
        {
            self.touched.pop_front();
        }
    }

    /// Gives up whatever was submitted.
    pub(super) fn give_up(&mut self) {
        self.pending.clear();
        self.touched.clear();
        self.late.clear();
        self.knowledge.clear();
        self.done = self.submitted;
        self.waited = self.submitted;
        self.ordered = 0;
    }
}
