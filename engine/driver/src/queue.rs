//! Queues of work, and events.

use std::collections::{BTreeMap, VecDeque};

use crate::clocks::Clock;
use crate::codes::{self, Outcome};
use crate::faults::Effect;
use crate::order::Order;
use crate::work::{Job, Work};

/// A queue of work; CUDA's stream.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) pending: VecDeque<Work>,
    /// What comes before the work that is submitted next.
    pub(crate) clock: Clock,
}

#[derive(Debug, Default)]
struct Event {
    /// How often it was recorded, and up to which of these its queue came.
    recorded: u64,
    reached: u64,
    clock: Clock,
    is_destroyed: bool,
}

/// All queues and events. Handles are never used twice.
#[derive(Debug)]
pub(crate) struct Queues {
    queues: BTreeMap<u64, Queue>,
    events: BTreeMap<u64, Event>,
    next_handle: u64,
    order: Order,
    /// What the host has waited for.
    host: Clock,
}

impl Queues {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            queues: BTreeMap::new(),
            events: BTreeMap::new(),
            next_handle: 0x5_0000,
            order: Order::new(seed),
            host: Clock::default(),
        }
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.order = Order::new(seed);
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.order.below(usize::MAX) as u64
    }

    fn handle(&mut self) -> u64 {
        self.next_handle += 16;
        self.next_handle
    }

    pub(crate) fn create_queue(&mut self) -> u64 {
        let handle = self.handle();
        self.queues.insert(handle, Queue::default());
        handle
    }

    pub(crate) fn destroy_queue(&mut self, queue: u64) -> Outcome {
        self.queues
            .remove(&queue)
            .map(drop)
            .ok_or(codes::INVALID_HANDLE)
    }

    pub(crate) fn create_event(&mut self) -> u64 {
        let handle = self.handle();
        self.events.insert(handle, Event::default());
        handle
    }

    pub(crate) fn destroy_event(&mut self, event: u64) -> Outcome {
        let found = self.live_event(event)?;
        found.is_destroyed = true;
        if found.reached == found.recorded {
            self.events.remove(&event);
        }
        Ok(())
    }

    fn live_event(&mut self, event: u64) -> Outcome<&mut Event> {
        self.events
            .get_mut(&event)
            .filter(|event| !event.is_destroyed)
            .ok_or(codes::INVALID_HANDLE)
    }

    pub(crate) fn queue(&self, queue: u64) -> Outcome<&Queue> {
        self.queues.get(&queue).ok_or(codes::INVALID_HANDLE)
    }

    pub(crate) fn submit(&mut self, queue: u64, job: Job, effect: Option<Effect>) -> Outcome {
        let host = self.host.clone();
        let found = self.queues.get_mut(&queue).ok_or(codes::INVALID_HANDLE)?;
        found.clock.join(&host);
        let time = found.clock.tick(queue);
        found.pending.push_back(Work {
            job,
            time,
            known: found.clock.clone(),
            effect,
        });
        Ok(())
    }

    pub(crate) fn record(&mut self, event: u64, queue: u64) -> Outcome {
        let version = self.live_event(event)?.recorded + 1;
        self.submit(queue, Job::Record { event, version }, None)?;
        let clock = self.queue(queue)?.clock.clone();
        let found = self.live_event(event)?;
        found.recorded = version;
        found.clock = clock;
        Ok(())
    }

    pub(crate) fn wait_event(&mut self, queue: u64, event: u64) -> Outcome {
        let found = self.live_event(event)?;
        let (version, clock) = (found.recorded, found.clock.clone());
        let target = self.queues.get_mut(&queue).ok_or(codes::INVALID_HANDLE)?;
        target.clock.join(&clock);
        self.submit(queue, Job::Wait { event, version }, None)
    }

    pub(crate) fn is_reached(&mut self, event: u64) -> Outcome<bool> {
        let found = self.live_event(event)?;
        let is_reached = found.reached == found.recorded;
        if is_reached {
            let clock = found.clock.clone();
            self.host.join(&clock);
        }
        Ok(is_reached)
    }

    /// The host has seen all work of a queue done.
    pub(crate) fn see_done(&mut self, queue: u64) -> Outcome {
        let clock = self.queue(queue)?.clock.clone();
        self.host.join(&clock);
        Ok(())
    }

    pub(crate) fn reach(&mut self, event: u64, version: u64) {
        if let Some(found) = self.events.get_mut(&event) {
            found.reached = found.reached.max(version);
            if found.is_destroyed && found.reached == found.recorded {
                self.events.remove(&event);
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queues.values().all(|queue| queue.pending.is_empty())
    }

    pub(crate) fn pending(&self) -> usize {
        self.queues.values().map(|queue| queue.pending.len()).sum()
    }

    /// Takes the next work of a queue that is not waiting for an event, drawn from all such queues.
    pub(crate) fn take_next(&mut self) -> Option<(u64, Work)> {
        let ready: Vec<u64> = self
            .queues
            .iter()
            .filter(|(_, queue)| {
                queue
                    .pending
                    .front()
                    .is_some_and(|work| self.is_ready(&work.job))
            })
            .map(|(handle, _)| *handle)
            .collect();
        let queue = *ready.get(self.order.below(ready.len()))?;
        let found = self.queues.get_mut(&queue)?;
        Some((queue, found.pending.pop_front()?))
    }

    fn is_ready(&self, job: &Job) -> bool {
        match job {
            Job::Wait { event, version } => self
                .events
                .get(event)
                .is_none_or(|event| event.reached >= *version),
            _ => true,
        }
    }

    /// Gives up what was submitted, after a failure.
    pub(crate) fn give_up(&mut self) {
        for queue in self.queues.values_mut() {
            queue.pending.clear();
        }
    }

    /// What was never destroyed, in words.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let events = self
            .events
            .values()
            .filter(|event| !event.is_destroyed)
            .count();
        [(self.queues.len(), "streams"), (events, "events")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(to: u64) -> Job {
        Job::Set {
            to,
            pattern: vec![0],
            len_bytes: 1,
        }
    }

    #[test]
    fn an_event_holds_a_queue_back_until_it_is_reached() {
        for seed in 0..20 {
            let mut queues = Queues::new(seed);
            let (a, b) = (queues.create_queue(), queues.create_queue());
            let event = queues.create_event();
            queues.submit(a, set(1), None).unwrap();
            queues.record(event, a).unwrap();
            queues.wait_event(b, event).unwrap();
            queues.submit(b, set(2), None).unwrap();
            let mut order = Vec::new();
            while let Some((_, work)) = queues.take_next() {
                match work.job {
                    Job::Record { event, version } => queues.reach(event, version),
                    Job::Set { to, .. } => order.push(to),
                    _ => {}
                }
            }
            assert_eq!(order, [1, 2]);
            assert!(queues.is_reached(event).unwrap());
        }
    }

    #[test]
    fn the_seed_decides_between_queues() {
        let first = |seed| {
            let mut queues = Queues::new(seed);
            let (a, b) = (queues.create_queue(), queues.create_queue());
            queues.submit(a, set(1), None).unwrap();
            queues.submit(b, set(2), None).unwrap();
            queues.take_next().unwrap().0 == a
        };
        let firsts: Vec<bool> = (0..32).map(first).collect();
        assert!(firsts.contains(&true) && firsts.contains(&false));
        assert_eq!(firsts, (0..32).map(first).collect::<Vec<_>>());
    }

    #[test]
    fn a_handle_that_is_gone_is_an_error() {
        let mut queues = Queues::new(0);
        let queue = queues.create_queue();
        queues.destroy_queue(queue).unwrap();
        assert_eq!(queues.destroy_queue(queue), Err(codes::INVALID_HANDLE));
        assert_eq!(
            queues.submit(queue, set(1), None),
            Err(codes::INVALID_HANDLE)
        );
        let event = queues.create_event();
        queues.destroy_event(event).unwrap();
        assert_eq!(queues.is_reached(event), Err(codes::INVALID_HANDLE));
    }
}
