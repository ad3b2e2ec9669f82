//! Devices: memory of their own, and queues of work on it.
//!
//! [`Device`] is what a device must do, `work` the words in which it is asked, `layout` the tables that kernels read,
//! `kernels` how the kernels are launched that do it on a GPU.
//!
//! Invariant: a device knows nothing of pages, logs or locks. It is given offsets into its memory and work to do
//! there; which page lies where, and in which order pages change, is the business of whoever asks.

mod error;
mod interface;
pub mod kernels;
pub mod layout;
mod pinned;
mod work;

pub use error::DeviceError;
pub use interface::{Device, DeviceInfo, DeviceKind, Fence};
pub use pinned::{PinnedBuffer, PinnedOwner, PinnedSlice};
pub use work::{Combine, Queue, Work};
