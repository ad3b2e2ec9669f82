//! What the integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

pub mod cached;
pub mod history;
pub mod hooked;
pub mod steps;

use std::path::Path;
use std::sync::Arc;

use mmsb_engine::{
    Bus, Durability, FileStorage, OpenError, Options, PageId, SteppingClock, TransformId,
};

/// Small segments, so that tests rotate; a fixed identity, so that logs can be compared.
pub fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        arena_bytes: 1 << 30,
        identity: Some(*b"mmsb test log id"),
        ..Options::default()
    }
}

pub fn open(directory: &Path, options: Options) -> Bus {
    try_open(directory, options).unwrap()
}

pub fn try_open(directory: &Path, options: Options) -> Result<Bus, OpenError> {
    let storage = FileStorage::create(directory).unwrap();
    let clock = SteppingClock::new(1_700_000_000_000_000_000, 1_000);
    Bus::open_with(Arc::new(storage), Arc::new(clock), options)
}

pub fn allocate(bus: &Bus, len_bytes: u64) -> PageId {
    let mut transaction = bus.begin();
    let page = transaction.allocate(len_bytes).unwrap();
    transaction
        .commit(Durability::Memory)
        .unwrap()
        .page(page)
        .unwrap()
}

pub fn write(bus: &Bus, page: PageId, offset: u64, bytes: &[u8]) {
    let mut transaction = bus.begin();
    transaction.write(page, offset, bytes).unwrap();
    transaction.commit(Durability::Memory).unwrap();
}

pub fn connect(bus: &Bus, child: PageId, name: &str, params: &[u8], parents: &[PageId]) {
    let mut transaction = bus.begin();
    let parents: Vec<_> = parents.iter().map(|page| (*page).into()).collect();
    transaction
        .connect(child, transform(name, params), &parents)
        .unwrap();
    transaction.commit(Durability::Memory).unwrap();
}

pub fn transform(name: &str, params: &[u8]) -> TransformId {
    TransformId {
        name: name.to_owned(),
        version: 1,
        params: params.to_vec(),
    }
}

/// Names and bytes of all files in a directory but the lock.
pub fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "lock")
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// A small deterministic generator: a test needs numbers, not good ones.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
