//! What a transaction is to do, gathered before it is committed.

use crate::bus::Bus;
use crate::delta::Delta;
use crate::log::format::{
    LARGE_RUN_BYTES, RECORD_ALIGN_BYTES, RUN_HEAD_BYTES, align_up, encode_run_head, run_position,
};
use crate::log::{Durability, TransformId};
use crate::memory::PlacementError;
use crate::page::{Location, MAX_PAGE_LEN_BYTES, MIN_PAGE_LEN_BYTES, PageId};
use crate::transaction::{Commit, TransactionError};

/// Stands in the generation of ids that the commit still has to give.
pub(crate) const PROVISIONAL_GENERATION: u32 = u32::MAX;
/// Longest metadata key in bytes.
const MAX_KEY_BYTES: usize = 255;
/// Longest metadata value in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// A page that a transaction is to allocate. Its id is known once the commit has given it its place
/// in the order: [`Commit::page`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct NewPage {
    pub(crate) ordinal: u32,
}

/// A page that exists, or one that the same transaction allocates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum PageRef {
    /// A page that exists.
    Existing(PageId),
    /// A page of this transaction.
    New(NewPage),
}

impl From<PageId> for PageRef {
    fn from(page: PageId) -> Self {
        Self::Existing(page)
    }
}

impl From<NewPage> for PageRef {
    fn from(page: NewPage) -> Self {
        Self::New(page)
    }
}

impl PageRef {
    fn provisional(self) -> PageId {
        match self {
            Self::Existing(page) => page,
            Self::New(page) => PageId::new(page.ordinal, PROVISIONAL_GENERATION),
        }
    }
}

impl std::fmt::Display for PageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Existing(page) => page.fmt(f),
            Self::New(page) => write!(f, "new {}", page.ordinal),
        }
    }
}

/// One structural change, in the order in which it was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Intent {
    Allocate {
        len_bytes: u64,
        location: Location,
    },
    Transfer {
        page: PageId,
    },
    Connect {
        child: PageRef,
        transform: TransformId,
        parents: Vec<PageRef>,
    },
    Disconnect {
        child: PageId,
    },
    Annotate {
        page: PageRef,
        key: String,
        value: Option<Vec<u8>>,
    },
    Free {
        page: PageId,
    },
}

/// An atomic group of changes. Nothing is visible or logged before [`Transaction::commit`]; dropping it discards it.
///
/// Whatever the order of the calls, a commit first allocates, then changes graph and metadata and
/// transfers, then writes, then frees.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use mmsb_engine::{Bus, Durability, Options};
/// let bus = Bus::open(directory.path(), Options { segment_bytes: 1 << 16, ..Options::default() })?;
/// let mut transaction = bus.begin();
/// let page = transaction.allocate(4096)?;
/// transaction.write(page, 8, b"hello")?;
/// let commit = transaction.commit(Durability::Sync)?;
/// let page = commit.page(page).ok_or("allocated above")?;
/// assert_eq!(bus.read(page)?.get(8..13), Some(&b"hello"[..]));
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) intents: Vec<Intent>,
    /// Lengths of the pages to allocate, by ordinal.
    pub(crate) new_lens: Vec<u64>,
    /// The runs, as the log stores them.
    pub(crate) stream: Vec<u8>,
    pub(crate) run_count: u32,
    pub(crate) has_large_run: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(bus: &'a Bus) -> Self {
        Self {
            bus,
            intents: Vec::new(),
            new_lens: Vec::new(),
            stream: take_stream(),
            run_count: 0,
            has_large_run: false,
        }
    }

    /// Allocates a page of `len_bytes` zeros in host memory.
    ///
    /// # Errors
    /// [`TransactionError::Placement`] when no page can have that length. Whether there is room is known at the commit.
    pub fn allocate(&mut self, len_bytes: u64) -> Result<NewPage, TransactionError> {
        self.allocate_at(len_bytes, Location::Host)
    }

    /// Allocates a page of `len_bytes` zeros at `location`.
    ///
    /// # Errors
    /// As [`Transaction::allocate`]. Whether the device has room for a page on it is known at the commit; a page that is unified needs none.
    pub fn allocate_at(
        &mut self,
        len_bytes: u64,
        location: Location,
    ) -> Result<NewPage, TransactionError> {
        check_len(len_bytes)?;
        let ordinal =
            u32::try_from(self.new_lens.len()).map_err(|_| TransactionError::TooLarge {
                what: "allocations",
            })?;
        self.new_lens.push(len_bytes);
        self.intents.push(Intent::Allocate {
            len_bytes,
            location,
        });
        Ok(NewPage { ordinal })
    }

    /// Frees a page. The commit waits until nobody reads it.
    ///
    /// # Errors
    /// When the id names no page. That nothing depends on the page is checked at the commit.
    pub fn free(&mut self, page: PageId) -> Result<(), TransactionError> {
        self.check_live(page)?;
        self.intents.push(Intent::Free { page });
        Ok(())
    }

    /// Gives the page a new id and makes every copy of the old one stale: whoever gets the new id from
    /// the commit is the only owner. Bytes, metadata and connections stay. [`Commit::transferred`] tells the new id.
    ///
    /// # Errors
    /// When the id names no page.
    pub fn transfer(&mut self, page: PageId) -> Result<(), TransactionError> {
        self.check_live(page)?;
        self.intents.push(Intent::Transfer { page });
        Ok(())
    }

    /// Writes `bytes` to `page` from `offset` on. Later writes of a transaction win over earlier ones.
    ///
    /// # Errors
    /// When the id names no page, the page is derived, there are no bytes, or they do not fit the page.
    #[inline]
    pub fn write(
        &mut self,
        page: impl Into<PageRef>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), TransactionError> {
        let page = page.into();
        let len_bytes = bytes.len() as u64;
        let page_len_bytes = self.writable_len(page)?;
        let end = offset
            .checked_add(len_bytes)
            .filter(|end| *end <= page_len_bytes);
        let (Some(_), Ok(offset), Some(Ok(len_less_one)), Some(run_count)) = (
            end,
            u32::try_from(offset),
            len_bytes.checked_sub(1).map(u32::try_from),
            self.run_count.checked_add(1),
        ) else {
            return Err(self.refuse_write(page, offset, len_bytes, page_len_bytes));
        };
        let cursor = (self.stream.len() + RUN_HEAD_BYTES) as u64;
        let start = run_position(cursor, u64::from(offset), len_bytes);
        let padded = align_up(start + len_bytes, RECORD_ALIGN_BYTES);
        self.stream
            .extend_from_slice(&encode_run_head(page.provisional(), offset, len_less_one));
        self.stream.resize(start as usize, 0);
        self.stream.extend_from_slice(bytes);
        self.stream.resize(padded as usize, 0);
        self.run_count = run_count;
        self.has_large_run |= len_bytes >= LARGE_RUN_BYTES;
        Ok(())
    }

    /// Writes all runs of `delta` to `page`.
    ///
    /// # Errors
    /// As [`Transaction::write`]; runs before the refused one stay in the transaction.
    pub fn apply(
        &mut self,
        page: impl Into<PageRef>,
        delta: &Delta,
    ) -> Result<(), TransactionError> {
        let page = page.into();
        delta
            .runs()
            .try_for_each(|(offset, bytes)| self.write(page, offset, bytes))
    }

    /// Makes `child` a derived page: from now on its bytes are `transform` of `parents`.
    ///
    /// # Errors
    /// When an id names no page. Cycles, lengths that do not fit and unknown transforms are found at the commit.
    pub fn connect(
        &mut self,
        child: impl Into<PageRef>,
        transform: TransformId,
        parents: &[PageRef],
    ) -> Result<(), TransactionError> {
        let child = child.into();
        self.len_of(child)?;
        for parent in parents {
            self.len_of(*parent)?;
        }
        self.intents.push(Intent::Connect {
            child,
            transform,
            parents: parents.to_vec(),
        });
        Ok(())
    }

    /// Makes a derived page an ordinary one again. It keeps the bytes that it has, and the log records them.
    ///
    /// # Errors
    /// When the id names no page. That it is derived is checked at the commit.
    pub fn disconnect(&mut self, child: PageId) -> Result<(), TransactionError> {
        self.check_live(child)?;
        self.intents.push(Intent::Disconnect { child });
        Ok(())
    }

    /// Sets the metadata `key` of `page` to `value`, or removes it with `None`.
    ///
    /// # Errors
    /// When the id names no page, the key is empty or longer than 255 bytes, or the value is longer than 64 KiB.
    pub fn annotate(
        &mut self,
        page: impl Into<PageRef>,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), TransactionError> {
        let page = page.into();
        self.len_of(page)?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(TransactionError::Metadata {
                what: "key",
                len_bytes: key.len(),
                limit: "1 to 255 bytes are allowed",
            });
        }
        if let Some(value) = value
            && value.len() > MAX_VALUE_BYTES
        {
            return Err(TransactionError::Metadata {
                what: "value",
                len_bytes: value.len(),
                limit: "at most 64 KiB are allowed",
            });
        }
        self.intents.push(Intent::Annotate {
            page,
            key: key.to_owned(),
            value: value.map(<[u8]>::to_vec),
        });
        Ok(())
    }

    /// Whether the transaction would do nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.run_count == 0
    }

    /// Gives the transaction its place in the order, makes it visible, and returns when it is as durable as asked.
    ///
    /// An empty transaction is a commit as any other.
    ///
    /// # Errors
    /// When something that was checked while building is no longer so, or what only the commit can
    /// check is refused: then nothing has changed. [`TransactionError::Poisoned`] when the disk had failed before.
    /// [`TransactionError::InDoubt`] when it failed under this commit, which then is in the order and visible,
    /// and whose survival is known only after the bus is opened again.
    pub fn commit(mut self, durability: Durability) -> Result<Commit, TransactionError> {
        self.run_commit(durability)
    }

    /// As [`Transaction::commit`], but a transaction that was refused because of guards or views
    /// ([`TransactionError::GuardHeld`], [`TransactionError::ViewHeld`]) is as it was, to be tried again when they are gone.
    /// After anything else it is empty.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn try_commit(&mut self, durability: Durability) -> Result<Commit, TransactionError> {
        let result = self.run_commit(durability);
        if !matches!(
            result,
            Err(TransactionError::GuardHeld { .. } | TransactionError::ViewHeld { .. })
        ) {
            self.intents.clear();
            self.new_lens.clear();
            self.stream.clear();
            (self.run_count, self.has_large_run) = (0, false);
        }
        result
    }

    fn check_live(&self, page: PageId) -> Result<&crate::state::table::Slot, TransactionError> {
        let state = self.bus.state();
        if let Some(slot) = state.table.live(page) {
            return Ok(slot);
        }
        // It may be in the middle of a structural commit, which may yet be taken back.
        let _structure = state.structure.read_recursive();
        state.require(page)
    }

    fn new_len(&self, page: NewPage) -> Result<u64, TransactionError> {
        self.new_lens
            .get(page.ordinal as usize)
            .copied()
            .ok_or(TransactionError::ForeignNewPage {
                ordinal: page.ordinal,
            })
    }

    fn len_of(&self, page: PageRef) -> Result<u64, TransactionError> {
        match page {
            PageRef::New(page) => self.new_len(page),
            PageRef::Existing(page) => Ok(self.check_live(page)?.len_bytes()),
        }
    }

    #[inline]
    fn writable_len(&self, page: PageRef) -> Result<u64, TransactionError> {
        match page {
            PageRef::New(page) => self.new_len(page),
            PageRef::Existing(page) => {
                let slot = self.check_live(page)?;
                if slot.is_derived() && !self.disconnects(page) {
                    return Err(TransactionError::DerivedPage { page });
                }
                Ok(slot.len_bytes())
            }
        }
    }

    /// Whether this transaction makes the page an ordinary one: then it may be written as well.
    fn disconnects(&self, page: PageId) -> bool {
        self.intents
            .iter()
            .any(|intent| matches!(intent, Intent::Disconnect { child } if *child == page))
    }

    #[cold]
    fn refuse_write(
        &self,
        page: PageRef,
        offset: u64,
        len_bytes: u64,
        page_len_bytes: u64,
    ) -> TransactionError {
        let write = self.run_count;
        if len_bytes == 0 {
            TransactionError::EmptyWrite {
                page: page.to_string(),
                offset,
                write,
            }
        } else if write == u32::MAX {
            TransactionError::TooLarge { what: "writes" }
        } else {
            TransactionError::OutOfRange {
                page: page.to_string(),
                offset,
                end: offset.saturating_add(len_bytes),
                page_len_bytes,
                write,
            }
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        give_stream(std::mem::take(&mut self.stream));
    }
}

fn check_len(len_bytes: u64) -> Result<(), PlacementError> {
    match len_bytes {
        0 => Err(PlacementError::ZeroLength),
        MIN_PAGE_LEN_BYTES..=MAX_PAGE_LEN_BYTES => Ok(()),
        _ => Err(PlacementError::TooLong { len_bytes }),
    }
}

/// Streams of more than this are given back to the system.
const KEPT_STREAM_BYTES: usize = 4 << 20;

thread_local! {
    /// The buffer of the last transaction of this thread: the next one need not grow its own.
    static STREAM: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

fn take_stream() -> Vec<u8> {
    STREAM.with(std::cell::Cell::take)
}

fn give_stream(mut stream: Vec<u8>) {
    if stream.capacity() <= KEPT_STREAM_BYTES {
        stream.clear();
        // The thread may be ending: then the buffer simply goes.
        let _ = STREAM.try_with(|kept| kept.set(stream));
    }
}
