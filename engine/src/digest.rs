//! Digests of pages and of whole states.

use std::fmt;

use crate::page::PageId;

/// A BLAKE3 digest. A page's digest is what `b3sum` prints for its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    ///
    /// ```
    /// use mmsb_engine::Digest;
    /// assert!(Digest::of(b"").to_string().starts_with("af1349b9f5f9a1a6"));
    /// ```
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{self}")
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Computes the digest of a state: BLAKE3 over each page in id order, as id (8 bytes), length
/// (8 bytes), both little endian, a byte that is 1 for a stale page, and the page's digest (zeros if stale).
#[derive(Debug, Default)]
pub struct StateDigester {
    hasher: blake3::Hasher,
}

impl StateDigester {
    /// A digester that has seen no page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next page in id order. `digest` is `None` for a stale page, whose bytes mean nothing.
    pub fn page(&mut self, page: PageId, len_bytes: u64, digest: Option<Digest>) {
        self.hasher.update(&page.to_bits().to_le_bytes());
        self.hasher.update(&len_bytes.to_le_bytes());
        self.hasher.update(&[u8::from(digest.is_none())]);
        self.hasher
            .update(&digest.map_or([0; 32], |digest| digest.0));
    }

    /// The digest of all pages added.
    #[must_use]
    pub fn finish(&self) -> Digest {
        Digest(self.hasher.finalize().into())
    }
}
