//! Memory: reserved, allocated, mapped and pinned.
#![allow(non_snake_case, reason = "the names are CUDA's")]

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

use super::{code, give};
use crate::codes::{self, Code};
use crate::driver;
use crate::faults::Kind;
use crate::physical::GRANULE_BYTES;

/// `CUmemLocation`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Location {
    kind: c_uint,
    id: c_int,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Debug)]
pub struct AllocationProperties {
    kind: c_uint,
    requested_handle_types: c_uint,
    location: Location,
    win32_meta_data: *mut c_void,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Debug)]
pub struct AccessDescription {
    location: Location,
    flags: c_uint,
}

const ALLOCATION_PINNED: c_uint = 1;
const LOCATION_DEVICE: c_uint = 1;
const ACCESS_READ_WRITE: c_uint = 3;

impl Location {
    const fn is_device(self) -> bool {
        self.kind == LOCATION_DEVICE && self.id == 0
    }
}

/// # Safety
/// `properties` is null or valid.
unsafe fn is_supported(properties: *const AllocationProperties) -> bool {
    // SAFETY: as the caller says.
    unsafe { properties.as_ref() }.is_some_and(|properties| {
        properties.kind == ALLOCATION_PINNED
            && properties.requested_handle_types == 0
            && properties.location.is_device()
    })
}

/// The unit in which memory is created and mapped.
///
/// # Safety
/// Both pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    properties: *const AllocationProperties,
    _option: c_uint,
) -> Code {
    // SAFETY: as the caller says.
    if !unsafe { is_supported(properties) } {
        return codes::INVALID_VALUE;
    }
    // SAFETY: as the caller says.
    code(unsafe { give(granularity, GRANULE_BYTES as usize) })
}

/// Reserves addresses.
///
/// # Safety
/// `start` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAddressReserve(
    start: *mut u64,
    len_bytes: usize,
    alignment: usize,
    _wanted: u64,
    flags: c_ulonglong,
) -> Code {
    code(driver::with("cuMemAddressReserve", |driver| {
        if flags != 0 {
            return Err(codes::INVALID_VALUE);
        }
        let found = driver.memory.reserve(len_bytes as u64, alignment as u64)?;
        // SAFETY: as the caller says.
        unsafe { give(start, found) }
    }))
}

/// Gives a reservation back, whole and empty.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressFree(start: u64, len_bytes: usize) -> Code {
    code(driver::with("cuMemAddressFree", |driver| {
        driver.strike(Kind::Release, codes::UNKNOWN)?;
        driver.memory.free_reservation(start, len_bytes as u64)
    }))
}

/// Takes memory of the device, without an address.
///
/// # Safety
/// Both pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemCreate(
    handle: *mut u64,
    len_bytes: usize,
    properties: *const AllocationProperties,
    flags: c_ulonglong,
) -> Code {
    code(driver::with("cuMemCreate", |driver| {
        // SAFETY: as the caller says.
        if flags != 0 || handle.is_null() || !unsafe { is_supported(properties) } {
            return Err(codes::INVALID_VALUE);
        }
        driver.strike(Kind::Create, codes::OUT_OF_MEMORY)?;
        let made = driver.memory.create(len_bytes as u64)?;
        // SAFETY: as the caller says.
        unsafe { give(handle, made) }
    }))
}

/// Gives memory back, when it is mapped nowhere any more.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemRelease(handle: u64) -> Code {
    code(driver::with("cuMemRelease", |driver| {
        driver.strike(Kind::Release, codes::UNKNOWN)?;
        driver.memory.release(handle)
    }))
}

/// Gives memory an address.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemMap(
    start: u64,
    len_bytes: usize,
    offset: usize,
    handle: u64,
    flags: c_ulonglong,
) -> Code {
    code(driver::with("cuMemMap", |driver| {
        if offset != 0 || flags != 0 {
            return Err(codes::INVALID_VALUE);
        }
        driver.strike(Kind::Map, codes::OUT_OF_MEMORY)?;
        driver.memory.map(start, len_bytes as u64, handle)
    }))
}

/// Takes the address of memory away. Work that goes there afterwards fails, whenever it was submitted.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemUnmap(start: u64, len_bytes: usize) -> Code {
    code(driver::with("cuMemUnmap", |driver| {
        driver.strike(Kind::Release, codes::UNKNOWN)?;
        driver.memory.unmap(start, len_bytes as u64)
    }))
}

/// Lets the device access what is mapped.
///
/// # Safety
/// `descriptions` points to `count` descriptions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemSetAccess(
    start: u64,
    len_bytes: usize,
    descriptions: *const AccessDescription,
    count: usize,
) -> Code {
    code(driver::with("cuMemSetAccess", |driver| {
        if descriptions.is_null() || count != 1 {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: not null, and one description, as the caller says.
        let description = unsafe { &*descriptions };
        if !description.location.is_device() || description.flags != ACCESS_READ_WRITE {
            return Err(codes::INVALID_VALUE);
        }
        driver.memory.set_access(start, len_bytes as u64)
    }))
}

/// How much memory is free, and how much there is.
///
/// # Safety
/// Both pointers are null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Code {
    code(driver::with("cuMemGetInfo", |driver| {
        // SAFETY: as the caller says.
        unsafe {
            give(free, driver.memory.free_bytes() as usize)?;
            give(total, driver.memory.total_bytes() as usize)
        }
    }))
}

/// Takes memory of the device, with an address.
///
/// # Safety
/// `start` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(start: *mut u64, len_bytes: usize) -> Code {
    code(driver::with("cuMemAlloc", |driver| {
        driver.strike(Kind::Create, codes::OUT_OF_MEMORY)?;
        let made = driver.memory.allocate_plain(len_bytes as u64)?;
        // SAFETY: as the caller says.
        unsafe { give(start, made) }
    }))
}

/// Gives memory of `cuMemAlloc` back, after all work.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(start: u64) -> Code {
    code(driver::with("cuMemFree", |driver| {
        driver.strike(Kind::Release, codes::UNKNOWN)?;
        driver.drain()?;
        driver.memory.free_plain(start)
    }))
}

/// Pins host memory. Of the flags, the one for write-combined memory is refused: it is slow to read, and nothing here wants it.
///
/// # Safety
/// `start` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(
    start: *mut *mut c_void,
    len_bytes: usize,
    flags: c_uint,
) -> Code {
    const PORTABLE: c_uint = 1;
    const DEVICE_MAP: c_uint = 2;
    code(driver::with("cuMemHostAlloc", |driver| {
        if flags & !(PORTABLE | DEVICE_MAP) != 0 {
            return Err(codes::INVALID_VALUE);
        }
        driver.strike(Kind::Pin, codes::OUT_OF_MEMORY)?;
        let made = driver.memory.pin(len_bytes as u64)?;
        // SAFETY: as the caller says.
        unsafe { give(start, made as *mut c_void) }
    }))
}

/// Gives pinned memory back. Work that uses it afterwards fails.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(start: *mut c_void) -> Code {
    code(driver::with("cuMemFreeHost", |driver| {
        driver.strike(Kind::Release, codes::UNKNOWN)?;
        driver.memory.unpin(start as u64)
    }))
}
