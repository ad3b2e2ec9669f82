//! States of the past.

use std::ffi::c_char;
use std::sync::Arc;

use mmsb_engine::{Lsn, PageId, Replayed, replay};

use crate::border::{Out, call, fill, slice, text};
use crate::lookup::{Owned, REPLAYS, VIEWS, View};
use crate::options::{mmsb_options, read_options};
use crate::view::Held;

/// For `until`: the end of the log.
pub const MMSB_END: u64 = u64::MAX;

/// Rebuilds the state of the bus in `directory` as of LSN `until` (`MMSB_END`: all), from its log. The directory is only read.
/// `options` may be null. Release it with `mmsb_replay_release`.
///
/// # Safety
/// `directory` is a string, `options` null or a structure that says its size; `replay` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_replay_open(
    directory: *const c_char,
    until: u64,
    options: *const mmsb_options,
    replay_handle: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (directory, options, out) = unsafe {
            (
                text(directory, "directory")?,
                read_options(options)?,
                Out::new(replay_handle, "replay")?,
            )
        };
        let until = (until != MMSB_END).then_some(Lsn(until));
        out.set(REPLAYS.insert(Arc::new(replay(directory, until, options)?))?);
        Ok(())
    })
}

/// The LSN that a state of the past is as of.
///
/// # Safety
/// `lsn` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_replay_lsn(replay_handle: u64, lsn: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(lsn, "lsn")? };
        out.set(REPLAYS.share(replay_handle)?.lsn().0);
        Ok(())
    })
}

/// As `mmsb_bus_digest`, of a state of the past.
///
/// # Safety
/// 32 bytes may be written to `digest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_replay_digest(replay_handle: u64, digest: *mut u8) -> i32 {
    call(|| {
        // SAFETY: an array of bytes is as a pointer to the first one.
        let out = unsafe { Out::new(digest.cast::<[u8; 32]>(), "digest")? };
        out.set(*REPLAYS.share(replay_handle)?.digest()?.as_bytes());
        Ok(())
    })
}

/// As `mmsb_bus_pages`, of a state of the past.
///
/// # Safety
/// `pages` has room for `capacity` ids; `needed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_replay_pages(
    replay_handle: u64,
    pages: *mut u64,
    capacity: usize,
    needed: *mut usize,
) -> i32 {
    call(|| {
        let past = REPLAYS.share(replay_handle)?;
        let all: Vec<u64> = past.pages().iter().map(|page| page.to_bits()).collect();
        // SAFETY: the caller's contract.
        unsafe { fill(&all, pages, capacity, needed) }
    })
}

/// As `mmsb_view_open`, of a state of the past. The view keeps what it shows alive, also when the state is released.
///
/// # Safety
/// `count` ids can be read from `pages`; `view` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_replay_view(
    replay_handle: u64,
    pages: *const u64,
    count: usize,
    view: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (pages, out) = unsafe { (slice(pages, count, "pages")?, Out::new(view, "view")?) };
        let pages: Vec<PageId> = pages.iter().map(|page| PageId::from_bits(*page)).collect();
        let past: &Arc<Replayed> = &*REPLAYS.share(replay_handle)?;
        // SAFETY: the view stays in the table until it is dropped there.
        let opened =
            unsafe { Owned::new(past, |past| past.view_detached(&pages).map(Held::Many))? };
        out.set(VIEWS.insert(View::Past(opened))?);
        Ok(())
    })
}

/// Releases a state of the past.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_replay_release(replay_handle: u64) -> i32 {
    call(|| REPLAYS.remove(replay_handle).map(drop))
}
