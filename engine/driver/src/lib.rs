//! A simulated CUDA driver: the functions of `libcuda` that MMSB's CUDA device calls, over host memory.
//!
//! With it the real implementation of the device runs unmodified on machines without a GPU. It is found like any other `libcuda`,
//! through the library path, and never installed: `ci/simulated-driver` puts it into a folder below `target/`. It says what it is in
//! the name of its device, so that no report mistakes it for a GPU.
//!
//! It is stricter than a real driver where that finds mistakes: memory is poisoned when it is allocated, every access is checked
//! against what is mapped, handles are never used twice, work runs as late as possible and in an order drawn from a seed where CUDA
//! leaves it open, and what was not given back is counted. It injects faults when asked to, see [`faults`].
//!
//! Kernels run as the CPU build of the same source.
//!
//! Environment, read at `cuInit` (all optional):
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `MMSB_SIM_MEMORY_BYTES` | memory of the device | 1 GiB |
//! | `MMSB_SIM_PINNED_BYTES` | host memory that can be pinned | 1 GiB |
//! | `MMSB_SIM_DEVICES` | number of devices, 0 or 1 | 1 |
//! | `MMSB_SIM_VERSION` | what `cuDriverGetVersion` says | 12000 |
//! | `MMSB_SIM_CAPABILITY` | compute capability, ten times | 75 |
//! | `MMSB_SIM_INIT_ERROR` | what `cuInit` returns | 0 |
//! | `MMSB_SIM_SEED` | seed of the order of work | 0 |
//! | `MMSB_SIM_FAULTS` | see [`faults::Plan::parse`] | none |
//! | `MMSB_SIM_LOG` | a file that leaks and violations are appended to | none |

mod access;
mod clocks;
mod codes;
mod dispatch;
mod driver;
pub mod exports;
pub mod faults;
mod kernels;
mod memory;
mod module;
mod order;
mod physical;
mod queue;
mod settings;
mod work;
