//! Which bytes a piece of work touches.

/// A range of bytes, by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) start: u64,
    pub(crate) len_bytes: u64,
    pub(crate) is_write: bool,
}

impl Access {
    pub(crate) const fn read(start: u64, len_bytes: u64) -> Self {
        Self {
            start,
            len_bytes,
            is_write: false,
        }
    }

    pub(crate) const fn write(start: u64, len_bytes: u64) -> Self {
        Self {
            start,
            len_bytes,
            is_write: true,
        }
    }

    /// Whether the order of the two makes a difference.
    pub(crate) const fn conflicts_with(&self, other: &Self) -> bool {
        (self.is_write || other.is_write)
            && self.start < other.start.saturating_add(other.len_bytes)
            && other.start < self.start.saturating_add(self.len_bytes)
    }
}
