//! Where the files of a bus live: a trait, and its implementation over a directory.

mod filesystem;

use std::io;

pub use filesystem::FileStorage;

/// A flat directory of files, which is all that the engine asks of a disk.
///
/// Names are plain file names, without separators. The engine gives every operation exactly once:
/// an error is final for the bus that got it. Implementations must allow calls from many threads.
///
/// What is durable, and when, is the contract that simulated storage checks and breaks: the bytes of a file are
/// durable after [`StorageFile::sync`], its name after [`Storage::sync_names`], and nothing before.
pub trait Storage: Send + Sync {
    /// Makes sure that no other bus uses the directory until the returned guard is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another owner has it; the message says who.
    fn lock(&self) -> io::Result<Box<dyn StorageLock>>;

    /// Creates an empty file, or empties an existing one, and opens it.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Opens an existing file. `writable` says whether it will be written to.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none of that name.
    fn open(&self, name: &str, writable: bool) -> io::Result<Box<dyn StorageFile>>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when the directory does not exist.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames a file, replacing what had the new name. Durable after [`Storage::sync_names`].
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Storage::sync_names`].
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every create, rename and remove so far durable.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn sync_names(&self) -> io::Result<()>;

    /// Where this is, for messages to people.
    fn describe(&self) -> String;
}

/// Held while a bus owns a directory; dropping it lets the next owner in.
pub trait StorageLock: Send + Sync {}

/// One open file. There is no cursor: every access says its offset.
///
/// Implementations give [`read_at`](Self::read_at) and [`write_at`](Self::write_at), which may do less than they were
/// asked for, as system calls may; the engine goes on from there. That is no second try of something that failed:
/// an error other than [`io::ErrorKind::Interrupted`] is final.
pub trait StorageFile: Send + Sync {
    /// Reads into the front of `buffer` from `offset`, and says how many bytes came; 0 at the end of the file.
    ///
    /// # Errors
    /// Whatever the medium reports; [`io::ErrorKind::Interrupted`] means that nothing was read and nothing is wrong.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes the front of `bytes` at `offset`, extending the file if it is shorter, and says how many were written.
    ///
    /// # Errors
    /// Whatever the medium reports; [`io::ErrorKind::Interrupted`] means that nothing was written and nothing is wrong.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Fills all of `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before the buffer is full, and those of
    /// [`read_at`](Self::read_at) but interruptions.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = buffer.get_mut(read..).unwrap_or_default();
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`, extending the file if it is shorter.
    ///
    /// # Errors
    /// [`io::ErrorKind::WriteZero`] when the medium takes no more, and those of [`write_at`](Self::write_at) but
    /// interruptions; some of the bytes may have been written.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the bytes and the length of this file durable.
    ///
    /// # Errors
    /// Whatever the medium reports; none of the bytes can be relied on then.
    fn sync(&self) -> io::Result<()>;

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file to `len_bytes`.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;
}
