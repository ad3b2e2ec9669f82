//! A disk that fails: the bus turns read-only, says why, and loses nothing that it acknowledged.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use common::hooked::Hooked;
use common::{open, options};
use mmsb_engine::{Bus, Durability, TransactionError};
use tempfile::tempdir;

/// Counts down operations of one kind; the one that comes to zero fails, and all after it work again:
/// what was refused once must not be tried a second time.
fn fused(directory: &Path, kind: &'static str) -> (Bus, Arc<AtomicI64>) {
    let fuse = Arc::new(AtomicI64::new(0));
    let burning = Arc::clone(&fuse);
    let storage = Hooked::new(directory, move |operation, _| {
        if operation == kind && burning.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the fuse blew"));
        }
        Ok(())
    });
    (storage.open(options()).unwrap(), fuse)
}

#[test]
fn the_first_error_stays_and_acknowledged_commits_are_there_after_reopening() {
    for label in ["write", "sync", "sync_names"] {
        for nth in 1..=40 {
            let directory = tempdir().unwrap();
            let (bus, fuse) = fused(directory.path(), label);
            let page = common::allocate(&bus, 4096);
            bus.sync().unwrap();
            fuse.store(nth, Ordering::Relaxed);
            let (mut acknowledged, mut is_poisoned) = (0, false);
            for round in 1..=60u8 {
                let mut transaction = bus.begin();
                transaction.write(page, 0, &[round; 1500]).unwrap();
                match transaction.commit(Durability::Sync) {
                    Ok(_) if bus.poisoned().is_none() => acknowledged = round,
                    Ok(_) => panic!("{label} {nth}: acknowledged although poisoned"),
                    Err(error) => {
                        // The one that met the error is in doubt; those after it are refused.
                        let met = std::mem::replace(&mut is_poisoned, true);
                        let fits = match &error {
                            TransactionError::InDoubt { commit, .. } => {
                                !met && commit.lsn == bus.last_lsn()
                            }
                            TransactionError::Poisoned(_) => true,
                            _ => false,
                        };
                        assert!(fits, "{error}");
                    }
                }
                if round % 20 == 0 {
                    let _ = bus.checkpoint();
                }
            }
            let Some(poison) = bus.poisoned() else {
                assert!(nth > 4, "{label} {nth}: nothing failed");
                continue;
            };
            assert!(poison.to_string().contains("the fuse blew"), "{poison}");
            assert!(poison.durable_lsn <= bus.last_lsn());
            // Readers go on.
            let seen = bus.read(page).unwrap()[0];
            assert!(seen >= acknowledged, "{label} {nth}");
            assert!(bus.maintain().is_err() && bus.checkpoint().is_err());
            drop(bus);
            let bus = open(directory.path(), options());
            let found = bus.read(page).unwrap()[0];
            assert!(
                (acknowledged..=acknowledged + 1).contains(&found),
                "{label} {nth}: {acknowledged} acknowledged, {found} found"
            );
        }
    }
}
