//! Which library this is.

use std::ffi::{CStr, c_char};

use crate::border::{Out, call, text};
use crate::status;

/// The version of this header. Additions raise the low half, everything else the high half.
pub const MMSB_ABI_VERSION: u32 = 0x0001_0001;

/// The ABI version of the library that was loaded: compatible with a program whose `MMSB_ABI_VERSION` has the same high half, and
/// a low half that is not greater.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_abi_version() -> u32 {
    MMSB_ABI_VERSION
}

/// The version of the library, such as `0.1.0`. Static.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

/// A status in words. Static; `unknown` for what is none.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_status_name(status: i32) -> *const c_char {
    let name = usize::try_from(status).ok();
    name.and_then(|position| status::NAMES.get(position))
        .map_or(c"unknown".as_ptr(), |name| name.as_ptr())
}

/// Whether the library has a feature: `*present` is 1 or 0. `zstd`, `cuda` and `transforms` are known; names that are not
/// known are absent.
///
/// # Safety
/// `name` is a string; `present` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_feature(name: *const c_char, present: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (name, present) = unsafe { (text(name, "name")?, Out::new(present, "present")?) };
        let is_present = match name {
            "zstd" => cfg!(feature = "zstd"),
            "cuda" => cfg!(feature = "cuda"),
            "transforms" => true,
            _ => false,
        };
        present.set(i32::from(is_present));
        Ok(())
    })
}
