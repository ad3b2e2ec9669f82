//! Jobs in processes of their own: one that hangs is killed, one that dies takes nothing along, and what it forgets to free
//! goes with it.

mod process;
mod protocol;
mod serve;
mod trim;

pub use process::{Answer, Limits, Worker, WorkerError};
pub use protocol::{Reply, Request};
pub use serve::serve;
