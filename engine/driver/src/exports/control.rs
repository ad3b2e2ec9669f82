//! Functions of the simulation alone, for tests: faults, seeds, and what was found.

use std::ffi::{CStr, c_char};

use crate::codes::{self, Code};
use crate::driver;
use crate::faults::Plan;

/// Says what is to go wrong from here on; see [`Plan::parse`]. 0: understood.
///
/// # Safety
/// `text` is null, or text that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_sim_faults(text: *const c_char) -> Code {
    if text.is_null() {
        return codes::INVALID_VALUE;
    }
    // SAFETY: not null, so text that ends in a zero byte, as the caller says.
    let text = unsafe { CStr::from_ptr(text) };
    let plan = text.to_str().map_err(drop).map(Plan::parse);
    match (driver::locked().as_mut(), plan) {
        (None, _) => codes::NOT_INITIALIZED,
        (Some(driver), Ok(Ok(plan))) => {
            driver.set_faults(plan);
            codes::SUCCESS
        }
        _ => codes::INVALID_VALUE,
    }
}

/// Starts the order of work over from a seed.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_sim_seed(seed: u64) -> Code {
    match driver::locked().as_mut() {
        None => codes::NOT_INITIALIZED,
        Some(driver) => {
            driver.set_seed(seed);
            codes::SUCCESS
        }
    }
}

/// How many uses were found so far that a real driver might answer with anything; leaks are among them.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_sim_violations() -> u64 {
    driver::locked()
        .as_ref()
        .map_or(0, |driver| driver.violations().len() as u64)
}

/// Copies the text of the violation at `position` to `to`, with a closing zero byte, cut to `len_bytes`. 0: there is one.
///
/// # Safety
/// `to` is valid for writing `len_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_sim_violation(
    position: u64,
    to: *mut c_char,
    len_bytes: usize,
) -> Code {
    let guard = driver::locked();
    let text = guard
        .as_ref()
        .and_then(|driver| driver.violations().get(position as usize));
    let Some(text) = text else {
        return codes::NOT_FOUND;
    };
    if to.is_null() || len_bytes == 0 {
        return codes::INVALID_VALUE;
    }
    let kept = text.len().min(len_bytes - 1);
    // SAFETY: at most `len_bytes` bytes are written with the closing zero, as many as the caller allows.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), kept);
        to.add(kept).write(0);
    }
    codes::SUCCESS
}

/// How many kinds of things were not given back when the context was released, so far.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_sim_leaks() -> u64 {
    driver::locked()
        .as_ref()
        .map_or(0, crate::driver::Driver::leaked)
}
