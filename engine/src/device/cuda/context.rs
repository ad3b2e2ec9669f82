//! The context of a device, and how its errors are told.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::api::{self, Address, Api, Code, Handle, unavailable};
use crate::device::DeviceError;

/// The name that the simulated driver gives its device.
const SIMULATED_NAME: &str = "MMSB simulated driver";

/// The oldest version of CUDA that the driver must support, as the driver counts.
const OLDEST_VERSION: c_int = 12_000;

/// The oldest compute capability that the kernels are compiled for, ten times.
const OLDEST_CAPABILITY: c_int = 75;

const ATTRIBUTE_MULTIPROCESSORS: c_uint = 16;
const ATTRIBUTE_UNIFIED_ADDRESSING: c_uint = 41;
const ATTRIBUTE_CAPABILITY_MAJOR: c_uint = 75;
const ATTRIBUTE_CAPABILITY_MINOR: c_uint = 76;
const ATTRIBUTE_VIRTUAL_MEMORY: c_uint = 102;

/// The primary context of a device, which it shares with everybody in the process who uses the device.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) api: Api,
    pub(super) device: c_int,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) memory_bytes: u64,
    pub(super) multiprocessors: u32,
    handle: Handle,
    is_broken: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

#[derive(Debug)]
struct Failure {
    error: DeviceError,
    is_final: bool,
}

/// Keeps the context current on this thread.
#[derive(Debug)]
pub(super) struct Current<'a> {
    context: &'a Context,
    is_pushed: bool,
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        if self.is_pushed {
            let mut popped = 0;
            // SAFETY: the context was pushed on this thread by `Context::enter`, and everybody who pushed one since has popped it. That
            // it can fail only says that the driver is shutting down.
            let _unreported = unsafe { (self.context.api.context_pop)(&raw mut popped) };
        }
    }
}

/// What is known of a device before its context is made.
#[derive(Debug)]
struct Found {
    api: Api,
    device: c_int,
    name: String,
    driver: String,
    memory_bytes: u64,
    multiprocessors: u32,
}

/// Looks whether there is a device that could be used; says why not otherwise. Makes no context.
pub(super) fn look(ordinal: u32) -> Result<String, DeviceError> {
    find(ordinal).map(|found| found.name)
}

fn find(ordinal: u32) -> Result<Found, DeviceError> {
    let api = Api::load()?;
    let check = |call: &str, code| match code {
        api::SUCCESS => Ok(()),
        code => Err(unavailable(format!("{call}: {}", api.describe(code)))),
    };
    // SAFETY: flags are reserved and 0; it may be called any number of times.
    check("initializing the driver", unsafe { (api.init)(0) })?;
    let mut version = 0;
    // SAFETY: the driver writes one number to a place that is valid.
    check("asking for the driver's version", unsafe {
        (api.driver_version)(&raw mut version)
    })?;
    let version_text = format!("{}.{}", version / 1000, version % 1000 / 10);
    if version < OLDEST_VERSION {
        return Err(unavailable(format!(
            "the driver is for CUDA {version_text}; 12.0 or newer is needed (driver 525 or newer)"
        )));
    }
    let mut count = 0;
    // SAFETY: as above.
    check("counting devices", unsafe {
        (api.device_count)(&raw mut count)
    })?;
    let wanted = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    if wanted >= count {
        return Err(unavailable(format!(
            "there is no device {ordinal}, only {count}; see CUDA_VISIBLE_DEVICES"
        )));
    }
    let mut device = 0;
    // SAFETY: as above.
    check("finding the device", unsafe {
        (api.device)(&raw mut device, wanted)
    })?;
    let attribute = |attribute| {
        let mut value = 0;
        // SAFETY: as above, with a device that exists.
        let code = unsafe { (api.device_attribute)(&raw mut value, attribute, device) };
        check("asking for a property of the device", code).map(|()| value)
    };
    let (major, minor) = (
        attribute(ATTRIBUTE_CAPABILITY_MAJOR)?,
        attribute(ATTRIBUTE_CAPABILITY_MINOR)?,
    );
    if major * 10 + minor < OLDEST_CAPABILITY {
        return Err(unavailable(format!(
            "the device has compute capability {major}.{minor}; 7.5 or newer is needed"
        )));
    }
    if attribute(ATTRIBUTE_VIRTUAL_MEMORY)? == 0 || attribute(ATTRIBUTE_UNIFIED_ADDRESSING)? == 0 {
        return Err(unavailable(
            "the device cannot map memory to reserved addresses here; virtual machines and WDDM may forbid it".into(),
        ));
    }
    let mut memory_bytes = 0;
    // SAFETY: as above.
    check("asking for the device's memory", unsafe {
        (api.device_memory)(&raw mut memory_bytes, device)
    })?;
    Ok(Found {
        api,
        device,
        name: device_name(&api, device)
            .ok_or_else(|| unavailable("the device has no name".into()))?,
        driver: format!("CUDA {version_text}, compute capability {major}.{minor}"),
        memory_bytes: memory_bytes as u64,
        multiprocessors: attribute(ATTRIBUTE_MULTIPROCESSORS)?.unsigned_abs().max(1),
    })
}

fn device_name(api: &Api, device: c_int) -> Option<String> {
    let mut name = [0u8; 256];
    // SAFETY: the driver writes at most as many bytes as there are, with a closing zero.
    let code = unsafe { (api.device_name)(name.as_mut_ptr().cast(), name.len() as c_int, device) };
    let end = name.iter().position(|byte| *byte == 0)?;
    (code == api::SUCCESS)
        .then(|| String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned())
}

impl Context {
    /// Makes the context of the device `ordinal`, or joins those who use it already. Slow, the first time.
    pub(super) fn open(ordinal: u32) -> Result<Self, DeviceError> {
        let found = find(ordinal)?;
        let mut handle = 0;
        // SAFETY: the driver writes a handle to a place that is valid.
        let code = unsafe { (found.api.context_retain)(&raw mut handle, found.device) };
        if code != api::SUCCESS {
            return Err(unavailable(format!(
                "making the context: {}; another process may have the device to itself",
                found.api.describe(code)
            )));
        }
        Ok(Self {
            api: found.api,
            device: found.device,
            name: found.name,
            driver: found.driver,
            memory_bytes: found.memory_bytes,
            multiprocessors: found.multiprocessors,
            handle,
            is_broken: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    pub(super) fn is_simulated(&self) -> bool {
        self.name == SIMULATED_NAME
    }

    /// Makes the context current on this thread, as long as the guard lives. Another one that was current is so again afterwards.
    pub(super) fn enter(&self) -> Result<Current<'_>, DeviceError> {
        let mut current = 0;
        // SAFETY: the driver writes a handle to a place that is valid.
        let code = unsafe { (self.api.context_current)(&raw mut current) };
        if code == api::SUCCESS && current == self.handle {
            return Ok(Current {
                context: self,
                is_pushed: false,
            });
        }
        // SAFETY: the context lives as long as `self`.
        let code = unsafe { (self.api.context_push)(self.handle) };
        self.check("entering the context", code)?;
        Ok(Current {
            context: self,
            is_pushed: true,
        })
    }

    /// The failure that the device is of no use after, if there was one.
    #[inline]
    pub(super) fn check_health(&self) -> Result<(), DeviceError> {
        if !self.is_broken.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.failure.lock() {
            Some(failure) => Err(failure.error.clone()),
            None => Ok(()),
        }
    }

    /// Turns a code into an error, after which the device is of no use.
    #[inline]
    pub(super) fn check(&self, work: &'static str, code: Code) -> Result<(), DeviceError> {
        if code == api::SUCCESS {
            return Ok(());
        }
        Err(self.fail_with(work, code))
    }

    #[cold]
    fn fail_with(&self, work: &'static str, code: Code) -> DeviceError {
        let reason = self.api.describe(code);
        let error = match severity(code) {
            Severity::Gone => DeviceError::Lost { reason },
            _ => DeviceError::Failed { work, reason },
        };
        self.fail(error, severity(code) != Severity::Call)
    }

    /// Gives something back when it is dropped: makes the context current for that, and keeps an error.
    pub(super) fn give_back(&self, work: &'static str, call: impl FnOnce(&Api) -> Code) {
        // Otherwise the context is of no use, and takes what it has with it.
        if let Ok(_current) = self.enter() {
            self.report(work, call(&self.api));
        }
    }

    /// Keeps an error that came when something was given back; one that only repeats the failure of the device is not kept.
    pub(super) fn report(&self, work: &'static str, code: Code) {
        if code != api::SUCCESS && !self.is_broken.load(Ordering::Acquire) {
            super::closing::report(work, &self.api.describe(code));
        }
    }

    /// Remembers the first failure; returns it.
    pub(super) fn fail(&self, error: DeviceError, is_final: bool) -> DeviceError {
        let mut failure = self.failure.lock();
        let known = failure.get_or_insert(Failure {
            error,
            is_final: false,
        });
        known.is_final |= is_final;
        self.is_broken.store(true, Ordering::Release);
        known.error.clone()
    }

    /// Whether the context can be used again after its failure; forgets the failure then.
    pub(super) fn recover(&self) -> Result<(), DeviceError> {
        let mut failure = self.failure.lock();
        if let Some(failure) = &*failure
            && failure.is_final
        {
            return Err(match &failure.error {
                DeviceError::Failed { work, reason } => DeviceError::Lost {
                    reason: format!("{work} failed, and took the context with it: {reason}"),
                },
                error => error.clone(),
            });
        }
        *failure = None;
        self.is_broken.store(false, Ordering::Release);
        Ok(())
    }

    /// Loads PTX, and says what the compiler in the driver has against it.
    pub(super) fn load_module(&self, ptx: &std::ffi::CStr) -> Result<Handle, DeviceError> {
        const ERROR_LOG: c_uint = 5;
        const ERROR_LOG_LEN: c_uint = 6;
        let mut log = [0u8; 1024];
        let mut options = [ERROR_LOG, ERROR_LOG_LEN];
        let mut values: [*mut c_void; 2] = [
            log.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(log.len()),
        ];
        let mut module = 0;
        // SAFETY: the text ends in a zero byte; there are two options with two values, the second of which says how much the driver may
        // write to where the first one points.
        let code = unsafe {
            (self.api.module_load)(
                &raw mut module,
                ptx.as_ptr().cast(),
                2,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        if code == api::SUCCESS {
            return Ok(module);
        }
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
        let said = String::from_utf8_lossy(log.get(..end).unwrap_or_default());
        Err(unavailable(format!(
            "the driver refuses the kernels: {} {}",
            self.api.describe(code),
            said.trim()
        )))
    }

    /// A kernel of a module.
    pub(super) fn function(
        &self,
        module: Handle,
        name: &std::ffi::CStr,
    ) -> Result<Handle, DeviceError> {
        let mut function = 0;
        // SAFETY: the module is loaded; the name ends in a zero byte; the driver writes a handle to a place that is valid.
        let code = unsafe {
            (self.api.module_function)(&raw mut function, module, name.as_ptr().cast::<c_char>())
        };
        if code == api::SUCCESS {
            return Ok(function);
        }
        Err(unavailable(format!(
            "the kernel {} is missing: {}",
            name.to_string_lossy(),
            self.api.describe(code)
        )))
    }

    /// Takes device memory for the tables of this implementation; not for pages.
    pub(super) fn allocate(&self, len_bytes: u64) -> Result<Address, DeviceError> {
        let mut address = 0;
        // SAFETY: the driver writes an address to a place that is valid.
        let code = unsafe { (self.api.allocate)(&raw mut address, len_bytes as usize) };
        if code == api::SUCCESS {
            return Ok(address);
        }
        Err(unavailable(format!(
            "{len_bytes} bytes of device memory for tables: {}",
            self.api.describe(code)
        )))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by `open`, released once here; nothing of it is in use any more.
        let code = unsafe { (self.api.context_release)(self.device) };
        self.report("releasing the context", code);
    }
}

/// How much an error code takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// Only the call was refused.
    Call,
    /// The context is of no use any more.
    Context,
    /// The device is.
    Gone,
}

/// Codes not known here are taken for the worst that leaves a device: a context that does not work any more.
const fn severity(code: Code) -> Severity {
    match code {
        // Invalid value, out of memory, invalid handle, not found, launch out of resources, not permitted, not supported.
        1 | 2 | 400 | 500 | 701 | 800 | 801 => Severity::Call,
        // Deinitialized, device unavailable, no device, uncorrectable memory error, uncorrectable NVLink error, context destroyed.
        4 | 46 | 100 | 214 | 220 | 709 => Severity::Gone,
        _ => Severity::Context,
    }
}
