//! A storage in memory, with what of it a power cut would leave.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mmsb_engine::{Storage, StorageFile, StorageLock};
use shuttle::sync::Mutex;

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What the last sync left on the disk.
    durable: Vec<u8>,
    /// After a sync that failed, what was not on the disk never comes there: the system takes it for written.
    is_lost: bool,
}

type File = Arc<Mutex<Content>>;

/// Every access to a file is a point at which another thread may go on. Names are durable at once.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    files: Arc<Mutex<BTreeMap<String, File>>>,
    /// Syncs of files until one fails.
    syncs_left: Arc<AtomicUsize>,
    pub(crate) syncs: Arc<AtomicUsize>,
}

struct Opened {
    file: File,
    storage: Memory,
}

struct Owner;

impl StorageLock for Owner {}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Memory {
    /// Lets the `count`-th sync of a file from now on fail, and no other.
    pub(crate) fn fail_sync(&self, count: usize) {
        self.syncs_left.store(count, Ordering::Relaxed);
    }

    /// What a power cut now would leave.
    pub(crate) fn cut_power(&self) -> Self {
        let files = self.files.lock().unwrap();
        let left = files.iter().map(|(name, file)| {
            let durable = file.lock().unwrap().durable.clone();
            let content = Content {
                bytes: durable.clone(),
                durable,
                is_lost: false,
            };
            (name.clone(), Arc::new(Mutex::new(content)))
        });
        Self {
            files: Arc::new(Mutex::new(left.collect())),
            ..Self::default()
        }
    }

    /// Whether these bytes are in a file on the disk.
    pub(crate) fn has_durable(&self, bytes: &[u8]) -> bool {
        let files: Vec<File> = self.files.lock().unwrap().values().cloned().collect();
        files.iter().any(|file| {
            let content = file.lock().unwrap();
            content
                .durable
                .windows(bytes.len())
                .any(|window| window == bytes)
        })
    }

    fn opened(&self, file: &File) -> Box<dyn StorageFile> {
        Box::new(Opened {
            file: Arc::clone(file),
            storage: self.clone(),
        })
    }
}

impl Storage for Memory {
    fn lock(&self) -> io::Result<Box<dyn StorageLock>> {
        Ok(Box::new(Owner))
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let file = File::default();
        let mut files = self.files.lock().unwrap();
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(self.opened(&file))
    }
    fn open(&self, name: &str, _writable: bool) -> io::Result<Box<dyn StorageFile>> {
        let files = self.files.lock().unwrap();
        Ok(self.opened(files.get(name).ok_or_else(missing)?))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or_else(missing)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files.lock().unwrap().remove(name);
        removed.map(drop).ok_or_else(missing)
    }
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

impl StorageFile for Opened {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.file.lock().unwrap();
        let left = content.bytes.get(offset as usize..).unwrap_or_default();
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        Ok(len)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut content = self.file.lock().unwrap();
        let end = offset as usize + bytes.len();
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }
    fn sync(&self) -> io::Result<()> {
        // Only what was written before the sync began is certain to be durable when it ends.
        let before = self.file.lock().unwrap().bytes.clone();
        self.storage.syncs.fetch_add(1, Ordering::Relaxed);
        let left = self.storage.syncs_left.load(Ordering::Relaxed);
        self.storage
            .syncs_left
            .store(left.saturating_sub(1), Ordering::Relaxed);
        let mut content = self.file.lock().unwrap();
        if left == 1 {
            content.is_lost = true;
            return Err(io::Error::other("injected"));
        }
        if !content.is_lost {
            content.durable = before;
        }
        Ok(())
    }
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.lock().unwrap().bytes.len() as u64)
    }
    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let mut content = self.file.lock().unwrap();
        content.bytes.resize(len_bytes as usize, 0);
        Ok(())
    }
}
