//! The kernels, and how many threads each of them is given.

use std::ffi::{CStr, c_void};

use super::api::{Address, Handle};
use super::context::Context;
use crate::device::DeviceError;

/// All kernels, as the driver reads them, with a closing zero byte.
const PTX: &str = concat!(include_str!("../../../kernels/mmsb.ptx"), "\0");

/// Blocks for each multiprocessor, of kernels that take as many as they are given.
const BLOCKS_PER_MULTIPROCESSOR: u64 = 16;

/// Bytes that a thread moves at once.
const UNIT_BYTES: u64 = 16;

/// The kernels that are launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Apply,
    Combine,
    Move,
    Copy,
    Fill,
    Sum,
    DigestChunks,
    DigestRoots,
}

impl Kernel {
    const ALL: [Self; 8] = [
        Self::Apply,
        Self::Combine,
        Self::Move,
        Self::Copy,
        Self::Fill,
        Self::Sum,
        Self::DigestChunks,
        Self::DigestRoots,
    ];

    const fn name(self) -> &'static CStr {
        match self {
            Self::Apply => c"mmsb_apply",
            Self::Combine => c"mmsb_combine",
            Self::Move => c"mmsb_move",
            Self::Copy => c"mmsb_copy",
            Self::Fill => c"mmsb_fill",
            Self::Sum => c"mmsb_sum",
            Self::DigestChunks => c"mmsb_digest_chunks",
            Self::DigestRoots => c"mmsb_digest_roots",
        }
    }

    /// Threads of a block: what the kernel was compiled for.
    const fn threads(self) -> u32 {
        match self {
            Self::Apply | Self::DigestChunks => 128,
            _ => 256,
        }
    }

    /// The name of the work that it does.
    const fn work(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Combine => "combine",
            Self::Move => "move",
            Self::Copy => "copy",
            Self::Fill => "fill",
            Self::Sum => "sum",
            Self::DigestChunks | Self::DigestRoots => "digest",
        }
    }
}

/// The module of all kernels.
#[derive(Debug)]
pub(super) struct Kernels {
    module: Handle,
    functions: [Handle; Kernel::ALL.len()],
    most_blocks: u64,
}

/// A value that a kernel is given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument {
    U32(u32),
    U64(u64),
}

impl Kernels {
    /// Loads the kernels; the driver compiles them the first time. The context is current.
    pub(super) fn load(context: &Context) -> Result<Self, DeviceError> {
        let ptx = CStr::from_bytes_with_nul(PTX.as_bytes()).map_err(|_| DeviceError::Invalid {
            reason: "the kernels contain a zero byte".into(),
        })?;
        let module = context.load_module(ptx)?;
        let mut functions = [0; Kernel::ALL.len()];
        for (function, kernel) in functions.iter_mut().zip(Kernel::ALL) {
            *function = context.function(module, kernel.name())?;
        }
        Ok(Self {
            module,
            functions,
            most_blocks: u64::from(context.multiprocessors) * BLOCKS_PER_MULTIPROCESSOR,
        })
    }

    /// Blocks for work on that many bytes, at `units` units a thread.
    pub(super) fn blocks_for(&self, kernel: Kernel, len_bytes: u64, units: u64) -> u32 {
        // One unit more, as the first one may begin before the bytes.
        let block_bytes = u64::from(kernel.threads()) * units * UNIT_BYTES;
        let blocks = (len_bytes + UNIT_BYTES).div_ceil(block_bytes);
        blocks.clamp(1, self.most_blocks) as u32
    }

    /// Launches a kernel on a stream. The context is current.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in its order, and what they point to is allocated for as long as it runs.
    pub(super) unsafe fn launch<const N: usize>(
        &self,
        context: &Context,
        stream: Handle,
        kernel: Kernel,
        blocks: u32,
        arguments: [Argument; N],
    ) -> Result<(), DeviceError> {
        let mut pointers = [std::ptr::null_mut::<c_void>(); N];
        for (pointer, argument) in pointers.iter_mut().zip(&arguments) {
            *pointer = match argument {
                Argument::U32(value) => std::ptr::from_ref(value).cast_mut().cast(),
                Argument::U64(value) => std::ptr::from_ref(value).cast_mut().cast(),
            };
        }
        let function = self.functions.get(kernel as usize).copied().unwrap_or(0);
        // SAFETY: the function is loaded, and compiled for that many threads; there is a pointer to a value of its type for each of its
        // parameters, which the driver reads before it returns; as to what the values point to, the caller says so.
        let code = unsafe {
            (context.api.launch)(
                function,
                blocks,
                1,
                1,
                kernel.threads(),
                1,
                1,
                0,
                stream,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        context.check(kernel.work(), code)
    }

    /// Unloads the module; nothing of it runs, and the context is current.
    pub(super) fn close(&self, context: &Context) {
        // SAFETY: loaded by `load`, and this is the end of it.
        let code = unsafe { (context.api.module_unload)(self.module) };
        context.report("unloading the kernels", code);
    }
}

impl From<Address> for Argument {
    fn from(value: Address) -> Self {
        Self::U64(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}
