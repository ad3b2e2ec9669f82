//! What is ordered before what, and the accesses that are not ordered although they should be.

use std::collections::{BTreeMap, VecDeque};

use crate::access::Access;

/// For each queue, how much of it is known to come before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Clock(BTreeMap<u64, u64>);

impl Clock {
    pub(crate) fn join(&mut self, other: &Self) {
        for (queue, time) in &other.0 {
            let mine = self.0.entry(*queue).or_default();
            *mine = (*mine).max(*time);
        }
    }

    /// Counts one more piece of work of `queue`, and returns its time.
    pub(crate) fn tick(&mut self, queue: u64) -> u64 {
        let mine = self.0.entry(queue).or_default();
        *mine += 1;
        *mine
    }

    fn knows(&self, queue: u64, time: u64) -> bool {
        self.0.get(&queue).is_some_and(|known| *known >= time)
    }
}

#[derive(Debug)]
struct Seen {
    access: Access,
    time: u64,
    name: &'static str,
}

/// The accesses of work that was executed not long ago, by queue.
#[derive(Debug, Default)]
pub(crate) struct Races {
    seen: BTreeMap<u64, VecDeque<Seen>>,
}

/// More of one queue are not remembered: a race with older work is then missed.
const REMEMBERED: usize = 16_384;

impl Races {
    /// Adds the accesses of a piece of work, and says with which earlier work of another queue they race.
    pub(crate) fn add(
        &mut self,
        queue: u64,
        time: u64,
        known: &Clock,
        name: &'static str,
        accesses: &[Access],
    ) -> Option<String> {
        let others = self.seen.iter().filter(|(other, _)| **other != queue);
        let race = others
            .flat_map(|(other, seen)| {
                seen.iter()
                    .rev()
                    .take_while(move |seen| !known.knows(*other, seen.time))
            })
            .find_map(|seen| {
                let access = accesses
                    .iter()
                    .find(|access| access.conflicts_with(&seen.access))?;
                Some(format!(
                    "{name} and {} of another queue touch {} bytes at {:#x} in no order",
                    seen.name, access.len_bytes, access.start
                ))
            });
        let mine = self.seen.entry(queue).or_default();
        for access in accesses {
            if mine.len() == REMEMBERED {
                mine.pop_front();
            }
            mine.push_back(Seen {
                access: *access,
                time,
                name,
            });
        }
        race
    }

    /// Everything that was executed comes before everything that will be submitted.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_is_seen_unless_an_event_orders_it() {
        let mut races = Races::default();
        let mut first = Clock::default();
        let time = first.tick(1);
        let write = [Access::write(100, 10)];
        assert_eq!(races.add(1, time, &first, "copy", &write), None);
        let mut second = Clock::default();
        let time = second.tick(2);
        assert_eq!(
            races.add(2, time, &second, "sum", &[Access::read(110, 4)]),
            None
        );
        let time = second.tick(2);
        let race = races.add(2, time, &second, "sum", &[Access::read(109, 4)]);
        assert!(race.unwrap().contains("sum and copy"));
        second.join(&first);
        let time = second.tick(2);
        assert_eq!(
            races.add(2, time, &second, "sum", &[Access::read(100, 4)]),
            None
        );
    }
}
