//! Pages that other processes map, looked at through the descriptors that they would get.
#![cfg(all(target_os = "linux", not(miri)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    reason = "a test that fails panics"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use mmsb_engine::graph::{Mapping, Transform, TransformError, TransformRegistry};
use mmsb_engine::{
    Bus, Durability, Location, Options, PageId, Propagation, SharedPage, SharedReadError,
    TransactionError, TransformId, replay,
};
use rustix::fs::{MemfdFlags, SealFlags};

const LEN: u64 = 3 * 4096 + 100;

fn options() -> Options {
    Options {
        arena_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        ..Options::default()
    }
}

fn bus(directory: &tempfile::TempDir) -> Bus {
    Bus::open(directory.path(), options()).unwrap()
}

fn page(bus: &Bus, len_bytes: u64) -> PageId {
    let mut transaction = bus.begin();
    let new = transaction.allocate(len_bytes).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    commit.page(new).unwrap()
}

fn write(bus: &Bus, page: PageId, offset: u64, bytes: &[u8]) -> u64 {
    let mut transaction = bus.begin();
    transaction.write(page, offset, bytes).unwrap();
    transaction.commit(Durability::Memory).unwrap().lsn.0
}

fn attach(bus: &Bus, page: PageId) -> SharedPage {
    SharedPage::attach(bus.export_page(page).unwrap().as_fd()).unwrap()
}

fn all(shared: &SharedPage) -> Result<Vec<u8>, SharedReadError> {
    let mut bytes = vec![0; shared.len_bytes()];
    shared.read(0, &mut bytes).map(|_| bytes)
}

#[test]
fn the_page_itself_is_seen_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(&directory);
    let (page, neighbour) = (page(&bus, LEN), page(&bus, LEN));
    write(&bus, page, LEN - 3, b"end");
    write(&bus, neighbour, 0, b"private");
    let address = bus.read(page).unwrap().as_ptr();
    let digest = bus.digest().unwrap();
    let shared = attach(&bus, page);
    assert_eq!(bus.read(page).unwrap().as_ptr(), address, "it did not move");
    assert_eq!(bus.digest().unwrap(), digest, "nor change");
    assert_eq!((shared.page(), shared.len_bytes() as u64), (page, LEN));
    let before = shared.begin().unwrap();
    assert_eq!(&all(&shared).unwrap()[LEN as usize - 3..], b"end");

    let lsn = write(&bus, page, 5, b"hello");
    assert_eq!(
        shared.check(before.sequence),
        Err(SharedReadError::Changing)
    );
    let mut bytes = [0; 7];
    let moment = shared.read(4, &mut bytes).unwrap();
    assert_eq!((&bytes, moment.lsn.0), (b"\0hello\0", lsn));
    assert_eq!(moment.epoch, bus.read(page).unwrap().epoch());
    assert!(moment.sequence > before.sequence);
    // Whatever does not touch the lock of the page leaves the word alone.
    write(&bus, neighbour, 0, b"still private");
    shared.check(moment.sequence).unwrap();
    bus.checkpoint().unwrap();
    shared.check(moment.sequence).unwrap();
    // Once exported, another descriptor is of the same memory.
    let again = attach(&bus, page);
    write(&bus, page, 0, b"both");
    assert_eq!(all(&shared), all(&again));
    let out = shared.read(LEN as usize - 1, &mut bytes).unwrap_err();
    assert_eq!(out.kind(), "read.out-of-range");
    let far = shared.read(usize::MAX, &mut bytes).unwrap_err();
    assert_eq!(far.kind(), "read.out-of-range");
    for offset in 0..20 {
        for len in 0..20 {
            let mut part = vec![0; len];
            shared.read(offset, &mut part).unwrap();
            assert_eq!(part, bus.read(page).unwrap()[offset..offset + len]);
        }
    }
    bus.close().unwrap();
    assert_eq!(all(&shared), Err(SharedReadError::Closed));
    let state = replay(directory.path(), None, options()).unwrap();
    assert_eq!(&state.read(page).unwrap()[..4], b"both");
}

#[test]
fn what_ends_an_export_is_told_and_shows_nothing_new() {
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(&directory);
    let [freed, moved, withdrawn] = [(); 3].map(|()| page(&bus, LEN));
    for page in [freed, moved, withdrawn] {
        write(&bus, page, 0, b"last words");
    }
    let [of_freed, of_moved, of_withdrawn] =
        [freed, moved, withdrawn].map(|page| attach(&bus, page));
    let address = bus.read(freed).unwrap().as_ptr();

    let mut transaction = bus.begin();
    transaction.free(freed).unwrap();
    transaction.transfer(moved).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    bus.withdraw_page(withdrawn).unwrap();
    bus.withdraw_page(withdrawn).unwrap();
    for shared in [&of_freed, &of_moved, &of_withdrawn] {
        assert_eq!(all(shared), Err(SharedReadError::Gone));
        let last = unsafe { std::slice::from_raw_parts(shared.as_ptr(), 10) };
        assert_eq!(last, b"last words");
    }
    // The pages that live on have their bytes, and others see nothing of what is done to them.
    let transferred = commit.transferred(moved).unwrap();
    let next = page(&bus, LEN);
    let guard = bus.read(next).unwrap();
    assert_eq!(guard.as_ptr(), address, "the test means the same place");
    assert!(guard.iter().all(|byte| *byte == 0));
    drop(guard);
    for page in [transferred, withdrawn] {
        assert_eq!(&bus.read(page).unwrap()[..11], b"last words\0");
    }
    for page in [transferred, withdrawn, next] {
        write(&bus, page, 0, b"a secret  ");
    }
    for shared in [&of_freed, &of_moved, &of_withdrawn] {
        let last = unsafe { std::slice::from_raw_parts(shared.as_ptr(), 10) };
        assert_eq!(last, b"last words");
    }
    // They can be exported again, and the old descriptors stay what they are.
    let again = attach(&bus, withdrawn);
    assert_eq!(&all(&again).unwrap()[..10], b"a secret  ");
    assert_eq!(all(&of_withdrawn), Err(SharedReadError::Gone));
    let digest = bus.digest().unwrap();
    bus.close().unwrap();
    let state = replay(directory.path(), None, options()).unwrap();
    assert_eq!(state.digest().unwrap(), digest);
}

#[test]
fn nobody_else_can_write_or_cut() {
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(&directory);
    let page = page(&bus, LEN);
    let file: OwnedFd = bus.export_page(page).unwrap();
    let len = rustix::fs::fstat(&file).unwrap().st_size as usize;
    assert!(rustix::fs::ftruncate(&file, 4096).is_err());
    assert!(rustix::fs::ftruncate(&file, 1 << 30).is_err());
    assert!(rustix::io::pwrite(&file, b"x", 4096).is_err());
    assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).is_err());
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert!(rustix::fs::fallocate(&file, punch, 4096, 4096).is_err());
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect};
    let shared = MapFlags::SHARED;
    unsafe {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        assert!(mmap(std::ptr::null_mut(), len, both, shared, &file, 0).is_err());
        let mapped = mmap(std::ptr::null_mut(), len, ProtFlags::READ, shared, &file, 0).unwrap();
        assert!(mprotect(mapped, len, MprotectFlags::READ | MprotectFlags::WRITE).is_err());
    }
    write(&bus, page, 0, b"the bus itself goes on");
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(&directory);
    let short = page(&bus, 4032);
    let kind = |page| bus.export_page(page).unwrap_err().kind();
    assert_eq!(kind(short), "export.too-short");
    attach(&bus, page(&bus, 4033));
    assert_eq!(kind(PageId::new(99, 1)), "page.unknown");
    let mut transaction = bus.begin();
    let new = transaction.allocate_at(8192, Location::Device).unwrap();
    let device = transaction.commit(Durability::Memory).unwrap();
    let device = device.page(new).unwrap();
    assert_eq!(kind(device), "export.not-host");
    let held = page(&bus, LEN);
    let guard = bus.read(held).unwrap();
    assert_eq!(kind(held), "guard.held");
    drop(guard);
    let view = bus.read_detached(held).unwrap();
    assert_eq!(kind(held), "view.held");
    drop(view);
    let shared = attach(&bus, held);
    // Views of an exported page are as those of any other, and end no export.
    let view = bus.read_detached(held).unwrap();
    assert_eq!(bus.withdraw_page(held).unwrap_err().kind(), "view.held");
    let mut transaction = bus.begin();
    transaction.write(held, 0, b"never").unwrap();
    let refused = transaction.try_commit(Durability::Memory).unwrap_err();
    assert!(matches!(refused, TransactionError::ViewHeld { .. }));
    shared.begin().unwrap();
    drop(view);
    let mut transaction = bus.begin();
    transaction.free(held).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    assert_eq!(kind(held), "page.stale");
    assert_eq!(bus.withdraw_page(held).unwrap_err().kind(), "page.stale");
}

#[test]
fn what_is_no_exported_page_is_refused() {
    let kind = |file: &OwnedFd| SharedPage::attach(file.as_fd()).unwrap_err().kind();
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    assert_eq!(kind(&null.unwrap()), "shared.not-a-page");
    let make = |words: &[u64], len: u64, seals: SealFlags| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("forged", flags).unwrap();
        rustix::fs::ftruncate(&file, len).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        rustix::io::pwrite(&file, &bytes, 0).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    };
    let magic = u64::from_le_bytes(*b"MMSBPAGE");
    let good = [magic, 1, 7, 4096, 4096];
    SharedPage::attach(make(&good, 8192, SealFlags::SHRINK).as_fd()).unwrap();
    let refused = |words: &[u64], len| kind(&make(words, len, SealFlags::SHRINK));
    assert_eq!(
        kind(&make(&good, 8192, SealFlags::GROW)),
        "shared.not-a-page"
    );
    assert_eq!(refused(&[1, 1, 7, 4096, 4096], 8192), "shared.not-a-page");
    assert_eq!(refused(&[magic, 2, 7, 4096, 4096], 8192), "shared.newer");
    for len in [0, 4097, u64::MAX] {
        assert_eq!(
            refused(&[magic, 1, 7, len, 4096], 8192),
            "shared.not-a-page"
        );
    }
    for len in [40, 4096] {
        assert_eq!(refused(&good, len), "shared.not-a-page");
    }
}

/// Adds one to each byte, and refuses a 9.
struct PlusOne;

impl Transform for PlusOne {
    fn name(&self) -> &str {
        "plus-one"
    }

    fn version(&self) -> u32 {
        1
    }

    fn check(&self, _: u64, _: &[u64]) -> Result<(), TransformError> {
        Ok(())
    }

    fn mapping(&self, _: usize, _: &[u64], _: u64) -> Mapping {
        Mapping::Whole
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        _: u64,
        range: std::ops::Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        for (at, byte) in range.zip(out) {
            let input = inputs[0][at as usize];
            if input == 9 {
                return Err(TransformError::failed("a nine"));
            }
            *byte = input + 1;
        }
        Ok(())
    }
}

#[test]
fn derived_pages_are_never_read_before_they_are_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let mut transforms = TransformRegistry::with_builtins();
    transforms
        .register("plus-one", 1, |_: &[u8]| {
            Ok(std::sync::Arc::new(PlusOne) as _)
        })
        .unwrap();
    let options = Options {
        propagation: Propagation::Deferred,
        transforms,
        ..options()
    };
    let bus = Bus::open(directory.path(), options).unwrap();
    let (parent, child) = (page(&bus, LEN), page(&bus, LEN));
    // Exported before they are connected: both move to another lock then.
    let shared = attach(&bus, child);
    let of_parent = attach(&bus, parent);
    let id = TransformId {
        name: "plus-one".into(),
        version: 1,
        params: Vec::new(),
    };
    let mut transaction = bus.begin();
    transaction.connect(child, id, &[parent.into()]).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    assert_eq!(all(&shared), Err(SharedReadError::Behind));
    bus.propagate().unwrap();
    assert_eq!(all(&shared).unwrap()[0], 1);
    let before = (shared.begin().unwrap(), of_parent.begin().unwrap());
    write(&bus, parent, 0, &[4]);
    assert_eq!(all(&shared), Err(SharedReadError::Behind));
    assert_eq!(
        of_parent.check(before.1.sequence),
        Err(SharedReadError::Changing)
    );
    assert_eq!(all(&of_parent).unwrap()[0], 4, "the parent is not derived");
    assert_eq!(bus.read(child).unwrap()[0], 5, "reading runs the wave");
    assert_eq!(all(&shared).unwrap()[0], 5);
    assert!(shared.begin().unwrap().epoch > before.0.epoch);
    write(&bus, parent, 0, &[9]);
    bus.propagate().unwrap();
    assert_eq!(all(&shared), Err(SharedReadError::Stale));
    write(&bus, parent, 0, &[1]);
    bus.propagate().unwrap();
    assert_eq!(all(&shared).unwrap()[0], 2);
    // An export of a page that is behind brings it up to date first.
    bus.withdraw_page(child).unwrap();
    write(&bus, parent, 0, &[2]);
    assert_eq!(all(&attach(&bus, child)).unwrap()[0], 3);
}

/// Each commit fills the page with one byte. A reader that minds the word never sees two, and one that does not does.
#[test]
fn a_read_is_of_one_moment_and_the_word_is_why() {
    const COMMITS: u64 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(&directory);
    let page = page(&bus, 64 << 10);
    let shared = attach(&bus, page);
    let (done, torn) = (AtomicBool::new(false), AtomicU64::new(0));
    let consistent = thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            let mut number = 0_u64;
            while number < COMMITS || torn.load(Ordering::Relaxed) == 0 {
                number += 1;
                write(&bus, page, 0, &vec![number as u8; 64 << 10]);
                if number.is_multiple_of(64) {
                    // The processor may be the reader's, if there is but one.
                    thread::yield_now();
                }
                if std::time::Instant::now() > deadline {
                    break;
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut consistent = 0_u64;
        let mut bytes = vec![0; 64 << 10];
        while !done.load(Ordering::Acquire) {
            if shared.read(0, &mut bytes).is_ok() {
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn");
                consistent += 1;
            }
            // The control: the same copy without the word.
            let at = |offset| unsafe { shared.as_ptr().add(offset).read_volatile() };
            if at(0) != at((64 << 10) - 1) {
                torn.fetch_add(1, Ordering::Relaxed);
            }
        }
        consistent
    });
    println!("{consistent} consistent reads, {torn:?} torn without the word");
    assert!(consistent > 0 && torn.into_inner() > 0);
}
