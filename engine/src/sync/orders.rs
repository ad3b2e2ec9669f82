//! Every order in which the memory of two threads may show what the other did, where no lock gives one.
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::memory::sequence;
use crate::page::Location;
use crate::state::stripes::{StripeSet, Stripes};
use crate::state::table::Slot;

/// A page that is found alive is found where it is.
#[test]
fn who_finds_a_page_alive_finds_its_place() {
    loom::model(|| {
        let slot = Arc::new(Slot::default());
        let making = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.occupy(1, 4096, 64, Location::Device, 3))
        };
        if slot.holds(1) {
            assert_eq!((slot.offset(), slot.len_bytes()), (4096, 64));
            assert_eq!((slot.stripe(), slot.location()), (3, Location::Device));
        }
        making.join().unwrap();
    });
}

/// The turnstile: whoever closes it gets the stripe, whoever passes gets it too, and nobody waits for ever.
#[test]
fn insisting_beside_a_passer() {
    loom::model(|| {
        let stripes = Arc::new(Stripes::<u32>::new());
        let passing = {
            let stripes = Arc::clone(&stripes);
            thread::spawn(move || {
                stripes.pass();
                let seen = *stripes.shared(0, false).unwrap();
                seen
            })
        };
        {
            let _closed = stripes.insist();
            stripes.wait_for(0);
            let mut set = StripeSet::default();
            set.insert(0);
            if let Ok(mut locked) = stripes.try_exclusive(set) {
                *locked.get_mut(0).unwrap() = 7;
            }
        }
        assert!([0, 7].contains(&passing.join().unwrap()));
    });
}

/// Whoever reads an exported page sees what one change left, or is told that it did not.
#[test]
fn the_word_of_an_exported_page_tells_of_every_torn_read() {
    loom::model(|| {
        let page = Arc::new([(); 3].map(|()| AtomicU64::new(0)));
        let writing = {
            let page = Arc::clone(&page);
            thread::spawn(move || {
                let [word, left, right] = &*page;
                for value in 1..=2 {
                    sequence::begin_change(word);
                    left.store(value, Ordering::Relaxed);
                    right.store(value, Ordering::Relaxed);
                    sequence::end_change(word);
                }
            })
        };
        let [word, left, right] = &*page;
        let before = sequence::begin_read(word);
        let seen = (left.load(Ordering::Relaxed), right.load(Ordering::Relaxed));
        if before.is_multiple_of(2) && sequence::end_read(word) == before {
            assert_eq!(seen, (before / 2, before / 2));
        }
        writing.join().unwrap();
    });
}
