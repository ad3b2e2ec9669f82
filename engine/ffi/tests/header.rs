//! The header that is checked in is the one that the source gives, and what it promises is pinned.
//!
//! `MMSB_BLESS=1 cargo test -p mmsb-ffi --test header` writes header and `abi.txt` anew. Look at the difference before you commit it:
//! a line of `abi.txt` that goes or changes breaks programs, and needs another high half of `MMSB_ABI_VERSION`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use mmsb_ffi::bus::{mmsb_checkpoint_report, mmsb_open_report, mmsb_page_info, mmsb_statistics};
use mmsb_ffi::commit::mmsb_write;
use mmsb_ffi::events::mmsb_event;
use mmsb_ffi::options::mmsb_options;
use mmsb_ffi::shared::mmsb_moment;
use mmsb_ffi::transform::{mmsb_compute, mmsb_transform};
use mmsb_ffi::view::{mmsb_bytes, mmsb_device_page};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with the file, or writes it.
fn compare(file: &str, now: &str) {
    let path = root().join(file);
    if std::env::var_os("MMSB_BLESS").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(now.lines()).position(|(a, b)| a != b);
    assert!(
        kept == now,
        "{file} is not what the source gives, from line {} on; MMSB_BLESS=1 writes it anew",
        differs.map_or(kept.lines().count().min(now.lines().count()), |line| line) + 1
    );
}

#[test]
fn the_header_is_up_to_date() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root().join("src/lib.rs"));
    let mut header = Vec::new();
    bindings.generate().unwrap().write(&mut header);
    compare("include/mmsb.h", &String::from_utf8(header).unwrap());
}

macro_rules! layout {
    ($text:expr, $type:ident { $($field:ident),* $(,)? }) => {{
        writeln!($text, "struct {} size {} align {}", stringify!($type), size_of::<$type>(), align_of::<$type>()).unwrap();
        let mut end = 0;
        $({
            let at = std::mem::offset_of!($type, $field);
            assert_eq!(at, end, "{}.{} has padding in front", stringify!($type), stringify!($field));
            let width = field_size(|value: &$type| &raw const value.$field);
            end = at + width;
            writeln!($text, "    {} at {at} size {width}", stringify!($field)).unwrap();
        })*
        assert_eq!(end, size_of::<$type>(), "{} has padding behind", stringify!($type));
    }};
}

fn field_size<T, F>(_: impl Fn(&T) -> *const F) -> usize {
    size_of::<F>()
}

fn library() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .with_file_name("libmmsb_ffi.so")
}

#[test]
fn symbols_and_layouts_are_pinned() {
    let mut text = String::new();
    writeln!(text, "version {:#x}", mmsb_ffi::abi::MMSB_ABI_VERSION).unwrap();
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let symbols = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    names.sort_unstable();
    for name in names {
        writeln!(text, "symbol {name}").unwrap();
    }
    layout!(text, mmsb_bytes { data, len });
    layout!(
        text,
        mmsb_checkpoint_report {
            size,
            replay_after,
            sequence,
            is_full,
            images,
            image_bytes,
            freed_segments,
        }
    );
    layout!(
        text,
        mmsb_compute {
            size,
            inputs,
            input_count,
            params,
            output_len,
            start,
            out,
            out_len,
            error,
            error_capacity,
        }
    );
    layout!(
        text,
        mmsb_device_page {
            size,
            address,
            len,
            device
        }
    );
    layout!(
        text,
        mmsb_event {
            size,
            lsn,
            lost,
            pages
        }
    );
    layout!(
        text,
        mmsb_moment {
            size,
            sequence,
            lsn,
            epoch
        }
    );
    layout!(
        text,
        mmsb_open_report {
            size,
            created,
            last_lsn,
            has_checkpoint,
            checkpoint_lsn,
            applied,
            torn,
            torn_lsn,
            dropped_segments,
            warnings,
        }
    );
    layout!(
        text,
        mmsb_options {
            size,
            arena_bytes,
            segment_bytes,
            retention_bytes,
            retention,
            propagation,
            threads,
            appliers,
            no_prefill,
            compression,
            registry,
            device,
            device_index,
            device_bytes,
            identity,
        }
    );
    layout!(
        text,
        mmsb_page_info {
            size,
            len,
            offset,
            epoch,
            location,
            is_derived,
            parents
        }
    );
    layout!(
        text,
        mmsb_statistics {
            size,
            last_lsn,
            durable_lsn,
            live_pages,
            live_bytes,
            derived_pages,
            reserved_bytes,
            capacity_bytes,
            log_bytes,
            syncs,
            rotations,
            open_handles,
            log_writes,
            recycled,
            footprint_bytes,
            peak_footprint_bytes,
            waste_bytes,
            largest_free_range_bytes,
            allocations_total,
            releases_total,
        }
    );
    layout!(
        text,
        mmsb_transform {
            size,
            name,
            version,
            mapping,
            granule_bytes,
            parents,
            user_data,
            compute,
            destroy,
        }
    );
    layout!(
        text,
        mmsb_write {
            page,
            offset,
            bytes,
            len
        }
    );
    compare("abi.txt", &text);
}

#[test]
fn the_library_exports_nothing_else() {
    let header = std::fs::read_to_string(root().join("include/mmsb.h")).unwrap();
    let pinned = std::fs::read_to_string(root().join("abi.txt")).unwrap();
    let symbols: Vec<&str> = pinned
        .lines()
        .filter_map(|line| line.strip_prefix("symbol "))
        .collect();
    assert!(symbols.len() > 40, "{symbols:?}");
    for symbol in &symbols {
        assert!(
            header.contains(&format!(" {symbol}(")) || header.contains(&format!("*{symbol}(")),
            "{symbol}"
        );
    }
    let declared = header.matches("(").count();
    assert!(declared >= symbols.len());
}
