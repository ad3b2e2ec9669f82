//! Initialization, devices, the context, and the names of errors.
#![allow(non_snake_case, reason = "the names are CUDA's")]

use std::ffi::{c_char, c_int, c_uint};

use super::{code, give};
use crate::codes::{self, Code, Outcome};
use crate::driver::{self, CONTEXT, CURRENT, Driver};
use crate::settings::Settings;

/// What the device calls itself: no report may take it for a GPU.
const NAME: &str = "MMSB simulated driver";

/// `CU_DEVICE_ATTRIBUTE_*` that are answered.
const MAX_THREADS_PER_BLOCK: c_int = 1;
const MULTIPROCESSOR_COUNT: c_int = 16;
const UNIFIED_ADDRESSING: c_int = 41;
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;
const VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: c_int = 102;

/// Does something with the driver, of which it is enough that it was initialized.
fn with_initialized(does: impl FnOnce(&mut Driver) -> Outcome) -> Code {
    let mut guard = driver::locked();
    code(guard.as_mut().ok_or(codes::NOT_INITIALIZED).and_then(does))
}

/// Reads the environment and makes the device, the first time.
#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> Code {
    if flags != 0 {
        return codes::INVALID_VALUE;
    }
    let mut guard = driver::locked();
    if guard.is_some() {
        return codes::SUCCESS;
    }
    let Ok(settings) = Settings::from_environment() else {
        return codes::INVALID_VALUE;
    };
    if settings.init_error != codes::SUCCESS {
        return settings.init_error;
    }
    if settings.devices == 0 {
        return codes::NO_DEVICE;
    }
    match Driver::new(settings) {
        Ok(made) => {
            *guard = Some(made);
            codes::SUCCESS
        }
        Err(_) => codes::INVALID_VALUE,
    }
}

/// The version of CUDA that the driver supports; see `MMSB_SIM_VERSION`. Also before `cuInit`.
///
/// # Safety
/// `version` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Code {
    let Ok(settings) = Settings::from_environment() else {
        return codes::INVALID_VALUE;
    };
    // SAFETY: as the caller says.
    code(unsafe { give(version, settings.version as c_int) })
}

/// How many devices there are.
///
/// # Safety
/// `count` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Code {
    // SAFETY: as the caller says.
    with_initialized(|driver| unsafe { give(count, driver.settings.devices as c_int) })
}

/// The device of a number.
///
/// # Safety
/// `device` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Code {
    with_initialized(|_| {
        check_device(ordinal)?;
        // SAFETY: as the caller says.
        unsafe { give(device, ordinal) }
    })
}

fn check_device(device: c_int) -> Outcome {
    if device == 0 {
        Ok(())
    } else {
        Err(codes::INVALID_DEVICE)
    }
}

/// The name of a device.
///
/// # Safety
/// `name` is valid for writing `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> Code {
    with_initialized(|_| {
        check_device(device)?;
        if name.is_null() || len < 1 {
            return Err(codes::INVALID_VALUE);
        }
        let kept = NAME.len().min(len as usize - 1);
        // SAFETY: at most `len` bytes are written with the closing zero, as many as the caller allows.
        unsafe {
            std::ptr::copy_nonoverlapping(NAME.as_ptr(), name.cast(), kept);
            name.add(kept).write(0);
        }
        Ok(())
    })
}

/// The memory of a device.
///
/// # Safety
/// `bytes` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> Code {
    with_initialized(|driver| {
        check_device(device)?;
        // SAFETY: as the caller says.
        unsafe { give(bytes, driver.memory.total_bytes() as usize) }
    })
}

/// A property of a device.
///
/// # Safety
/// `value` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: c_int,
    device: c_int,
) -> Code {
    with_initialized(|driver| {
        check_device(device)?;
        let capability = driver.settings.capability as c_int;
        let found = match attribute {
            MAX_THREADS_PER_BLOCK => 1024,
            MULTIPROCESSOR_COUNT => 4,
            UNIFIED_ADDRESSING | VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED => 1,
            CAPABILITY_MAJOR => capability / 10,
            CAPABILITY_MINOR => capability % 10,
            _ => return Err(codes::INVALID_VALUE),
        };
        // SAFETY: as the caller says.
        unsafe { give(value, found) }
    })
}

/// Gives the context, and counts its users.
///
/// # Safety
/// `context` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut u64, device: c_int) -> Code {
    with_initialized(|driver| {
        check_device(device)?;
        driver.retain();
        // SAFETY: as the caller says.
        unsafe { give(context, CONTEXT) }
    })
}

/// One user less; with the last one, what was not given back is counted.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Code {
    with_initialized(|driver| {
        check_device(device)?;
        driver.release()
    })
}

/// Starts over, whoever uses the context.
#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset_v2(device: c_int) -> Code {
    with_initialized(|driver| {
        check_device(device)?;
        driver.reset().map_err(|_| codes::UNKNOWN)
    })
}

/// The context of this thread, or null.
///
/// # Safety
/// `context` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCurrent(context: *mut u64) -> Code {
    let current = CURRENT.with_borrow(|stack| stack.last().copied().unwrap_or(0));
    // SAFETY: as the caller says.
    with_initialized(|_| unsafe { give(context, current) })
}

/// Replaces the context of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: u64) -> Code {
    with_initialized(|_| {
        CURRENT.with_borrow_mut(|stack| {
            stack.pop();
            match context {
                0 => Ok(()),
                CONTEXT => {
                    stack.push(context);
                    Ok(())
                }
                _ => Err(codes::INVALID_CONTEXT),
            }
        })
    })
}

/// Makes a context current, until it is popped.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: u64) -> Code {
    with_initialized(|_| {
        if context != CONTEXT {
            return Err(codes::INVALID_CONTEXT);
        }
        CURRENT.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    })
}

/// Makes the context of before current again.
///
/// # Safety
/// `context` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut u64) -> Code {
    with_initialized(|_| {
        let popped = CURRENT.with_borrow_mut(Vec::pop);
        let popped = popped.ok_or(codes::INVALID_CONTEXT)?;
        if context.is_null() {
            return Ok(());
        }
        // SAFETY: as the caller says.
        unsafe { give(context, popped) }
    })
}

/// Waits for all work.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> Code {
    code(driver::with("cuCtxSynchronize", Driver::drain))
}

/// The name of a code.
///
/// # Safety
/// `text` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(error: Code, text: *mut *const c_char) -> Code {
    let Some((name, _)) = codes::describe(error) else {
        return codes::INVALID_VALUE;
    };
    // SAFETY: as the caller says; the text is static.
    code(unsafe { give(text, name.as_ptr().cast()) })
}

/// What a code means.
///
/// # Safety
/// `text` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: Code, text: *mut *const c_char) -> Code {
    let Some((_, meaning)) = codes::describe(error) else {
        return codes::INVALID_VALUE;
    };
    // SAFETY: as the caller says; the text is static.
    code(unsafe { give(text, meaning.as_ptr().cast()) })
}
