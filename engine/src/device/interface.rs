//! The trait that a device implements.

use std::fmt;
use std::ops::Range;

use super::{DeviceError, PinnedBuffer, Queue, Work};

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Which implementation this is.
    pub kind: DeviceKind,
    /// Name of the device, as a report should give it.
    pub name: String,
    /// Version of its driver and what else identifies how it computes; empty if there is nothing to say.
    pub driver: String,
    /// Memory that it has for pages, in bytes.
    pub memory_bytes: u64,
    /// Length of the address range that [`Device::map`] gives memory to, in bytes; a multiple of the granule.
    pub reserved_bytes: u64,
    /// The unit in which memory is mapped, in bytes; a power of two, at least 4096.
    pub granule_bytes: u64,
}

impl DeviceInfo {
    /// All fields at once; the struct can grow.
    #[must_use]
    pub const fn new(
        kind: DeviceKind,
        name: String,
        driver: String,
        memory_bytes: u64,
        reserved_bytes: u64,
        granule_bytes: u64,
    ) -> Self {
        Self {
            kind,
            name,
            driver,
            memory_bytes,
            reserved_bytes,
            granule_bytes,
        }
    }
}

/// Which implementation of [`Device`] one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// Host memory in the place of a device's: everything is done at once, by the processor.
    Host,
    /// A simulation with an address space and queues of its own, and faults.
    Simulated,
    /// A GPU through CUDA.
    Cuda,
    /// The CUDA implementation on a driver that is a simulation: no GPU has run anything.
    CudaOnSimulatedDriver,
}

impl DeviceKind {
    /// The name used in scenarios, reports and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Simulated => "simulated",
            Self::Cuda => "cuda",
            Self::CudaOnSimulatedDriver => "cuda-on-simulated-driver",
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A moment in a queue: reached when all work that was submitted to the queue before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The queue that it belongs to.
    pub queue: Queue,
    /// How many pieces of work had been submitted to the queue.
    pub sequence: u64,
}

/// A device: one range of addresses, of which parts have memory, and two queues of work.
///
/// Offsets count bytes from the start of the range, whose address never changes. Work in one queue runs in the order in which it was
/// submitted; work in different queues in any order, but for [`Device::order`]. Nothing is finished before [`Device::wait`] says so,
/// and a piece of work that fails may be reported by any later call: the device is of no use then until [`Device::reset`].
///
/// Contents of memory that was just mapped are undefined: whoever maps it fills it.
///
/// Implementations check what they are asked: an offset outside of mapped memory, or a table that leads outside of it, is
/// [`DeviceError::Invalid`] (at once, or as a failure of the work), never undefined behaviour of the host.
pub trait Device: Send + Sync + fmt::Debug {
    /// What it is.
    fn info(&self) -> DeviceInfo;

    /// Gives memory to `range` of the address range; both ends are multiples of the granule, and none of it has memory yet.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], and nothing is mapped; or the device fails.
    fn map(&self, range: Range<u64>) -> Result<(), DeviceError>;

    /// Takes the memory of `range` back, which was mapped by one or several calls of [`Device::map`], in whole ranges of theirs or
    /// parts. No work may be under way there: the implementation waits for what was submitted before.
    ///
    /// # Errors
    /// When the device fails.
    fn unmap(&self, range: Range<u64>) -> Result<(), DeviceError>;

    /// The address that code on the device has for `offset`.
    fn address(&self, offset: u64) -> u64;

    /// Pins `len_bytes` (at least 1) of zeroed host memory that the device can copy from and to. Slow: at open, not on the path.
    ///
    /// # Errors
    /// [`DeviceError::PinnedExhausted`], or the device fails.
    fn pin(&self, len_bytes: usize) -> Result<PinnedBuffer, DeviceError>;

    /// Adds work to a queue and returns at once. What `work` borrows is read before it returns; pinned memory that it names belongs to
    /// the device until a later fence of the queue has been waited for.
    ///
    /// # Errors
    /// When the work cannot be started, or something earlier failed.
    fn submit(&self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError>;

    /// The moment after everything that was submitted to `queue` so far.
    ///
    /// # Errors
    /// When the device fails.
    fn fence(&self, queue: Queue) -> Result<Fence, DeviceError>;

    /// Lets everything that is submitted to `queue` from now on start after `fence`, without waiting here.
    ///
    /// # Errors
    /// When the device fails.
    fn order(&self, queue: Queue, fence: Fence) -> Result<(), DeviceError>;

    /// Whether `fence` has been reached, without waiting.
    ///
    /// # Errors
    /// When the device or earlier work failed.
    fn is_reached(&self, fence: Fence) -> Result<bool, DeviceError>;

    /// Waits until `fence` is reached; what the work before it wrote to pinned memory can be read then.
    ///
    /// # Errors
    /// When the device or earlier work failed.
    fn wait(&self, fence: Fence) -> Result<(), DeviceError>;

    /// Starts over after a failure: waits for or gives up what was submitted, and takes all memory back. Pinned buffers stay.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] when it cannot be used again in this process.
    fn reset(&self) -> Result<(), DeviceError>;
}
