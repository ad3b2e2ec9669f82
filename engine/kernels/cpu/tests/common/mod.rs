//! What the tests share: memory as a device has it, launches, and random bytes.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use mmsb_engine::device::kernels::Launch;
use mmsb_kernels_cpu::{Kernel, LaunchError, Order};

pub(crate) const ORDERS: [Order; 3] = [Order::Ascending, Order::Descending, Order::Shuffled(7)];

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Granule([u8; 4096]);

/// Memory that begins at a multiple of 4096.
pub(crate) struct Memory {
    granules: Vec<Granule>,
    len_bytes: usize,
}

impl Memory {
    pub(crate) fn new(len_bytes: usize) -> Self {
        Self {
            granules: vec![Granule([0xa5; 4096]); len_bytes.div_ceil(4096).max(1)],
            len_bytes,
        }
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut memory = Self::new(bytes.len());
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    pub(crate) fn address(&self) -> u64 {
        self.granules.as_ptr() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: granules are arrays of bytes that lie side by side, 4096 bytes each.
        let all = unsafe {
            std::slice::from_raw_parts(
                self.granules.as_ptr().cast::<u8>(),
                self.granules.len() * 4096,
            )
        };
        &all[..self.len_bytes]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let len_bytes = self.len_bytes;
        // SAFETY: as in `bytes`.
        let all = unsafe {
            std::slice::from_raw_parts_mut(
                self.granules.as_mut_ptr().cast::<u8>(),
                self.granules.len() * 4096,
            )
        };
        &mut all[..len_bytes]
    }

    pub(crate) fn word(&self) -> u64 {
        u64::from_le_bytes(self.bytes()[..8].try_into().unwrap())
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
