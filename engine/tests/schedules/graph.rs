//! Waves and changes of the graph beside commits.

use std::sync::Arc;

use mmsb_engine::{Durability, Options, Propagation};
use shuttle::thread;

use crate::explore::explore;
use crate::memory::Memory;
use crate::world::{PAGE_BYTES, allocate, connect, fill, open, options, pages, value_of};

/// Two components are joined and parted while their pages are written and viewed.
fn joined_and_parted(propagation: Propagation) {
    let storage = Memory::default();
    let options = Options {
        propagation,
        ..options()
    };
    let bus = Arc::new(open(&storage, options.clone()));
    let all = pages(&bus, 4);
    let [a, b, of_a, of_both] = [all[0], all[1], all[2], all[3]];
    connect(&bus, of_a, "copy", &[a]).unwrap();
    let writing = {
        let bus = Arc::clone(&bus);
        thread::spawn(move || {
            fill(&bus, &[a], 1, Durability::Memory).unwrap();
            fill(&bus, &[b, a], 2, Durability::Memory).unwrap();
            fill(&bus, &[b], 3, Durability::Memory).unwrap();
        })
    };
    let viewing = {
        let bus = Arc::clone(&bus);
        thread::spawn(move || {
            for _ in 0..2 {
                let view = bus.view(&[a, of_a]).unwrap();
                assert_eq!(view.page(a), view.page(of_a));
            }
        })
    };
    connect(&bus, of_both, "xor", &[of_a, b]).unwrap();
    {
        let view = bus.view(&[a, b, of_both]).unwrap();
        let value = |page| value_of(view.page(page).unwrap());
        assert_eq!(value(of_both), value(a) ^ value(b));
    }
    viewing.join().unwrap();
    let mut transaction = bus.begin();
    transaction.disconnect(of_a).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    writing.join().unwrap();
    let view = bus.view(&[of_a, b, of_both]).unwrap();
    let value = |page| value_of(view.page(page).unwrap());
    assert_eq!((value(b), value(of_both)), (3, value(of_a) ^ 3));
    drop(view);
    bus.sync().unwrap();
    let again = open(&storage.cut_power(), options);
    assert_eq!(again.digest().unwrap(), bus.digest().unwrap());
}

#[test]
fn components_are_joined_and_parted_with_eager_waves() {
    explore(|| joined_and_parted(Propagation::Eager));
}

#[test]
fn components_are_joined_and_parted_with_deferred_waves() {
    explore(|| joined_and_parted(Propagation::Deferred));
}

/// One level on three threads: which computes what is the schedule's choice, and shows nowhere.
#[test]
fn a_wave_on_several_threads() {
    explore(|| {
        let storage = Memory::default();
        let options = Options {
            threads: 3,
            ..options()
        };
        let bus = Arc::new(open(&storage, options));
        let source = allocate(&bus, 1024);
        let children: Vec<_> = (0..5).map(|_| allocate(&bus, 1024)).collect();
        for child in &children {
            connect(&bus, *child, "copy", &[source]).unwrap();
        }
        let other = allocate(&bus, PAGE_BYTES);
        let beside = {
            let bus = Arc::clone(&bus);
            thread::spawn(move || {
                fill(&bus, &[other], 5, Durability::Memory)
                    .map(drop)
                    .unwrap()
            })
        };
        let mut transaction = bus.begin();
        transaction.write(source, 0, &[8; 1024]).unwrap();
        transaction.commit(Durability::Memory).unwrap();
        for child in &children {
            assert_eq!(value_of(&bus.read(*child).unwrap()), 8);
        }
        beside.join().unwrap();
    });
}
