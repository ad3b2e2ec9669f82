//! Whether there is a GPU to test on, and what the simulated driver says, if that is what there is.
//!
//! `MMSB_GPU=require` turns a skip into a failure, `off` touches no driver, `auto` (the default) takes what there is.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::sync::Arc;

use mmsb_engine::device::Device;

/// Whether there is a GPU, real or simulated.
pub enum Gpu {
    /// Tests run; if there is none after all, they fail.
    Run,
    /// Tests are skipped, for this reason.
    Skip(String),
}

pub fn gpu() -> Gpu {
    match std::env::var("MMSB_GPU").as_deref() {
        Ok("require") => Gpu::Run,
        Ok("off") => Gpu::Skip("MMSB_GPU=off".into()),
        Ok("auto") | Err(_) => match look() {
            Ok(_) => Gpu::Run,
            Err(reason) => Gpu::Skip(reason),
        },
        Ok(other) => panic!("MMSB_GPU={other}: it can be require, auto or off"),
    }
}

#[cfg(not(feature = "cuda"))]
fn look() -> Result<String, String> {
    Err("built without the feature cuda".into())
}

#[cfg(not(feature = "cuda"))]
pub fn open(_memory_bytes: u64) -> Arc<dyn Device> {
    panic!("built without the feature cuda");
}

#[cfg(feature = "cuda")]
pub use with_cuda::*;

#[cfg(feature = "cuda")]
mod with_cuda {
    use std::ffi::{CString, c_char};

    use cudarc::driver::sys;
    use mmsb_engine::device::cuda::{CudaDevice, CudaOptions};

    use super::{Arc, Device};

    pub(super) fn look() -> Result<String, String> {
        CudaDevice::look(0).map_err(|error| error.to_string())
    }

    pub fn options(memory_bytes: u64) -> CudaOptions {
        let mut options = CudaOptions::default();
        options.memory_limit_bytes = Some(memory_bytes);
        options
    }

    pub fn open(memory_bytes: u64) -> Arc<dyn Device> {
        Arc::new(open_cuda(memory_bytes))
    }

    pub fn open_cuda(memory_bytes: u64) -> CudaDevice {
        match CudaDevice::open(0, &options(memory_bytes)) {
            Ok(device) => device,
            Err(error) => panic!("{error}"),
        }
    }

    /// What only the simulated driver can do.
    #[derive(Clone, Copy)]
    pub struct Simulation {
        faults: unsafe extern "C" fn(*const c_char) -> u32,
        seed: unsafe extern "C" fn(u64) -> u32,
        violations: unsafe extern "C" fn() -> u64,
        violation: unsafe extern "C" fn(u64, *mut c_char, usize) -> u32,
        leaks: unsafe extern "C" fn() -> u64,
    }

    impl Simulation {
        /// `None` on a real driver, or without one.
        pub fn find() -> Option<Self> {
            // SAFETY: loading the driver runs its initializers; that is what it is for.
            if !unsafe { sys::is_culib_present() } {
                return None;
            }
            // SAFETY: the library is there; the functions have these types in `engine/driver`, and no other library has them.
            unsafe {
                let library = sys::culib();
                Some(Self {
                    faults: *library.get(b"mmsb_sim_faults").ok()?,
                    seed: *library.get(b"mmsb_sim_seed").ok()?,
                    violations: *library.get(b"mmsb_sim_violations").ok()?,
                    violation: *library.get(b"mmsb_sim_violation").ok()?,
                    leaks: *library.get(b"mmsb_sim_leaks").ok()?,
                })
            }
        }

        pub fn inject(&self, plan: &str) {
            let text = CString::new(plan).unwrap();
            // SAFETY: the text ends in a zero byte.
            let code = unsafe { (self.faults)(text.as_ptr()) };
            assert_eq!(code, 0, "{plan}");
        }

        pub fn seed(&self, seed: u64) {
            // SAFETY: takes a number.
            assert_eq!(unsafe { (self.seed)(seed) }, 0);
        }

        /// All that was found to be wrong so far, leaks included.
        pub fn violations(&self) -> Vec<String> {
            // SAFETY: takes nothing; and writes to a buffer of the length that is said.
            unsafe {
                let count = (self.violations)();
                let text = |position| {
                    let mut buffer = [0u8; 512];
                    (self.violation)(position, buffer.as_mut_ptr().cast(), buffer.len());
                    let end = buffer.iter().position(|byte| *byte == 0).unwrap();
                    String::from_utf8_lossy(&buffer[..end]).into_owned()
                };
                (0..count).map(text).collect()
            }
        }

        pub fn leaks(&self) -> u64 {
            // SAFETY: takes nothing.
            unsafe { (self.leaks)() }
        }
    }
}
