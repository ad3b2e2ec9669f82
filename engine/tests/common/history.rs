//! A small real directory with everything in it that a log can hold.

use std::path::Path;

use mmsb_engine::{Bus, Digest, Durability, Lsn, PageId};

use super::{Numbers, allocate, connect, open, options, write};

/// What a directory was made of.
pub struct History {
    /// The digest after each transaction; the first is that of the empty state.
    pub digests: Vec<Digest>,
    /// Pages that are alive at the end.
    pub pages: Vec<PageId>,
    /// A page that was transferred: its id before, at the end.
    pub moved: (PageId, PageId),
    /// A page that was freed.
    pub freed: PageId,
    /// A page that is derived.
    pub derived: PageId,
    /// A page that was derived once.
    pub disconnected: PageId,
}

struct Recorder {
    bus: Bus,
    digests: Vec<Digest>,
}

impl Recorder {
    fn note(&mut self) {
        assert_eq!(self.bus.last_lsn(), Lsn(self.digests.len() as u64));
        self.digests.push(self.bus.digest().unwrap());
    }

    fn write(&mut self, page: PageId, offset: u64, bytes: &[u8]) {
        write(&self.bus, page, offset, bytes);
        self.note();
    }

    fn writes(&mut self, pages: &[PageId], numbers: &mut Numbers, count: u64) {
        for _ in 0..count {
            let page = pages[numbers.below(pages.len() as u64) as usize];
            let len = self.bus.info(page).unwrap().len_bytes;
            let offset = numbers.below(len);
            let run = 1 + numbers.below((len - offset).min(300));
            self.write(page, offset, &numbers.bytes(run as usize));
        }
    }
}

/// Transactions of plain writes in each part of a history.
const WRITES: u64 = 60;

/// Writes about 150 transactions in several segments, a spare and a stray file, takes the checkpoints that are
/// wanted (after 32 transactions, and at 96), and closes.
pub fn history(directory: &Path, seed: u64, checkpoints: [bool; 2]) -> History {
    let bus = open(directory, options());
    let digests = vec![bus.digest().unwrap()];
    let mut recorder = Recorder { bus, digests };
    let mut numbers = Numbers(seed);
    let mut pages = Vec::new();
    for len in [64, 100, 4096, 5000, 100_000] {
        pages.push(allocate(&recorder.bus, len));
        recorder.note();
    }
    let big = pages[4];
    recorder.writes(&pages, &mut numbers, 20);
    recorder.write(big, 4096, &numbers.bytes(70_000));
    let derived = allocate(&recorder.bus, 64);
    recorder.note();
    let disconnected = allocate(&recorder.bus, 100);
    recorder.note();
    connect(&recorder.bus, derived, "copy", &[], &[pages[0]]);
    recorder.note();
    connect(&recorder.bus, disconnected, "copy", &[], &[pages[1]]);
    recorder.note();
    let mut transaction = recorder.bus.begin();
    transaction
        .annotate(pages[2], "name", Some(b"third"))
        .unwrap();
    transaction.commit(Durability::Sync).unwrap();
    recorder.note();
    take(&recorder.bus, checkpoints[0]);
    recorder.writes(&pages, &mut numbers, WRITES);
    let freed = allocate(&recorder.bus, 200);
    recorder.note();
    recorder.write(freed, 0, b"soon gone");
    let mut transaction = recorder.bus.begin();
    transaction.transfer(pages[1]).unwrap();
    transaction.free(freed).unwrap();
    transaction.disconnect(disconnected).unwrap();
    let commit = transaction.commit(Durability::Sync).unwrap();
    let moved = (pages[1], commit.transferred(pages[1]).unwrap());
    pages[1] = moved.1;
    recorder.note();
    pages.push(disconnected);
    take(&recorder.bus, checkpoints[1]);
    recorder.writes(&pages, &mut numbers, WRITES);
    recorder.bus.sync().unwrap();
    recorder.bus.maintain().unwrap();
    let Recorder { bus, digests } = recorder;
    bus.close().unwrap();
    std::fs::write(directory.join("notes.txt"), "not ours").unwrap();
    History {
        digests,
        pages,
        moved,
        freed,
        derived,
        disconnected,
    }
}

fn take(bus: &Bus, wanted: bool) {
    if wanted {
        bus.checkpoint().unwrap();
    }
}
