//! A set of numbers whose lowest member is found in constant time.

/// A set of small numbers with a summary bit for every 64, one for every 64 of those, and so on: the lowest member is as many
/// steps away as there are levels, six at most.
///
/// It grows with its highest member and never shrinks, so a set that has been as large before allocates nothing.
#[derive(Clone, Default)]
pub(super) struct BitTree {
    /// Members first. The last level is one word.
    levels: Vec<Vec<u64>>,
}

impl BitTree {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let top = self.levels.last().and_then(|level| level.first());
        top.is_none_or(|word| *word == 0)
    }

    #[inline]
    pub(super) fn contains(&self, at: u32) -> bool {
        let leaf = self.levels.first();
        let word = leaf.and_then(|leaf| leaf.get(at as usize / 64));
        word.is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    #[inline]
    pub(super) fn insert(&mut self, member: u32) {
        let mut at = member as usize;
        let leaf = self.levels.first();
        if leaf.is_none_or(|leaf| at / 64 >= leaf.len()) {
            self.grow(at / 64 + 1);
        }
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / 64) else {
                return;
            };
            let before = *word;
            *word |= 1 << (at % 64);
            if before != 0 {
                return;
            }
            at /= 64;
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, member: u32) {
        let mut at = member as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / 64) else {
                return;
            };
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    /// The lowest member.
    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level.get(at).copied().filter(|word| *word != 0)?;
            at = at * 64 + word.trailing_zeros() as usize;
        }
        (!self.levels.is_empty()).then_some(at as u32)
    }

    /// The highest member.
    pub(super) fn last(&self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level.get(at).copied().filter(|word| *word != 0)?;
            at = at * 64 + word.ilog2() as usize;
        }
        (!self.levels.is_empty()).then_some(at as u32)
    }

    /// The lowest member from `from` on.
    #[inline]
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let mut at = from as usize;
        let mut height = 0;
        loop {
            let level = self.levels.get(height)?;
            let word = level.get(at / 64).copied().unwrap_or(0) & (u64::MAX << (at % 64));
            if word != 0 {
                at = at / 64 * 64 + word.trailing_zeros() as usize;
                break;
            }
            at = at / 64 + 1;
            height += 1;
        }
        for level in self.levels.iter().take(height).rev() {
            let word = level.get(at).copied().filter(|word| *word != 0)?;
            at = at * 64 + word.trailing_zeros() as usize;
        }
        Some(at as u32)
    }

    /// Makes the level of the members at least `words` long, and the others what they must be then.
    #[cold]
    fn grow(&mut self, words: usize) {
        let mut words = words.next_power_of_two();
        for level in &mut self.levels {
            level.resize(words.max(level.len()), 0);
            words = words.div_ceil(64);
        }
        while self.levels.last().is_none_or(|level| level.len() > 1) {
            let below = self.levels.last().map_or(&[][..], Vec::as_slice);
            let mut level = vec![0; words];
            for at in (0..below.len()).filter(|at| below.get(*at).is_some_and(|word| *word != 0)) {
                if let Some(word) = level.get_mut(at / 64) {
                    *word |= 1 << (at % 64);
                }
            }
            self.levels.push(level);
            words = words.div_ceil(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_tree_is_an_ordered_set(
            steps in prop::collection::vec((any::<bool>(), 0..20_u32, any::<u32>()), 0..300),
        ) {
            let mut tree = BitTree::default();
            let mut model = BTreeSet::new();
            for (is_insert, bit_count, draw) in steps {
                let member = draw % (1 << bit_count);
                if is_insert {
                    tree.insert(member);
                    model.insert(member);
                } else {
                    tree.remove(member);
                    model.remove(&member);
                }
                prop_assert_eq!(tree.first(), model.first().copied());
                prop_assert_eq!(tree.last(), model.last().copied());
                prop_assert_eq!(tree.next(member), model.range(member..).next().copied());
                prop_assert_eq!(tree.is_empty(), model.is_empty());
                prop_assert_eq!(tree.contains(member), model.contains(&member));
            }
        }
    }
}
