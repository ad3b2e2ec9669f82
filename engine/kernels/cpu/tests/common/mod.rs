//! What the tests share: memory as a device has it, launches, and random bytes.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

use mmsb_engine::device::kernels::Launch;
use mmsb_kernels_cpu::{Kernel, LaunchError, Order};

pub(crate) const ORDERS: [Order; 3] = [Order::Ascending, Order::Descending, Order::Shuffled(7)];

/// Memory that begins at a multiple of 4096, filled with garbage.
///
/// It is not longer than whole words of 4 bytes make it, so that AddressSanitizer sees what kernels do behind it.
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    len_bytes: usize,
}

impl Memory {
    pub(crate) fn new(len_bytes: usize) -> Self {
        let layout = Layout::from_size_align(len_bytes.next_multiple_of(4).max(4), 4096).unwrap();
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc(layout) }).unwrap();
        // SAFETY: just allocated, that long.
        unsafe { start.write_bytes(0xa5, layout.size()) };
        Self {
            start,
            layout,
            len_bytes,
        }
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut memory = Self::new(bytes.len());
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: all of it is initialised, and kernels write only while they are launched.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len_bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len_bytes) }
    }

    pub(crate) fn word(&self) -> u64 {
        u64::from_le_bytes(self.bytes()[..8].try_into().unwrap())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Launches on the CPU.
pub(crate) fn try_run(launch: &Launch, order: Order) -> Result<(), LaunchError> {
    let kernel = Kernel::find(launch.kernel().name()).unwrap();
    let arguments: Vec<_> = launch
        .arguments()
        .iter()
        .map(|word| std::ptr::from_ref(word).cast())
        .collect();
    let block = [launch.kernel().block_threads(), 1, 1];
    // SAFETY: the words are those of the launch, and tests give it addresses of memory that they hold.
    unsafe { kernel.launch([launch.grid_blocks(), 1, 1], block, &arguments, order) }
}

pub(crate) fn run(launch: &Launch, order: Order) {
    try_run(launch, order).unwrap();
}

/// Bytes that look random, the same for the same seed.
pub(crate) fn noise(len_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len_bytes.div_ceil(8))
        .flat_map(|_| draw().to_le_bytes())
        .take(len_bytes)
        .collect()
}
