//! The functions of the driver that are called, looked up once.
//!
//! The library is found, and the structures of its interface are described, by `cudarc`. Its wrappers are not used: they panic where a
//! function is missing, and they return an enumeration, which is undefined behaviour as soon as a newer driver returns a code that the
//! enumeration does not know. Here a missing function is a reason, and a code is a number.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};

use cudarc::driver::sys;

use crate::device::DeviceError;

/// What a driver call returns: 0, or what went wrong.
pub(super) type Code = u32;

/// A context, stream, event, module or function: a pointer that only the driver follows.
pub(super) type Handle = usize;

/// An address of device memory.
pub(super) type Address = u64;

pub(super) const SUCCESS: Code = 0;
pub(super) const OUT_OF_MEMORY: Code = 2;
pub(super) const NOT_READY: Code = 600;

macro_rules! functions {
    ($($name:ident = $symbol:literal ($($parameter:ty),* $(,)?);)*) => {
        /// The functions of the driver.
        #[derive(Debug, Clone, Copy)]
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($parameter),*) -> Code,)*
        }

        impl Api {
            /// Looks all of them up; the name of the first that is missing otherwise.
            ///
            /// # Safety
            /// [`sys::is_culib_present`] said so.
            unsafe fn find() -> Result<Self, &'static str> {
                // SAFETY: the library is there, so this does not panic.
                let library = unsafe { sys::culib() };
                Ok(Self {
                    $(
                        $name: {
                            type Function = unsafe extern "C" fn($($parameter),*) -> Code;
                            // SAFETY: the symbol, if there is one, is the function of that name of the driver's interface, which has
                            // had this signature since CUDA 12.0 at the latest. The library is never unloaded.
                            let found = unsafe { library.get::<Function>($symbol.as_bytes()) };
                            *found.map_err(|_| $symbol)?
                        },
                    )*
                })
            }
        }
    };
}

functions! {
    init = "cuInit" (c_uint);
    driver_version = "cuDriverGetVersion" (*mut c_int);
    device_count = "cuDeviceGetCount" (*mut c_int);
    device = "cuDeviceGet" (*mut c_int, c_int);
    device_name = "cuDeviceGetName" (*mut c_char, c_int, c_int);
    device_memory = "cuDeviceTotalMem_v2" (*mut usize, c_int);
    device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_uint, c_int);
    context_retain = "cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    context_release = "cuDevicePrimaryCtxRelease_v2" (c_int);
    context_current = "cuCtxGetCurrent" (*mut Handle);
    context_push = "cuCtxPushCurrent_v2" (Handle);
    context_pop = "cuCtxPopCurrent_v2" (*mut Handle);
    granularity = "cuMemGetAllocationGranularity" (*mut usize, *const sys::CUmemAllocationProp, c_uint);
    reserve = "cuMemAddressReserve" (*mut Address, usize, usize, Address, c_ulonglong);
    free_reservation = "cuMemAddressFree" (Address, usize);
    create = "cuMemCreate" (*mut u64, usize, *const sys::CUmemAllocationProp, c_ulonglong);
    release = "cuMemRelease" (u64);
    map = "cuMemMap" (Address, usize, usize, u64, c_ulonglong);
    unmap = "cuMemUnmap" (Address, usize);
    set_access = "cuMemSetAccess" (Address, usize, *const sys::CUmemAccessDesc, usize);
    allocate = "cuMemAlloc_v2" (*mut Address, usize);
    free = "cuMemFree_v2" (Address);
    host_allocate = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    host_free = "cuMemFreeHost" (*mut c_void);
    copy_to_device = "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Handle);
    copy_to_host = "cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, Handle);
    set_bytes = "cuMemsetD8Async" (Address, u8, usize, Handle);
    stream_create = "cuStreamCreate" (*mut Handle, c_uint);
    stream_destroy = "cuStreamDestroy_v2" (Handle);
    stream_synchronize = "cuStreamSynchronize" (Handle);
    stream_wait_event = "cuStreamWaitEvent" (Handle, Handle, c_uint);
    event_create = "cuEventCreate" (*mut Handle, c_uint);
    event_destroy = "cuEventDestroy_v2" (Handle);
    event_record = "cuEventRecord" (Handle, Handle);
    event_query = "cuEventQuery" (Handle);
    event_synchronize = "cuEventSynchronize" (Handle);
    module_load = "cuModuleLoadDataEx" (*mut Handle, *const c_void, c_uint, *mut c_uint, *mut *mut c_void);
    module_unload = "cuModuleUnload" (Handle);
    module_function = "cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    launch = "cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
    error_name = "cuGetErrorName" (Code, *mut *const c_char);
    error_text = "cuGetErrorString" (Code, *mut *const c_char);
}

impl Api {
    /// Finds the library and its functions. It is not initialized.
    pub(super) fn load() -> Result<Self, DeviceError> {
        // SAFETY: loading a library runs its initializers; that of the driver may be run at any time.
        if !unsafe { sys::is_culib_present() } {
            return Err(unavailable(
                "the CUDA driver (libcuda) is not installed, or not in the library path; install NVIDIA's driver".into(),
            ));
        }
        // SAFETY: the library is present.
        unsafe { Self::find() }.map_err(|symbol| {
            unavailable(format!(
                "the CUDA driver has no function {symbol}; install a driver for CUDA 12.0 or newer (525 or newer)"
            ))
        })
    }

    /// The name of a code and what it means, in the driver's words.
    pub(super) fn describe(&self, code: Code) -> String {
        let text = |function: unsafe extern "C" fn(Code, *mut *const c_char) -> Code| {
            let mut text = std::ptr::null();
            // SAFETY: the driver writes a pointer to text that it never changes, or leaves null.
            let outcome = unsafe { function(code, &raw mut text) };
            (outcome == SUCCESS && !text.is_null())
                // SAFETY: not null, so text that ends in a zero byte.
                .then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy())
        };
        match (text(self.error_name), text(self.error_text)) {
            (Some(name), Some(meaning)) => format!("{meaning} ({name}, {code})"),
            _ => format!("error {code} of the CUDA driver, which has no name for it"),
        }
    }
}

/// There is no GPU to be used.
pub(super) const fn unavailable(reason: String) -> DeviceError {
    DeviceError::Unavailable {
        kind: "cuda",
        reason,
    }
}
