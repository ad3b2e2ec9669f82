//! Modules and launches.
#![allow(non_snake_case, reason = "the names are CUDA's")]

use std::ffi::{CStr, c_char, c_uint, c_void};

use mmsb_kernels_cpu::Kernel;

use super::{code, give};
use crate::codes::{self, Code, Outcome};
use crate::dispatch::Launch;
use crate::driver;
use crate::faults::Kind;
use crate::work::Job;

/// Loads PTX.
///
/// # Safety
/// `module` is null or valid for writing; `image` is null, or text that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut u64,
    image: *const c_void,
    _option_count: c_uint,
    _options: *mut c_uint,
    _values: *mut *mut c_void,
) -> Code {
    // SAFETY: as the caller says.
    unsafe { cuModuleLoadData(module, image) }
}

/// Loads PTX.
///
/// # Safety
/// `module` is null or valid for writing; `image` is null, or text that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut u64, image: *const c_void) -> Code {
    code(driver::with("cuModuleLoadData", |driver| {
        if image.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: not null, so text that ends in a zero byte, as the caller says.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        let text = text.to_str().map_err(|_| codes::INVALID_IMAGE)?;
        driver.strike(Kind::Module, codes::UNSUPPORTED_PTX_VERSION)?;
        let made = driver.modules.load(text).map_err(|why| {
            driver.violate(why);
            codes::INVALID_PTX
        })?;
        // SAFETY: as the caller says.
        unsafe { give(module, made) }
    }))
}

/// Unloads a module.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: u64) -> Code {
    code(driver::with("cuModuleUnload", |driver| {
        driver.modules.unload(module)
    }))
}

/// A kernel of a module.
///
/// # Safety
/// `function` is null or valid for writing; `name` is null, or text that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut u64,
    module: u64,
    name: *const c_char,
) -> Code {
    code(driver::with("cuModuleGetFunction", |driver| {
        if name.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: not null, so text that ends in a zero byte, as the caller says.
        let name = unsafe { CStr::from_ptr(name) }.to_str();
        let found = driver
            .modules
            .function(module, name.map_err(|_| codes::INVALID_VALUE)?)?;
        // SAFETY: as the caller says.
        unsafe { give(function, found) }
    }))
}

/// Launches a kernel.
///
/// # Safety
/// `params` is null, or points to a pointer for each parameter of the kernel, each valid for reading a value of its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _shared_bytes: c_uint,
    stream: u64,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Code {
    code(driver::with("cuLaunchKernel", |driver| {
        let kernel = driver.modules.kernel(function)?;
        let is_flat = grid_y == 1 && grid_z == 1 && block_y == 1 && block_z == 1;
        if !is_flat || grid_x > i32::MAX as u32 || !extra.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: as the caller says.
        let values = unsafe { arguments(&kernel, params) }?;
        let seed = driver.draw();
        let Some(launch) = Launch::new(kernel, values, grid_x, block_x, seed) else {
            driver.violate(format!(
                "{} was launched with {grid_x} blocks of {block_x} threads",
                kernel.name()
            ));
            return Err(codes::INVALID_VALUE);
        };
        driver.submit(stream, Job::Launch(launch))
    }))
}

/// The values that a launch passes.
///
/// # Safety
/// As of `cuLaunchKernel`.
unsafe fn arguments(kernel: &Kernel, params: *mut *mut c_void) -> Outcome<Vec<u64>> {
    if params.is_null() {
        return Err(codes::INVALID_VALUE);
    }
    kernel
        .argument_lens()
        .iter()
        .enumerate()
        .map(|(position, len)| {
            // SAFETY: there is a pointer for each parameter, as the caller says.
            let value = unsafe { *params.add(position) };
            if value.is_null() {
                return Err(codes::INVALID_VALUE);
            }
            // SAFETY: it points to a value as long as the parameter, as the caller says.
            Ok(unsafe {
                match len {
                    4 => u64::from(value.cast::<u32>().read_unaligned()),
                    _ => value.cast::<u64>().read_unaligned(),
                }
            })
        })
        .collect()
}
