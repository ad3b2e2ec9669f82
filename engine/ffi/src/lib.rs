//! The C ABI of MMSB.
//!
//! What a caller must know is in `docs/FFI.md`; the header is `include/mmsb.h`. Every function returns a [`status`], never
//! unwinds, and takes handles that are checked: `handle` is the table of them, `border` is where pointers of the caller
//! become values and errors become statuses, the other modules are the functions by what they are about.
//!
//! Invariant: a pointer of the caller is only touched in `border`, after it was checked for null and alignment.

pub mod abi;
mod border;
pub mod bus;
pub mod commit;
pub mod doctor;
pub mod events;
pub mod failure;
mod handle;
pub mod host;
mod lookup;
pub mod options;
pub mod registry;
pub mod replayed;
pub mod shared;
pub mod status;
pub mod transaction;
pub mod transform;
pub mod view;
