//! The functions as a program calls them, and that mistakes are found.
//!
//! There is one driver in the process, so this is one test.

use std::ffi::c_void;

use super::context::*;
use super::control::*;
use super::memory::*;
use super::module::*;
use super::queue::*;
use crate::codes;

fn found() -> u64 {
    mmsb_sim_violations()
}

/// A stream and pinned memory of 4096 bytes.
fn setup() -> (u64, *mut c_void) {
    let (mut context, mut stream, mut pinned) = (0, 0, std::ptr::null_mut());
    // SAFETY: all pointers are to places of the right types.
    unsafe {
        assert_eq!(cuDevicePrimaryCtxRetain(&raw mut context, 0), 0);
        // Nothing works in no context.
        let before = found();
        assert_eq!(cuStreamCreate(&raw mut stream, 1), codes::INVALID_CONTEXT);
        assert_eq!(found(), before + 1);
        assert_eq!(cuCtxPushCurrent_v2(context), 0);
        assert_eq!(cuStreamCreate(&raw mut stream, 1), 0);
        assert_eq!(cuMemHostAlloc(&raw mut pinned, 4096, 0), 0);
    }
    (stream, pinned)
}

fn allocate(len_bytes: usize) -> u64 {
    let mut start = 0;
    // SAFETY: the pointer is to a place of the right type.
    assert_eq!(unsafe { cuMemAlloc_v2(&raw mut start, len_bytes) }, 0);
    start
}

#[test]
fn mistakes_are_found() {
    assert_eq!(cuCtxSynchronize(), codes::NOT_INITIALIZED);
    assert_eq!(cuInit(0), 0);
    let (stream, pinned) = setup();
    let before = found();

    // Work runs when somebody waits, and memory is poisoned until then.
    let memory = allocate(4096);
    assert_eq!(cuMemsetD8Async(memory, 7, 4096, stream), 0);
    // SAFETY: the copies are between 4096 pinned bytes and as many of the device; reading them is ordered behind the wait.
    unsafe {
        assert_eq!(cuMemcpyDtoHAsync_v2(pinned, memory, 4096, stream), 0);
        assert_eq!(pinned.cast::<u8>().read(), 0xdb);
        assert_eq!(cuStreamQuery(stream), codes::NOT_READY);
        assert_eq!(cuStreamSynchronize(stream), 0);
        assert_eq!(cuStreamQuery(stream), 0);
        assert_eq!(pinned.cast::<u8>().add(4095).read(), 7);
    }
    assert_eq!(found(), before, "all that was right");

    // One byte too many, in each direction.
    assert_eq!(
        cuMemsetD8Async(memory, 7, 4097, stream),
        codes::INVALID_VALUE
    );
    assert_eq!(
        cuMemsetD8Async(memory - 1, 7, 2, stream),
        codes::INVALID_VALUE
    );
    assert_eq!(found(), before + 2);
    // Host memory that is not pinned.
    let mut plain = [0u8; 16];
    // SAFETY: the memory is there; the copy is refused.
    let code = unsafe { cuMemcpyDtoHAsync_v2(plain.as_mut_ptr().cast(), memory, 16, stream) };
    assert_eq!((code, found()), (codes::INVALID_VALUE, before + 3));
    // Ranges that overlap.
    assert_eq!(
        cuMemcpyDtoDAsync_v2(memory, memory + 8, 16, stream),
        codes::INVALID_VALUE
    );
    assert_eq!(found(), before + 4);

    // Two streams and no order.
    let mut other = 0;
    // SAFETY: the pointer is to a place of the right type.
    assert_eq!(unsafe { cuStreamCreate(&raw mut other, 1) }, 0);
    assert_eq!(cuMemsetD8Async(memory, 1, 10, stream), 0);
    assert_eq!(cuMemsetD8Async(memory + 9, 1, 10, other), 0);
    assert_eq!(cuCtxSynchronize(), 0);
    assert_eq!(found(), before + 5, "a race");
    let mut event = 0;
    // SAFETY: as above.
    assert_eq!(unsafe { cuEventCreate(&raw mut event, 2) }, 0);
    assert_eq!(cuMemsetD8Async(memory, 1, 10, stream), 0);
    assert_eq!(cuEventRecord(event, stream), 0);
    assert_eq!(cuStreamWaitEvent(other, event, 0), 0);
    assert_eq!(cuMemsetD8Async(memory + 9, 1, 10, other), 0);
    assert_eq!(cuCtxSynchronize(), 0);
    assert_eq!(found(), before + 5, "no race");

    // Giving back twice.
    assert_eq!(cuMemFree_v2(memory), 0);
    assert_eq!(cuMemFree_v2(memory), codes::INVALID_VALUE);
    assert_eq!(cuEventDestroy_v2(event), 0);
    assert_eq!(cuEventDestroy_v2(event), codes::INVALID_HANDLE);

    kernels_are_checked(stream, before + 5);
    memory_that_went_away(stream);
    leaks_are_counted();
}

const PTX: &str = concat!(include_str!("../../../kernels/mmsb.ptx"), "\0");

/// Launches `mmsb_fill` on `len_bytes` bytes from `to` on.
fn fill(function: u64, stream: u64, to: u64, len_bytes: u64, threads: u32) -> u32 {
    let byte = 9u32;
    let mut params = [
        (&raw const to).cast_mut().cast::<c_void>(),
        (&raw const len_bytes).cast_mut().cast(),
        (&raw const byte).cast_mut().cast(),
    ];
    let extra = std::ptr::null_mut();
    // SAFETY: three pointers to values of 8, 8 and 4 bytes, as the kernel takes.
    unsafe {
        let (params, shared) = (params.as_mut_ptr(), 0);
        cuLaunchKernel(
            function, 1, 1, 1, threads, 1, 1, shared, stream, params, extra,
        )
    }
}

fn kernels_are_checked(stream: u64, before: u64) {
    let (mut module, mut function) = (0, 0);
    let ptx = PTX.replace(
        ".param .u32 mmsb_fill_param_2",
        ".param .u64 mmsb_fill_param_2",
    );
    // SAFETY: texts end in a zero byte; the pointers are to places of the right types.
    unsafe {
        let code = cuModuleLoadData(&raw mut module, ptx.as_ptr().cast());
        assert_eq!(code, codes::INVALID_PTX, "a parameter of another length");
        assert_eq!(cuModuleLoadData(&raw mut module, PTX.as_ptr().cast()), 0);
        let name = c"mmsb_fill".as_ptr();
        assert_eq!(cuModuleGetFunction(&raw mut function, module, name), 0);
        let name = c"mmsb_flee".as_ptr();
        let code = cuModuleGetFunction(&raw mut function, module, name);
        assert_eq!(code, codes::NOT_FOUND);
    }
    let memory = allocate(100);
    assert_eq!(fill(function, stream, memory, 100, 256), 0);
    assert_eq!(cuStreamSynchronize(stream), 0);
    // SAFETY: allocated just now; the work was waited for.
    assert_eq!(unsafe { (memory as *const u8).add(99).read() }, 9);
    assert_eq!(
        fill(function, stream, memory, 100, 128),
        codes::INVALID_VALUE,
        "other threads"
    );
    assert_eq!(found(), before + 2);
    // One byte too many: the context is of no use afterwards.
    assert_eq!(fill(function, stream, memory, 101, 256), 0);
    assert_eq!(cuStreamSynchronize(stream), codes::ILLEGAL_ADDRESS);
    assert_eq!(cuMemFree_v2(memory), codes::ILLEGAL_ADDRESS);
    assert_eq!(found(), before + 3);
    assert_eq!(cuDevicePrimaryCtxReset_v2(0), 0);
}

/// Memory that is unmapped while work is to go there.
fn memory_that_went_away(old_stream: u64) {
    assert_eq!(cuStreamSynchronize(old_stream), codes::INVALID_HANDLE);
    let before = found();
    let (mut stream, mut start) = (0, 0);
    // SAFETY: the pointers are to places of the right types.
    unsafe {
        assert_eq!(cuStreamCreate(&raw mut stream, 1), 0);
        assert_eq!(cuMemAlloc_v2(&raw mut start, 64), 0);
    }
    let mut pinned = std::ptr::null_mut();
    // SAFETY: as above; the copy is of 64 pinned bytes.
    unsafe {
        assert_eq!(cuMemHostAlloc(&raw mut pinned, 64, 0), 0);
        assert_eq!(cuMemcpyHtoDAsync_v2(start, pinned, 64, stream), 0);
    }
    assert_eq!(cuMemFreeHost(pinned), 0);
    assert_eq!(cuStreamSynchronize(stream), codes::ILLEGAL_ADDRESS);
    assert_eq!(found(), before + 1);
    assert_eq!(cuDevicePrimaryCtxReset_v2(0), 0);
}

fn leaks_are_counted() {
    let _leaked = allocate(64);
    let before = (found(), mmsb_sim_leaks());
    assert_eq!(cuDevicePrimaryCtxRelease_v2(0), 0);
    assert_eq!((found(), mmsb_sim_leaks()), (before.0 + 1, before.1 + 1));
}
