//! A GPU, as a [`Device`].

use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;

use super::closing;
use super::context::{self, Context};
use super::launch::Kernels;
use super::memory::Memory;
use super::options::CudaOptions;
use super::pinning::Pinning;
use super::stream::Stream;
use crate::device::{
    Device, DeviceError, DeviceInfo, DeviceKind, Fence, PinnedBuffer, Queue, Work,
};

/// A GPU, through the CUDA driver that is found when it is opened.
///
/// It uses the primary context of the device, which it shares with everybody in the process who uses that device: addresses that it
/// gives out are good for them. It makes that context current while a call lasts, on the thread of the caller, and leaves another one
/// that was current as it found it.
///
/// An error that the hardware or a kernel comes to takes the context with it, for everybody: then [`Device::reset`] says
/// [`DeviceError::Lost`], and only a new process can use the device again.
#[derive(Debug)]
pub struct CudaDevice {
    parts: ManuallyDrop<Parts>,
}

/// What a device consists of.
///
/// They are dropped in this order: queues before what their work uses.
#[derive(Debug)]
pub(super) struct Parts {
    streams: [Stream; 2],
    pub(super) kernels: Kernels,
    pub(super) memory: Memory,
    pub(super) pinning: Arc<Pinning>,
    pub(super) context: Arc<Context>,
}

impl CudaDevice {
    /// Looks for a device without opening it, which is quick; returns its name.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason. Opening may still fail: another process may have the device to itself.
    pub fn look(ordinal: u32) -> Result<String, DeviceError> {
        context::look(ordinal)
    }

    /// Opens a device, by its number among those that the driver shows; `CUDA_VISIBLE_DEVICES` chooses them. Slow: it makes a context
    /// unless there is one, and the driver compiles the kernels the first time.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] with the reason, whatever keeps the device from being used: no driver, one that is too old, no
    /// device, one that others use, kernels that the driver refuses. [`DeviceError::Invalid`] for options that contradict themselves,
    /// [`DeviceError::PinnedExhausted`] when there is no host memory for tables.
    pub fn open(ordinal: u32, options: &CudaOptions) -> Result<Self, DeviceError> {
        let context = Arc::new(Context::open(ordinal)?);
        let current = context.enter()?;
        let parts = Parts::new(&context, options)?;
        drop(current);
        Ok(Self {
            parts: ManuallyDrop::new(parts),
        })
    }

    /// Waits for all work, and gives everything back; pinned buffers stay until they are dropped. Dropping the device does the same,
    /// but has nobody to return an error to: see [`super::take_closing_error`].
    ///
    /// # Errors
    /// When the device fails, or failed before.
    pub fn close(mut self) -> Result<(), DeviceError> {
        // SAFETY: taken once: `self` is forgotten right here, and `drop` is not run.
        let parts = unsafe { ManuallyDrop::take(&mut self.parts) };
        std::mem::forget(self);
        parts.close()
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // SAFETY: taken once: `close` forgets the device.
        let parts = unsafe { ManuallyDrop::take(&mut self.parts) };
        let is_healthy = parts.context.check_health().is_ok();
        if let Err(error) = parts.close()
            && is_healthy
        {
            closing::keep(error);
        }
    }
}

impl Parts {
    /// The context is current. What was made is given back when something fails.
    fn new(context: &Arc<Context>, options: &CudaOptions) -> Result<Self, DeviceError> {
        Ok(Self {
            kernels: Kernels::load(context)?,
            memory: Memory::new(context, options)?,
            streams: [
                Stream::new(context, Queue::Copy, options)?,
                Stream::new(context, Queue::Compute, options)?,
            ],
            pinning: Arc::new(Pinning::new(context)),
            context: Arc::clone(context),
        })
    }

    pub(super) const fn stream(&self, queue: Queue) -> &Stream {
        let [copy, compute] = &self.streams;
        match queue {
            Queue::Copy => copy,
            Queue::Compute => compute,
        }
    }

    /// Waits for everything that was submitted; the context is current.
    fn drain(&self) -> Result<(), DeviceError> {
        for stream in &self.streams {
            stream.drain()?;
        }
        self.pinning.free_dropped();
        Ok(())
    }

    fn close(self) -> Result<(), DeviceError> {
        let _current = self.context.enter()?;
        let drained = self.drain();
        // After a failure the context refuses everything, and keeps what it has until the process ends or somebody resets it.
        let closed = self.memory.close();
        drained.and(closed)
    }
}

impl Device for CudaDevice {
    fn info(&self) -> DeviceInfo {
        let Parts {
            context, memory, ..
        } = &*self.parts;
        let kind = if context.is_simulated() {
            DeviceKind::CudaOnSimulatedDriver
        } else {
            DeviceKind::Cuda
        };
        DeviceInfo::new(
            kind,
            context.name.clone(),
            context.driver.clone(),
            memory.limit_bytes,
            memory.reserved_bytes,
            memory.granule_bytes,
        )
    }

    fn map(&self, range: Range<u64>) -> Result<(), DeviceError> {
        self.parts.context.check_health()?;
        let _current = self.parts.context.enter()?;
        self.parts.memory.map(&range)
    }

    fn unmap(&self, range: Range<u64>) -> Result<(), DeviceError> {
        self.parts.context.check_health()?;
        let _current = self.parts.context.enter()?;
        self.parts.memory.unmap(&range, || self.parts.drain())
    }

    fn address(&self, offset: u64) -> u64 {
        self.parts.memory.address(offset)
    }

    fn pin(&self, len_bytes: usize) -> Result<PinnedBuffer, DeviceError> {
        self.parts.context.check_health()?;
        let _current = self.parts.context.enter()?;
        if self.parts.pinning.has_dropped() {
            self.parts.drain()?;
        }
        self.parts.pinning.pin(len_bytes)
    }

    fn submit(&self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError> {
        self.parts.submit(queue, work)
    }

    fn fence(&self, queue: Queue) -> Result<Fence, DeviceError> {
        self.parts.context.check_health()?;
        let _current = self.parts.context.enter()?;
        self.parts.stream(queue).fence()
    }

    fn order(&self, queue: Queue, fence: Fence) -> Result<(), DeviceError> {
        self.parts.context.check_health()?;
        if queue == fence.queue {
            return Ok(());
        }
        let _current = self.parts.context.enter()?;
        let other = self.parts.stream(queue);
        self.parts.stream(fence.queue).order(fence.sequence, other)
    }

    fn is_reached(&self, fence: Fence) -> Result<bool, DeviceError> {
        self.parts.context.check_health()?;
        let _current = self.parts.context.enter()?;
        self.parts.stream(fence.queue).is_reached(fence.sequence)
    }

    fn wait(&self, fence: Fence) -> Result<(), DeviceError> {
        self.parts.context.check_health()?;
        let _current = self.parts.context.enter()?;
        self.parts.stream(fence.queue).wait(fence.sequence)
    }

    fn reset(&self) -> Result<(), DeviceError> {
        let Parts {
            context,
            memory,
            streams,
            ..
        } = &*self.parts;
        context.recover()?;
        let _current = context.enter()?;
        let started_over = streams
            .iter()
            .try_for_each(|stream| stream.reset())
            .and_then(|()| memory.unmap_all());
        // Work under way may have failed for good only now.
        started_over.or_else(|_| context.recover().and_then(|()| memory.unmap_all()))?;
        self.parts.pinning.free_dropped();
        Ok(())
    }
}
