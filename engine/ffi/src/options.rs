//! What is chosen when a bus is opened.

use std::sync::Arc;

use mmsb_engine::device::{Device, HostDevice, SimulatedDevice, SimulatedOptions};
use mmsb_engine::{Compression, Options, Propagation, Retention};

use crate::border::{Sized64, read_sized};
use crate::failure::{Failure, Outcome};
use crate::lookup::REGISTRIES;
use crate::status;

/// Options of `mmsb_bus_open` and `mmsb_replay_open`. Zero is the default of every field but `size`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct mmsb_options {
    /// `sizeof(mmsb_options)`.
    pub size: u64,
    /// Address space for pages in bytes; memory is used only where pages are. Default 256 GiB.
    pub arena_bytes: u64,
    /// Length of a segment of the log in bytes, a multiple of 4096 from 8192. Default 64 MiB.
    pub segment_bytes: u64,
    /// With `MMSB_RETAIN_BYTES`: how much of the log.
    pub retention_bytes: u64,
    /// What checkpoints keep of the log: `MMSB_RETAIN_EVERYTHING`, `_CHECKPOINTS` or `_BYTES`.
    pub retention: u32,
    /// When derived pages are computed: `MMSB_EAGER` or `MMSB_DEFERRED`.
    pub propagation: u32,
    /// Threads that a large wave may use while it runs. Default 1.
    pub threads: u32,
    /// Threads that apply records during recovery. Default 1.
    pub appliers: u32,
    /// 1: new segments are not filled with zeros ahead of use.
    pub no_prefill: u32,
    /// 1: long transactions are compressed with zstd; see `mmsb_feature`.
    pub compression: u32,
    /// Handle of the transforms that derived pages may use, or 0 for the built-in ones. It can be released after the call.
    pub registry: u64,
    /// Where pages on a device live: `MMSB_DEVICE_HOST`, `_SIMULATED` or `_CUDA`.
    pub device: u32,
    /// Which GPU, from 0.
    pub device_index: u32,
    /// Memory of the device to use for pages, in bytes. Default all of a GPU's, 128 MiB of a simulated one.
    pub device_bytes: u64,
    /// Who a new log is; all zeros: drawn.
    pub identity: [u8; 16],
}

/// The whole history stays.
pub const MMSB_RETAIN_EVERYTHING: u32 = 0;
/// What the two newest checkpoints need stays.
pub const MMSB_RETAIN_CHECKPOINTS: u32 = 1;
/// As long as `retention_bytes` of log say, checkpoints and log stay.
pub const MMSB_RETAIN_BYTES: u32 = 2;
/// Derived pages are computed by the commit that changes a parent.
pub const MMSB_EAGER: u32 = 0;
/// Derived pages are computed when they are read.
pub const MMSB_DEFERRED: u32 = 1;
/// Host memory stands in for a device's.
pub const MMSB_DEVICE_HOST: u32 = 0;
/// A simulated device with memory of its own.
pub const MMSB_DEVICE_SIMULATED: u32 = 1;
/// A GPU; see `mmsb_feature`.
pub const MMSB_DEVICE_CUDA: u32 = 2;

const DEVICE_BYTES: u64 = 128 << 20;

// SAFETY: `repr(C)`, no padding (checked in tests/abi.rs), integers alone.
unsafe impl Sized64 for mmsb_options {
    const FIRST_SIZE: usize = 96;
}

/// The options of a caller; null stands for the defaults.
///
/// # Safety
/// As [`read_sized`], but null is allowed.
pub(crate) unsafe fn read_options(options: *const mmsb_options) -> Outcome<Options> {
    if options.is_null() {
        return Ok(Options::default());
    }
    // SAFETY: the caller's contract is the same.
    let given = unsafe { read_sized(options, "options")? };
    let mut options = Options {
        retention: match given.retention {
            MMSB_RETAIN_EVERYTHING => Retention::Everything,
            MMSB_RETAIN_CHECKPOINTS => Retention::Checkpoints,
            MMSB_RETAIN_BYTES => Retention::Bytes(given.retention_bytes),
            other => return Err(not_one("retention", other)),
        },
        propagation: match given.propagation {
            MMSB_EAGER => Propagation::Eager,
            MMSB_DEFERRED => Propagation::Deferred,
            other => return Err(not_one("propagation", other)),
        },
        prefill: match given.no_prefill {
            0 => true,
            1 => false,
            other => return Err(not_one("no_prefill", other)),
        },
        compression: compression(given.compression)?,
        identity: (given.identity != [0; 16]).then_some(given.identity),
        device: device(&given)?,
        ..Options::default()
    };
    if given.arena_bytes > 0 {
        options.arena_bytes = given.arena_bytes;
    }
    if given.segment_bytes > 0 {
        options.segment_bytes = given.segment_bytes;
    }
    options.threads = given.threads.max(1) as usize;
    options.appliers = given.appliers.max(1) as usize;
    if given.registry != 0 {
        options.transforms = REGISTRIES.share(given.registry)?.lock().clone();
    }
    Ok(options)
}

fn not_one(field: &str, value: u32) -> Failure {
    Failure::argument(format!(
        "options.{field} is {value}, which is none of its values"
    ))
}

fn compression(wanted: u32) -> Outcome<Option<Compression>> {
    match wanted {
        0 => Ok(None),
        #[cfg(feature = "zstd")]
        1 => Ok(Some(Compression::Zstd)),
        #[cfg(not(feature = "zstd"))]
        1 => Err(absent("compression", "zstd")),
        other => Err(not_one("compression", other)),
    }
}

#[cfg(not(all(feature = "zstd", feature = "cuda")))]
fn absent(field: &str, feature: &str) -> Failure {
    Failure::new(
        status::MMSB_UNSUPPORTED,
        "abi.feature",
        format!("options.{field} needs a library with the feature {feature}"),
    )
}

fn device(given: &mmsb_options) -> Outcome<Option<Arc<dyn Device>>> {
    let bytes = match given.device_bytes {
        0 => DEVICE_BYTES,
        bytes => bytes,
    };
    let failed = |error: mmsb_engine::device::DeviceError| {
        Failure::new(status::MMSB_DEVICE, error.kind(), error.to_string())
    };
    match given.device {
        MMSB_DEVICE_HOST if given.device_bytes == 0 => Ok(None),
        MMSB_DEVICE_HOST => Ok(Some(Arc::new(HostDevice::new(bytes).map_err(failed)?))),
        MMSB_DEVICE_SIMULATED => {
            let options = SimulatedOptions {
                memory_bytes: bytes,
                reserved_bytes: bytes.saturating_mul(4).next_multiple_of(1 << 20),
                ..SimulatedOptions::default()
            };
            Ok(Some(Arc::new(
                SimulatedDevice::new(&options).map_err(failed)?,
            )))
        }
        #[cfg(feature = "cuda")]
        MMSB_DEVICE_CUDA => {
            use mmsb_engine::device::cuda::{CudaDevice, CudaOptions};
            let mut options = CudaOptions::default();
            options.memory_limit_bytes = (given.device_bytes > 0).then_some(given.device_bytes);
            let device = CudaDevice::open(given.device_index, &options).map_err(failed)?;
            Ok(Some(Arc::new(device)))
        }
        #[cfg(not(feature = "cuda"))]
        MMSB_DEVICE_CUDA => Err(absent("device", "cuda")),
        other => Err(not_one("device", other)),
    }
}
