//! GPUs through the CUDA driver, behind the feature `cuda`.
//!
//! From the bottom: `api` are the driver's functions, looked up when a device is opened; `context` is the device's context and what
//! its errors mean; `memory` (with `granules`) gives memory to addresses, `pinning` pins host memory; `events`, `tables`, `scratch` and
//! `stream` make up a queue; `launch` are the kernels; `submit` and `digest` turn work into calls; `device` is the [`CudaDevice`].
//!
//! Invariant: once a device is open, adding work to a queue allocates nothing and waits for nothing, unless all tables or events of
//! the queue stand for work that is still to be done.

mod api;
mod closing;
mod context;
mod device;
mod digest;
mod events;
mod granules;
mod launch;
mod memory;
mod options;
mod pinning;
mod scratch;
mod stream;
mod submit;
mod tables;

pub use closing::take_closing_error;
pub use device::CudaDevice;
pub use options::CudaOptions;
