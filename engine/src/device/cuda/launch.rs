//! The kernels, loaded, and launched.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use super::api::Handle;
use super::context::Context;
use crate::device::DeviceError;
use crate::device::kernels::{self, Kernel, Launch};

/// The module of all kernels.
#[derive(Debug)]
pub(super) struct Kernels {
    context: Arc<Context>,
    module: Handle,
    functions: [Handle; Kernel::ALL.len()],
}

impl Kernels {
    /// Loads the kernels; the driver compiles them the first time. The context is current.
    pub(super) fn load(context: &Arc<Context>) -> Result<Self, DeviceError> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| DeviceError::Invalid {
                reason: "the kernels contain a zero byte".into(),
            })
        };
        let module = context.load_module(&text(kernels::ptx())?)?;
        let mut kernels = Self {
            context: Arc::clone(context),
            module,
            functions: [0; Kernel::ALL.len()],
        };
        for (function, kernel) in kernels.functions.iter_mut().zip(Kernel::ALL) {
            *function = context.function(module, &text(kernel.name())?)?;
        }
        Ok(kernels)
    }

    /// Launches a kernel on a stream. The context is current.
    ///
    /// # Safety
    /// What the arguments point to is allocated for as long as the kernel runs, as long as its description says.
    pub(super) unsafe fn launch(
        &self,
        stream: Handle,
        launch: &Launch,
        work: &'static str,
    ) -> Result<(), DeviceError> {
        let mut pointers = [std::ptr::null_mut::<c_void>(); Launch::MAX_ARGUMENTS];
        for (pointer, word) in pointers.iter_mut().zip(launch.arguments()) {
            *pointer = std::ptr::from_ref(word).cast_mut().cast();
        }
        let kernel = launch.kernel();
        let function = self.functions.get(kernel.position()).copied();
        // SAFETY: the function is loaded, and compiled for that many threads; there is a pointer for each of its parameters, to a word of
        // which the lower bytes are the value, and the driver reads it before it returns; as to what values point to, the caller says so.
        let code = unsafe {
            (self.context.api.launch)(
                function.unwrap_or(0),
                launch.grid_blocks(),
                1,
                1,
                kernel.block_threads(),
                1,
                1,
                launch.shared_bytes(),
                stream,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.context.check(work, code)
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        self.context.give_back("unloading the kernels", |api| {
            // SAFETY: loaded by `load`, nothing of it runs, and this is the end of it.
            unsafe { (api.module_unload)(self.module) }
        });
    }
}
