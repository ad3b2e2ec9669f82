//! The address range of a device, and the memory that parts of it have.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys;
use parking_lot::Mutex;

use super::api::{self, Address, unavailable};
use super::context::Context;
use super::granules::Granules;
use super::options::CudaOptions;
use crate::device::DeviceError;

/// Device memory by address, in granules.
#[derive(Debug)]
pub(super) struct Memory {
    context: Arc<Context>,
    base: Address,
    pub(super) reserved_bytes: u64,
    pub(super) granule_bytes: u64,
    pub(super) limit_bytes: u64,
    spare_bytes: u64,
    granules: Granules,
    handles: Mutex<Handles>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Handles {
    /// The memory of each granule; 0 where there is none, which is no handle of the driver's.
    of_granules: Box<[u64]>,
    /// Memory that is mapped nowhere.
    spare: Vec<u64>,
    mapped_bytes: u64,
}

fn properties(context: &Context) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: sys::CUmemAllocationHandleType(0),
        location: location(context),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}

fn location(context: &Context) -> sys::CUmemLocation {
    sys::CUmemLocation {
        type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
        id: context.device,
    }
}

/// The smallest unit that the driver maps.
fn driver_granule_bytes(context: &Context) -> Result<u64, DeviceError> {
    const MINIMUM: u32 = 0;
    let mut granularity = 0;
    let properties = properties(context);
    // SAFETY: the driver reads properties that are valid, and writes one number to a place that is.
    let code =
        unsafe { (context.api.granularity)(&raw mut granularity, &raw const properties, MINIMUM) };
    if code != api::SUCCESS {
        return Err(unavailable(format!(
            "asking for the unit of memory: {}",
            context.api.describe(code)
        )));
    }
    Ok(granularity as u64)
}

impl Memory {
    pub(super) fn new(context: &Arc<Context>, options: &CudaOptions) -> Result<Self, DeviceError> {
        let invalid = |reason: &str| DeviceError::Invalid {
            reason: reason.to_owned(),
        };
        let granule_bytes = driver_granule_bytes(context)?
            .max(options.granule_bytes)
            .checked_next_power_of_two()
            .ok_or_else(|| invalid("the granule is too large"))?;
        let limit_bytes = options
            .memory_limit_bytes
            .map_or(context.memory_bytes, |limit| {
                limit.min(context.memory_bytes)
            });
        let reserved_bytes = options
            .reserved_bytes
            .unwrap_or_else(|| limit_bytes.saturating_mul(2))
            .max(granule_bytes)
            .checked_next_multiple_of(granule_bytes)
            .filter(|reserved| usize::try_from(*reserved).is_ok())
            .ok_or_else(|| invalid("the range of addresses is too long"))?;
        let mut base = 0;
        // SAFETY: the driver writes an address to a place that is valid. Flags are reserved and 0.
        let code = unsafe {
            (context.api.reserve)(
                &raw mut base,
                reserved_bytes as usize,
                granule_bytes as usize,
                0,
                0,
            )
        };
        if code != api::SUCCESS {
            return Err(unavailable(format!(
                "reserving {reserved_bytes} bytes of addresses: {}",
                context.api.describe(code)
            )));
        }
        let granules = Granules::new(reserved_bytes, granule_bytes);
        let count = (reserved_bytes / granule_bytes) as usize;
        Ok(Self {
            context: Arc::clone(context),
            base,
            reserved_bytes,
            granule_bytes,
            limit_bytes,
            spare_bytes: options.spare_bytes,
            granules,
            handles: Mutex::new(Handles {
                of_granules: vec![0; count].into_boxed_slice(),
                spare: Vec::new(),
                mapped_bytes: 0,
            }),
            is_closed: AtomicBool::new(false),
        })
    }

    #[inline]
    pub(super) const fn address(&self, offset: u64) -> Address {
        self.base.wrapping_add(offset)
    }

    /// The end of the part that has memory, counted from the start of the range: kernels that take offsets refuse what lies behind.
    pub(super) fn end_bytes(&self) -> u64 {
        self.granules.end_bytes()
    }

    /// Refuses a range that has not all of its memory.
    #[inline]
    pub(super) fn check(&self, range: &Range<u64>) -> Result<(), DeviceError> {
        if self.granules.contain(range) {
            return Ok(());
        }
        Err(self.outside(range))
    }

    #[cold]
    fn outside(&self, range: &Range<u64>) -> DeviceError {
        DeviceError::Invalid {
            reason: format!(
                "bytes {} to {} of device memory are not all mapped ({} bytes of addresses are reserved)",
                range.start, range.end, self.reserved_bytes
            ),
        }
    }

    fn whole(&self, range: &Range<u64>, is_mapped: bool) -> Result<Range<u64>, DeviceError> {
        self.granules
            .whole(range, is_mapped)
            .ok_or_else(|| DeviceError::Invalid {
                reason: format!(
                    "bytes {} to {} are not whole granules of {} bytes {}",
                    range.start,
                    range.end,
                    self.granule_bytes,
                    if is_mapped {
                        "that are all mapped"
                    } else {
                        "of which none is mapped"
                    }
                ),
            })
    }

    /// Gives memory to granules that have none, or to none of them. The context is current.
    pub(super) fn map(&self, range: &Range<u64>) -> Result<(), DeviceError> {
        let mut handles = self.handles.lock();
        let granules = self.whole(range, false)?;
        let len_bytes = range.end - range.start;
        if handles.mapped_bytes.saturating_add(len_bytes) > self.limit_bytes {
            return Err(self.out_of_memory(len_bytes, handles.mapped_bytes));
        }
        let mut done = granules.start..granules.start;
        let outcome = granules
            .clone()
            .try_for_each(|granule| {
                self.map_one(&mut handles, granule)?;
                done.end = granule + 1;
                Ok(())
            })
            .and_then(|()| self.allow_access(range));
        if let Err(code) = outcome {
            self.unmap_granules(&mut handles, done)?;
            return Err(match code {
                api::OUT_OF_MEMORY => self.out_of_memory(len_bytes, handles.mapped_bytes),
                code => match self.context.check("mapping memory", code) {
                    Err(error) => error,
                    Ok(()) => self.out_of_memory(len_bytes, handles.mapped_bytes),
                },
            });
        }
        handles.mapped_bytes += len_bytes;
        self.granules.set(granules, true);
        Ok(())
    }

    fn map_one(&self, handles: &mut Handles, granule: u64) -> Result<(), api::Code> {
        let api = &self.context.api;
        let handle = match handles.spare.pop() {
            Some(handle) => handle,
            None => self.create()?,
        };
        let address = self.base + granule * self.granule_bytes;
        // SAFETY: the granule is part of the reservation, and has no memory; the handle is mapped nowhere, and as long as a granule.
        let code = unsafe { (api.map)(address, self.granule_bytes as usize, 0, handle, 0) };
        if code != api::SUCCESS {
            handles.spare.push(handle);
            self.trim(handles);
            return Err(code);
        }
        if let Some(of_granule) = handles.of_granules.get_mut(granule as usize) {
            *of_granule = handle;
        }
        Ok(())
    }

    fn create(&self) -> Result<u64, api::Code> {
        let mut handle = 0;
        let properties = properties(&self.context);
        // SAFETY: the driver reads properties that are valid, and writes a handle to a place that is. Flags are reserved and 0.
        let code = unsafe {
            (self.context.api.create)(
                &raw mut handle,
                self.granule_bytes as usize,
                &raw const properties,
                0,
            )
        };
        if code == api::SUCCESS {
            Ok(handle)
        } else {
            Err(code)
        }
    }

    fn allow_access(&self, range: &Range<u64>) -> Result<(), api::Code> {
        let access = sys::CUmemAccessDesc {
            location: location(&self.context),
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        // SAFETY: the range was mapped just now; the driver reads one description, which is valid.
        let code = unsafe {
            (self.context.api.set_access)(
                self.address(range.start),
                (range.end - range.start) as usize,
                &raw const access,
                1,
            )
        };
        if code == api::SUCCESS {
            Ok(())
        } else {
            Err(code)
        }
    }

    /// Takes memory from granules, once `drain` has waited for all work that was submitted. The context is current.
    pub(super) fn unmap(
        &self,
        range: &Range<u64>,
        drain: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut handles = self.handles.lock();
        let granules = self.whole(range, true)?;
        // First, so that nobody submits work there while this waits: requests are checked under the lock that draining takes.
        self.granules.set(granules.clone(), false);
        if let Err(error) = drain() {
            self.granules.set(granules, true);
            return Err(error);
        }
        handles.mapped_bytes -= range.end - range.start;
        self.unmap_granules(&mut handles, granules)
    }

    /// Takes all memory back. No work is under way, and the context is current.
    pub(super) fn unmap_all(&self) -> Result<(), DeviceError> {
        for granules in self.granules.mapped() {
            let range = granules.start * self.granule_bytes..granules.end * self.granule_bytes;
            self.unmap(&range, || Ok(()))?;
        }
        Ok(())
    }

    fn unmap_granules(
        &self,
        handles: &mut Handles,
        granules: Range<u64>,
    ) -> Result<(), DeviceError> {
        for granule in granules {
            let address = self.base + granule * self.granule_bytes;
            // One by one: the driver takes whole mappings only.
            // SAFETY: the granule is mapped, and nobody uses it.
            let code = unsafe { (self.context.api.unmap)(address, self.granule_bytes as usize) };
            self.context.check("unmapping memory", code)?;
            if let Some(of_granule) = handles.of_granules.get_mut(granule as usize) {
                let handle = std::mem::take(of_granule);
                handles.spare.push(handle);
            }
        }
        self.trim(handles);
        Ok(())
    }

    /// Gives memory that is mapped nowhere back to the driver, but for what is to be kept.
    fn trim(&self, handles: &mut Handles) {
        let kept = (self.spare_bytes / self.granule_bytes) as usize;
        for handle in handles.spare.drain(kept.min(handles.spare.len())..) {
            // SAFETY: the handle is mapped nowhere, and forgotten here.
            let code = unsafe { (self.context.api.release)(handle) };
            self.context.report("releasing memory", code);
        }
    }

    fn out_of_memory(&self, asked_bytes: u64, mapped_bytes: u64) -> DeviceError {
        DeviceError::OutOfMemory {
            asked_bytes,
            mapped_bytes,
            capacity_bytes: self.limit_bytes,
        }
    }

    /// Takes everything back. No work is under way, and the context is current.
    pub(super) fn close(&self) -> Result<(), DeviceError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.unmap_all()?;
        let mut handles = self.handles.lock();
        for handle in handles.spare.drain(..) {
            // SAFETY: the handle is mapped nowhere, and forgotten here.
            let code = unsafe { (self.context.api.release)(handle) };
            self.context.check("releasing memory", code)?;
        }
        // SAFETY: the range was reserved by `new`, has no memory any more, and this is the end of it.
        let code =
            unsafe { (self.context.api.free_reservation)(self.base, self.reserved_bytes as usize) };
        self.context.check("giving addresses back", code)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Closed already, unless the device could not be opened.
        if let Ok(_current) = self.context.enter()
            && let Err(error) = self.close()
        {
            super::closing::keep(error);
        }
    }
}
