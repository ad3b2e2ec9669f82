//! The tables of all objects that callers hold, and what they are.

use std::sync::Arc;

use mmsb_engine::graph::TransformRegistry;
use mmsb_engine::{Bus, Replayed, SharedPage};
use parking_lot::Mutex;

use crate::events::Queue;
use crate::handle::{Kind, Table};
use crate::transaction::Pending;
use crate::view::Held;

pub(crate) static BUSES: Table<Arc<Bus>> = Table::new(Kind::Bus);
pub(crate) static TRANSACTIONS: Table<Owned<Pending<'static>, Bus>> = Table::new(Kind::Transaction);
pub(crate) static VIEWS: Table<View> = Table::new(Kind::View);
pub(crate) static EVENTS: Table<Queue> = Table::new(Kind::Events);
pub(crate) static REGISTRIES: Table<Mutex<TransformRegistry>> = Table::new(Kind::Registry);
pub(crate) static SHARED: Table<SharedPage> = Table::new(Kind::Shared);
pub(crate) static REPLAYS: Table<Arc<Replayed>> = Table::new(Kind::Replay);

/// A view of a bus, or of a state of the past.
pub(crate) enum View {
    Live(Owned<Held<'static>, Bus>),
    Past(Owned<Held<'static>, Replayed>),
}

impl View {
    #[inline]
    pub(crate) const fn held(&self) -> &Held<'static> {
        match self {
            Self::Live(owned) => &owned.value,
            Self::Past(owned) => &owned.value,
        }
    }
}

/// What borrows from an object, together with a share of that object.
pub(crate) struct Owned<T, O> {
    // Dropped first: it borrows from the other.
    pub(crate) value: T,
    _owner: Arc<O>,
}

impl<T, O: 'static> Owned<T, O> {
    /// Keeps `owner` alive for what `make` borrows from it.
    ///
    /// # Safety
    /// The result's `value` must not be moved out of it, nor copied.
    #[inline]
    pub(crate) unsafe fn new<E>(
        owner: &Arc<O>,
        make: impl FnOnce(&'static O) -> Result<T, E>,
    ) -> Result<Self, E> {
        // SAFETY: the object stays where the `Arc` has it for as long as `_owner` lives, which is longer than `value` does.
        let borrowed: &'static O = unsafe { &*Arc::as_ptr(owner) };
        Ok(Self {
            value: make(borrowed)?,
            _owner: Arc::clone(owner),
        })
    }
}
