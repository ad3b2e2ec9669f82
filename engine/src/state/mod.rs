//! The state of a bus in memory: pages, their bytes, and what connects them.
//!
//! `table` says where each page is, `structure` changes which pages there are, `stripes` are the locks,
//! `content` reads and writes bytes under them, `apply` repeats what a log says, `wave` carries changes to derived pages.
//!
//! Invariant: nothing here knows of files; recovery and replay build the same state that commits do,
//! through the same functions.

pub(crate) mod apply;
pub(crate) mod content;
pub(crate) mod stripes;
pub(crate) mod structure;
pub(crate) mod table;
pub(crate) mod wave;

use parking_lot::RwLock;

use crate::memory::{Arena, ArenaError};
use crate::options::{Options, Propagation};
use stripes::Stripes;
use structure::Structure;
use table::PageTable;
use wave::StripeState;

/// Everything that a log builds.
pub(crate) struct State {
    pub arena: Arena,
    pub table: PageTable,
    pub structure: RwLock<Structure>,
    pub stripes: Stripes<StripeState>,
    pub propagation: Propagation,
    pub threads: usize,
    pub scratch: wave::ScratchPool,
}

impl State {
    pub(crate) fn new(options: &Options) -> Result<Self, ArenaError> {
        Ok(Self {
            arena: Arena::new(options.arena_bytes)?,
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
