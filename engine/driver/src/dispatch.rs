//! Kernels: what they are given, which bytes they touch, and how the CPU build of them is run.

use crate::access::Access;
use crate::memory::Memory;

/// A parameter of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param {
    U32,
    U64,
}

impl Param {
    pub(crate) const fn len_bytes(self) -> u32 {
        match self {
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }
}

/// A kernel of the CPU build.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Param],
    accesses: fn(&Arguments, &Memory) -> Result<Vec<Access>, String>,
    run: unsafe fn(&Arguments, Shape),
}

/// The values of a launch, each widened.
#[derive(Debug, Clone)]
pub(crate) struct Arguments(Vec<u64>);

/// How many blocks, and threads in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) blocks: u32,
    pub(crate) threads: u32,
}

/// A kernel that is to be run.
#[derive(Debug)]
pub(crate) struct Launch {
    kernel: &'static Kernel,
    arguments: Arguments,
    shape: Shape,
}

/// The kernel of that name.
pub(crate) fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

static KERNELS: &[Kernel] = &[];

impl Launch {
    pub(crate) const fn new(kernel: &'static Kernel, values: Vec<u64>, shape: Shape) -> Self {
        Self {
            kernel,
            arguments: Arguments(values),
            shape,
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.kernel.name
    }

    /// The bytes that it touches, as far as its tables say now.
    pub(crate) fn accesses(&self, memory: &Memory) -> Result<Vec<Access>, String> {
        (self.kernel.accesses)(&self.arguments, memory)
    }

    /// Runs the CPU build of the kernel.
    ///
    /// # Safety
    /// All of [`Launch::accesses`] is mapped.
    pub(crate) unsafe fn run(&self) -> Result<(), String> {
        // SAFETY: as the caller says.
        unsafe { (self.kernel.run)(&self.arguments, self.shape) };
        Ok(())
    }
}
