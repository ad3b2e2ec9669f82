//! Follows a journal: what is durable, and what is on its way, at one moment.

use std::collections::BTreeMap;

use super::damage::Damage;
use crate::world::storage::{Effect, Event, Image, Journal};

/// The bytes of a file, and a number that changes with them.
#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    version: u64,
}

/// The disk at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Ledger<'j> {
    events: &'j [Event],
    /// How many operations were done.
    pub(crate) done: usize,
    names: BTreeMap<String, u32>,
    files: BTreeMap<u32, File>,
    versions: u64,
    /// What is not durable, in order.
    pub(crate) pending: Vec<&'j Effect>,
    /// Everything up to this LSN must be found.
    pub(crate) safe_lsn: u64,
    /// No LSN above this one may be.
    pub(crate) issued_lsn: u64,
}

impl<'j> Ledger<'j> {
    /// The moment before the first operation.
    pub(crate) fn new(journal: &'j Journal) -> Self {
        let base = journal.base.iter();
        let mut ledger = Self {
            events: &journal.events,
            done: 0,
            names: base
                .clone()
                .map(|(name, (file, _))| (name.clone(), *file))
                .collect(),
            files: base
                .map(|(_, (file, bytes))| {
                    let bytes = bytes.clone();
                    (*file, File { bytes, version: 0 })
                })
                .collect(),
            versions: 0,
            pending: Vec::new(),
            safe_lsn: journal.safe_lsn,
            issued_lsn: journal.issued_lsn,
        };
        ledger.notes();
        ledger
    }

    /// Takes in what became known before the next operation.
    fn notes(&mut self) {
        while let Some((event, rest)) = self.events.split_first() {
            match event {
                Event::Issued(lsn) => self.issued_lsn = *lsn,
                Event::Safe(lsn) => self.safe_lsn = self.safe_lsn.max(*lsn),
                _ => return,
            }
            self.events = rest;
        }
    }

    /// Goes on by one operation. `false` at the end.
    pub(crate) fn advance(&mut self) -> bool {
        let Some((event, rest)) = self.events.split_first() else {
            return false;
        };
        self.events = rest;
        self.done += 1;
        match event {
            Event::Effect(effect) => self.pending.push(effect),
            Event::Sync { file } => self.settle(|effect| file_of(effect) == Some(*file), true),
            Event::Orphan { file } => self.settle(|effect| file_of(effect) == Some(*file), false),
            Event::SyncNames => self.settle(|effect| file_of(effect).is_none(), true),
            Event::Issued(_) | Event::Safe(_) => {}
        }
        self.notes();
        true
    }

    /// Takes changes off the list; those that became durable are made.
    fn settle(&mut self, concerned: impl Fn(&Effect) -> bool, durable: bool) {
        let pending = std::mem::take(&mut self.pending);
        let (settled, waiting): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|effect| concerned(effect));
        self.pending = waiting;
        if !durable {
            return;
        }
        for effect in settled {
            match file_of(effect) {
                Some(file) => {
                    self.versions += 1;
                    let file = self.files.entry(file).or_default();
                    file.version = self.versions;
                    change_bytes(effect, &mut file.bytes);
                }
                None => change_names(effect, &mut self.names),
            }
        }
    }

    /// The disk that a crash leaves at this moment, and a key that is the same for the same disk at moments with
    /// the same durable files.
    pub(crate) fn image(&self, damage: &Damage) -> (Image, [u8; 32]) {
        let mut names = self.names.clone();
        let mut changed: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for (index, effect) in self.pending.iter().enumerate() {
            let tear = damage.tear.filter(|tear| tear.change == index);
            if tear.is_none() && !damage.keep.contains(&index) {
                continue;
            }
            let Some(file) = file_of(effect) else {
                change_names(effect, &mut names);
                continue;
            };
            let target = changed.entry(file).or_insert_with(|| {
                self.files
                    .get(&file)
                    .map_or_else(Vec::new, |file| file.bytes.clone())
            });
            match (tear, effect) {
                (Some(tear), Effect::Write { at, bytes, .. }) => {
                    if let Some(part) = bytes.get(tear.from..tear.to.min(bytes.len())) {
                        put(target, at + tear.from, part);
                    }
                }
                _ => change_bytes(effect, target),
            }
        }
        let mut hasher = blake3::Hasher::new();
        let mut image = Image::new();
        for (name, file) in names {
            hasher.update(name.as_bytes());
            hasher.update(&file.to_le_bytes());
            let bytes = match changed.get(&file) {
                Some(bytes) => {
                    hasher.update(&[1]);
                    hasher.update(blake3::hash(bytes).as_bytes());
                    bytes.clone()
                }
                None => {
                    let durable = self.files.get(&file);
                    hasher.update(&[0]);
                    hasher.update(&durable.map_or(0, |file| file.version).to_le_bytes());
                    durable.map(|file| file.bytes.clone()).unwrap_or_default()
                }
            };
            image.insert(name, bytes);
        }
        hasher.update(&self.safe_lsn.to_le_bytes());
        hasher.update(&self.issued_lsn.to_le_bytes());
        (image, hasher.finalize().into())
    }
}

/// The file whose bytes a change concerns; `None` for names.
fn file_of(effect: &Effect) -> Option<u32> {
    match effect {
        Effect::Write { file, .. } | Effect::SetLen { file, .. } => Some(*file),
        _ => None,
    }
}

fn change_bytes(effect: &Effect, file: &mut Vec<u8>) {
    match effect {
        Effect::Write { at, bytes, .. } => put(file, *at, bytes),
        Effect::SetLen { len, .. } => file.resize(*len, 0),
        _ => {}
    }
}

fn change_names(effect: &Effect, names: &mut BTreeMap<String, u32>) {
    match effect {
        Effect::Create { name, file } => {
            names.insert(name.clone(), *file);
        }
        Effect::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Effect::Remove { name } => {
            names.remove(name);
        }
        _ => {}
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(target) = file.get_mut(at..end) {
        target.copy_from_slice(bytes);
    }
}
