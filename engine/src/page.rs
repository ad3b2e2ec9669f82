//! Page identity: ids that carry a generation, so that a stale one is an error and never another page.

use std::fmt;

/// The position of a page in the page table. Positions are reused; ids are not.
pub type PageIndex = u32;

/// Shortest page, in bytes.
pub const MIN_PAGE_LEN_BYTES: u64 = 1;
/// Longest page, in bytes (4 GiB).
pub const MAX_PAGE_LEN_BYTES: u64 = 1 << 32;

/// Names one page for as long as it lives.
///
/// An id is a position in the page table and the generation that the position had when the page
/// was allocated. When a page is freed or transferred the generation moves on, so every older copy
/// of the id is refused with a typed error wherever it is used.
///
/// ```
/// use mmsb_engine::PageId;
/// let id = PageId::new(7, 2);
/// assert_eq!(id.to_string(), "7.2");
/// assert_eq!(PageId::from_bits(id.to_bits()), id);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId {
    // `index` first, so that the derived order is the id order of the state digest.
    index: PageIndex,
    generation: u32,
}

impl PageId {
    /// An id from its parts. It names a page only if the table has that generation at that index.
    #[must_use]
    pub const fn new(index: PageIndex, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The position in the page table.
    #[must_use]
    pub const fn index(self) -> PageIndex {
        self.index
    }

    /// How often the position had been given away when this page got it.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The id as one integer: generation in the high half, index in the low half.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The inverse of [`PageId::to_bits`]; every integer is accepted, and checked where it is used.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            index: (bits & 0xffff_ffff) as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageId({self})")
    }
}

/// Where the bytes of a page live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, bincode::Encode, bincode::Decode)]
#[non_exhaustive]
pub enum Location {
    /// Shared host memory.
    #[default]
    Host,
    /// Memory of an accelerator.
    Device,
    /// Shared host memory, and a copy in the memory of an accelerator when it is needed there: a *mirror*, which is sent what changed
    /// before it is used. A device that fails takes the mirror and not the page.
    Unified,
}
