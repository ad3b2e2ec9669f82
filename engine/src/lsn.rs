//! Log sequence numbers.

use std::fmt;

/// The position of a transaction in the total order of a bus: the first one has LSN 1.
///
/// LSN 0 ([`Lsn::ZERO`]) stands for the empty state before any transaction.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    bincode::Encode,
    bincode::Decode,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The state before the first transaction.
    pub const ZERO: Self = Self(0);

    /// The LSN of the next transaction.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The LSN of the transaction before; [`Lsn::ZERO`] has itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
