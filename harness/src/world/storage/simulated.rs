//! Storage in memory that forgets, on demand, whatever was not synced, and fails as it is told to.
//!
//! Each file has the bytes that a reader sees and the bytes that are durable; so has the directory its
//! names. [`SimulatedStorage::crash`] puts the durable ones in place of the others, as a power failure does at its most
//! forgetful; what else a crash can leave is told by the journal. Everything is deterministic, and every
//! operation passes through one gate, where it is counted, watched, and may meet a fault.

use std::io;
use std::sync::Arc;

use mmsb_engine::{Storage, StorageFile, StorageLock};
use parking_lot::Mutex;

use super::disk::{Disk, SharedContent, not_found};
use super::fault::{Fault, Met};
use super::journal::{Event, Image, Journal};
use super::operation::{Operation, Operations};
use crate::scenario::fault::FaultKind;

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

    /// A directory that holds these files, durably.
    #[must_use]
    pub fn holding(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self::of(files.into_iter().collect())
    }

    pub(crate) fn of(image: Image) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::of(image))),
            life: 0,
        }
    }

    /// Loses everything that was not synced, and every lock. All that was opened before fails from now on; the
    /// storage that is returned sees what is left.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut disk = self.disk.lock();
        disk.crash();
        Self {
            disk: Arc::clone(&self.disk),
            life: disk.life,
        }
    }

    /// Ends the process that uses the storage, and with it its handles and locks; what was written stays as it is.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.locked = false;
        Self {
            disk: Arc::clone(&self.disk),
            life: disk.life,
        }
    }

    /// All files as a reader sees them, in the order of their names; what cannot be read is zeros.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.disk.lock().image().into_iter().collect()
    }

    /// Whether another directory holds the same files with the same bytes, as a reader sees them. Nothing is copied.
    #[must_use]
    pub fn holds_the_same_as(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.disk, &other.disk) {
            return true;
        }
        self.disk.lock().is_as(&other.disk.lock())
    }

    /// The length of all files together.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.disk.lock().len_bytes()
    }

    /// What was asked for so far.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.disk.lock().operations
    }

    pub(crate) fn arm(&self, fault: Fault) {
        self.disk.lock().faults.arm(fault);
    }

    /// Lifts all faults; the true bytes are seen again. Gives the first that never struck.
    pub(crate) fn heal(&self) -> Option<Fault> {
        let mut disk = self.disk.lock();
        let waiting = disk.faults.waiting().next().copied();
        disk.heal();
        waiting
    }

    /// How many faults have struck so far.
    pub(crate) fn strikes(&self) -> u64 {
        self.disk.lock().faults.strikes
    }

    /// The first fault that has not struck.
    pub(crate) fn waiting(&self) -> Option<Fault> {
        self.disk.lock().faults.waiting().next().copied()
    }

    /// Starts a journal; everything must be durable.
    pub(crate) fn record(&self, safe_lsn: u64, issued_lsn: u64) {
        self.disk.lock().record(safe_lsn, issued_lsn);
    }

    /// Takes the journal, which ends here.
    pub(crate) fn take_journal(&self) -> Option<Journal> {
        let mut disk = self.disk.lock();
        let mut journal = disk.journal.take()?;
        if disk.faults.ever_lied {
            journal.unfit = Some("the storage lost or changed something behind the engine's back");
        }
        Some(journal)
    }

    /// Says that the journal does not tell all.
    pub(crate) fn spoil_journal(&self, why: &'static str) {
        if let Some(journal) = &mut self.disk.lock().journal {
            journal.unfit.get_or_insert(why);
        }
    }

    /// A commit with this LSN may be on the disk from here on.
    pub(crate) fn issued(&self, lsn: u64) {
        if let Some(journal) = &mut self.disk.lock().journal {
            journal.events.push(Event::Issued(lsn));
        }
    }

    /// Everything up to this LSN must survive from here on; `synced` if that is because it was synced.
    pub(crate) fn safe(&self, lsn: u64) {
        let mut disk = self.disk.lock();
        if !disk.faults.lied {
            disk.oracle.acknowledged(lsn);
        }
        if let Some(journal) = &mut disk.journal {
            journal.events.push(Event::Safe(lsn));
        }
    }

    /// A recovery came to this LSN.
    pub(crate) fn recovered(&self, lsn: u64) {
        self.disk.lock().oracle.recovered(lsn);
    }

    /// What became durable, or was acknowledged, in a wrong order.
    pub(crate) fn violation(&self) -> Option<String> {
        let disk = self.disk.lock();
        // A disk that lies makes no promise that could be broken.
        if disk.faults.lied {
            return None;
        }
        disk.oracle.violation().map(str::to_owned)
    }

    /// The gate through which every operation goes.
    fn enter<T>(
        &self,
        operation: Operation,
        name: &str,
        act: impl FnOnce(&mut Disk, Option<Met>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.enter_growing(operation, name, || true, act)
    }

    /// As [`Self::enter`], for an operation that may need no more room than there is.
    fn enter_growing<T>(
        &self,
        operation: Operation,
        name: &str,
        grows: impl FnOnce() -> bool,
        act: impl FnOnce(&mut Disk, Option<Met>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other(
                "the simulated machine crashed; this handle is of its earlier life",
            ));
        }
        disk.operations.count(operation);
        let met = disk.meet(operation, name, grows);
        act(&mut disk, met)
    }

    fn handle(&self, name: &str, content: SharedContent) -> Box<dyn StorageFile> {
        Box::new(SimulatedFile {
            storage: self.clone(),
            name: name.to_owned(),
            content,
        })
    }
}

/// Stops an operation on names that met a fault, all of which are errors but lies.
fn refused(met: Option<Met>) -> io::Result<()> {
    met.map_or(Ok(()), |met| Err(met.error()))
}

impl Storage for SimulatedStorage {
    fn lock(&self) -> io::Result<Box<dyn StorageLock>> {
        self.enter(Operation::Lock, "", |disk, _| {
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
        let content = self.enter(Operation::Create, name, |disk, met| {
            refused(met)?;
            Ok(disk.create(name))
        })?;
        Ok(self.handle(name, content))
    }

    fn open(&self, name: &str, _writable: bool) -> io::Result<Box<dyn StorageFile>> {
        let content = self.enter(Operation::Open, name, |disk, met| {
            refused(met)?;
            disk.names
                .get(name)
                .map(Arc::clone)
                .ok_or_else(|| not_found(name))
        })?;
        Ok(self.handle(name, content))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.enter(Operation::List, "", |disk, met| {
            refused(met)?;
            Ok(disk.names.keys().cloned().collect())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.enter(Operation::Rename, from, |disk, met| {
            refused(met)?;
            disk.rename(from, to)
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.enter(Operation::Remove, name, |disk, met| {
            refused(met)?;
            disk.remove(name)
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.enter(Operation::SyncNames, "", |disk, met| {
            match met.map(|met| met.kind) {
                // The disk claims that it is done.
                Some(FaultKind::Lost) => return Ok(()),
                // Names are the file system's own: one that cannot write them goes read-only, it does not forget them.
                Some(_) => return refused(met),
                None => {}
            }
            disk.sync_names();
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
    /// As it was when the file was opened.
    name: String,
    content: SharedContent,
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl StorageFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = position(offset)?;
        self.storage
            .enter(Operation::Read, &self.name, |disk, met| {
                disk.read(&mut self.content.lock(), buffer, start, met)
            })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let start = position(offset)?;
        let operation = Operation::Write {
            len_bytes: bytes.len() as u64,
        };
        let grows = || start + bytes.len() > self.content.lock().len();
        self.storage
            .enter_growing(operation, &self.name, grows, |disk, met| {
                disk.write(&self.name, &mut self.content.lock(), bytes, start, met)
            })
    }

    fn sync(&self) -> io::Result<()> {
        self.storage
            .enter(Operation::Sync, &self.name, |disk, met| {
                disk.sync(&mut self.content.lock(), met)
            })
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.storage.enter(Operation::Length, &self.name, |_, _| {
            Ok(self.content.lock().len() as u64)
        })
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let len = position(len_bytes)?;
        let operation = Operation::Write { len_bytes: 0 };
        let grows = || len > self.content.lock().len();
        self.storage
            .enter_growing(operation, &self.name, grows, |disk, met| {
                refused(met)?;
                disk.set_len(&mut self.content.lock(), len);
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
