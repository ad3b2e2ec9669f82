//! Looking at the files of a bus as they are, also where [`crate::Bus::open`] refuses them.
//!
//! Everything starts with [`Inspection::new`]. It takes no lock, changes nothing, and treats whatever is wrong as
//! something to tell, not as an error. [`Inspection::fields`] says which field of which format every byte is.

mod error;
mod fields;
mod files;
mod walk;
mod window;

pub use error::InspectError;
pub use fields::Field;
pub use files::{FileFault, FileInfo, FileKind, Head, Inspection};
