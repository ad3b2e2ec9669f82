//! A storage that asks before it does something.

use std::io;
use std::path::Path;
use std::sync::Arc;

use mmsb_engine::{
    Bus, FileStorage, OpenError, Options, SteppingClock, Storage, StorageFile, StorageLock,
};

type Hook = Arc<dyn Fn(&str, &str) -> io::Result<()> + Send + Sync>;

/// A directory whose changes are first told to a hook, as operation and file name; an error of the hook is
/// the error of the operation.
pub struct Hooked {
    inner: FileStorage,
    hook: Hook,
}

struct HookedFile {
    inner: Box<dyn StorageFile>,
    name: String,
    hook: Hook,
}

impl Hooked {
    pub fn new(
        directory: &Path,
        hook: impl Fn(&str, &str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: FileStorage::create(directory).unwrap(),
            hook: Arc::new(hook),
        }
    }

    pub fn open(self, options: Options) -> Result<Bus, OpenError> {
        Bus::open_with(Arc::new(self), Arc::new(SteppingClock::new(0, 1)), options)
    }

    fn file(&self, name: &str, inner: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(HookedFile {
            inner,
            name: name.to_owned(),
            hook: Arc::clone(&self.hook),
        })
    }
}

impl Storage for Hooked {
    fn lock(&self) -> io::Result<Box<dyn StorageLock>> {
        self.inner.lock()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        (self.hook)("create", name)?;
        Ok(self.file(name, self.inner.create(name)?))
    }
    fn open(&self, name: &str, writable: bool) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(name, self.inner.open(name, writable)?))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.hook)("rename", from)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        (self.hook)("remove", name)?;
        self.inner.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        (self.hook)("sync_names", "")?;
        self.inner.sync_names()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

impl StorageFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        (self.hook)("write", &self.name)?;
        self.inner.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        (self.hook)("sync", &self.name)?;
        self.inner.sync()
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.inner.len_bytes()
    }
    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.inner.set_len(len_bytes)
    }
}
