//! Telling the processor what will be needed soon.

/// Unit in which memory comes to the processor, in bytes, on what this runs on.
const LINE_BYTES: usize = 64;

/// Asks for the cache lines of `value`. A hint and nothing else: it changes no result.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    lines(start, size_of::<T>());
}

/// Asks for the cache lines of `len` bytes from `start`, which may be any address.
#[inline]
pub(super) fn lines(start: *const u8, len: usize) {
    let mut at = 0;
    while at < len {
        line(start.wrapping_add(at));
        at += LINE_BYTES;
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: the instruction reads nothing that the program could see, and faults at no address. It is part of
    // SSE, which every x86-64 processor has.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn line(_: *const u8) {}
