//! What surrounds the steps of a scenario: what it requires, its options and its matrix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::num::Num;
use super::value::{Map, Name};

/// Something a machine may or may not offer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// The Linux kernel.
    Linux,
    /// A real file system with working `fdatasync`.
    Filesystem,
    /// Simulated storage: available everywhere, named where a scenario relies on its faults.
    Sim,
    /// At least one GPU with a driver, which this build can use.
    Gpu,
    /// At least two processor cores.
    Multicore,
}

/// The axes of a scenario and the combinations that are left out or added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// The values of each axis. `storage`, `via`, `durability`, `propagation`, `retain`, `compress`, `threads`, `appliers`,
    /// `segment`, `arena`, `history`, `location`, `device`, `device_memory`, `resident` and `device_seed` set the option of that name; any other axis is a variable with number values.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub axes: Map<Vec<AxisValue>>,
    /// Combinations to leave out: each entry drops every cell that has all of its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Map<AxisValue>>,
    /// Cells to add after exclusion, each with a value for every axis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Map<AxisValue>>,
}

/// One value of an axis: a number, or a word such as `sim`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AxisValue {
    /// A number or size; an axis takes no expressions.
    Num(Num),
    /// A word, for the axes that are a choice.
    Word(Name),
}

/// How the bus is opened. What is left out keeps its default, or at `reopen` its present value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where the log and the checkpoints live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageKind>,
    /// The way to the engine; `rust` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The durability of a plain `commit`; `sync` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// When derived pages are recomputed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// Which log segments are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<Retain>,
    /// Bytes of the log that stay besides what the kept checkpoints need, so that states of the past can be
    /// replayed; for `retain: checkpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Num>,
    /// Whether long transactions are compressed in the log, from the next segment on; `none` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Threads that a propagation wave may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<Num>,
    /// Threads that apply the log in recovery and replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appliers: Option<Num>,
    /// Length of one log segment in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Num>,
    /// Length of the page arena in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arena: Option<Num>,
    /// Where pages lie that name no location; `host` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The device that pages with the location `device` are on; `simulated` if left out. It stays what it was when the
    /// scenario began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceKind>,
    /// Memory of the device in bytes, its stage included; of a real one it is what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<Num>,
    /// Device memory in bytes that pages may take, the stage not included; beyond it those used longest ago are evicted. No limit but that of
    /// the device if left out. A GPU, whose granules are longer, takes at least four of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<Num>,
    /// What a simulated device draws from wherever a device may do one thing or another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_seed: Option<Num>,
}

impl Options {
    /// Whether every option is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the log and the checkpoints live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// Simulated storage in memory, deterministic.
    Sim,
    /// A directory on the real file system.
    Fs,
}

/// The way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The functions of the crate.
    Rust,
    /// The C ABI: handles, pointers and statuses, as a program in C has them. A scenario that wants what it does not have is
    /// listed as ignored.
    C,
}

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// In host memory.
    Host,
    /// In the memory of the device.
    Device,
    /// In host memory, with a mirror in that of the device when it is needed there.
    Unified,
}

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Host memory in the place of a device's; all work is done at once.
    Host,
    /// A simulated device: with queues and memory of its own, late, in any order that is left open, and with faults on demand.
    Simulated,
    /// A GPU through CUDA. Where there is none the test is listed as ignored.
    Cuda,
}

/// How safe a commit is once it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// In memory only: lost with the process.
    Memory,
    /// Written to the operating system: survives the process, not the machine.
    Buffered,
    /// Synced to stable storage: survives a power failure.
    Sync,
}

/// When derived pages are recomputed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// In each commit.
    Eager,
    /// At `propagate`, or when a derived page is read.
    Deferred,
}

/// Which log segments are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Retain {
    /// Every segment, so that any state of the past can be replayed.
    All,
    /// Those that the kept checkpoints still need.
    Checkpoints,
}

/// Whether long transactions are compressed in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// None is.
    None,
    /// Those of 4 KiB and more, with zstd, where that saves an eighth.
    Zstd,
}
