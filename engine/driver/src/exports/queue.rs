//! Streams, events, copies.
#![allow(non_snake_case, reason = "the names are CUDA's")]

use std::ffi::{c_uchar, c_uint, c_void};

use super::{code, give};
use crate::codes::{self, Code};
use crate::driver;
use crate::work::Job;

const NON_BLOCKING: c_uint = 1;
const DISABLE_TIMING: c_uint = 2;

/// Makes a stream. Only non-blocking ones: the others order themselves behind the default stream, which nothing here uses.
///
/// # Safety
/// `stream` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut u64, flags: c_uint) -> Code {
    code(driver::with("cuStreamCreate", |driver| {
        if flags != NON_BLOCKING || stream.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        let made = driver.queues.create_queue();
        // SAFETY: as the caller says.
        unsafe { give(stream, made) }
    }))
}

/// Destroys a stream, after its work.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: u64) -> Code {
    code(driver::with("cuStreamDestroy", |driver| {
        driver.run_until(|driver| Ok(driver.queues.queue(stream)?.pending.is_empty()))?;
        driver.queues.destroy_queue(stream)
    }))
}

/// Waits for all work of a stream.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: u64) -> Code {
    code(driver::with("cuStreamSynchronize", |driver| {
        driver.run_until(|driver| Ok(driver.queues.queue(stream)?.pending.is_empty()))?;
        driver.queues.see_done(stream)
    }))
}

/// Whether a stream has no work left. Asking executes a piece of work, so that whoever asks again and again comes to an end.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: u64) -> Code {
    code(driver::with("cuStreamQuery", |driver| {
        if !driver.queues.queue(stream)?.pending.is_empty() {
            driver.step()?;
            return Err(codes::NOT_READY);
        }
        driver.queues.see_done(stream)
    }))
}

/// Lets a stream wait for an event as it was recorded last.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: u64, event: u64, flags: c_uint) -> Code {
    code(driver::with("cuStreamWaitEvent", |driver| {
        if flags != 0 {
            return Err(codes::INVALID_VALUE);
        }
        driver.queues.wait_event(stream, event)
    }))
}

/// Makes an event. Only ones without timing: recording a time costs, and nothing here wants it.
///
/// # Safety
/// `event` is null or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut u64, flags: c_uint) -> Code {
    code(driver::with("cuEventCreate", |driver| {
        if flags & DISABLE_TIMING == 0 || event.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        let made = driver.queues.create_event();
        // SAFETY: as the caller says.
        unsafe { give(event, made) }
    }))
}

/// Destroys an event, once it is reached.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: u64) -> Code {
    code(driver::with("cuEventDestroy", |driver| {
        driver.queues.destroy_event(event)
    }))
}

/// The event is reached when what is in the stream now is done.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: u64, stream: u64) -> Code {
    code(driver::with("cuEventRecord", |driver| {
        driver.queues.record(event, stream)
    }))
}

/// Whether an event is reached. Asking executes a piece of work.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: u64) -> Code {
    code(driver::with("cuEventQuery", |driver| {
        if driver.queues.is_reached(event)? {
            return Ok(());
        }
        driver.step()?;
        Err(codes::NOT_READY)
    }))
}

/// Waits for an event.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: u64) -> Code {
    code(driver::with("cuEventSynchronize", |driver| {
        driver.run_until(|driver| driver.queues.is_reached(event))
    }))
}

/// Copies to the device.
///
/// # Safety
/// `from` points to `len_bytes` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    len_bytes: usize,
    stream: u64,
) -> Code {
    code(driver::with("cuMemcpyHtoDAsync", |driver| {
        let len_bytes = len_bytes as u64;
        // SAFETY: as the caller says.
        let from = unsafe { driver.source(from as u64, len_bytes) };
        let job = Job::ToDevice {
            to,
            from,
            len_bytes,
        };
        driver.submit(stream, job)
    }))
}

/// Copies from the device. To memory that is not pinned it waits.
///
/// # Safety
/// `to` points to `len_bytes` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    len_bytes: usize,
    stream: u64,
) -> Code {
    code(driver::with("cuMemcpyDtoHAsync", |driver| {
        let len_bytes = len_bytes as u64;
        let to = to as u64;
        if !driver.memory.is_pinned(to, len_bytes) {
            driver.violate("a copy to host memory that is not pinned".into());
            return Err(codes::INVALID_VALUE);
        }
        let job = Job::ToHost {
            to,
            from,
            len_bytes,
        };
        driver.submit(stream, job)
    }))
}

/// Copies on the device.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len_bytes: usize, stream: u64) -> Code {
    code(driver::with("cuMemcpyDtoDAsync", |driver| {
        let len_bytes = len_bytes as u64;
        let job = Job::Within {
            to,
            from,
            len_bytes,
        };
        if to < from + len_bytes && from < to + len_bytes {
            driver.violate("a copy on the device between ranges that overlap".into());
            return Err(codes::INVALID_VALUE);
        }
        driver.submit(stream, job)
    }))
}

/// Sets bytes.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, byte: c_uchar, count: usize, stream: u64) -> Code {
    code(driver::with("cuMemsetD8Async", |driver| {
        let job = Job::Set {
            to,
            pattern: vec![byte; count.min(4096)],
            len_bytes: count as u64,
        };
        driver.submit(stream, job)
    }))
}

/// Sets words of four bytes.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(to: u64, word: c_uint, count: usize, stream: u64) -> Code {
    code(driver::with("cuMemsetD32Async", |driver| {
        if !to.is_multiple_of(4) {
            return Err(codes::INVALID_VALUE);
        }
        let job = Job::Set {
            to,
            pattern: word.to_le_bytes().repeat(count.min(1024)),
            len_bytes: count as u64 * 4,
        };
        driver.submit(stream, job)
    }))
}
