//! Launches: what a kernel is given, and the CPU build of it that is run.

use std::ffi::c_void;

use mmsb_kernels_cpu::{Kernel, Order};

use crate::access::Access;
use crate::kernels;
use crate::memory::Memory;

/// A kernel that is to be run.
#[derive(Debug)]
pub(crate) struct Launch {
    kernel: Kernel,
    /// Each in a word of its own, the lower bytes of which are the argument.
    arguments: Vec<u64>,
    blocks: u32,
    threads: u32,
    seed: u64,
}

impl Launch {
    /// A shape that the kernel is not written for is refused.
    pub(crate) fn new(
        kernel: Kernel,
        arguments: Vec<u64>,
        blocks: u32,
        threads: u32,
        seed: u64,
    ) -> Option<Self> {
        let fits = threads == kernel.block_threads()
            && blocks > 0
            && arguments.len() == kernel.argument_lens().len();
        fits.then_some(Self {
            kernel,
            arguments,
            blocks,
            threads,
            seed,
        })
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.kernel.name()
    }

    /// The bytes that it touches, as far as its tables say now. Tables are read only where they are mapped.
    pub(crate) fn accesses(&self, memory: &Memory) -> Result<Vec<Access>, String> {
        kernels::accesses(self.kernel.name(), &self.arguments, self.blocks, memory)
    }

    /// Runs the CPU build of the kernel, its threads in an order drawn from the seed.
    ///
    /// # Safety
    /// All of [`Launch::accesses`] is mapped.
    pub(crate) unsafe fn run(&self) -> Result<(), String> {
        let pointers: Vec<*const c_void> = self
            .arguments
            .iter()
            .map(|word| std::ptr::from_ref(word).cast())
            .collect();
        let order = match self.seed % 3 {
            0 => Order::Ascending,
            1 => Order::Descending,
            _ => Order::Shuffled(self.seed),
        };
        // SAFETY: each pointer leads to a word of which the lower bytes are the argument, on a little-endian machine; what arguments
        // lead to is mapped, as the caller says, and nobody else accesses it, as the driver's lock is held.
        let outcome = unsafe {
            self.kernel
                .launch([self.blocks, 1, 1], [self.threads, 1, 1], &pointers, order)
        };
        outcome.map_err(|error| error.to_string())
    }
}
