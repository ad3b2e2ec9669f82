//! Derived pages on a bus: what readers see, and what happens when a transform fails.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{allocate, connect, open, options, write};
use mmsb_engine::graph::{Transform, TransformError, TransformRegistry};
use mmsb_engine::{Bus, Durability, Options, PageId, Propagation, ReadError};
use tempfile::tempdir;

/// Copies its parent, refuses a parent that starts with 0xff, and counts its calls.
struct Picky(Arc<AtomicU64>);

impl Transform for Picky {
    fn name(&self) -> &str {
        "picky"
    }
    fn version(&self) -> u32 {
        1
    }
    fn check(&self, _output_len: u64, _parent_lens: &[u64]) -> Result<(), TransformError> {
        Ok(())
    }
    fn compute(
        &self,
        inputs: &[&[u8]],
        _output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        if inputs[0][0] == 0xff {
            return Err(TransformError::failed("0xff is not to its taste"));
        }
        out.copy_from_slice(&inputs[0][range.start as usize..range.end as usize]);
        Ok(())
    }
}

fn picky(propagation: Propagation) -> (Options, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let mut transforms = TransformRegistry::with_builtins();
    let shared = Arc::clone(&calls);
    transforms
        .register("picky", 1, move |_| {
            Ok(Arc::new(Picky(Arc::clone(&shared))))
        })
        .unwrap();
    let options = Options {
        transforms,
        propagation,
        ..options()
    };
    (options, calls)
}

fn chain(bus: &Bus) -> [PageId; 4] {
    let pages = [(); 4].map(|()| allocate(bus, 64));
    connect(bus, pages[1], "picky", &[], &[pages[0]]);
    connect(bus, pages[2], "copy", &[], &[pages[1]]);
    pages
}

#[test]
fn a_failed_transform_makes_its_cone_stale_and_nothing_else() {
    for propagation in [Propagation::Eager, Propagation::Deferred] {
        let directory = tempdir().unwrap();
        let (options, _) = picky(propagation);
        let bus = open(directory.path(), options.clone());
        let [parent, child, grandchild, other] = chain(&bus);
        write(&bus, other, 0, b"other");
        write(&bus, parent, 0, &[1]);
        assert_eq!(bus.read(grandchild).unwrap()[0], 1);
        write(&bus, parent, 0, &[0xff]);
        for page in [child, grandchild] {
            match bus.read(page) {
                Err(ReadError::StaleDerived { origin, reason, .. }) => {
                    assert_eq!(origin, child);
                    assert!(reason.to_string().contains("taste"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(&bus.read(other).unwrap()[..5], b"other");
        let mut transaction = bus.begin();
        transaction.disconnect(child).unwrap();
        let error = transaction.commit(Durability::Memory).unwrap_err();
        assert_eq!(error.kind(), "derived.stale");

        // A component that is joined by a commit that is refused keeps its stale pages.
        let mut transaction = bus.begin();
        transaction
            .connect(other, common::transform("copy", &[]), &[grandchild.into()])
            .unwrap();
        transaction
            .connect(parent, common::transform("copy", &[]), &[other.into()])
            .unwrap();
        assert!(transaction.commit(Durability::Memory).is_err());
        assert!(bus.read(grandchild).is_err());

        let digest = bus.digest().unwrap();
        bus.close().unwrap();
        let bus = open(directory.path(), options);
        assert_eq!(
            bus.digest().unwrap(),
            digest,
            "stale pages are part of the state"
        );
        assert!(bus.read(child).is_err());
        write(&bus, parent, 0, &[2]);
        assert_eq!(bus.read(grandchild).unwrap()[0], 2);
    }
}

#[test]
fn deferred_waves_run_once_for_many_commits() {
    let directory = tempdir().unwrap();
    let (options, calls) = picky(Propagation::Deferred);
    let bus = open(directory.path(), options);
    let [parent, child, ..] = chain(&bus);
    bus.propagate().unwrap();
    let before = calls.load(Ordering::Relaxed);
    for round in 0..50u8 {
        write(&bus, parent, 1, &[round]);
    }
    assert_eq!(calls.load(Ordering::Relaxed), before);
    // With a guard in hand the wave cannot run, and says so instead of waiting for itself.
    let guard = bus.read(parent).unwrap();
    assert!(matches!(bus.read(child), Err(ReadError::GuardHeld { .. })));
    drop(guard);
    assert_eq!(bus.read(child).unwrap()[1], 49);
    bus.propagate().unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), before + 1);
}

#[test]
fn an_unknown_transform_is_refused_at_the_commit_and_at_open() {
    let directory = tempdir().unwrap();
    let (with_picky, _) = picky(Propagation::Eager);
    let bus = open(directory.path(), with_picky);
    chain(&bus);
    bus.close().unwrap();
    let error = common::try_open(directory.path(), options()).unwrap_err();
    assert!(error.to_string().contains("picky"), "{error}");
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let (a, b) = (allocate(&bus, 64), allocate(&bus, 64));
    let mut transaction = bus.begin();
    transaction
        .connect(b, common::transform("picky", &[]), &[a.into()])
        .unwrap();
    let error = transaction.commit(Durability::Memory).unwrap_err();
    assert_eq!(error.kind(), "transform.unknown");
}
