//! Opening, closing and crashing, and what the model makes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mmsb_engine::device::Device;
use mmsb_engine::{Bus, Clock, Compression, FileStorage, OpenError, Retention, Storage};

use super::SimulatedStorage;
use super::devices::DeviceSettings;
use super::drive::Drive;
use super::failure::{Fault, Outcome};
use super::resume::Milestone;
use super::run::World;
use super::{compare, transforms};
use crate::scenario::ErrorKind;
use crate::scenario::ast::{
    self, Compress, Durability, Location, Propagation, Retain, StorageKind, Via,
};
use crate::scenario::num::Scope;

/// Short, so that making a segment costs little beside a scenario's few commits.
const SEGMENT_BYTES: u64 = 64 << 10;
const ARENA_BYTES: u64 = 1 << 30;
/// As short as the engine takes it, so that few bytes make it come around.
const STAGING_BYTES: u64 = 1 << 20;
/// More threads than this are taken for a slip.
const MAX_THREADS: u64 = 256;

/// The options of a scenario with all defaults put in.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) storage: StorageKind,
    pub(crate) via: Via,
    pub(crate) durability: Durability,
    pub(crate) propagation: Propagation,
    retain: Retain,
    history_bytes: u64,
    compress: Compress,
    threads: usize,
    pub(crate) appliers: usize,
    segment_bytes: u64,
    arena_bytes: u64,
    /// Where pages lie that name no location.
    pub(crate) location: Location,
    pub(crate) device: DeviceSettings,
    /// Device memory that pages may take.
    pub(crate) resident_bytes: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            storage: StorageKind::Sim,
            via: Via::Rust,
            durability: Durability::Sync,
            propagation: Propagation::Eager,
            retain: Retain::All,
            history_bytes: 0,
            compress: Compress::None,
            threads: 1,
            appliers: 1,
            segment_bytes: SEGMENT_BYTES,
            arena_bytes: ARENA_BYTES,
            location: Location::Host,
            device: DeviceSettings::default(),
            resident_bytes: None,
        }
    }
}

impl Settings {
    /// These, except for what `options` says.
    pub(crate) fn with(&self, options: &ast::Options, scope: &Scope) -> Outcome<Self> {
        let number = |num: &Option<_>, default: u64| -> Outcome<u64> {
            num.as_ref()
                .map_or(Ok(default), |num: &crate::scenario::num::Num| {
                    Ok(num.eval(scope)?)
                })
        };
        Ok(Self {
            storage: options.storage.unwrap_or(self.storage),
            via: options.via.unwrap_or(self.via),
            durability: options.durability.unwrap_or(self.durability),
            propagation: options.propagation.unwrap_or(self.propagation),
            retain: options.retain.unwrap_or(self.retain),
            history_bytes: number(&options.history, self.history_bytes)?,
            compress: options.compress.unwrap_or(self.compress),
            threads: threads("threads", number(&options.threads, self.threads as u64)?)?,
            appliers: threads("appliers", number(&options.appliers, self.appliers as u64)?)?,
            segment_bytes: number(&options.segment, self.segment_bytes)?,
            arena_bytes: number(&options.arena, self.arena_bytes)?,
            location: options.location.unwrap_or(self.location),
            device: DeviceSettings {
                kind: options.device.unwrap_or(self.device.kind),
                memory_bytes: number(&options.device_memory, self.device.memory_bytes)?,
                seed: number(&options.device_seed, self.device.seed)?,
            },
            resident_bytes: match &options.resident {
                Some(num) => Some(num.eval(scope)?),
                None => self.resident_bytes,
            },
        })
    }

    /// The engine's options, with a device for its pages if it needs one.
    pub(crate) fn engine(
        &self,
        computed: &Arc<AtomicU64>,
        device: Option<Arc<dyn Device>>,
    ) -> Outcome<mmsb_engine::Options> {
        let mut device_options = mmsb_engine::DeviceOptions::default();
        device_options.staging_bytes = STAGING_BYTES;
        device_options.resident_bytes =
            self.resident_bytes.map(|bytes| self.device.resident(bytes));
        Ok(mmsb_engine::Options {
            arena_bytes: self.arena_bytes,
            segment_bytes: self.segment_bytes,
            retention: match self.retain {
                Retain::All => Retention::Everything,
                Retain::Checkpoints if self.history_bytes > 0 => {
                    Retention::Bytes(self.history_bytes)
                }
                Retain::Checkpoints => Retention::Checkpoints,
            },
            compression: match self.compress {
                Compress::None => None,
                Compress::Zstd => Some(Compression::Zstd),
            },
            propagation: match self.propagation {
                Propagation::Eager => mmsb_engine::Propagation::Eager,
                Propagation::Deferred => mmsb_engine::Propagation::Deferred,
            },
            threads: self.threads,
            appliers: self.appliers,
            // The same in every run, as two runs of one scenario must write the same bytes.
            identity: Some(*b"mmsb scenario 01"),
            transforms: transforms::registry(computed)
                .map_err(|error| Fault::new(error.to_string()))?,
            device,
            device_options,
            ..mmsb_engine::Options::default()
        })
    }
}

/// A number of threads from 1 on.
pub(crate) fn threads(what: &str, count: u64) -> Outcome<usize> {
    usize::try_from(count)
        .ok()
        .filter(|_| (1..=MAX_THREADS).contains(&count))
        .ok_or_else(|| {
            Fault::of(
                ErrorKind::BusBadOptions,
                format!("{what} is {count}; 1 to {MAX_THREADS} are allowed"),
            )
        })
}

/// Where the files of the bus are.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    Simulated(SimulatedStorage),
    Directory(PathBuf),
}

impl Disk {
    pub(crate) fn storage(&self) -> Outcome<Arc<dyn Storage>> {
        Ok(match self {
            Self::Simulated(storage) => Arc::new(storage.clone()),
            Self::Directory(path) => Arc::new(FileStorage::create(path)?),
        })
    }
}

impl World<'_> {
    /// Opens the bus for the first time.
    pub(crate) fn create(&mut self) -> Outcome {
        if self.records {
            match &self.disk {
                Disk::Simulated(storage) => storage.record(0, 0),
                Disk::Directory(_) => {
                    let message =
                        "only on simulated storage a crash can come at another moment than now";
                    return Err(Fault::of(ErrorKind::BusBadOptions, message));
                }
            }
        }
        let bus = self.open_engine()?;
        let report = bus.opened();
        if !report.created || report.last_lsn.0 != 0 {
            return Err(Fault::new(format!(
                "the directory is not empty: it has a log up to LSN {}",
                report.last_lsn
            )));
        }
        self.bus = Some(Drive::new(bus, self.settings.via)?);
        Ok(())
    }

    pub(crate) fn open_engine(&self) -> Outcome<Bus> {
        self.open_engine_on(self.devices.current()?)
    }

    pub(crate) fn open_engine_on(&self, device: Option<Arc<dyn Device>>) -> Outcome<Bus> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let options = self.settings.engine(&self.computed, device)?;
        Bus::open_with(self.disk.storage()?, clock, options)
            .map_err(|error: OpenError| error.into())
    }

    /// Opens what the storage holds. A bus that is open already keeps another one out.
    pub(crate) fn open(&mut self, options: &ast::Options) -> Outcome {
        let settings = self.settings.with(options, &self.stage.scope)?;
        if settings.storage != self.settings.storage {
            return Err(Fault::of(
                ErrorKind::BusBadOptions,
                "the storage stays what it was when the scenario began",
            ));
        }
        if !self.devices.is_as(&settings.device) {
            return Err(Fault::of(
                ErrorKind::BusBadOptions,
                "the device stays what it was when the scenario began",
            ));
        }
        let before = std::mem::replace(&mut self.settings, settings);
        let opened = self.open_engine();
        if self.bus.is_some() {
            self.settings = before;
            return match opened {
                Ok(_) => Err(Fault::new(
                    "a second bus could be opened on the directory of an open one",
                )),
                Err(fault) => Err(fault),
            };
        }
        match opened {
            Ok(bus) => self.opened(bus),
            Err(fault) => {
                self.settings = before;
                Err(fault)
            }
        }
    }

    /// Takes over a bus that was opened, and compares all of it with what must have been recovered.
    pub(super) fn opened(&mut self, bus: Bus) -> Outcome {
        self.stage.durability = self.settings.durability;
        self.stage.location = self.settings.location;
        let lsn = bus.opened().last_lsn.0;
        let bus = self.bus.insert(Drive::new(bus, self.settings.via)?);
        let safe = self.safe_lsn;
        if let Disk::Simulated(storage) = &self.disk {
            storage.recovered(lsn);
        }
        if let Some(issued) = self.issued_lsn.take().filter(|issued| lsn > *issued) {
            let message = format!(
                "recovery came to LSN {lsn}, but at the moment of the crash the last commit that was begun had LSN {issued}"
            );
            return Err(Fault::new(message));
        }
        if lsn < safe {
            let message = format!(
                "recovery came to LSN {lsn}, but everything up to LSN {safe} was acknowledged as safe"
            );
            return Err(Fault::new(message));
        }
        if lsn > self.model.lsn() {
            let message = format!(
                "recovery came to LSN {lsn}, but the last commit had LSN {}",
                self.model.lsn()
            );
            return Err(Fault::new(message));
        }
        if !self.model.roll_back(lsn) {
            let message = "a crash lost commits, and what was before is not known: `crash` must stand in the scenario \
                           itself and not in a trace";
            return Err(Fault::new(message));
        }
        while self.renames.back().is_some_and(|(of, _)| *of > lsn) {
            for (name, old) in self
                .renames
                .pop_back()
                .into_iter()
                .flat_map(|(_, renamed)| renamed)
                .rev()
            {
                match old {
                    Some(id) => self
                        .stage
                        .names
                        .insert(name, super::stage::PageKey::Existing(id)),
                    None => self.stage.names.remove(&name),
                };
            }
        }
        self.marks.retain(|_, mark| mark.lsn <= lsn);
        self.handed_lsn = lsn;
        // Whatever an open has found it has also made durable.
        self.safe_lsn = lsn;
        if let Disk::Simulated(storage) = &self.disk {
            storage.safe(lsn);
        }
        self.model.durable(lsn);
        compare::everything(bus, &mut self.model, &self.stage.names)?;
        compare::figures(bus, &self.model)
    }

    /// Closes the bus in order, after a last comparison.
    pub(crate) fn close(&mut self) -> Outcome {
        self.compare_everything()?;
        self.stage.abort();
        self.listeners
            .values_mut()
            .for_each(super::listen::Listener::end);
        let Some(bus) = self.bus.take() else {
            return Err(closed());
        };
        self.announce(Milestone::Closing);
        bus.close()?;
        let lsn = self.model.lsn();
        self.safe(lsn);
        self.announce(Milestone::Closed { lsn });
        Ok(())
    }

    /// Notes that everything up to `lsn` must survive from now on.
    pub(crate) fn safe(&mut self, lsn: u64) {
        self.safe_lsn = self.safe_lsn.max(lsn);
        if let Disk::Simulated(storage) = &self.disk {
            storage.safe(lsn);
        }
        self.model.durable(self.safe_lsn);
        if !self.keeps_all {
            while self
                .renames
                .front()
                .is_some_and(|(of, _)| *of <= self.safe_lsn)
            {
                self.renames.pop_front();
            }
        }
    }

    /// Notes what a commit of this durability has made safe.
    pub(crate) fn acknowledged(&mut self, lsn: u64, durability: Durability) {
        if durability != Durability::Memory {
            self.handed_lsn = lsn;
        }
        let survives = match durability {
            Durability::Sync => true,
            // On a real file system a crash is the death of the process, which the operating system survives.
            Durability::Buffered => self.settings.storage == StorageKind::Fs,
            Durability::Memory => false,
        };
        if survives {
            self.safe(lsn);
        }
    }
}

/// The error of a step that needs an open bus.
pub(crate) fn closed() -> Box<Fault> {
    Fault::of(ErrorKind::BusClosed, "the bus is closed; open it first")
}
