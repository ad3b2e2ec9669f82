//! Does something wrong on purpose, for one sanitizer to find: `planted_defects use-after-free|leak|race|aliasing`.
//!
//! `ci/asan`, `ci/tsan` and `ci/miri` take it as a control: a sanitizer that says nothing here says nothing about the engine.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a control that does not run has to be noticed"
)]

use mmsb_engine::memory::Arena;
use mmsb_engine::{Bus, Durability, Options};

/// Reads a page after it was freed. The memory is still mapped: only a sanitizer that sees inside the arena can tell.
fn use_after_free() -> u8 {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 1 << 16,
        arena_bytes: 1 << 20,
        ..Options::default()
    };
    let bus = Bus::open(directory.path(), options).unwrap();
    let mut transaction = bus.begin();
    let new = transaction.allocate(64).unwrap();
    let commit = transaction.commit(Durability::Memory).unwrap();
    let page = commit.page(new).unwrap();
    let address = bus.read(page).unwrap().as_ptr();
    let mut transaction = bus.begin();
    transaction.free(page).unwrap();
    transaction.commit(Durability::Memory).unwrap();
    // SAFETY: none. This is the defect: the guard is gone, and so is the page.
    unsafe { address.read_volatile() }
}

/// Forgets memory that nobody has an address of any more.
fn leak() -> u8 {
    let forgotten = std::hint::black_box(vec![1_u8; 4096]);
    std::mem::forget(forgotten);
    0
}

/// Two threads write to the same bytes of an arena.
fn race() -> u8 {
    let arena = Arena::new(4096).unwrap();
    // ThreadSanitizer takes a thread that begins when another has ended for the same one: both must be there.
    let both = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for value in [1, 2] {
            let (arena, both) = (&arena, &both);
            scope.spawn(move || {
                both.wait();
                for _ in 0..1000 {
                    // SAFETY: none. This is the defect: nothing keeps the other thread out.
                    unsafe { arena.copy_in(0, &[value; 64]) }.unwrap();
                }
            });
        }
    });
    // SAFETY: the threads have ended.
    let bytes = unsafe { arena.bytes(0, 1) }.unwrap();
    bytes.first().copied().unwrap()
}

/// Two exclusive slices of the same bytes.
fn aliasing() -> u8 {
    let arena = Arena::new(4096).unwrap();
    // SAFETY: this one is alone so far.
    let one = unsafe { arena.bytes_mut(0, 8) }.unwrap();
    // SAFETY: none. This is the defect: `one` is still alive.
    let two = unsafe { arena.bytes_mut(4, 8) }.unwrap();
    two.fill(2);
    one.fill(1);
    two.first().copied().unwrap()
}

fn main() {
    let defect = std::env::args().nth(1).unwrap_or_default();
    let value = match defect.as_str() {
        "use-after-free" => use_after_free(),
        "leak" => leak(),
        "race" => race(),
        "aliasing" => aliasing(),
        _ => panic!("{defect:?} is no defect"),
    };
    println!("{defect}: nobody noticed ({value})");
}
