//! A device that is simulated: memory and queues of its own, everything that a device may do and a caller must bear, and faults.

mod counters;
mod device;
mod fault;
mod item;
mod options;
mod queue;
mod race;
mod random;
mod state;

pub use counters::SimulatedCounters;
pub use device::SimulatedDevice;
pub use fault::{DeviceFault, DeviceFaultKind, DeviceOperation};
pub use options::SimulatedOptions;
