//! Storage in memory that forgets, on demand, whatever was not synced.
//!
//! Each file has the bytes that a reader sees and the bytes that are durable; so has the directory its
//! names. [`SimulatedStorage::crash`] puts the durable ones in place of the others, as a power failure does at its most
//! forgetful. Everything is deterministic, and every operation passes through one gate, where it is counted.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use mmsb_engine::{Storage, StorageFile, StorageLock};
use parking_lot::Mutex;

/// How often each operation was asked for, since the storage was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Files created or emptied.
    pub creates: u64,
    /// Files opened.
    pub opens: u64,
    /// Reads of file contents.
    pub reads: u64,
    /// Writes to files, changes of their length included.
    pub writes: u64,
    /// Bytes written to files.
    pub written_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of names.
    pub name_syncs: u64,
    /// Files renamed.
    pub renames: u64,
    /// Files removed.
    pub removes: u64,
}

/// What is asked of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Lock,
    Create,
    Open,
    List,
    Rename,
    Remove,
    SyncNames,
    Read,
    Write { len_bytes: u64 },
    Sync,
    Length,
}

impl Operations {
    fn count(&mut self, operation: Operation) {
        match operation {
            Operation::Lock | Operation::List | Operation::Length => {}
            Operation::Create => self.creates += 1,
            Operation::Open => self.opens += 1,
            Operation::Rename => self.renames += 1,
            Operation::Remove => self.removes += 1,
            Operation::SyncNames => self.name_syncs += 1,
            Operation::Read => self.reads += 1,
            Operation::Write { len_bytes } => {
                self.writes += 1;
                self.written_bytes = self.written_bytes.saturating_add(len_bytes);
            }
            Operation::Sync => self.syncs += 1,
        }
    }
}

/// The bytes of one file.
#[derive(Debug, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Where the two may differ, so that a sync costs what was written since the last one.
    unsynced: Vec<Range<usize>>,
}

impl Content {
    fn write(&mut self, bytes: &[u8], start: usize) -> io::Result<()> {
        let end = start
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        // A gap that is filled with zeros is written too: the durable bytes may have something else there.
        let noted = start.min(self.current.len());
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        let target = self
            .current
            .get_mut(start..end)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        target.copy_from_slice(bytes);
        self.note(noted..end);
        Ok(())
    }

    /// Notes a range that was written; one that continues the last one extends it.
    fn note(&mut self, range: Range<usize>) {
        match self.unsynced.last_mut() {
            Some(last) if last.start <= range.start && range.start <= last.end => {
                last.end = last.end.max(range.end)
            }
            _ => self.unsynced.push(range),
        }
    }

    fn set_len(&mut self, len: usize) {
        let old = self.current.len();
        self.current.resize(len, 0);
        if len > old {
            self.note(old..len);
        }
    }

    fn sync(&mut self) {
        let Self {
            current,
            durable,
            unsynced,
        } = self;
        carry(current, durable, unsynced);
    }

    fn crash(&mut self) {
        let Self {
            current,
            durable,
            unsynced,
        } = self;
        // A file that was cut and then extended differs beyond the cut too.
        if current.len() < durable.len() {
            unsynced.push(current.len()..durable.len());
        }
        carry(durable, current, unsynced);
    }
}

/// Makes `to` equal to `from`, which it is except in `ranges` and in its length.
fn carry(from: &[u8], to: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) {
    to.resize(from.len(), 0);
    for range in ranges.drain(..) {
        let range = range.start.min(from.len())..range.end.min(from.len());
        if let (Some(from), Some(to)) = (from.get(range.clone()), to.get_mut(range)) {
            to.copy_from_slice(from);
        }
    }
}

type SharedContent = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, SharedContent>,
    durable_names: BTreeMap<String, SharedContent>,
    /// Moves on at each crash; handles of an earlier life are dead.
    life: u64,
    locked: bool,
    operations: Operations,
}

/// A directory in memory. Clones are the same directory, in the same life.
///
/// ```
/// use mmsb_engine::{Storage, StorageFile};
/// use mmsb_harness::world::SimulatedStorage;
/// let storage = SimulatedStorage::new();
/// let file = storage.create("a")?;
/// file.write_all_at(b"kept", 0)?;
/// file.sync()?;
/// storage.sync_names()?;
/// file.write_all_at(b"lost", 0)?;
/// let after = storage.crash();
/// assert!(file.len_bytes().is_err());
/// assert_eq!(after.files(), [("a".to_owned(), b"kept".to_vec())]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SimulatedStorage {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

impl SimulatedStorage {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses everything that was not synced, and every lock. All that was opened before fails from now on; the
    /// storage that is returned sees what is left.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.locked = false;
        disk.names = disk.durable_names.clone();
        for content in disk.names.values() {
            content.lock().crash();
        }
        Self {
            disk: Arc::clone(&self.disk),
            life: disk.life,
        }
    }

    /// All files as a reader sees them, in the order of their names.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let disk = self.disk.lock();
        disk.names
            .iter()
            .map(|(name, content)| (name.clone(), content.lock().current.clone()))
            .collect()
    }

    /// What was asked for so far.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.disk.lock().operations
    }

    /// The gate through which every operation goes.
    fn enter<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other(
                "the simulated machine crashed; this handle is of its earlier life",
            ));
        }
        disk.operations.count(operation);
        act(&mut disk)
    }

    fn handle(&self, content: SharedContent) -> Box<dyn StorageFile> {
        Box::new(SimulatedFile {
            storage: self.clone(),
            content,
        })
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no simulated file `{name}`"),
    )
}

impl Storage for SimulatedStorage {
    fn lock(&self) -> io::Result<Box<dyn StorageLock>> {
        self.enter(Operation::Lock, |disk| {
            if std::mem::replace(&mut disk.locked, true) {
                let message = "the simulated directory is in use by another bus";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
            }
            Ok(())
        })?;
        Ok(Box::new(SimulatedLock {
            storage: self.clone(),
        }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let content = self.enter(Operation::Create, |disk| {
            let content = Arc::clone(disk.names.entry(name.to_owned()).or_default());
            content.lock().set_len(0);
            Ok(content)
        })?;
        Ok(self.handle(content))
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Box<dyn StorageFile>> {
        let content = self.enter(Operation::Open, |disk| {
            disk.names
                .get(name)
                .map(Arc::clone)
                .ok_or_else(|| not_found(name))
        })?;
        Ok(self.handle(content))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.enter(Operation::List, |disk| {
            Ok(disk.names.keys().cloned().collect())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.enter(Operation::Rename, |disk| {
            let content = disk.names.remove(from).ok_or_else(|| not_found(from))?;
            disk.names.insert(to.to_owned(), content);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.enter(Operation::Remove, |disk| {
            disk.names
                .remove(name)
                .map(|_| ())
                .ok_or_else(|| not_found(name))
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.enter(Operation::SyncNames, |disk| {
            disk.durable_names = disk.names.clone();
            Ok(())
        })
    }

    fn describe(&self) -> String {
        "simulated storage".to_owned()
    }
}

struct SimulatedLock {
    storage: SimulatedStorage,
}

impl StorageLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut disk = self.storage.disk.lock();
        // The lock of an earlier life went with it; the one that is held now is another's.
        if disk.life == self.storage.life {
            disk.locked = false;
        }
    }
}

struct SimulatedFile {
    storage: SimulatedStorage,
    content: SharedContent,
}

impl SimulatedFile {
    fn with<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Content) -> io::Result<T>,
    ) -> io::Result<T> {
        self.storage
            .enter(operation, |_| act(&mut self.content.lock()))
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl StorageFile for SimulatedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = position(offset)?;
        self.with(Operation::Read, |content| {
            let end = start
                .checked_add(buffer.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(
                content
                    .current
                    .get(start..end)
                    .ok_or(io::ErrorKind::UnexpectedEof)?,
            );
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = position(offset)?;
        self.with(
            Operation::Write {
                len_bytes: bytes.len() as u64,
            },
            |content| content.write(bytes, start),
        )
    }

    fn sync(&self) -> io::Result<()> {
        self.with(Operation::Sync, |content| {
            content.sync();
            Ok(())
        })
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.with(
            Operation::Length,
            |content| Ok(content.current.len() as u64),
        )
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let len = position(len_bytes)?;
        self.with(Operation::Write { len_bytes: 0 }, |content| {
            content.set_len(len);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(storage: &SimulatedStorage, name: &str) -> Vec<u8> {
        storage
            .files()
            .into_iter()
            .find(|(other, _)| other == name)
            .unwrap()
            .1
    }

    #[test]
    fn a_crash_keeps_synced_bytes_and_no_others() {
        let storage = SimulatedStorage::new();
        let file = storage.create("a").unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        file.sync().unwrap();
        storage.sync_names().unwrap();
        file.write_all_at(b"xx", 2).unwrap();
        file.sync().unwrap();
        file.write_all_at(b"yy", 4).unwrap();
        file.write_all_at(b"tail", 12).unwrap();
        assert_eq!(content(&storage, "a"), b"01xxyy6789\0\0tail");
        let storage = storage.crash();
        assert_eq!(content(&storage, "a"), b"01xx456789");
    }

    #[test]
    fn a_cut_that_is_not_synced_is_undone() {
        let storage = SimulatedStorage::new();
        let file = storage.create("a").unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        file.sync().unwrap();
        storage.sync_names().unwrap();
        file.set_len(2).unwrap();
        file.set_len(6).unwrap();
        assert_eq!(content(&storage, "a"), b"01\0\0\0\0");
        let storage = storage.crash();
        assert_eq!(content(&storage, "a"), b"0123456789");
        let file = storage.create("a").unwrap();
        file.write_all_at(b"x", 5).unwrap();
        file.sync().unwrap();
        assert_eq!(content(&storage.crash(), "a"), b"\0\0\0\0\0x");
    }

    #[test]
    fn names_are_durable_apart_from_bytes() {
        let storage = SimulatedStorage::new();
        storage.create("old").unwrap().sync().unwrap();
        storage.sync_names().unwrap();
        storage.rename("old", "new").unwrap();
        storage.create("extra").unwrap().sync().unwrap();
        assert_eq!(storage.list().unwrap(), ["extra", "new"]);
        let storage = storage.crash();
        assert_eq!(storage.list().unwrap(), ["old"]);
        storage.remove("old").unwrap();
        assert_eq!(storage.crash().list().unwrap(), ["old"]);
    }

    #[test]
    fn handles_and_locks_end_with_their_life() {
        let storage = SimulatedStorage::new();
        let file = storage.create("a").unwrap();
        let lock = storage.lock().unwrap();
        assert_eq!(
            storage.lock().err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        let after = storage.crash();
        assert!(storage.list().is_err());
        assert!(file.write_all_at(b"x", 0).is_err());
        let _held = after.lock().unwrap();
        drop(lock);
        assert!(after.lock().is_err(), "the old lock released the new one");
    }

    #[test]
    fn operations_are_counted() {
        let storage = SimulatedStorage::new();
        let file = storage.create("a").unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        file.sync().unwrap();
        let operations = storage.operations();
        assert_eq!(
            (
                operations.creates,
                operations.writes,
                operations.written_bytes
            ),
            (1, 1, 3)
        );
        assert_eq!((operations.syncs, operations.name_syncs), (1, 0));
    }
}
