//! The border itself: pointers of the caller become values, errors become statuses, and nothing unwinds across.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::failure::{Failure, Outcome, remember};
use crate::status;

thread_local! {
    static IN_TRANSFORM: Cell<bool> = const { Cell::new(false) };
}

/// Runs one call of a foreign caller.
#[inline]
pub(crate) fn call(body: impl FnOnce() -> Outcome) -> i32 {
    if IN_TRANSFORM.get() {
        return remember(&Failure::new(
            status::MMSB_REENTERED,
            "transform.reentered",
            "the library was called from a transform, which may only compute",
        ));
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => status::MMSB_OK,
        Ok(Err(failure)) => remember(&failure),
        Err(payload) => remember_panic(&*payload),
    }
}

#[cold]
fn remember_panic(payload: &(dyn Any + Send)) -> i32 {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    remember(&Failure::new(
        status::MMSB_PANIC,
        "panic",
        format!("a bug of the library was caught: {text}"),
    ))
}

/// Runs the code of a transform: calls from in there are refused.
pub(crate) fn in_transform<T>(body: impl FnOnce() -> T) -> T {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_TRANSFORM.set(self.0);
        }
    }
    let _leave = Leave(IN_TRANSFORM.replace(true));
    body()
}

fn check<T>(pointer: *const T, what: &str) -> Outcome {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{what} is null")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(format!("{what} is not aligned")));
    }
    Ok(())
}

/// Where a result goes.
#[derive(Debug)]
pub(crate) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// # Safety
    /// `pointer` is null, or `T` may be written to it until the call returns.
    #[inline]
    pub(crate) unsafe fn new(pointer: *mut T, what: &str) -> Outcome<Self> {
        check(pointer, what)?;
        Ok(Self(pointer))
    }

    #[inline]
    pub(crate) fn set(&self, value: T) {
        // SAFETY: the pointer was checked, and whoever made this vouched for it.
        unsafe { self.0.write(value) };
    }
}

/// Where a result goes, if the caller wants it.
///
/// # Safety
/// As [`Out::new`].
pub(crate) unsafe fn optional<T: Copy>(pointer: *mut T, what: &str) -> Outcome<Option<Out<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's contract is the same.
    unsafe { Out::new(pointer, what) }.map(Some)
}

/// The elements that a caller passes. None may be at a null pointer.
///
/// # Safety
/// `pointer` is null, or `len` elements are there that nobody writes to while the result is used.
#[inline]
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, len: usize, what: &str) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(pointer, what)?;
    if len.saturating_mul(size_of::<T>().max(1)) > isize::MAX as usize {
        return Err(Failure::argument(format!(
            "{what} is longer than memory can be"
        )));
    }
    // SAFETY: the pointer was checked, and the caller vouches for what is there.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// As [`slice`], to be written to.
///
/// # Safety
/// `pointer` is null, or `len` initialised elements are there that nobody else uses while the result is used.
pub(crate) unsafe fn slice_mut<'a, T>(
    pointer: *mut T,
    len: usize,
    what: &str,
) -> Outcome<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(pointer, what)?;
    if len.saturating_mul(size_of::<T>().max(1)) > isize::MAX as usize {
        return Err(Failure::argument(format!(
            "{what} is longer than memory can be"
        )));
    }
    // SAFETY: the pointer was checked, and the caller vouches for what is there.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// A text that a caller passes.
///
/// # Safety
/// `pointer` is null, or a string that ends with a zero byte and that nobody writes to while the result is used.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Outcome<&'a str> {
    check(pointer, what)?;
    // SAFETY: the pointer was checked, and the caller vouches for what is there.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// Copies `items` to a buffer of the caller, and tells how many there are. If they do not fit, only that.
///
/// # Safety
/// `buffer` is null, or has room for `capacity` elements; `needed` is null or may be written to.
pub(crate) unsafe fn fill<T: Copy>(
    items: &[T],
    buffer: *mut T,
    capacity: usize,
    needed: *mut usize,
) -> Outcome {
    // SAFETY: the caller's contract is the same.
    let needed = unsafe { optional(needed, "needed")? };
    if let Some(needed) = &needed {
        needed.set(items.len());
    }
    if items.len() > capacity {
        return Err(Failure::new(
            status::MMSB_BUFFER_TOO_SMALL,
            "buffer.too-small",
            format!(
                "the buffer has room for {capacity} and {} are needed",
                items.len()
            ),
        ));
    }
    if !items.is_empty() {
        check(buffer, "buffer")?;
        // SAFETY: the buffer was checked and has room, and what is copied is not the caller's.
        unsafe { buffer.copy_from_nonoverlapping(items.as_ptr(), items.len()) };
    }
    Ok(())
}

/// A structure that crosses the border. It begins with its size, as the caller knows it: fields can be added at its end.
///
/// # Safety
/// `repr(C)`, without padding, with a `u64` size in front, and any bytes make a valid value.
pub(crate) unsafe trait Sized64: Copy + Default {
    /// Shortest size that is accepted: that of the first version.
    const FIRST_SIZE: usize;
}

/// Reads a structure of a caller that may know fewer fields, or more: those must be zero then, as what they ask for
/// would be ignored.
///
/// # Safety
/// `pointer` is null, or that many bytes as its first field says are there.
pub(crate) unsafe fn read_sized<T: Sized64>(pointer: *const T, what: &str) -> Outcome<T> {
    check(pointer, what)?;
    // SAFETY: the first field is there, whatever the version.
    let size = unsafe { pointer.cast::<u64>().read() };
    let size = check_size::<T>(size, what)?;
    let mut value = T::default();
    let known = size.min(size_of::<T>());
    // SAFETY: both have so many bytes, and any bytes make a value.
    unsafe {
        pointer
            .cast::<u8>()
            .copy_to_nonoverlapping((&raw mut value).cast(), known);
    }
    // SAFETY: the caller vouches for so many bytes.
    let rest = unsafe { slice(pointer.cast::<u8>().wrapping_add(known), size - known, what)? };
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Failure::new(
            status::MMSB_UNSUPPORTED,
            "abi.newer",
            format!("{what} uses fields behind byte {known}, which this version does not know"),
        ));
    }
    Ok(value)
}

/// Writes a structure to a caller that may know fewer fields, or more: those become zero.
///
/// # Safety
/// `pointer` is null, or may be written to for as many bytes as its first field says.
pub(crate) unsafe fn write_sized<T: Sized64>(pointer: *mut T, value: &T, what: &str) -> Outcome {
    check(pointer, what)?;
    // SAFETY: the first field is there, whatever the version.
    let size = unsafe { pointer.cast::<u64>().read() };
    let len = check_size::<T>(size, what)?;
    let known = len.min(size_of::<T>());
    let to = pointer.cast::<u8>();
    // SAFETY: the caller vouches for `size` bytes, of which these are part; the size itself stays what the caller said.
    unsafe {
        to.copy_from_nonoverlapping((&raw const *value).cast(), known);
        to.add(known).write_bytes(0, len - known);
        pointer.cast::<u64>().write(size);
    }
    Ok(())
}

/// Checks the size of a structure before anything is done that could not be reported.
///
/// # Safety
/// As [`write_sized`].
pub(crate) unsafe fn check_sized<T: Sized64>(pointer: *const T, what: &str) -> Outcome {
    check(pointer, what)?;
    // SAFETY: the first field is there, whatever the version.
    let size = unsafe { pointer.cast::<u64>().read() };
    check_size::<T>(size, what).map(drop)
}

/// No structure will ever be longer: a size that is not initialised is refused, most likely.
const MAX_SIZE: u64 = 4096;

fn check_size<T: Sized64>(size: u64, what: &str) -> Outcome<usize> {
    if size < T::FIRST_SIZE as u64 || size > MAX_SIZE {
        return Err(Failure::argument(format!(
            "{what}.size is {size}; set it to sizeof the structure, {} here",
            size_of::<T>()
        )));
    }
    Ok(size as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::failure::{mmsb_last_error_kind, mmsb_last_error_message};
    use crate::handle::{Kind, Table};

    fn last() -> (String, String) {
        let text = |pointer| {
            // SAFETY: a string that stands until the next call of this thread that fails.
            let text = unsafe { CStr::from_ptr(pointer) };
            text.to_str().unwrap().to_owned()
        };
        (
            text(mmsb_last_error_kind()),
            text(mmsb_last_error_message()),
        )
    }

    #[test]
    fn a_panic_is_a_status_and_a_message() {
        let bug = "a bug of the library was caught: ";
        assert_eq!(
            call(|| panic!("on purpose")),
            status::MMSB_PANIC,
            "a literal"
        );
        assert_eq!(last(), ("panic".to_owned(), format!("{bug}on purpose")));
        let seven = 7;
        assert_eq!(call(|| panic!("number {seven}")), status::MMSB_PANIC);
        assert_eq!(last().1, format!("{bug}number 7"));
        let odd = call(|| std::panic::panic_any(5_u8));
        assert_eq!(
            (odd, last().1),
            (status::MMSB_PANIC, format!("{bug}no message"))
        );
        // Calls that work leave it alone, and the next one is as any other.
        assert_eq!(call(|| Ok(())), status::MMSB_OK);
        assert_eq!(last().1, format!("{bug}no message"));
    }

    #[test]
    fn a_panic_lets_go_of_what_the_call_had() {
        static DROPPED: AtomicBool = AtomicBool::new(false);
        struct Held;
        impl Drop for Held {
            fn drop(&mut self) {
                DROPPED.store(true, Ordering::Relaxed);
            }
        }
        let table = Table::new(Kind::View);
        let handle = table.insert(Held).unwrap();
        let shares = call(|| {
            let _held = table.share(handle)?;
            panic!("while it is shared")
        });
        assert_eq!(shares, status::MMSB_PANIC);
        let has_alone = call(|| {
            let _held = table.alone(handle)?;
            panic!("while nobody else has it")
        });
        assert_eq!(has_alone, status::MMSB_PANIC);
        assert!(!DROPPED.load(Ordering::Relaxed));
        assert_eq!(call(|| table.remove(handle).map(drop)), status::MMSB_OK);
        assert!(DROPPED.load(Ordering::Relaxed));
    }

    #[test]
    fn a_panic_in_a_transform_ends_being_in_one() {
        let inside = call(|| {
            in_transform(|| {
                assert_eq!(call(|| Ok(())), status::MMSB_REENTERED);
                panic!("in the transform")
            })
        });
        assert_eq!(inside, status::MMSB_PANIC);
        assert_eq!(call(|| Ok(())), status::MMSB_OK);
    }
}
