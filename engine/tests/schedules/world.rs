//! A bus in memory for one schedule, and the operations that programs do on it.

use std::sync::Arc;

use mmsb_engine::{
    Bus, Commit, Durability, Options, PageId, SteppingClock, TransactionError, TransformId,
};

use crate::memory::Memory;

/// Length of the pages, in bytes; each is filled with one value, so a torn one shows.
pub(crate) const PAGE_BYTES: usize = 16;

pub(crate) fn options() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        arena_bytes: 1 << 20,
        prefill: false,
        identity: Some(*b"mmsb test log id"),
        ..Options::default()
    }
}

pub(crate) fn open(storage: &Memory, options: Options) -> Bus {
    let clock = SteppingClock::new(1_000, 1);
    Bus::open_with(Arc::new(storage.clone()), Arc::new(clock), options).unwrap()
}

pub(crate) fn allocate(bus: &Bus, len_bytes: usize) -> PageId {
    let mut transaction = bus.begin();
    let page = transaction.allocate(len_bytes as u64).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    commit.page(page).unwrap()
}

pub(crate) fn pages(bus: &Bus, count: usize) -> Vec<PageId> {
    (0..count).map(|_| allocate(bus, PAGE_BYTES)).collect()
}

/// Fills every one of `pages` with `value`.
pub(crate) fn fill(
    bus: &Bus,
    pages: &[PageId],
    value: u8,
    durability: Durability,
) -> Result<Commit, TransactionError> {
    let mut transaction = bus.begin();
    for page in pages {
        transaction.write(*page, 0, &[value; PAGE_BYTES])?;
    }
    transaction.commit(durability)
}

pub(crate) fn free(bus: &Bus, page: PageId) -> Result<Commit, TransactionError> {
    let mut transaction = bus.begin();
    transaction.free(page)?;
    transaction.commit(Durability::Memory)
}

pub(crate) fn connect(
    bus: &Bus,
    child: PageId,
    name: &str,
    parents: &[PageId],
) -> Result<Commit, TransactionError> {
    let mut transaction = bus.begin();
    let parents: Vec<_> = parents.iter().map(|page| (*page).into()).collect();
    let transform = TransformId {
        name: name.to_owned(),
        version: 1,
        params: Vec::new(),
    };
    transaction.connect(child, transform, &parents)?;
    transaction.commit(Durability::Memory)
}

/// The one value that fills `bytes`.
pub(crate) fn value_of(bytes: &[u8]) -> u8 {
    assert!(
        bytes.windows(2).all(|pair| pair[0] == pair[1]),
        "a torn page: {bytes:?}"
    );
    bytes[0]
}
