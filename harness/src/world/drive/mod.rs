//! The bus as a scenario drives it: by the functions of the crate, or across the C ABI.
//!
//! The verbs are the engine's, and so are the words; whatever a verb comes to, the model is compared with that. Opening is
//! always done in Rust, as simulated storage, the clock and devices can be brought by no pointer; from there on a bus with `via: c` is
//! used through its handle alone. What the C ABI does not have is nowhere done in Rust instead: [`lacks`] says beforehand
//! that a scenario wants it. Only what the world watches without a scenario asking (whether the device is sound) is
//! looked up behind the handle.

mod across;
mod changes;
mod lacks;
mod past;
mod refused;
mod shown;

use mmsb_engine::device::DeviceError;
use mmsb_engine::{Bus, Digest, Location, Lsn, PageId};

pub(crate) use across::Across;
pub(crate) use lacks::{absent, lacks};
pub(crate) use past::Past;
pub(crate) use refused::Refused;
pub(crate) use shown::{Bytes, Cut, Queue};

use crate::scenario::ast::Via;

/// An open bus, and how it is driven.
pub(crate) enum Drive {
    Rust(Box<Bus>),
    C(Across),
}

/// What is known of a page besides its bytes.
pub(crate) struct Info {
    pub(crate) len_bytes: u64,
    pub(crate) location: Location,
    pub(crate) epoch: u64,
    pub(crate) is_derived: bool,
    pub(crate) parents: Vec<PageId>,
    /// All of its metadata, where there is a way to list it.
    pub(crate) metadata: Option<Vec<(String, Vec<u8>)>>,
}

impl From<mmsb_engine::PageInfo> for Info {
    fn from(info: mmsb_engine::PageInfo) -> Self {
        Self {
            len_bytes: info.len_bytes,
            location: info.location,
            epoch: info.epoch,
            is_derived: info.is_derived,
            parents: info.parents,
            metadata: Some(info.metadata),
        }
    }
}

/// The figures that are compared with the model.
pub(crate) struct Figures {
    pub(crate) live_pages: u64,
    pub(crate) live_bytes: u64,
    pub(crate) derived_pages: u64,
}

/// What restoring a device came to, as far as it is told.
pub(crate) struct Restored {
    pub(crate) pages: u64,
    pub(crate) page_bytes: u64,
    pub(crate) took_detour: bool,
}

impl Drive {
    /// Goes on with a bus in the way that was asked for.
    pub(crate) fn new(bus: Bus, via: Via) -> Result<Self, Refused> {
        Ok(match via {
            Via::Rust => Self::Rust(Box::new(bus)),
            Via::C => Self::C(Across::adopt(bus)?),
        })
    }

    pub(crate) fn last_lsn(&self) -> Lsn {
        match self {
            Self::Rust(bus) => bus.last_lsn(),
            Self::C(across) => Lsn(across.statistics().last_lsn),
        }
    }

    pub(crate) fn durable_lsn(&self) -> Lsn {
        match self {
            Self::Rust(bus) => bus.durable_lsn(),
            Self::C(across) => Lsn(across.statistics().durable_lsn),
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        match self {
            Self::Rust(bus) => {
                let statistics = bus.statistics();
                Figures {
                    live_pages: statistics.memory.live_pages,
                    live_bytes: statistics.memory.live_bytes,
                    derived_pages: statistics.derived_pages,
                }
            }
            Self::C(across) => {
                let statistics = across.statistics();
                Figures {
                    live_pages: statistics.live_pages,
                    live_bytes: statistics.live_bytes,
                    derived_pages: statistics.derived_pages,
                }
            }
        }
    }

    /// The engine's bus, for what only Rust can do or tell.
    pub(crate) fn rust(&self, what: &str) -> Result<&Bus, Refused> {
        match self {
            Self::Rust(bus) => Ok(bus),
            Self::C(_) => Err(Refused::absent(what)),
        }
    }

    /// Why what is on the device cannot be read.
    pub(crate) fn device_fault(&self) -> Option<DeviceError> {
        match self {
            Self::Rust(bus) => bus.device_fault(),
            Self::C(across) => across.watch(Bus::device_fault).flatten(),
        }
    }

    pub(crate) fn read(&self, page: PageId) -> Result<Bytes<'_>, Refused> {
        match self {
            Self::Rust(bus) => Ok(Bytes::Guard(bus.read(page)?)),
            Self::C(across) => across.read(page),
        }
    }

    pub(crate) fn view(&self, pages: &[PageId]) -> Result<Cut<'_>, Refused> {
        match self {
            Self::Rust(bus) => Ok(Cut::Guard(bus.view(pages)?)),
            Self::C(across) => across.view(pages).map(Cut::Held),
        }
    }

    pub(crate) fn info(&self, page: PageId) -> Result<Info, Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.info(page)?.into()),
            Self::C(across) => across.info(page),
        }
    }

    pub(crate) fn annotation(&self, page: PageId, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.annotation(page, key)?),
            Self::C(across) => across.annotation(page, key),
        }
    }

    pub(crate) fn pages(&self) -> Vec<PageId> {
        match self {
            Self::Rust(bus) => bus.pages(),
            Self::C(across) => across.pages(),
        }
    }

    pub(crate) fn digest(&self) -> Result<Digest, Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.digest()?),
            Self::C(across) => across.digest(),
        }
    }

    pub(crate) fn sync(&self) -> Result<Lsn, Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.sync()?),
            Self::C(across) => across.sync(),
        }
    }

    pub(crate) fn checkpoint(&self) -> Result<(), Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.checkpoint().map(drop)?),
            Self::C(across) => across.checkpoint(),
        }
    }

    pub(crate) fn maintain(&self) -> Result<(), Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.maintain().map(drop)?),
            Self::C(across) => across.maintain(),
        }
    }

    pub(crate) fn propagate(&self) -> Result<(), Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.propagate()?),
            Self::C(across) => across.propagate(),
        }
    }

    /// Fills the device anew; `None` where it is not told what that came to.
    pub(crate) fn restore_device(&self) -> Result<Option<Restored>, Refused> {
        match self {
            Self::Rust(bus) => {
                let restored = bus.restore_device()?;
                Ok(Some(Restored {
                    pages: restored.pages,
                    page_bytes: restored.page_bytes,
                    took_detour: restored.detour.is_some(),
                }))
            }
            Self::C(across) => across.restore_device().map(|()| None),
        }
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Result<Queue, Refused> {
        match self {
            Self::Rust(bus) => Ok(Queue::Rust(bus.subscribe(capacity))),
            Self::C(across) => across.subscribe(capacity),
        }
    }

    /// Between the two calls several threads use the bus: views, which keep commits of others away, are short then.
    pub(crate) fn shared_by_threads(&self, are_there: bool) {
        if let Self::C(across) = self {
            across.shared_by_threads(are_there);
        }
    }

    pub(crate) fn close(self) -> Result<(), Refused> {
        match self {
            Self::Rust(bus) => Ok(bus.close()?),
            Self::C(across) => across.close(),
        }
    }

    pub(crate) fn abandon(self) {
        match self {
            Self::Rust(bus) => bus.abandon(),
            Self::C(across) => across.abandon(),
        }
    }
}
