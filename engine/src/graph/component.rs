//! Connected components, kept by union with relabelling of the smaller side.

use crate::page::PageIndex;

/// Names a connected component of the graph, edges taken in both directions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ComponentId(pub(super) u32);

impl ComponentId {
    /// The id as a dense number, small enough to index a table by.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// What a connection did to the components.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The component that the page and its parents are in now.
    pub component: ComponentId,
    /// The pages that were in another component before.
    pub moved: Vec<PageIndex>,
}

/// Ring and label of one node.
#[derive(Clone, Copy, Debug)]
struct Member {
    component: u32,
    next: u32,
    previous: u32,
}

/// Members of a component form a ring, so that joining two is a swap of two links and only labels
/// cost work: a node changes its label at most log2(n) times, O(n log n) for a graph of n nodes.
/// A union-find forest would be nearer to O(n), but cannot say which pages moved, which is what
/// the owner of per-component locks must know.
#[derive(Clone, Debug, Default)]
pub(super) struct Components {
    members: Vec<Member>,
    /// Length of each component; 0 for an id that is free.
    lens: Vec<u32>,
    free: Vec<u32>,
}

impl Components {
    /// Puts `node` into a component of its own.
    pub(super) fn insert(&mut self, node: u32) {
        let component = self.free.pop().unwrap_or_else(|| {
            self.lens.push(0);
            (self.lens.len() - 1) as u32
        });
        if let Some(len) = self.lens.get_mut(component as usize) {
            *len = 1;
        }
        let member = Member {
            component,
            next: node,
            previous: node,
        };
        match self.members.get_mut(node as usize) {
            Some(slot) => *slot = member,
            None => self.members.push(member),
        }
    }

    /// Takes `node` out of its component, which keeps its id unless that was its last node.
    pub(super) fn remove(&mut self, node: u32) {
        let Some(Member {
            component,
            next,
            previous,
        }) = self.members.get(node as usize).copied()
        else {
            return;
        };
        self.link(previous, next);
        if let Some(len) = self.lens.get_mut(component as usize) {
            *len = len.saturating_sub(1);
            if *len == 0 {
                self.free.push(component);
            }
        }
    }

    pub(super) fn of(&self, node: u32) -> Option<ComponentId> {
        self.members
            .get(node as usize)
            .map(|member| ComponentId(member.component))
    }

    /// Joins the components of `a` and `b`, calling `moved` for each node that changes its own.
    /// The larger one absorbs the smaller; of two equal ones, the lower id.
    pub(super) fn join(&mut self, a: u32, b: u32, mut moved: impl FnMut(u32)) {
        let (Some(ComponentId(of_a)), Some(ComponentId(of_b))) = (self.of(a), self.of(b)) else {
            return;
        };
        if of_a == of_b {
            return;
        }
        let len = |id: u32| self.lens.get(id as usize).copied().unwrap_or(0);
        let (len_a, len_b) = (len(of_a), len(of_b));
        let a_stays = (len_a, std::cmp::Reverse(of_a)) > (len_b, std::cmp::Reverse(of_b));
        let (stays, goes, first) = if a_stays {
            (of_a, of_b, b)
        } else {
            (of_b, of_a, a)
        };

        let mut node = first;
        while let Some(member) = self.members.get_mut(node as usize) {
            member.component = stays;
            moved(node);
            node = member.next;
            if node == first {
                break;
            }
        }
        if let (Some(ma), Some(mb)) = (
            self.members.get(a as usize).copied(),
            self.members.get(b as usize).copied(),
        ) {
            self.link(a, mb.next);
            self.link(b, ma.next);
        }
        if let Some(len) = self.lens.get_mut(stays as usize) {
            *len = len_a + len_b;
        }
        if let Some(len) = self.lens.get_mut(goes as usize) {
            *len = 0;
        }
        self.free.push(goes);
    }

    fn link(&mut self, from: u32, to: u32) {
        if let Some(member) = self.members.get_mut(from as usize) {
            member.next = to;
        }
        if let Some(member) = self.members.get_mut(to as usize) {
            member.previous = from;
        }
    }

    #[cfg(test)]
    fn ring(&self, node: u32) -> Vec<u32> {
        let mut ring = vec![node];
        let mut at = self.members[node as usize].next;
        while at != node {
            assert_eq!(
                self.members[self.members[at as usize].previous as usize].next,
                at
            );
            ring.push(at);
            at = self.members[at as usize].next;
        }
        ring.sort_unstable();
        ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_side_stays() {
        let mut components = Components::default();
        (0..5).for_each(|node| components.insert(node));
        let mut moved = Vec::new();
        components.join(0, 1, |node| moved.push(node));
        assert_eq!(moved, [1]);
        components.join(3, 4, |_| ());
        components.join(2, 0, |node| moved.push(node));
        assert_eq!(moved, [1, 2]);
        components.join(4, 1, |node| moved.push(node));
        moved.sort_unstable();
        assert_eq!(moved, [1, 2, 3, 4]);
        assert_eq!(components.ring(3), [0, 1, 2, 3, 4]);
        components.remove(2);
        assert_eq!(components.ring(0), [0, 1, 3, 4]);
    }

    #[test]
    fn labels_change_seldom() {
        let mut components = Components::default();
        let n = 4096;
        (0..n).for_each(|node| components.insert(node));
        let mut changes = 0;
        let mut step = 1;
        while step < n {
            for a in (0..n).step_by(2 * step as usize) {
                components.join(a + step, a, |_| changes += 1);
            }
            step *= 2;
        }
        assert_eq!(changes, n / 2 * 12);
        assert_eq!(components.ring(0).len(), n as usize);
    }
}
