//! Every order in which the memory of two threads may show what the other did, where no lock gives one.
use loom::sync::Arc;
use loom::thread;

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
