//! Narrow windows: a crash, rot, or another commit at the worst moment, and files that lie.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics"
)]

mod common;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use common::hooked::Hooked;
use common::{allocate, connect, files, open, options, try_open};
use mmsb_engine::graph::{Transform, TransformError, TransformRegistry};
use mmsb_engine::{Bus, Durability, Options, PageId, Retention, replay};
use tempfile::{TempDir, tempdir};

fn write_sync(bus: &Bus, page: PageId, bytes: &[u8]) {
    let mut transaction = bus.begin();
    transaction.write(page, 0, bytes).unwrap();
    transaction.commit(Durability::Sync).unwrap();
}

fn segment(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("log-{sequence:016x}"))
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn copy(directory: &Path) -> TempDir {
    let copied = tempdir().unwrap();
    for (name, bytes) in files(directory) {
        fs::write(copied.path().join(name), bytes).unwrap();
    }
    copied
}

/// A bus that runs `act` once, after a checkpoint has copied the structure and before it takes images.
fn during_checkpoint(directory: &Path, act: impl Fn(&Bus) + Send + Sync + 'static) -> Arc<Bus> {
    // The bus has the storage, which has the hook: an `Arc` in it would keep all three for ever.
    let slot: Arc<OnceLock<Weak<Bus>>> = Arc::default();
    let (seen, done) = (Arc::clone(&slot), AtomicBool::new(false));
    let storage = Hooked::new(directory, move |operation, name| {
        if operation == "create"
            && name.starts_with("images-")
            && !done.swap(true, Ordering::Relaxed)
            && let Some(bus) = seen.get().and_then(Weak::upgrade)
        {
            act(&bus);
        }
        Ok(())
    });
    let bus = Arc::new(storage.open(options()).unwrap());
    slot.set(Arc::downgrade(&bus)).ok();
    bus
}

#[test]
fn death_after_rotating_into_a_recycled_segment() {
    let directory = tempdir().unwrap();
    let kept = Options {
        retention: Retention::Checkpoints,
        ..options()
    };
    let bus = open(directory.path(), kept.clone());
    let page = allocate(&bus, 4096);
    for _ in 0..3 {
        for _ in 0..16 {
            write_sync(&bus, page, &[1; 4096]);
        }
        bus.checkpoint().unwrap();
    }
    let (recycled, synced) = (bus.statistics().log.recycled, bus.last_lsn());
    while bus.statistics().log.recycled == recycled {
        common::write(&bus, page, 0, &[2; 1000]);
    }
    // The file has its new name, and still the header of its earlier life.
    bus.abandon();
    let bus = open(directory.path(), kept);
    assert!(bus.last_lsn() >= synced);
}

#[test]
fn a_page_transferred_while_a_checkpoint_runs_keeps_its_bytes() {
    let directory = tempdir().unwrap();
    let page = PageId::new(0, 1);
    let bus = &*during_checkpoint(directory.path(), move |bus| {
        let mut transaction = bus.begin();
        transaction.transfer(page).unwrap();
        transaction.commit(Durability::Sync).unwrap();
    });
    assert_eq!(allocate(bus, 4096), page);
    write_sync(bus, page, b"precious");
    bus.checkpoint().unwrap();
    let new = bus.pages()[0];
    assert_ne!(new, page);
    let copied = copy(directory.path());
    let reopened = open(copied.path(), options());
    assert!(reopened.opened().checkpoint.is_some());
    assert_eq!(&reopened.read(new).unwrap()[..8], b"precious");
}

#[test]
fn a_page_disconnected_while_a_checkpoint_runs_keeps_its_epoch() {
    let directory = tempdir().unwrap();
    let (parent, child) = (PageId::new(0, 1), PageId::new(1, 1));
    let bus = &*during_checkpoint(directory.path(), move |bus| {
        let mut transaction = bus.begin();
        transaction.disconnect(child).unwrap();
        transaction.commit(Durability::Sync).unwrap();
        write_sync(bus, child, b"a");
        write_sync(bus, child, b"b");
    });
    assert_eq!((allocate(bus, 64), allocate(bus, 64)), (parent, child));
    connect(bus, child, "copy", &[], &[parent]);
    write_sync(bus, parent, b"x");
    bus.checkpoint().unwrap();
    let live = bus.info(child).unwrap().epoch;
    let copied = copy(directory.path());
    let reopened = open(copied.path(), options());
    assert_eq!(reopened.read(child).unwrap()[0], b'b');
    assert_eq!(reopened.info(child).unwrap().epoch, live);
}

#[test]
fn a_rotten_header_of_the_newest_segment_is_damage() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 4096);
    for _ in 0..6 {
        write_sync(&bus, page, &[1; 4000]);
    }
    bus.close().unwrap();
    let newest = segment(directory.path(), 2);
    assert!(newest.exists());
    edit(&newest, |bytes| bytes[50] ^= 1);
    let error = try_open(directory.path(), options()).unwrap_err();
    assert_eq!(error.kind(), "log.damaged", "{error}");
    assert!(newest.exists());
}

#[test]
fn a_log_without_its_first_header_is_damage_and_not_a_new_log() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    write_sync(&bus, page, b"x");
    bus.close().unwrap();
    edit(&segment(directory.path(), 1), |bytes| bytes[..4096].fill(0));
    let error = try_open(directory.path(), options()).unwrap_err();
    assert_eq!(error.kind(), "log.damaged", "{error}");
    // The mark of the close tells that there was a log.
    edit(&segment(directory.path(), 1), |bytes| bytes.fill(0));
    let error = try_open(directory.path(), options()).unwrap_err();
    assert_eq!(error.kind(), "log.missing", "{error}");
    // Nothing but zeros, and no mark, is what a crash during the creation leaves.
    fs::remove_file(directory.path().join("closed")).unwrap();
    assert!(open(directory.path(), options()).opened().created);
}

#[test]
fn a_segment_torn_inside_its_header_block_ends_there() {
    let directory = tempdir().unwrap();
    drop(open(
        directory.path(),
        Options {
            prefill: false,
            ..options()
        },
    ));
    let file = fs::File::options()
        .write(true)
        .open(segment(directory.path(), 1))
        .unwrap();
    file.set_len(512).unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    write_sync(&bus, page, b"goes on");
    bus.close().unwrap();
    assert_eq!(
        &open(directory.path(), options()).read(page).unwrap()[..7],
        b"goes on"
    );
}

#[test]
fn a_cut_that_dies_half_way_leaves_a_log_that_opens() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 4096);
    for _ in 0..8 {
        common::write(&bus, page, 0, &[1; 4000]);
    }
    drop(bus);
    // A torn record in the first of three segments, and a newest one whose header never arrived.
    edit(&segment(directory.path(), 1), |bytes| {
        bytes[4096 + 200] ^= 1
    });
    fs::write(segment(directory.path(), 3), b"").unwrap();
    assert!(!segment(directory.path(), 4).exists());
    for doomed in ["3", "2"] {
        let storage = Hooked::new(directory.path(), move |operation, name| {
            if operation == "remove" && name.ends_with(doomed) {
                return Err(io::Error::other("killed here"));
            }
            Ok(())
        });
        assert_eq!(storage.open(options()).unwrap_err().kind(), "open.io");
    }
    let bus = open(directory.path(), options());
    assert!(bus.opened().torn.is_some());
}

#[test]
fn a_gap_that_nothing_durable_needs_is_the_end_of_the_log() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 4096);
    for _ in 0..12 {
        common::write(&bus, page, 0, &[1; 4000]);
    }
    drop(bus);
    assert!(segment(directory.path(), 3).exists());
    fs::remove_file(segment(directory.path(), 2)).unwrap();
    let bus = open(directory.path(), options());
    assert!(
        bus.opened()
            .torn
            .as_ref()
            .is_some_and(|torn| torn.dropped_segments > 0)
    );
    assert!(!segment(directory.path(), 3).exists());
}

#[test]
fn readers_that_overlap_cannot_starve_a_writer() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let pages: Vec<PageId> = (0..6).map(|_| allocate(&bus, 64)).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for page in &pages {
            let (bus, stop) = (&bus, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let guard = bus.read(*page).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                    drop(guard);
                }
            });
        }
        for round in 0..20u8 {
            let mut transaction = bus.begin();
            for page in &pages {
                transaction.write(*page, 0, &[round]).unwrap();
            }
            transaction.commit(Durability::Memory).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Panics where a transform is asked whether it fits.
struct Panics;

impl Transform for Panics {
    fn name(&self) -> &str {
        "panics"
    }
    fn version(&self) -> u32 {
        1
    }
    fn check(&self, _output_len: u64, _parent_lens: &[u64]) -> Result<(), TransformError> {
        panic!("not today")
    }
    fn compute(
        &self,
        _inputs: &[&[u8]],
        _output_len: u64,
        _range: Range<u64>,
        _out: &mut [u8],
    ) -> Result<(), TransformError> {
        Ok(())
    }
}

#[test]
fn a_transform_that_panics_at_the_connection_refuses_the_transaction() {
    let directory = tempdir().unwrap();
    let mut transforms = TransformRegistry::with_builtins();
    transforms
        .register("panics", 1, |_| Ok(Arc::new(Panics)))
        .unwrap();
    let with_panics = Options {
        transforms,
        ..options()
    };
    let bus = open(directory.path(), with_panics.clone());
    let page = allocate(&bus, 64);
    let mut transaction = bus.begin();
    let new = transaction.allocate(64).unwrap();
    transaction
        .connect(new, common::transform("panics", &[]), &[page.into()])
        .unwrap();
    let error = transaction.commit(Durability::Sync).unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
    assert_eq!(allocate(&bus, 64), PageId::new(1, 1));
    bus.close().unwrap();
    open(directory.path(), with_panics);
}

#[test]
fn files_that_lie_are_refused_or_ignored_and_nothing_breaks() {
    let directory = tempdir().unwrap();
    let bus = open(directory.path(), options());
    let page = allocate(&bus, 64);
    write_sync(&bus, page, b"safe");
    bus.close().unwrap();
    // A manifest that says it has 15 TiB, the last number that a name can have, a spare that was never finished.
    let manifest = fs::File::create(directory.path().join("checkpoint-0000000000000001")).unwrap();
    manifest.set_len(15 << 40).unwrap();
    fs::write(directory.path().join("spare-ffffffffffffffff"), b"").unwrap();
    fs::write(directory.path().join("spare-0000000000000001"), b"short").unwrap();
    let bus = open(directory.path(), options());
    assert_eq!(&bus.read(page).unwrap()[..4], b"safe");
    assert_eq!(bus.opened().warnings.len(), 1, "{:?}", bus.opened());
    assert!(
        bus.maintain().unwrap(),
        "the unfinished spare stood in the way"
    );
}

#[test]
fn a_live_log_can_be_replayed() {
    let directory = tempdir().unwrap();
    let bus = open(
        directory.path(),
        Options {
            segment_bytes: 1 << 20,
            ..options()
        },
    );
    let page = allocate(&bus, 4096);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                write_sync(&bus, page, b"x");
            }
        });
        let result = (0..25).try_for_each(|_| replay(directory.path(), None, options()).map(drop));
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}
