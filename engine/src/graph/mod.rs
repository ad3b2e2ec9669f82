//! Derived pages: which page is computed from which, by what, and how a change travels.
//!
//! A page is *derived* when its bytes are a pure function, its [`Transform`], of its parents'
//! bytes. [`Graph`] holds the acyclic dependencies, [`run`] carries one change through them (a
//! *wave*), and [`StaleSet`] remembers the pages whose transform failed.

mod builtin;
mod component;
mod dag;
mod diff;
mod dirty;
mod elementwise;
mod error;
mod level;
mod observer;
mod parallel;
mod queue;
mod registry;
mod remote;
mod semiring;
mod stale;
#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "lists of one changed range are meant"
)]
mod tests;
mod transform;
mod wave;
mod worker;

pub(crate) use diff::write_difference;

pub use builtin::{Concat, Copy, Slice, Xor, register_builtins};
pub use component::{ComponentId, Merged};
pub use dag::{Derivation, Edge, Extent, Graph, Node};
pub use elementwise::{Elementwise, Form};
pub use error::GraphError;
pub use observer::{PageBytes, REMOTE_START, WaveObserver, WaveSummary};
pub use registry::{RegistryError, TransformRegistry};
pub use semiring::{Lane, Semiring};
pub use stale::{Stale, StaleReason, StaleSet};
pub use transform::{DeviceKernel, Mapping, Transform, TransformError, Window};
pub use wave::{WaveScratch, recompute_all, run};
