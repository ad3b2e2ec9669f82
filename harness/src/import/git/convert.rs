//! Turns the changes of a history into the steps of a trace.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use mmsb_engine::delta::{Delta, DiffOptions};

use super::blobs::{Blob, Blobs};
use super::error::GitImportError;
use super::history::{Change, Entry, History, check_repository, count, is_shallow, resolve};
use crate::import::page_names::PageNames;
use crate::import::trace_writer::TraceWriter;
use crate::scenario::Step;
use crate::scenario::ast::{Durability, Options, PageArg, Replay};
use crate::scenario::expect::{Content, Expect, PageCheck};
use crate::scenario::num::Num;
use crate::scenario::value::{Digest, DigestHex, Name};

/// What to import.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// A directory in the repository, or the repository itself if it is bare.
    pub repository: &'a Path,
    /// The file or directory whose history is imported, relative to `repository`; `.` for all.
    pub path: &'a OsStr,
    /// The revision that the history leads to, such as `HEAD`.
    pub revision: &'a str,
}

/// What was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Commits that touch the path, along first parents.
    pub commits: u64,
    /// Commits that changed the content of a page, each a transaction of the trace.
    pub transactions: u64,
    /// Versions of files that became the content of a page.
    pub versions: u64,
    /// Bytes of all those versions.
    pub version_bytes: u64,
    /// Runs of bytes by which one version became the next of the same length.
    pub runs: u64,
    /// Bytes in those runs.
    pub run_bytes: u64,
    /// Pages at the end.
    pub live_pages: u64,
    /// Versions that only changed a file's mode.
    pub mode_changes: u64,
    /// Versions left out because they are empty, which a page cannot be.
    pub skipped_empty: u64,
    /// Versions left out because they are commits of another repository.
    pub skipped_submodules: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Whether the repository is a shallow clone, whose oldest commits are missing.
    pub shallow: bool,
}

/// Writes the history as a trace: JSON, one step a line.
///
/// Every path becomes a page. A version of the same length is written as the runs in which it
/// differs; one of another length frees the page and allocates it anew. Each commit ends with
/// `commit: buffered` and an expectation of the blob id of each file it touched. After the last
/// commit the trace replays the log, reopens the bus and expects every live file once more.
///
/// Nothing is verified here: the answers are git's, and running the trace checks them. `progress` is
/// called after each commit with how many are done and how many there are. Memory is constant but
/// for the names of the live files and one version at a time. Linear in the bytes of all versions.
///
/// # Errors
/// See [`GitImportError`]; what was written until then is no complete trace.
pub fn import(
    import: Import<'_>,
    out: impl Write,
    mut progress: impl FnMut(u64, u64),
) -> Result<Counts, GitImportError> {
    let Import {
        repository,
        path,
        revision,
    } = import;
    check_repository(repository)?;
    let commit = resolve(repository, revision)?;
    let total = count(repository, &commit, path)?;
    if total == 0 {
        let path = path.to_string_lossy().into_owned();
        return Err(GitImportError::Nothing {
            revision: revision.to_owned(),
            path,
        });
    }
    let mut history = History::open(repository, &commit, path)?;
    let mut converter = Converter {
        blobs: Blobs::open(repository)?,
        trace: TraceWriter::new(out),
        names: PageNames::default(),
        pages: BTreeMap::new(),
        counts: Counts {
            shallow: is_shallow(repository)?,
            ..Counts::default()
        },
    };
    while let Some(commit) = history.next()? {
        converter.commit(&commit.changes)?;
        progress(converter.counts.commits, total);
    }
    converter.finish()
}

/// A file that is there now.
struct Page {
    name: String,
    /// The blob that it holds.
    id: String,
    len_bytes: usize,
}

/// Holds no content of live files: an old version is read again when it is compared.
struct Converter<W> {
    blobs: Blobs,
    trace: TraceWriter<W>,
    names: PageNames,
    pages: BTreeMap<Vec<u8>, Page>,
    counts: Counts,
}

impl<W: Write> Converter<W> {
    fn commit(&mut self, changes: &[Change]) -> Result<(), GitImportError> {
        self.counts.commits += 1;
        let lines_before = self.trace.lines();
        let mut touched = Vec::new();
        for change in changes {
            if self.change(change)? {
                touched.push(change.path.as_slice());
            }
        }
        if self.trace.lines() == lines_before {
            return Ok(());
        }
        self.counts.transactions += 1;
        self.trace.step(&Step::Commit(Some(Durability::Buffered)))?;
        for path in touched {
            if let Some(page) = self.pages.get(path) {
                self.trace.step(&expectation(page)?)?;
            }
        }
        Ok(())
    }

    /// Brings the page of a path to what the commit left there; whether the path has new content.
    fn change(&mut self, change: &Change) -> Result<bool, GitImportError> {
        let path = &change.path;
        let id = match &change.entry {
            Entry::Absent => return self.free(path).map(|()| false),
            Entry::Submodule => {
                self.counts.skipped_submodules += 1;
                return self.free(path).map(|()| false);
            }
            Entry::Blob(id) => id,
        };
        if self.pages.get(path).is_some_and(|page| page.id == *id) {
            self.counts.mode_changes += 1;
            return Ok(false);
        }
        let bytes = self.read(path, id)?;
        if bytes.is_empty() {
            self.counts.skipped_empty += 1;
            return self.free(path).map(|()| false);
        }
        self.counts.versions += 1;
        self.counts.version_bytes += bytes.len() as u64;
        match self
            .pages
            .get(path)
            .map(|page| (page.len_bytes, page.id.clone()))
        {
            Some((len_bytes, old_id)) if len_bytes == bytes.len() => {
                let old = self.read(path, &old_id)?;
                self.edit(path, id, &old, &bytes)?;
            }
            _ => self.replace(path, id, &bytes)?,
        }
        Ok(true)
    }

    fn edit(
        &mut self,
        path: &[u8],
        id: &str,
        old: &[u8],
        new: &[u8],
    ) -> Result<(), GitImportError> {
        let delta = Delta::diff(old, new, DiffOptions::default()).map_err(|source| {
            GitImportError::Diff {
                path: display(path),
                source,
            }
        })?;
        self.counts.runs += delta.run_count() as u64;
        self.counts.run_bytes += delta.changed_bytes();
        if let Some(page) = self.pages.get_mut(path) {
            id.clone_into(&mut page.id);
            self.trace.delta(&page.name, &delta)?;
        }
        Ok(())
    }

    fn replace(&mut self, path: &[u8], id: &str, bytes: &[u8]) -> Result<(), GitImportError> {
        self.free(path)?;
        let name = self.names.take(path);
        self.trace.allocate(&name, bytes)?;
        let page = Page {
            name,
            id: id.to_owned(),
            len_bytes: bytes.len(),
        };
        self.pages.insert(path.to_vec(), page);
        Ok(())
    }

    /// Frees the page of a path if there is one: an empty file has none.
    fn free(&mut self, path: &[u8]) -> Result<(), GitImportError> {
        if let Some(page) = self.pages.remove(path) {
            self.names.release(&page.name);
            self.trace.step(&Step::Free(PageArg {
                page: Name::new(page.name),
            }))?;
        }
        Ok(())
    }

    fn read(&mut self, path: &[u8], id: &str) -> Result<Vec<u8>, GitImportError> {
        match self.blobs.read(id)? {
            Blob::Bytes(bytes) => Ok(bytes),
            Blob::TooLarge(len_bytes) => Err(GitImportError::TooLarge {
                path: display(path),
                len_bytes,
            }),
        }
    }

    /// Checks at the end that the log alone gives all of it again.
    fn finish(mut self) -> Result<Counts, GitImportError> {
        self.counts.live_pages = self.pages.len() as u64;
        self.trace
            .step(&Step::Expect(Expect::Pages(self.counts.live_pages.into())))?;
        self.trace.step(&Step::Replay(Replay::default()))?;
        self.trace.step(&Step::Reopen(Options::default()))?;
        for page in self.pages.values() {
            self.trace.step(&expectation(page)?)?;
        }
        self.trace.flush()?;
        self.counts.lines = self.trace.lines();
        Ok(self.counts)
    }
}

/// That a page holds its blob.
fn expectation(page: &Page) -> Result<Step, GitImportError> {
    let malformed = || GitImportError::Malformed {
        command: "diff-tree",
        what: page.id.clone(),
    };
    let mut digest = [0; 20];
    let digits = page.id.as_bytes().as_chunks::<2>().0;
    for (byte, digits) in digest.iter_mut().zip(digits) {
        let text = std::str::from_utf8(digits).map_err(|_| malformed())?;
        *byte = u8::from_str_radix(text, 16).map_err(|_| malformed())?;
    }
    Ok(Step::Expect(Expect::Page(PageCheck {
        page: Name::new(page.name.as_str()),
        snapshot: None,
        at: Num::ZERO,
        len: None,
        content: Content::Digest(Digest::Git(DigestHex(digest))),
    })))
}

fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
