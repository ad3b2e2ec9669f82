//! The state of a bus in memory: pages, their bytes, and what connects them.
//!
//! `table` says where each page is, `structure` changes which pages there are, `stripes` are the locks,
//! `memory` knows the arena from the device, whose pages are in `device`, `content` reads and writes bytes under them, `exported` shows pages to other processes, `apply` repeats what a log says, `wave` carries changes to derived pages.
//!
//! Invariant: nothing here knows of files; recovery and replay build the same state that commits do,
//! through the same functions.

pub(crate) mod apply;
pub(crate) mod content;
pub(crate) mod detached;
pub(crate) mod device;
pub(crate) mod exported;
pub(crate) mod memory;
pub(crate) mod stripes;
pub(crate) mod structure;
pub(crate) mod table;
pub(crate) mod wave;

use std::sync::Arc;

use crate::device::{Device, DeviceError};
use crate::memory::{Arena, ArenaError};
use crate::options::{DeviceOptions, Options, Propagation};
use crate::sync::{Mutex, OnceLock, RwLock};
use device::{DeviceSpace, PageSource, Sink};
use stripes::Stripes;
use structure::Structure;
use table::PageTable;
use wave::StripeState;

/// Everything that a log builds.
pub(crate) struct State {
    pub arena: Arena,
    /// The memory of the device, once there is a page on it.
    pub device: OnceLock<Arc<DeviceSpace>>,
    /// Held while that is made.
    pub making_device: Mutex<()>,
    /// Where evicted pages come from; nowhere as long as the state is being built.
    pub source: OnceLock<Arc<dyn PageSource>>,
    /// In the place of a device, where a few ranges of it are all that matters.
    pub sink: Option<Arc<Sink>>,
    /// Whether it shares the device with the state whose shadow it is.
    pub is_shadow: bool,
    pub chosen_device: Option<Arc<dyn Device>>,
    /// Memory of the device that is made where none was chosen.
    host_device_bytes: u64,
    pub device_options: DeviceOptions,
    pub table: PageTable,
    pub structure: RwLock<Structure>,
    pub stripes: Stripes<StripeState>,
    pub propagation: Propagation,
    pub threads: usize,
    pub scratch: wave::ScratchPool,
}

/// Why there is no memory for a state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Arena(#[from] ArenaError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// An arena that no page lies in.
const NO_ARENA_BYTES: u64 = 4096;
/// Room for the stage, and for some pages.
const MIN_HOST_DEVICE_BYTES: u64 = 128 << 20;
/// It is used only where pages are, but its map of granules is not.
const MAX_HOST_DEVICE_BYTES: u64 = 64 << 30;

impl State {
    pub(crate) fn new(options: &Options) -> Result<Self, StateError> {
        let state = Self::with_arena(options, options.arena_bytes)?;
        if state.chosen_device.is_some() {
            // Taken and pinned now, and not when the first page needs it.
            state.device_space()?;
        }
        Ok(state)
    }

    /// A state of which only what is on the device matters, and is written to `space`, which is emptied: for filling
    /// the device of another state anew. It has the same pages in the same places.
    pub(crate) fn shadow(options: &Options, space: &Arc<DeviceSpace>) -> Result<Self, StateError> {
        space.empty()?;
        let mut state = Self::with_arena(options, NO_ARENA_BYTES)?;
        state.is_shadow = true;
        state.device.get_or_init(|| Arc::clone(space));
        Ok(state)
    }

    /// A state of which only what it writes to `sink` matters, and is kept there.
    pub(crate) fn sinking(options: &Options, sink: &Arc<Sink>) -> Result<Self, StateError> {
        let mut state = Self::with_arena(options, NO_ARENA_BYTES)?;
        state.sink = Some(Arc::clone(sink));
        Ok(state)
    }

    fn with_arena(options: &Options, mapped_bytes: u64) -> Result<Self, ArenaError> {
        Ok(Self {
            arena: Arena::new(mapped_bytes)?,
            device: OnceLock::new(),
            making_device: Mutex::new(()),
            source: OnceLock::new(),
            sink: None,
            is_shadow: false,
            chosen_device: options.device.clone(),
            host_device_bytes: options
                .arena_bytes
                .clamp(MIN_HOST_DEVICE_BYTES, MAX_HOST_DEVICE_BYTES),
            device_options: options.device_options,
            table: PageTable::new(),
            structure: RwLock::new(Structure::new(
                options.arena_bytes,
                options.transforms.clone(),
            )),
            stripes: Stripes::new(),
            propagation: options.propagation,
            threads: options.threads.max(1),
            scratch: wave::ScratchPool::default(),
        })
    }
}
