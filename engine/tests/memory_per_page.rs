//! A million pages of 64 bytes fit in 160 bytes of memory each, contents and log buffers included.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod common;

use common::{open, options};
use mmsb_engine::{Durability, Options};
use tempfile::tempdir;

const PAGES: u64 = 1_000_000;
const LIMIT_BYTES_A_PAGE: u64 = 160;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
#[cfg_attr(mmsb_asan, ignore = "AddressSanitizer's own memory is counted")]
fn a_million_small_pages_are_small() {
    let directory = tempdir().unwrap();
    let bus = open(
        directory.path(),
        Options {
            segment_bytes: 64 << 20,
            prefill: false,
            ..options()
        },
    );
    let before = resident_bytes();
    for _ in 0..PAGES / 10_000 {
        let mut transaction = bus.begin();
        for _ in 0..10_000 {
            let page = transaction.allocate(64).unwrap();
            transaction.write(page, 0, &[1; 64]).unwrap();
        }
        transaction.commit(Durability::Memory).unwrap();
    }
    let a_page = (resident_bytes() - before) / PAGES;
    assert_eq!(bus.statistics().memory.live_pages, PAGES);
    assert!(a_page <= LIMIT_BYTES_A_PAGE, "{a_page} bytes a page");
    // Contents alone are 64: less would mean that nothing was measured.
    assert!(a_page >= 64, "{a_page} bytes a page");
    println!("{a_page} bytes a page");
}
