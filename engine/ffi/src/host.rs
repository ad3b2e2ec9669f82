//! For programs in Rust that link this library as a crate: they bring what no pointer can name, a bus on a storage, clock or
//! device of their own, and use it through the functions of the C ABI. C has no part in this.

use std::sync::Arc;

use mmsb_engine::{Bus, Replayed};

use crate::lookup::{BUSES, REPLAYS};

/// A handle for a bus that was opened in Rust; `None` if there are too many. It ends as any other: `mmsb_bus_close`.
pub fn adopt_bus(bus: Bus) -> Option<u64> {
    BUSES.insert(Arc::new(bus)).ok()
}

/// A handle for a state of the past that was rebuilt in Rust; `None` if there are too many. It ends as any other:
/// `mmsb_replay_release`.
pub fn adopt_replay(replayed: Replayed) -> Option<u64> {
    REPLAYS.insert(Arc::new(replayed)).ok()
}

/// Looks at a bus behind a handle, for what the C ABI does not tell; `None` if the handle is not that of an open bus.
pub fn look_at<T>(bus: u64, look: impl FnOnce(&Bus) -> T) -> Option<T> {
    BUSES.share(bus).ok().map(|bus| look(&bus))
}

/// Drops a bus behind a handle without closing it, if there is one that nothing else uses: what is buffered is handed to the operating
/// system.
pub fn let_go_of_bus(bus: u64) {
    drop(BUSES.remove(bus));
}
