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

use common::{open, options};
use mmsb_engine::{
    Bus, Durability, FileStorage, SteppingClock, Storage, StorageFile, StorageLock,
    TransactionError,
};
use tempfile::tempdir;

/// Counts down operations of one kind; the one that comes to zero fails, and all after it work again:
/// what was refused once must not be tried a second time.
#[derive(Default)]
struct Fuse {
    writes: AtomicI64,
    syncs: AtomicI64,
    names: AtomicI64,
}

fn burn(fuse: &AtomicI64) -> io::Result<()> {
    if fuse.fetch_sub(1, Ordering::Relaxed) == 1 {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "the fuse blew"));
    }
    Ok(())
}

struct Fused {
    inner: FileStorage,
    fuse: Arc<Fuse>,
}

struct FusedFile {
    inner: Box<dyn StorageFile>,
    fuse: Arc<Fuse>,
}

impl StorageFile for FusedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        burn(&self.fuse.writes)?;
        self.inner.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        burn(&self.fuse.syncs)?;
        self.inner.sync()
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.inner.len_bytes()
    }
    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.inner.set_len(len_bytes)
    }
}

impl Fused {
    fn file(&self, inner: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(FusedFile {
            inner,
            fuse: Arc::clone(&self.fuse),
        })
    }
}

impl Storage for Fused {
    fn lock(&self) -> io::Result<Box<dyn StorageLock>> {
        self.inner.lock()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(self.inner.create(name)?))
    }
    fn open(&self, name: &str, writable: bool) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(self.inner.open(name, writable)?))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        burn(&self.fuse.names)?;
        self.inner.sync_names()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

fn fused(directory: &Path) -> (Bus, Arc<Fuse>) {
    let fuse = Arc::new(Fuse::default());
    let storage = Fused {
        inner: FileStorage::create(directory).unwrap(),
        fuse: Arc::clone(&fuse),
    };
    let bus = Bus::open_with(
        Arc::new(storage),
        Arc::new(SteppingClock::new(0, 1)),
        options(),
    );
    (bus.unwrap(), fuse)
}

type Kind = fn(&Fuse) -> &AtomicI64;
const KINDS: [(&str, Kind); 3] = [
    ("write", |fuse| &fuse.writes),
    ("sync", |fuse| &fuse.syncs),
    ("names", |fuse| &fuse.names),
];

#[test]
fn the_first_error_stays_and_acknowledged_commits_are_there_after_reopening() {
    for (label, kind) in KINDS {
        for nth in 1..=40 {
            let directory = tempdir().unwrap();
            let (bus, fuse) = fused(directory.path());
            let page = common::allocate(&bus, 4096);
            bus.sync().unwrap();
            kind(&fuse).store(nth, Ordering::Relaxed);
            let mut acknowledged = 0;
            for round in 1..=60u8 {
                let mut transaction = bus.begin();
                transaction.write(page, 0, &[round; 1500]).unwrap();
                match transaction.commit(Durability::Sync) {
                    Ok(_) if bus.poisoned().is_none() => acknowledged = round,
                    Ok(_) => panic!("{label} {nth}: acknowledged although poisoned"),
                    Err(error) => {
                        assert!(matches!(error, TransactionError::Poisoned(_)), "{error}")
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
