//! Looking at the files of a bus as they are, also where [`crate::Bus::open`] refuses them.
//!
//! Everything starts with [`Inspection::new`]. It takes no lock, changes nothing, and treats whatever is wrong as
//! something to tell, not as an error.
//!
//! - [`Inspection::files`] lists the files and what their heads say
//! - [`Inspection::survey`] tells what stands in each of them, and what opening would say ([`Inspection::verdict`])
//! - [`Inspection::entries`] walks every record, going on behind damage
//! - [`Inspection::blame`] tells which transaction last wrote a byte
//! - [`Inspection::stats`] gives figures
//! - [`diff`] finds where two directories part
//! - [`salvage`] writes a new directory with everything that can be proven good
//! - [`Inspection::fields`] tells which field of which format every byte is

mod blame;
mod diff;
mod error;
mod fields;
mod files;
mod records;
mod salvage;
mod stats;
mod survey;
mod verdict;
mod walk;
mod window;

pub use blame::{Blame, BlameError, INDEX_MAGIC, IndexReport, Origin};
pub use diff::{DiffError, Difference, PageDifference, Relation, Side, StateDifference, diff};
pub use error::InspectError;
pub use fields::Field;
pub use files::{FileFault, FileInfo, FileKind, Head, Inspection};
pub use records::{Compressed, Entries, Entry, GapKind, Operation, Record, RecordKind, RunInfo};
pub use salvage::{Loss, SalvageError, Salvaged, Start, salvage};
pub use stats::{CheckpointStats, Histogram, KindStats, OperationStats, PageStats, Stats};
pub use survey::{FileSurvey, Span, SpanKind, Survey};
pub use verdict::Verdict;
