//! Telling the processor what will be needed soon.

/// Unit in which memory comes to the processor, in bytes, on what this runs on.
const LINE_BYTES: usize = 64;

/// Asks for the first and the last cache line of `value`. A hint and nothing else: it changes no result.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    // Asking for a line a second time costs as much as the first, if the processor waits for its address.
    if const { size_of::<T>() <= LINE_BYTES && align_of::<T>() >= LINE_BYTES } {
        line(start);
    } else {
        range(start, size_of::<T>());
    }
}

/// The processor fetches what follows by itself once a copy has begun.
const FIRST_BYTES: usize = 256;

/// Asks for the first cache lines of `len` bytes from `start`, which may be any address.
///
/// Short ranges take few instructions, see `state/apply`; a line in the middle of one that is not aligned is left out.
#[inline]
pub(super) fn range(start: *const u8, len: usize) {
    let ask = |at: usize| line(start.wrapping_add(at));
    ask(0);
    if len <= LINE_BYTES * 2 {
        ask(len.saturating_sub(1));
        return;
    }
    let mut at = LINE_BYTES;
    while at < len.min(FIRST_BYTES) {
        ask(at);
        at += LINE_BYTES;
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // Into the second-level cache: the first waits for a few lines at a time only, and 64 B come from there at once.
    // SAFETY: the instruction reads nothing that the program could see, and faults at no address. It is part of
    // SSE, which every x86-64 processor has.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn line(_: *const u8) {}
