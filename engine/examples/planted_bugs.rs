//! Runs a kernel with a planted mistake, for one tool of compute-sanitizer to find: `planted_bugs memcheck|racecheck|initcheck|synccheck`.
//!
//! `ci/gpu` takes it as a control: a tool that finds nothing here says nothing about the kernels of the engine.
#![allow(
    clippy::panic,
    reason = "a control that does not run has to be noticed"
)]

use std::ffi::{CString, c_void};

use cudarc::driver::sys;

const PTX: &str = concat!(include_str!("../../ci/gpu-controls/planted.ptx"), "\0");
const COUNT: u32 = 256;

fn check(call: &str, code: sys::CUresult) {
    assert!(code == sys::CUresult::CUDA_SUCCESS, "{call}: {code:?}");
}

fn main() {
    let tool = std::env::args().nth(1).unwrap_or_default();
    let Ok(name) = CString::new(format!("planted_{tool}")) else {
        panic!("{tool} is no tool");
    };
    // SAFETY: the driver is called as its documentation says, in one thread, with pointers to places of the right types; what the kernel
    // does wrong stays on the device.
    unsafe {
        assert!(sys::is_culib_present(), "there is no CUDA driver");
        check("cuInit", sys::cuInit(0));
        let mut context = std::ptr::null_mut();
        check(
            "cuDevicePrimaryCtxRetain",
            sys::cuDevicePrimaryCtxRetain(&raw mut context, 0),
        );
        check("cuCtxSetCurrent", sys::cuCtxSetCurrent(context));
        let mut module = std::ptr::null_mut();
        check(
            "cuModuleLoadData",
            sys::cuModuleLoadData(&raw mut module, PTX.as_ptr().cast()),
        );
        let mut kernel = std::ptr::null_mut();
        check(
            "cuModuleGetFunction",
            sys::cuModuleGetFunction(&raw mut kernel, module, name.as_ptr()),
        );
        let mut data = 0;
        check(
            "cuMemAlloc",
            sys::cuMemAlloc_v2(&raw mut data, COUNT as usize * 4),
        );
        // The first half only: the other one is what initcheck is to miss.
        let half = COUNT as usize / 2;
        check("cuMemsetD32", sys::cuMemsetD32_v2(data, 1, half));
        let mut count = COUNT;
        let mut params: [*mut c_void; 2] = [(&raw mut data).cast(), (&raw mut count).cast()];
        let (stream, extra) = (std::ptr::null_mut(), std::ptr::null_mut());
        check(
            "cuLaunchKernel",
            sys::cuLaunchKernel(
                kernel,
                1,
                1,
                1,
                COUNT,
                1,
                1,
                0,
                stream,
                params.as_mut_ptr(),
                extra,
            ),
        );
        // An error here is what the mistake may lead to; the tool reports it.
        let _outcome = sys::cuCtxSynchronize();
    }
}
