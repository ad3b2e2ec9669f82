//! Transactions: the one way in.
//!
//! A transaction is built as the record that it will become: `builder` encodes each write where the
//! log wants it, so that a commit copies bytes once into the log and once into the page.

mod builder;
mod commit;
mod error;

pub(crate) use builder::Intent;
pub use builder::{NewPage, PageRef, Transaction};
pub use commit::Commit;
pub(crate) use commit::event_of;
pub use error::TransactionError;
