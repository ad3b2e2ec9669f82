//! Looking at the files of a bus as they are, also where [`crate::Bus::open`] refuses them.
//!
//! Everything starts with [`Inspection::new`]. It takes no lock, changes nothing, and treats whatever is wrong as
//! something to tell, not as an error.
//!
//! - [`Inspection::files`]: the files and their heads
//! - [`Inspection::survey`]: what stands in each of them, and what opening would say ([`Inspection::verdict`])
//! - [`Inspection::entries`]: every record, going on behind damage
//! - [`salvage`]: a new directory with everything that can be proven good
//! - [`Inspection::fields`]: which field of which format every byte is

mod error;
mod fields;
mod files;
mod records;
mod salvage;
mod survey;
mod verdict;
mod walk;
mod window;

pub use error::InspectError;
pub use fields::Field;
pub use files::{FileFault, FileInfo, FileKind, Head, Inspection};
pub use records::{Entries, Entry, GapKind, Operation, Record, RecordKind, RunInfo};
pub use salvage::{Loss, SalvageError, Salvaged, Start, salvage};
pub use survey::{FileSurvey, Span, SpanKind, Survey};
pub use verdict::Verdict;
