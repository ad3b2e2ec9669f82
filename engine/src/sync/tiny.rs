//! Every schedule of the smallest pieces.

use std::sync::Arc;

use shuttle::scheduler::DfsScheduler;
use shuttle::{Config, Runner, thread};

use super::OnceLock;
use crate::event::{Event, Publisher};
use crate::lsn::Lsn;
use crate::state::stripes::{Patience, StripeSet, Stripes};

/// More schedules than any of these has.
const LIMIT: usize = 2_000_000;

fn every_schedule(program: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    let schedules = Runner::new(DfsScheduler::new(Some(LIMIT), false), config).run(program);
    assert!(schedules < LIMIT, "there are more than {LIMIT} schedules");
    assert!(schedules > 1, "there is nothing to choose");
    println!("{schedules} schedules, all there are");
}

fn set(stripes: &[u32]) -> StripeSet {
    let mut set = StripeSet::default();
    stripes.iter().for_each(|stripe| set.insert(*stripe));
    set
}

#[test]
fn two_writers_of_the_same_stripe() {
    every_schedule(|| {
        let stripes = Arc::new(Stripes::<u32>::new());
        let write = |stripes: &Stripes<u32>| {
            let mut patience = Patience::new(stripes);
            loop {
                match stripes.try_exclusive(set(&[1])) {
                    Ok(mut locked) => {
                        *locked.get_mut(1).unwrap() += 1;
                        return;
                    }
                    Err(busy) => patience.wait_for(busy),
                }
            }
        };
        let other = {
            let stripes = Arc::clone(&stripes);
            thread::spawn(move || write(&stripes))
        };
        write(&stripes);
        other.join().unwrap();
        assert_eq!(*stripes.shared(1, false).unwrap(), 2);
    });
}

#[test]
fn a_guard_on_a_guard_beside_a_writer_that_waits() {
    every_schedule(|| {
        let stripes = Arc::new(Stripes::<u32>::new());
        let waiting = {
            let stripes = Arc::clone(&stripes);
            thread::spawn(move || stripes.wait_for(1))
        };
        let guard = stripes.shared(1, false).unwrap();
        let again = stripes.shared(1, true).unwrap();
        assert_eq!(*guard, *again);
        drop((guard, again));
        waiting.join().unwrap();
    });
}

#[test]
fn a_value_is_set_once() {
    every_schedule(|| {
        let value = Arc::new(OnceLock::new());
        let other = {
            let value = Arc::clone(&value);
            thread::spawn(move || *value.get_or_init(|| 1))
        };
        let seen = *value.get_or_init(|| 2);
        assert_eq!(other.join().unwrap(), seen);
        assert_eq!(value.get(), Some(&seen));
    });
}

#[test]
fn publishing_beside_a_subscriber() {
    every_schedule(|| {
        let publisher = Arc::new(Publisher::default());
        let subscription = publisher.subscribe(1);
        let publishing = {
            let publisher = Arc::clone(&publisher);
            thread::spawn(move || {
                for lsn in [1, 2] {
                    publisher.publish(&Event {
                        lsn: Lsn(lsn),
                        pages: std::sync::Arc::from([]),
                    });
                }
            })
        };
        let first = subscription.drain();
        publishing.join().unwrap();
        let last = subscription.drain();
        let told = |drained: &crate::event::Drained| drained.lost + drained.events.len() as u64;
        assert_eq!(told(&first) + told(&last), 2);
    });
}
