//! The devices that scenarios run on: which there are on this machine, and those that one world uses.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use mmsb_engine::device::{
    Device, DeviceError, DeviceFault, DeviceFaultKind, DeviceInfo, DeviceKind, DeviceOperation,
    HostDevice, SimulatedCounters, SimulatedDevice, SimulatedOptions,
};

use super::failure::{Fault, Outcome};
use crate::scenario::ErrorKind;
use crate::scenario::ast::{self, Location, NewPage, Scenario, Step, Steps};
use crate::scenario::fault::{DeviceAct, FaultKind};

/// Enough for the small pages of scenarios; those with large ones say so.
pub(crate) const MEMORY_BYTES: u64 = 64 << 20;
/// Small, so that pages of a scenario share granules and leave them.
const GRANULE_BYTES: u64 = 64 * 1024;
/// Addresses to one byte of memory, so that a shortage of memory is met before one of addresses.
const RESERVED_PER_MEMORY: u64 = 4;
/// Four granules: with less hardly any page has a place.
const MIN_RESIDENT_CUDA_BYTES: u64 = 8 << 20;
const PINNED_BYTES: usize = 256 << 20;

/// A device that this harness can use, or why it cannot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Presence {
    /// Which one.
    pub kind: DeviceKind,
    /// What it is, or why it cannot be used here.
    pub found: Result<DeviceInfo, DeviceError>,
}

/// Every device that scenarios can name, in the order of the reference.
#[must_use]
pub fn devices() -> Vec<Presence> {
    [
        ast::DeviceKind::Host,
        ast::DeviceKind::Simulated,
        ast::DeviceKind::Cuda,
    ]
    .into_iter()
    .map(|kind| Presence {
        kind: match kind {
            ast::DeviceKind::Host => DeviceKind::Host,
            ast::DeviceKind::Simulated => DeviceKind::Simulated,
            ast::DeviceKind::Cuda => DeviceKind::Cuda,
        },
        found: Made::new(kind, MEMORY_BYTES, 0).map(|made| made.device().info()),
    })
    .collect()
}

/// What the environment variable `MMSB_GPU` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuPolicy {
    /// `require`: what needs a GPU runs, and fails where there is none.
    Require,
    /// `auto`, or not set: what needs a GPU is skipped where there is none.
    Auto,
    /// `off`: what needs a GPU is skipped.
    Off,
}

impl GpuPolicy {
    /// The variable.
    pub const VARIABLE: &'static str = "MMSB_GPU";

    /// What the environment says. A word that is not known is taken for `require`: a slip must not skip tests in silence.
    #[must_use]
    pub fn from_env() -> Self {
        std::env::var_os(Self::VARIABLE)
            .map_or(Self::Auto, |value| Self::of(&value.to_string_lossy()))
    }

    fn of(word: &str) -> Self {
        match word {
            "auto" | "" => Self::Auto,
            "off" => Self::Off,
            _ => Self::Require,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }

    /// Why tests that need a GPU are skipped here; `None` if they run.
    #[must_use]
    pub fn skips(self) -> Option<String> {
        match self {
            Self::Require => None,
            Self::Off => Some(format!("{}=off", Self::VARIABLE)),
            Self::Auto => look_for_cuda().err().map(|error| error.to_string()),
        }
    }
}

/// Whether there is a GPU, without opening it.
#[cfg(feature = "cuda")]
fn look_for_cuda() -> Result<(), DeviceError> {
    mmsb_engine::device::cuda::CudaDevice::look(0).map(drop)
}

/// The GPU, of which `memory_bytes` are used at most.
#[cfg(feature = "cuda")]
fn cuda(memory_bytes: u64) -> Result<Arc<dyn Device>, DeviceError> {
    use mmsb_engine::device::cuda::{CudaDevice, CudaOptions};
    let mut options = CudaOptions::default();
    // Pages share granules, which are longer than those of the other devices: as many granules fit.
    let granules = memory_bytes.div_ceil(GRANULE_BYTES);
    let memory_bytes = memory_bytes.max(granules.min(64) * options.granule_bytes);
    options.memory_limit_bytes = Some(memory_bytes);
    options.reserved_bytes = Some(memory_bytes.saturating_mul(RESERVED_PER_MEMORY));
    Ok(Arc::new(CudaDevice::open(0, &options)?))
}

#[cfg(not(feature = "cuda"))]
fn no_cuda() -> DeviceError {
    DeviceError::Unavailable {
        kind: DeviceKind::Cuda.name(),
        reason: "this build has no CUDA support; build with --features cuda".to_owned(),
    }
}

#[cfg(not(feature = "cuda"))]
fn look_for_cuda() -> Result<(), DeviceError> {
    Err(no_cuda())
}

#[cfg(not(feature = "cuda"))]
fn cuda(_memory_bytes: u64) -> Result<Arc<dyn Device>, DeviceError> {
    Err(no_cuda())
}

/// A device, with what only its own kind can do.
#[derive(Clone)]
enum Made {
    Simulated(Arc<SimulatedDevice>),
    Other(Arc<dyn Device>),
}

impl Made {
    fn new(kind: ast::DeviceKind, memory_bytes: u64, seed: u64) -> Result<Self, DeviceError> {
        Ok(match kind {
            ast::DeviceKind::Host => Self::Other(Arc::new(HostDevice::new(memory_bytes)?)),
            ast::DeviceKind::Simulated => {
                let reserved = memory_bytes.saturating_mul(RESERVED_PER_MEMORY);
                let options = SimulatedOptions {
                    seed,
                    memory_bytes,
                    reserved_bytes: reserved.max(GRANULE_BYTES).next_multiple_of(GRANULE_BYTES),
                    granule_bytes: GRANULE_BYTES,
                    pinned_bytes: PINNED_BYTES,
                };
                Self::Simulated(Arc::new(SimulatedDevice::new(&options)?))
            }
            ast::DeviceKind::Cuda => Self::Other(cuda(memory_bytes)?),
        })
    }

    fn device(&self) -> Arc<dyn Device> {
        match self {
            Self::Simulated(device) => Arc::clone(device) as Arc<dyn Device>,
            Self::Other(device) => Arc::clone(device),
        }
    }
}

/// What a scenario wants of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceSettings {
    pub(crate) kind: ast::DeviceKind,
    pub(crate) memory_bytes: u64,
    pub(crate) seed: u64,
}

impl DeviceSettings {
    /// Device memory for pages, of which a scenario says how much it is in terms of devices with short granules.
    pub(crate) fn resident(&self, bytes: u64) -> u64 {
        match self.kind {
            ast::DeviceKind::Cuda => bytes.max(MIN_RESIDENT_CUDA_BYTES),
            _ => bytes,
        }
    }
}

impl Default for DeviceSettings {
    fn default() -> Self {
        Self {
            kind: ast::DeviceKind::Simulated,
            memory_bytes: MEMORY_BYTES,
            seed: 0,
        }
    }
}

/// The devices of a world: that of its bus, and more of its kind, as one device serves one bus at a time.
pub(crate) struct Devices {
    settings: DeviceSettings,
    /// What the device of the bus draws from.
    seed: u64,
    /// Whether the scenario has pages on a device at all. None is made for the many that have not.
    is_wanted: bool,
    current: OnceCell<Made>,
    /// How many more were made, each of which draws from a seed of its own.
    more: Cell<u64>,
    /// Whether a fault was asked for that changes what arrives.
    garbles: Cell<bool>,
}

impl Devices {
    pub(crate) fn new(settings: DeviceSettings, scenario: &Scenario) -> Self {
        Self {
            seed: settings.seed,
            settings,
            is_wanted: wants_device(scenario),
            current: OnceCell::new(),
            more: Cell::new(0),
            garbles: Cell::new(false),
        }
    }

    /// Whether `settings` are those that the world began with.
    pub(crate) fn is_as(&self, settings: &DeviceSettings) -> bool {
        self.settings == *settings
    }

    /// The device of the bus; `None` if the scenario has no use for one. It is the same in all lives of the bus.
    pub(crate) fn current(&self) -> Outcome<Option<Arc<dyn Device>>> {
        if !self.is_wanted {
            return Ok(None);
        }
        if let Some(made) = self.current.get() {
            return Ok(Some(made.device()));
        }
        let made = self.make(self.seed)?;
        Ok(Some(self.current.get_or_init(|| made).device()))
    }

    /// Another device, for something that lives beside the bus.
    pub(crate) fn another(&self) -> Outcome<Option<Arc<dyn Device>>> {
        if !self.is_wanted {
            return Ok(None);
        }
        Ok(Some(self.make(self.next_seed())?.device()))
    }

    fn next_seed(&self) -> u64 {
        self.more.set(self.more.get() + 1);
        self.seed ^ self.more.get().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The devices of a world beside this one.
    pub(crate) fn twin(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            seed: self.next_seed(),
            is_wanted: self.is_wanted,
            current: OnceCell::new(),
            more: Cell::new(0),
            garbles: Cell::new(false),
        }
    }

    /// Puts a device that was made by [`Devices::another`] in the place of that of the bus.
    pub(crate) fn replace(&mut self, device: Option<Arc<dyn Device>>) {
        self.current =
            device.map_or_else(OnceCell::new, |device| OnceCell::from(Made::Other(device)));
    }

    fn make(&self, seed: u64) -> Outcome<Made> {
        let DeviceSettings {
            kind, memory_bytes, ..
        } = self.settings;
        Ok(Made::new(kind, memory_bytes, seed)?)
    }

    fn simulated(&self) -> Option<&SimulatedDevice> {
        match self.current.get() {
            Some(Made::Simulated(device)) => Some(device),
            _ => None,
        }
    }

    /// What the device was asked to do, if it counts that.
    pub(crate) fn counters(&self) -> Option<SimulatedCounters> {
        self.simulated().map(SimulatedDevice::counters)
    }

    /// Arms a fault.
    pub(crate) fn inject(&self, on: DeviceAct, nth: u64, kind: FaultKind) -> Outcome {
        self.current()?;
        let Some(device) = self.simulated() else {
            return Err(Fault::of(
                ErrorKind::BusBadOptions,
                "only a simulated device fails on demand; the scenario needs `device: simulated`",
            ));
        };
        let Some(kind) = fault_kind(kind) else {
            return Err(Fault::new(format!(
                "a device cannot fail as `{}`",
                kind.as_str()
            )));
        };
        if matches!(kind, DeviceFaultKind::Corrupt | DeviceFaultKind::Late) {
            self.garbles.set(true);
        }
        let on = operation(on);
        Ok(device.inject(DeviceFault { on, nth, kind })?)
    }

    /// Lifts all faults; one that never struck is given back.
    pub(crate) fn heal(&self) -> Option<DeviceFault> {
        let waiting = self.waiting();
        if let Some(device) = self.simulated() {
            device.heal();
        }
        waiting
    }

    /// A fault that has not struck.
    pub(crate) fn waiting(&self) -> Option<DeviceFault> {
        self.simulated()
            .and_then(|device| device.pending_faults().into_iter().next())
    }

    /// Whether a fault that was asked for explains an error of the device. A request that no correct caller makes is explained only by
    /// a table that did not arrive as it was sent, and a race by nothing.
    pub(crate) fn explains(&self, error: &DeviceError) -> bool {
        let struck = self.counters().is_some_and(|counters| counters.faults > 0);
        struck
            && match error {
                DeviceError::Invalid { reason } => {
                    self.garbles.get() && !reason.starts_with("race: ")
                }
                _ => true,
            }
    }
}

fn operation(act: DeviceAct) -> DeviceOperation {
    match act {
        DeviceAct::Map => DeviceOperation::Map,
        DeviceAct::Pin => DeviceOperation::Pin,
        DeviceAct::Upload => DeviceOperation::Upload,
        DeviceAct::Download => DeviceOperation::Download,
        DeviceAct::Launch => DeviceOperation::Launch,
        DeviceAct::Wait => DeviceOperation::Wait,
    }
}

fn fault_kind(kind: FaultKind) -> Option<DeviceFaultKind> {
    Some(match kind {
        FaultKind::Failed => DeviceFaultKind::Failed,
        FaultKind::Lost => DeviceFaultKind::Lost,
        FaultKind::OutOfMemory => DeviceFaultKind::OutOfMemory,
        FaultKind::Exhausted => DeviceFaultKind::PinnedExhausted,
        FaultKind::Corrupt => DeviceFaultKind::Corrupt,
        FaultKind::Late => DeviceFaultKind::Late,
        _ => return None,
    })
}

/// Whether a scenario can put a page on a device, or says anything of one.
fn wants_device(scenario: &Scenario) -> bool {
    let says = |options: &ast::Options| is_elsewhere(options.location) || options.device.is_some();
    says(&scenario.options)
        || scenario
            .pages
            .iter()
            .any(|(_, page)| is_elsewhere(page.location))
        || steps_want(&scenario.steps, &says)
}

fn is_elsewhere(location: Option<Location>) -> bool {
    location.is_some_and(|location| location != Location::Host)
}

fn steps_want(steps: &Steps, says: &impl Fn(&ast::Options) -> bool) -> bool {
    steps.iter().any(|step| match &step.value {
        Step::Allocate(allocate) => allocate
            .pages
            .iter()
            .any(|page: &NewPage| is_elsewhere(page.location)),
        Step::Open(options) | Step::Reopen(options) => says(options),
        Step::Transaction(step) => steps_want(&step.steps, says),
        Step::Repeat(step) => steps_want(&step.steps, says),
        Step::Fails(step) => steps_want(&step.steps, says),
        Step::Concurrent(lists) => lists.iter().any(|steps| steps_want(steps, says)),
        // What is in the file is not known yet.
        Step::Trace(_) | Step::RestoreDevice => true,
        Step::Fault(inject) => matches!(inject.on, crate::scenario::fault::Target::Device(_)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_known_skips_nothing() {
        assert_eq!(GpuPolicy::of("auto"), GpuPolicy::Auto);
        assert_eq!(GpuPolicy::of("off"), GpuPolicy::Off);
        for word in ["require", "on", "requrie"] {
            assert_eq!(GpuPolicy::of(word), GpuPolicy::Require, "{word}");
            assert_eq!(GpuPolicy::of(word).skips(), None);
        }
        assert_eq!(GpuPolicy::Off.skips().as_deref(), Some("MMSB_GPU=off"));
    }

    #[test]
    fn two_devices_are_always_there() {
        let found: Vec<bool> = devices()
            .iter()
            .map(|presence| presence.found.is_ok())
            .collect();
        assert_eq!(found.get(..2), Some(&[true, true][..]));
    }
}
