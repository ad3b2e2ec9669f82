//! [`Arena`] on the system and under the sanitizers.

use super::arena::{Arena, ArenaError};

const CAPACITY_BYTES: u64 = 64 * 1024;

/// The tests are single-threaded and hold no slice across a write, so these are sound.
fn read(arena: &Arena, offset: u64, len: usize) -> Option<Vec<u8>> {
    // SAFETY: nothing writes while the slice lives.
    unsafe { arena.bytes(offset, len) }.map(<[u8]>::to_vec)
}

fn write(arena: &Arena, offset: u64, bytes: &[u8]) -> Option<()> {
    // SAFETY: no slice of the arena is alive, and `bytes` lies outside it.
    unsafe { arena.copy_in(offset, bytes) }
}

fn discard(arena: &Arena, offset: u64, len: usize) -> Option<()> {
    // SAFETY: no slice of the arena is alive.
    unsafe { arena.discard(offset, len) }
}

#[test]
fn starts_with_zeros_and_keeps_what_is_written() {
    let arena = Arena::new(CAPACITY_BYTES - 1).unwrap();
    assert_eq!(arena.capacity_bytes(), CAPACITY_BYTES, "rounded up");
    assert_eq!(arena.base_address() % 4096, 0);
    assert_eq!(read(&arena, 100, 200), Some(vec![0; 200]));
    assert_eq!(write(&arena, 150, &[7; 10]), Some(()));
    // SAFETY: the two slices are disjoint and the only ones.
    let (a, b) = unsafe { (arena.bytes_mut(150, 5), arena.bytes_mut(155, 5)) };
    let (a, b) = (a.unwrap(), b.unwrap());
    a[4] = 1;
    b[0] = a[4] + 1;
    assert_eq!(
        read(&arena, 149, 12),
        Some(vec![0, 7, 7, 7, 7, 1, 2, 7, 7, 7, 7, 0])
    );
    // SAFETY: no slice of the arena is alive.
    assert_eq!(unsafe { arena.zero(151, 8) }, Some(()));
    assert_eq!(
        read(&arena, 149, 12),
        Some(vec![0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0])
    );
}

#[test]
fn refuses_what_is_not_inside() {
    let arena = Arena::new(CAPACITY_BYTES).unwrap();
    assert_eq!(read(&arena, CAPACITY_BYTES, 0), Some(vec![]));
    let outside = [
        (CAPACITY_BYTES, 1),
        (CAPACITY_BYTES - 1, 2),
        (CAPACITY_BYTES + 1, 0),
        (u64::MAX, 1),
        (1, usize::MAX),
    ];
    for (offset, len) in outside {
        assert_eq!(read(&arena, offset, len), None, "{len} B at {offset}");
        assert_eq!(discard(&arena, offset, len), None, "{len} B at {offset}");
        // SAFETY: no slice of the arena is alive.
        let zeroed = unsafe { arena.zero(offset, len) };
        assert_eq!(zeroed, None, "{len} B at {offset}");
        arena.poison(offset, len);
        arena.unpoison(offset, len);
    }
    assert_eq!(write(&arena, CAPACITY_BYTES - 1, &[1, 2]), None);
    assert_eq!(read(&arena, CAPACITY_BYTES - 1, 1), Some(vec![0]));
}

#[test]
fn refuses_capacities_that_cannot_be() {
    assert!(matches!(Arena::new(0), Err(ArenaError::ZeroCapacity)));
    for capacity_bytes in [u64::MAX, 1 << 63] {
        let refused = Arena::new(capacity_bytes);
        assert!(matches!(refused, Err(ArenaError::TooLarge { .. })));
    }
}

#[test]
fn discard_leaves_zeros_and_the_neighbours() {
    let arena = Arena::new(CAPACITY_BYTES).unwrap();
    let ranges = [
        (0, 4096),
        (10, 20),
        (4095, 4098),
        (4090, 12_300),
        (4096, 8192),
        (8192, 1),
        (4097, 4095),
        (0, CAPACITY_BYTES as usize),
        (5000, 0),
    ];
    let filled = vec![0xa5; CAPACITY_BYTES as usize];
    for (offset, len) in ranges {
        assert_eq!(write(&arena, 0, &filled), Some(()));
        assert_eq!(discard(&arena, offset, len), Some(()));
        let mut expected = filled.clone();
        expected[offset as usize..offset as usize + len].fill(0);
        let actual = read(&arena, 0, filled.len()).unwrap();
        assert!(actual == expected, "{len} B at {offset}");
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use super::*;

    fn committed_bytes(arena: &Arena) -> u64 {
        let stat = rustix::fs::fstat(arena.fd()).unwrap();
        stat.st_blocks as u64 * 512
    }

    #[test]
    fn a_large_capacity_commits_nothing_until_touched() {
        let capacity_bytes = 256 << 30;
        let arena = Arena::new(capacity_bytes).unwrap();
        assert_eq!(committed_bytes(&arena), 0);
        assert_eq!(write(&arena, capacity_bytes - 3, b"end"), Some(()));
        assert_eq!(read(&arena, capacity_bytes - 3, 3), Some(b"end".to_vec()));
        let committed = committed_bytes(&arena);
        assert!((1..=2 << 20).contains(&committed), "{committed} B");
    }

    #[test]
    fn discard_gives_memory_back() {
        let arena = Arena::new(16 << 20).unwrap();
        assert_eq!(write(&arena, 0, &vec![1; 8 << 20]), Some(()));
        assert!(committed_bytes(&arena) >= 8 << 20);
        assert_eq!(discard(&arena, 1, (8 << 20) - 1), Some(()));
        let committed = committed_bytes(&arena);
        assert!(committed <= 4096, "{committed} B are still committed");
        assert_eq!(read(&arena, 0, 2), Some(vec![1, 0]));
    }

    #[test]
    fn the_same_bytes_are_seen_through_the_descriptor() {
        let arena = Arena::new(CAPACITY_BYTES).unwrap();
        assert_eq!(write(&arena, 8192, b"shared"), Some(()));
        let mut seen = [0; 6];
        assert_eq!(rustix::io::pread(arena.fd(), &mut seen, 8192), Ok(6));
        assert_eq!(&seen, b"shared");
        assert_eq!(rustix::io::pwrite(arena.fd(), b"back", 0), Ok(4));
        assert_eq!(read(&arena, 0, 4), Some(b"back".to_vec()));
    }
}

#[cfg(mmsb_asan)]
mod sanitized {
    use super::*;

    unsafe extern "C" {
        fn __asan_address_is_poisoned(address: *const std::ffi::c_void) -> i32;
    }

    fn is_poisoned(arena: &Arena, offset: usize) -> bool {
        let address = std::ptr::without_provenance::<u8>(arena.base_address() + offset);
        // SAFETY: the function looks at the shadow of the address only.
        unsafe { __asan_address_is_poisoned(address.cast()) != 0 }
    }

    #[test]
    fn only_pages_in_use_may_be_accessed() {
        let arena = Arena::new(CAPACITY_BYTES).unwrap();
        arena.unpoison(4096, 61);
        assert!(is_poisoned(&arena, 0) && is_poisoned(&arena, 4095));
        assert!(!is_poisoned(&arena, 4096) && !is_poisoned(&arena, 4096 + 60));
        assert!(is_poisoned(&arena, 4096 + 61));
        assert!(is_poisoned(&arena, CAPACITY_BYTES as usize - 1));
        arena.unpoison(0, 10);
        assert!(!is_poisoned(&arena, 9) && is_poisoned(&arena, 10));
        assert!(!is_poisoned(&arena, 4096), "still in use");
        arena.poison(4096, 61);
        assert!(is_poisoned(&arena, 4096) && is_poisoned(&arena, 4096 + 60));
    }

    #[test]
    fn a_dropped_arena_leaves_no_poison() {
        let arena = Arena::new(CAPACITY_BYTES).unwrap();
        arena.unpoison(0, 1);
        let base_address = arena.base_address();
        drop(arena);
        // SAFETY: the function looks at the shadow of the address only.
        let poisoned =
            unsafe { __asan_address_is_poisoned(std::ptr::without_provenance(base_address + 64)) };
        assert_eq!(poisoned, 0);
    }

    /// The sanitizer ends the process that reads freed memory, so the read happens in a child:
    /// this same test, told so by an environment variable.
    #[test]
    fn a_read_of_a_released_page_is_caught() {
        const CHILD: &str = "MMSB_ASAN_READS_RELEASED_PAGE";
        if std::env::var_os(CHILD).is_some() {
            let arena = Arena::new(CAPACITY_BYTES).unwrap();
            arena.unpoison(64, 64);
            assert_eq!(write(&arena, 64, &[1; 64]), Some(()));
            arena.poison(64, 64);
            let byte = read(&arena, 64, 1);
            unreachable!("read {byte:?} from a released page");
        }
        let name = std::thread::current().name().unwrap().to_owned();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&child.stderr);
        assert!(!child.status.success());
        assert!(report.contains("use-after-poison"), "{report}");
    }
}
