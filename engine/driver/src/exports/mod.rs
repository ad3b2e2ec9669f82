//! The functions that programs find by name.
//!
//! Each has the signature of the function of the same name in CUDA's `cuda.h`. Handles are numbers that are never dereferenced.

pub mod context;
pub mod control;
pub mod memory;
pub mod module;
pub mod queue;
#[cfg(test)]
mod tests;

use crate::codes::{self, Code, Outcome};

/// The code of an outcome.
fn code(outcome: Outcome) -> Code {
    match outcome {
        Ok(()) => codes::SUCCESS,
        Err(code) => code,
    }
}

/// Writes a result to where the caller wants it.
///
/// # Safety
/// `to` is null, or valid for writing.
unsafe fn give<T>(to: *mut T, value: T) -> Outcome {
    if to.is_null() {
        return Err(codes::INVALID_VALUE);
    }
    // SAFETY: not null, so valid, as the caller says.
    unsafe { to.write(value) };
    Ok(())
}
