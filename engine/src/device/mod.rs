//! Devices: memory of their own, and queues of work on it.
//!
//! [`Device`] is what a device must do, `work` the words in which it is asked, `layout` the tables that kernels read,
//! `kernels` how the kernels are launched that do it on a GPU,
//! [`mod@reference`] what each piece of work means. [`HostDevice`] does it at once, in host memory;
//! [`SimulatedDevice`] does it late, out of order, and with faults.
//! `cuda` is a GPU.
//!
//! Invariant: a device knows nothing of pages, logs or locks. It is given offsets into its memory and work to do
//! there; which page lies where, and in which order pages change, is the business of whoever asks.

#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
mod granules;
mod host;
mod interface;
pub mod kernels;
pub mod layout;
mod pinned;
mod pinned_heap;
pub mod pool;
pub mod reference;
mod simulated;
mod work;

pub use error::DeviceError;
pub use host::HostDevice;
pub use interface::{Device, DeviceInfo, DeviceKind, Fence};
pub use pinned::{PinnedBuffer, PinnedOwner, PinnedSlice};
pub use simulated::{
    DeviceFault, DeviceFaultKind, DeviceOperation, SimulatedCounters, SimulatedDevice,
    SimulatedOptions,
};
pub use work::{Combine, Queue, Work};
