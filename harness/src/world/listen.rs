//! Subscriptions of a scenario, each with what it must have received.

use std::collections::{BTreeSet, VecDeque};

use mmsb_engine::PageId;

use super::drive::{Drive, Queue};
use super::failure::{Fault, Outcome};
use super::stage::Stage;
use crate::scenario::ast;

/// A subscription, and a model of it.
#[derive(Debug)]
pub(crate) struct Listener {
    queue: Queue,
    capacity: usize,
    /// Whether the bus that it listens to is still open.
    is_live: bool,
    lost: u64,
    waiting: VecDeque<(u64, BTreeSet<PageId>)>,
}

impl Listener {
    pub(crate) fn new(bus: &Drive, capacity: u64) -> Outcome<Self> {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Ok(Self {
            queue: bus.subscribe(capacity)?,
            capacity: capacity.max(1),
            is_live: true,
            lost: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Notes a commit, which the engine must have told of.
    pub(crate) fn publish(&mut self, lsn: u64, pages: &BTreeSet<PageId>) {
        if !self.is_live {
            return;
        }
        if self.waiting.len() >= self.capacity {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back((lsn, pages.clone()));
    }

    /// The bus is gone: nothing comes any more.
    pub(crate) fn end(&mut self) {
        self.is_live = false;
    }

    /// Takes what waits, and compares it with what should, and with what the step says.
    pub(crate) fn drain(&mut self, stage: &Stage, step: &ast::Drain) -> Outcome {
        let drained = self.queue.drain()?;
        let lost = std::mem::take(&mut self.lost);
        let waiting = std::mem::take(&mut self.waiting);
        if drained.lost != lost {
            return Err(Fault::new(format!(
                "{} events were lost, but should have been {lost}",
                drained.lost
            )));
        }
        let expected = waiting
            .into_iter()
            .map(|(lsn, pages)| (lsn, pages.into_iter().collect::<Vec<_>>()));
        let (events, expected): (Vec<_>, Vec<_>) = (drained.events, expected.collect());
        if let Some((found, wanted)) = events
            .iter()
            .zip(&expected)
            .find(|(found, wanted)| found != wanted)
        {
            return Err(Fault::new(format!(
                "an event is {found:?}, but should be {wanted:?}"
            )));
        }
        if events.len() != expected.len() {
            let message = format!(
                "{} events waited, but should have been {}",
                events.len(),
                expected.len()
            );
            return Err(Fault::new(message));
        }
        for (what, wanted, found) in [
            ("waited", &step.events, events.len() as u64),
            ("were lost", &step.lost, lost),
        ] {
            if let Some(wanted) = wanted {
                let wanted = wanted.eval(&stage.scope)?;
                if wanted != found {
                    return Err(Fault::new(format!(
                        "{found} events {what}, expected {wanted}"
                    )));
                }
            }
        }
        Ok(())
    }
}
