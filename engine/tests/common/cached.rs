//! A storage in memory with a page cache: a sync writes pages that are dirty, and one that fails leaves them clean.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test that fails panics, and each test binary uses a part of it"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use mmsb_engine::{Storage, StorageFile, StorageLock};

const PAGE_BYTES: usize = 4096;

#[derive(Clone, Default)]
struct Bytes {
    cache: Vec<u8>,
    disk: Vec<u8>,
    dirty: std::collections::BTreeSet<usize>,
}

type Content = Arc<Mutex<Bytes>>;
type Hook = Arc<dyn Fn(&str, &str) -> io::Result<()> + Send + Sync>;

/// Clones are the same disk. The hook is told operation and file before each change; a sync that it refuses loses
/// what it was to write, silently as far as later syncs can tell.
#[derive(Clone)]
pub struct Cached {
    names: Arc<Mutex<BTreeMap<String, Content>>>,
    durable_names: Arc<Mutex<BTreeMap<String, Content>>>,
    hook: Hook,
}

struct CachedFile {
    name: String,
    content: Content,
    hook: Hook,
}

struct Unlocked;
impl StorageLock for Unlocked {}

impl Cached {
    pub fn new() -> Self {
        Self {
            names: Arc::default(),
            durable_names: Arc::default(),
            hook: Arc::new(|_, _| Ok(())),
        }
    }

    /// The same disk, as another process sees it.
    pub fn hooked(
        &self,
        hook: impl Fn(&str, &str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            hook: Arc::new(hook),
            ..self.clone()
        }
    }

    /// The power fails: what is not on the disk is gone.
    pub fn power_cut(&self) {
        let durable = self.durable_names.lock().unwrap().clone();
        for content in durable.values() {
            let mut content = content.lock().unwrap();
            content.cache = content.disk.clone();
            content.dirty.clear();
        }
        *self.names.lock().unwrap() = durable;
    }

    fn handle(&self, name: &str, content: Content) -> Box<dyn StorageFile> {
        Box::new(CachedFile {
            name: name.to_owned(),
            content,
            hook: Arc::clone(&self.hook),
        })
    }
}

impl Storage for Cached {
    fn lock(&self) -> io::Result<Box<dyn StorageLock>> {
        Ok(Box::new(Unlocked))
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        (self.hook)("create", name)?;
        let content = Content::default();
        let mut names = self.names.lock().unwrap();
        names.insert(name.to_owned(), Arc::clone(&content));
        Ok(self.handle(name, content))
    }
    fn open(&self, name: &str, _writable: bool) -> io::Result<Box<dyn StorageFile>> {
        let content = self.names.lock().unwrap().get(name).map(Arc::clone);
        let content = content.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(name, content))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().unwrap().keys().cloned().collect())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.hook)("rename", from)?;
        let mut names = self.names.lock().unwrap();
        let content = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.to_owned(), content);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        (self.hook)("remove", name)?;
        let removed = self.names.lock().unwrap().remove(name);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn sync_names(&self) -> io::Result<()> {
        (self.hook)("sync_names", "")?;
        *self.durable_names.lock().unwrap() = self.names.lock().unwrap().clone();
        Ok(())
    }
    fn describe(&self) -> String {
        "storage with a cache".to_owned()
    }
}

impl StorageFile for CachedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock().unwrap();
        let rest = content.cache.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        (self.hook)("write", &self.name)?;
        let mut content = self.content.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if content.cache.len() < end {
            content.cache.resize(end, 0);
        }
        content.cache[start..end].copy_from_slice(bytes);
        content
            .dirty
            .extend(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        Ok(bytes.len())
    }
    fn sync(&self) -> io::Result<()> {
        let answer = (self.hook)("sync", &self.name);
        let mut content = self.content.lock().unwrap();
        let dirty = std::mem::take(&mut content.dirty);
        answer?;
        let len = content.cache.len();
        content.disk.resize(len, 0);
        for page in dirty {
            let range = page * PAGE_BYTES..((page + 1) * PAGE_BYTES).min(len);
            let Bytes { cache, disk, .. } = &mut *content;
            disk[range.clone()].copy_from_slice(&cache[range]);
        }
        Ok(())
    }
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().cache.len() as u64)
    }
    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.content
            .lock()
            .unwrap()
            .cache
            .resize(len_bytes as usize, 0);
        Ok(())
    }
}
