//! The CUDA kernels of `mmsb-engine`, compiled from the same sources for the CPU.
//!
//! Each thread of a block is a fibre: it runs until it waits for others, then the next one does. So a launch is deterministic, and
//! [`Order`] chooses in which order threads and blocks run, which no result may depend on. It is for tests and for machines without a
//! GPU; it says nothing about how fast a kernel is.

use std::ffi::{CStr, c_char, c_void};

unsafe extern "C" {
    fn mmsb_kernels_count() -> usize;
    fn mmsb_kernels_describe(
        index: usize,
        threads: *mut u32,
        lengths: *mut *const u8,
        param_count: *mut usize,
    ) -> *const c_char;
    fn mmsb_kernels_launch(
        index: usize,
        grid: *const u32,
        block: *const u32,
        params: *const *const c_void,
        order: u32,
        seed: u64,
    ) -> *const c_char;
}

/// In which order the threads of a block, and the blocks of a grid, run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the first on.
    #[default]
    Ascending,
    /// From the last on.
    Descending,
    /// As drawn from a seed: threads are changed whenever one waits.
    Shuffled(u64),
}

/// Why a launch was refused, or stopped. After a stop, what the kernel wrote so far is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// There is no kernel of that name.
    #[error("there is no kernel {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The kernel takes another number of arguments.
    #[error("{name} takes {takes} arguments, not {got}")]
    Arguments {
        /// The kernel.
        name: &'static str,
        /// How many it takes.
        takes: usize,
        /// How many were given.
        got: usize,
    },
    /// The shape of the launch is not one for this kernel, or threads wait for each other in vain.
    #[error("{name}: {reason}")]
    Failed {
        /// The kernel.
        name: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}

/// One of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    index: usize,
    name: &'static str,
    block_threads: u32,
    argument_lens: &'static [u8],
}

impl Kernel {
    /// All kernels there are.
    pub fn all() -> impl Iterator<Item = Self> {
        // SAFETY: takes nothing and reads a constant.
        (0..unsafe { mmsb_kernels_count() }).map(Self::at)
    }

    /// The kernel of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|kernel| kernel.name == name)
    }

    fn at(index: usize) -> Self {
        let (mut block_threads, mut lengths, mut count) = (0, std::ptr::null(), 0);
        // SAFETY: `all` gives positions below the count only; the pointers are to places of the types that are written.
        let name =
            unsafe { mmsb_kernels_describe(index, &mut block_threads, &mut lengths, &mut count) };
        Self {
            index,
            // SAFETY: a literal, which lives for ever.
            name: unsafe { CStr::from_ptr(name) }.to_str().unwrap_or(""),
            block_threads,
            // SAFETY: a constant of that length.
            argument_lens: unsafe { std::slice::from_raw_parts(lengths, count) },
        }
    }

    /// Its name in the module.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The number of threads in a block that it is written for.
    #[must_use]
    pub const fn block_threads(&self) -> u32 {
        self.block_threads
    }

    /// The length of each of its arguments in bytes, 4 or 8.
    #[must_use]
    pub const fn argument_lens(&self) -> &'static [u8] {
        self.argument_lens
    }

    /// Runs it to its end. `arguments` are pointers to the arguments, as `cuLaunchKernel` takes them; how many of what length,
    /// [`Kernel::argument_lens`] says.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing has run unless the reason is that threads wait in vain.
    ///
    /// # Safety
    /// Each pointer leads to an argument of the right length, and the arguments to memory that the kernel may read or write as its
    /// description says, in whole aligned words of 4 bytes, while nobody else accesses it but through atomics.
    pub unsafe fn launch(
        &self,
        grid: [u32; 3],
        block: [u32; 3],
        arguments: &[*const c_void],
        order: Order,
    ) -> Result<(), LaunchError> {
        if arguments.len() != self.argument_lens.len() {
            return Err(LaunchError::Arguments {
                name: self.name,
                takes: self.argument_lens.len(),
                got: arguments.len(),
            });
        }
        let (order, seed) = match order {
            Order::Ascending => (0, 0),
            Order::Descending => (1, 0),
            Order::Shuffled(seed) => (2, seed),
        };
        // SAFETY: the position is one of a kernel, both shapes are three numbers, there are as many pointers as the kernel takes,
        // and the caller vouches for where they lead.
        let problem = unsafe {
            mmsb_kernels_launch(
                self.index,
                grid.as_ptr(),
                block.as_ptr(),
                arguments.as_ptr(),
                order,
                seed,
            )
        };
        if problem.is_null() {
            return Ok(());
        }
        // SAFETY: not null, so a literal, which lives for ever.
        let reason = unsafe { CStr::from_ptr(problem) };
        Err(LaunchError::Failed {
            name: self.name,
            reason: reason.to_str().unwrap_or("unknown"),
        })
    }
}

/// Runs the kernel `name`; see [`Kernel::launch`].
///
/// # Errors
/// As there, and [`LaunchError::Unknown`].
///
/// # Safety
/// As there.
pub unsafe fn launch(
    name: &str,
    grid: [u32; 3],
    block: [u32; 3],
    arguments: &[*const c_void],
    order: Order,
) -> Result<(), LaunchError> {
    let kernel = Kernel::find(name).ok_or_else(|| LaunchError::Unknown {
        name: name.to_owned(),
    })?;
    // SAFETY: the caller's.
    unsafe { kernel.launch(grid, block, arguments, order) }
}
