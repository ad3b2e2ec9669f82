//! The state of a simulated directory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::Content;
use super::fault::{Faults, Met};
use super::journal::{Effect, Event, Image, Journal};
use super::operation::{Operation, Operations};
use super::oracle::Oracle;
use crate::scenario::fault::FaultKind;

pub(super) type SharedContent = Arc<Mutex<Content>>;

/// Length of the header of a segment.
const HEADER_BYTES: usize = 4096;
/// Bytes that fail together when one of them cannot be read.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) names: BTreeMap<String, SharedContent>,
    /// What names stood for before they changed, since names were last synced, oldest first: a sync costs nothing.
    replaced: Vec<(String, Option<SharedContent>)>,
    next_file: u32,
    /// Moves on at each crash; handles of an earlier life are dead.
    pub(super) life: u64,
    pub(super) locked: bool,
    pub(super) operations: Operations,
    pub(super) faults: Faults,
    pub(super) oracle: Oracle,
    /// What was done, if anybody wants to know.
    pub(super) journal: Option<Journal>,
}

pub(super) fn not_found(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no simulated file `{name}`"),
    )
}

impl Disk {
    /// A disk on which these files are durable.
    pub(super) fn of(image: Image) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in image {
            let content = Content::durable(disk.next_file, bytes);
            disk.next_file += 1;
            disk.names.insert(name, Arc::new(Mutex::new(content)));
        }
        disk
    }

    fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(journal) = &mut self.journal {
            journal.events.push(event());
        }
    }

    /// Starts a journal at the present state, which must be durable.
    pub(super) fn record(&mut self, safe_lsn: u64, issued_lsn: u64) {
        let base = self.names.iter().map(|(name, content)| {
            let content = content.lock();
            (name.clone(), (content.id, content.pristine().to_vec()))
        });
        self.journal = Some(Journal {
            base: base.collect(),
            safe_lsn,
            issued_lsn,
            ..Journal::default()
        });
    }

    /// Has a name stand for other content, or for nothing.
    fn put_name(&mut self, name: &str, content: Option<SharedContent>) {
        let old = match content {
            Some(content) => self.names.insert(name.to_owned(), content),
            None => self.names.remove(name),
        };
        self.replaced.push((name.to_owned(), old));
    }

    /// What a name stands for after a crash.
    fn durable_name(&self, name: &str) -> Option<&SharedContent> {
        let mut changes = self.replaced.iter();
        changes
            .find(|(changed, _)| changed == name)
            .map_or_else(|| self.names.get(name), |(_, before)| before.as_ref())
    }

    pub(super) fn create(&mut self, name: &str) -> SharedContent {
        let content = match self.names.get(name) {
            Some(content) => Arc::clone(content),
            None => {
                let content = Content::durable(self.next_file, Vec::new());
                self.next_file += 1;
                let content = Arc::new(Mutex::new(content));
                self.put_name(name, Some(Arc::clone(&content)));
                content
            }
        };
        let (file, old_len) = {
            let mut content = content.lock();
            let old_len = content.len();
            content.set_len(0);
            (content.id, old_len)
        };
        self.oracle.forget_file(file);
        if old_len > 0 {
            self.note(|| Event::Effect(Effect::SetLen { file, len: 0 }));
        }
        self.note(|| {
            Event::Effect(Effect::Create {
                name: name.to_owned(),
                file,
            })
        });
        content
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let content = self.names.get(from).ok_or_else(|| not_found(from))?;
        let content = Arc::clone(content);
        self.put_name(from, None);
        let all_synced = |names: &BTreeMap<String, SharedContent>| {
            names
                .iter()
                .filter(|(name, _)| name.starts_with("images-"))
                .all(|(_, content)| !content.lock().has_unsynced())
        };
        let synced = !content.lock().has_unsynced() && all_synced(&self.names);
        self.oracle.renamed(from, to, synced);
        if from.starts_with("log-") {
            let successor = self.successor_starts_durably(from);
            self.oracle
                .segment_goes(from, self.are_manifests_durable(), successor);
        }
        self.put_name(to, Some(content));
        self.note(|| {
            Event::Effect(Effect::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
            })
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        if !self.names.contains_key(name) {
            return Err(not_found(name));
        }
        self.put_name(name, None);
        if name.starts_with("log-") {
            let successor = self.successor_starts_durably(name);
            self.oracle
                .segment_goes(name, self.are_manifests_durable(), successor);
        }
        self.note(|| {
            Event::Effect(Effect::Remove {
                name: name.to_owned(),
            })
        });
        Ok(())
    }

    /// Whether the header of the segment after this one, if there is one, would be there after a crash.
    fn successor_starts_durably(&self, name: &str) -> bool {
        let mut later = self
            .names
            .range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
        later
            .find(|(name, _)| name.starts_with("log-"))
            .is_none_or(|(_, content)| content.lock().starts_durably(HEADER_BYTES))
    }

    /// Whether every manifest that a reader sees would be seen after a crash.
    fn are_manifests_durable(&self) -> bool {
        self.names
            .iter()
            .filter(|(name, _)| name.starts_with("checkpoint-") && !name.ends_with(".tmp"))
            .all(|(name, content)| {
                self.durable_name(name)
                    .is_some_and(|durable| Arc::ptr_eq(durable, content))
            })
    }

    pub(super) fn sync_names(&mut self) {
        self.replaced.clear();
        self.note(|| Event::SyncNames);
    }

    /// Reads, with whatever fault the read meets.
    pub(super) fn read(
        &mut self,
        content: &mut Content,
        buffer: &mut [u8],
        start: usize,
        met: Option<Met>,
    ) -> io::Result<usize> {
        let Some(met) = met else {
            return content.read(buffer, start);
        };
        let len = buffer.len() as u64;
        match met.kind {
            FaultKind::Short => {
                let part = met.number(len).max(1).min(len) as usize;
                content.read(buffer.get_mut(..part).unwrap_or_default(), start)
            }
            FaultKind::Misdirected => {
                let from = met.number(content.len() as u64) as usize;
                content.read(buffer, from)?;
                // As much as was asked for comes, from the wrong place, and zeros behind the end.
                Ok(buffer.len().min(content.len().saturating_sub(start)))
            }
            FaultKind::Rot => {
                let read = content.read(buffer, start)?;
                let at = met.number(read as u64) as usize;
                if let Some(byte) = buffer.get_mut(at) {
                    *byte ^= 1 << met.drawn(8);
                }
                Ok(read)
            }
            FaultKind::Unreadable => {
                let sector = start / SECTOR_BYTES * SECTOR_BYTES;
                content.spoil(sector..sector + SECTOR_BYTES);
                content.read(buffer, start)
            }
            _ => Err(met.error()),
        }
    }

    /// Writes, with whatever fault the write meets.
    pub(super) fn write(
        &mut self,
        name: &str,
        content: &mut Content,
        bytes: &[u8],
        start: usize,
        met: Option<Met>,
    ) -> io::Result<usize> {
        let Some(met) = met else {
            self.put(name, content, bytes, start)?;
            return Ok(bytes.len());
        };
        let len = bytes.len();
        let part = |number: u64| {
            bytes
                .get(..usize::try_from(number).unwrap_or(len).min(len))
                .unwrap_or_default()
        };
        let before = |content: &Content, start: usize| {
            let mut old = vec![0; len];
            let _ = content.read(&mut old, start);
            old
        };
        match met.kind {
            FaultKind::Short => {
                let part = part(met.number(len as u64).max(1));
                self.put(name, content, part, start)?;
                Ok(part.len())
            }
            FaultKind::Torn => {
                self.put(name, content, part(met.number(len as u64)), start)?;
                Err(met.error())
            }
            FaultKind::Full => {
                // Space runs out within a write only where one is told so.
                let part = part(met.at().unwrap_or(0));
                self.put(name, content, part, start)?;
                Err(met.error())
            }
            FaultKind::Lost => {
                let old = before(content, start);
                self.put(name, content, bytes, start)?;
                content.corrupt(start, old);
                Ok(len)
            }
            FaultKind::Misdirected => {
                let old = before(content, start);
                self.put(name, content, bytes, start)?;
                let sectors = (content.len() / SECTOR_BYTES).max(1) as u64;
                let other = met.at().unwrap_or(met.drawn(sectors) * SECTOR_BYTES as u64);
                content.corrupt(start, old);
                content.corrupt(usize::try_from(other).unwrap_or(usize::MAX), bytes.to_vec());
                Ok(len)
            }
            FaultKind::Rot => {
                self.put(name, content, bytes, start)?;
                let at = met.number(len as u64) as usize;
                if let Some(byte) = bytes.get(at) {
                    content.corrupt(start + at, vec![byte ^ (1 << met.drawn(8))]);
                }
                Ok(len)
            }
            FaultKind::Unreadable => {
                self.put(name, content, bytes, start)?;
                let sector = start / SECTOR_BYTES * SECTOR_BYTES;
                content.spoil(sector..sector + SECTOR_BYTES);
                Ok(len)
            }
            _ => Err(met.error()),
        }
    }

    /// Writes as asked.
    fn put(
        &mut self,
        name: &str,
        content: &mut Content,
        bytes: &[u8],
        start: usize,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        content.write(bytes, start)?;
        self.oracle.wrote(name, content.id, start as u64, bytes);
        let file = content.id;
        self.note(|| {
            Event::Effect(Effect::Write {
                file,
                at: start,
                bytes: bytes.into(),
            })
        });
        Ok(())
    }

    pub(super) fn set_len(&mut self, content: &mut Content, len: usize) {
        content.set_len(len);
        let file = content.id;
        self.note(|| Event::Effect(Effect::SetLen { file, len }));
    }

    /// Syncs a file, with whatever fault the sync meets.
    pub(super) fn sync(&mut self, content: &mut Content, met: Option<Met>) -> io::Result<()> {
        let file = content.id;
        match met.map(|met| met.kind) {
            // The disk claims that it is done.
            Some(FaultKind::Lost) => return Ok(()),
            Some(FaultKind::FailedLost) => {
                content.orphan();
                self.note(|| Event::Orphan { file });
            }
            _ => {
                content.sync();
                self.note(|| Event::Sync { file });
                if met.is_none() {
                    self.oracle.synced(file);
                }
            }
        }
        met.map_or(Ok(()), |met| Err(met.error()))
    }

    /// Loses everything that was not synced, and every lock.
    pub(super) fn crash(&mut self) {
        self.life += 1;
        self.locked = false;
        while let Some((name, before)) = self.replaced.pop() {
            match before {
                Some(content) => self.names.insert(name, content),
                None => self.names.remove(&name),
            };
        }
        for content in self.names.values() {
            content.lock().crash();
        }
    }

    /// Lifts all faults.
    pub(super) fn heal(&mut self) {
        self.faults.heal();
        // From the next open on the oracle knows again what is on the disk.
        self.faults.lied = false;
        for content in self.names.values() {
            content.lock().heal();
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        let lens = self.names.values().map(|content| content.lock().len());
        lens.sum::<usize>() as u64
    }

    pub(super) fn image(&self) -> Image {
        self.names
            .iter()
            .map(|(name, content)| (name.clone(), content.lock().seen()))
            .collect()
    }

    /// Whether a reader sees the same here and there.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.names.len() == other.names.len()
            && self.names.iter().zip(&other.names).all(|(one, two)| {
                one.0 == two.0
                    && (Arc::ptr_eq(one.1, two.1) || one.1.lock().is_seen_as(&two.1.lock()))
            })
    }

    /// What is met, if there is a fault at all.
    pub(super) fn meet(
        &mut self,
        operation: Operation,
        name: &str,
        grows: impl FnOnce() -> bool,
    ) -> Option<Met> {
        if self.faults.is_empty() {
            None
        } else {
            self.faults.meet(operation, name, grows())
        }
    }
}
