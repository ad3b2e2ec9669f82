//! Transactions: built and committed, by either way, from what a stage gathered.

use std::ffi::CString;

use mmsb_engine::{Bus, Location, NewPage, PageId, PageRef, Transaction, TransactionError};
use mmsb_ffi::bus::{MMSB_DEVICE_MEMORY, MMSB_HOST, MMSB_UNIFIED};
use mmsb_ffi::status::{MMSB_IN_DOUBT, MMSB_OK};
use mmsb_ffi::transaction::{
    MMSB_BUFFERED, MMSB_MEMORY, MMSB_SYNC, mmsb_transaction_allocate, mmsb_transaction_annotate,
    mmsb_transaction_begin, mmsb_transaction_commit, mmsb_transaction_connect,
    mmsb_transaction_disconnect, mmsb_transaction_free, mmsb_transaction_page,
    mmsb_transaction_release, mmsb_transaction_transfer, mmsb_transaction_transferred,
    mmsb_transaction_write,
};

use super::Drive;
use super::across::{Across, PATIENCE};
use super::refused::Refused;
use crate::scenario::ast::Durability;
use crate::world::failure::Fault;
use crate::world::stage::{Op, PageKey};

/// What a commit came to.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) lsn: u64,
    pub(crate) allocated: Vec<PageId>,
    pub(crate) transferred: Vec<(PageId, PageId)>,
    /// What failed, if it is not known whether it survives.
    pub(crate) doubt: Option<Box<Fault>>,
}

/// Why there is no commit, and which operation was refused, if it was one.
pub(crate) type Attempt<T> = Result<T, (Option<usize>, Box<Fault>)>;

impl Drive {
    /// Has the engine check operations, as far as it does before a commit.
    pub(crate) fn try_build(&self, ops: &[Op]) -> Attempt<()> {
        match self {
            Self::Rust(bus) => build(bus, ops).map(drop),
            Self::C(across) => across.build(ops).map(drop),
        }
    }

    /// Commits operations as one transaction.
    pub(crate) fn commit(&self, ops: &[Op], durability: Durability) -> Attempt<Made> {
        match self {
            Self::Rust(bus) => commit(bus, ops, durability),
            Self::C(across) => across.commit(ops, durability),
        }
    }
}

/// Makes the engine's transaction.
fn build<'a>(bus: &'a Bus, ops: &[Op]) -> Attempt<Transaction<'a>> {
    let mut transaction = bus.begin();
    let mut news: Vec<NewPage> = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        add(&mut transaction, &mut news, op).map_err(|error| (Some(index), error.into()))?;
    }
    Ok(transaction)
}

fn commit(bus: &Bus, ops: &[Op], durability: Durability) -> Attempt<Made> {
    let durability = match durability {
        Durability::Memory => mmsb_engine::Durability::Memory,
        Durability::Buffered => mmsb_engine::Durability::Buffered,
        Durability::Sync => mmsb_engine::Durability::Sync,
    };
    let (commit, doubt) = match build(bus, ops)?.commit(durability) {
        Ok(commit) => (commit, None),
        Err(error) => {
            let made = match &error {
                TransactionError::InDoubt { commit, .. } => Some((**commit).clone()),
                _ => None,
            };
            let fault: Box<Fault> = error.into();
            match made {
                Some(commit) => (commit, Some(fault)),
                None => return Err((None, fault)),
            }
        }
    };
    Ok(Made {
        lsn: commit.lsn.0,
        allocated: commit.allocated,
        transferred: commit.transferred,
        doubt,
    })
}

/// Adds one operation to the engine's transaction.
fn add(
    transaction: &mut Transaction<'_>,
    news: &mut Vec<NewPage>,
    op: &Op,
) -> Result<(), TransactionError> {
    match op {
        Op::Allocate {
            len_bytes,
            location,
        } => {
            news.push(transaction.allocate_at(*len_bytes, *location)?);
            Ok(())
        }
        Op::Write { page, at, bytes } => transaction.write(engine_page(*page, news), *at, bytes),
        Op::Delta { page, delta, .. } => transaction.apply(engine_page(*page, news), delta),
        Op::Free { page } => transaction.free(*page),
        Op::Transfer { page } => transaction.transfer(*page),
        Op::Connect {
            child,
            function,
            parents,
        } => {
            let parents: Vec<PageRef> = parents
                .iter()
                .map(|parent| engine_page(*parent, news))
                .collect();
            transaction.connect(engine_page(*child, news), function.transform_id(), &parents)
        }
        Op::Disconnect { child } => transaction.disconnect(*child),
        Op::Annotate { page, key, value } => transaction.annotate(
            engine_page(*page, news),
            key,
            value.as_ref().map(String::as_bytes),
        ),
    }
}

/// Stands for a new page whose allocation was refused: an id that no page can have, which is refused in turn.
const NO_PAGE: PageId = PageId::new(u32::MAX, 0);

fn engine_page(key: PageKey, news: &[NewPage]) -> PageRef {
    match key {
        PageKey::Existing(id) => PageRef::Existing(id),
        PageKey::New(ordinal) => news
            .get(ordinal as usize)
            .map_or(PageRef::Existing(NO_PAGE), |new| PageRef::New(*new)),
    }
}

/// A transaction of the C ABI, which is released with this.
struct Open {
    handle: u64,
    /// What its new pages are called in it.
    news: Vec<u64>,
}

impl Drop for Open {
    fn drop(&mut self) {
        mmsb_transaction_release(self.handle);
    }
}

impl Open {
    fn page(&self, key: PageKey) -> u64 {
        match key {
            PageKey::Existing(id) => id.to_bits(),
            PageKey::New(ordinal) => {
                let new = self.news.get(ordinal as usize);
                new.copied().unwrap_or(NO_PAGE.to_bits())
            }
        }
    }

    fn write(&self, page: PageKey, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let page = self.page(page);
        // SAFETY: so many bytes are there.
        Refused::check(unsafe {
            mmsb_transaction_write(self.handle, page, at, bytes.as_ptr(), bytes.len())
        })
    }

    fn add(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::Allocate {
                len_bytes,
                location,
            } => {
                let location = match location {
                    Location::Device => MMSB_DEVICE_MEMORY,
                    Location::Unified => MMSB_UNIFIED,
                    _ => MMSB_HOST,
                };
                let mut page = 0;
                // SAFETY: the pointer is to a variable of its type.
                Refused::check(unsafe {
                    mmsb_transaction_allocate(self.handle, *len_bytes, location, &mut page)
                })?;
                self.news.push(page);
                Ok(())
            }
            Op::Write { page, at, bytes } => self.write(*page, *at, bytes),
            // C knows writes; a delta is some of them.
            Op::Delta { page, delta, .. } => delta
                .runs()
                .try_for_each(|(at, bytes)| self.write(*page, at, bytes)),
            Op::Free { page } => Refused::check(mmsb_transaction_free(self.handle, page.to_bits())),
            Op::Transfer { page } => {
                Refused::check(mmsb_transaction_transfer(self.handle, page.to_bits()))
            }
            Op::Connect {
                child,
                function,
                parents,
            } => {
                let transform = function.transform_id();
                let name = text(&transform.name)?;
                let parents: Vec<u64> = parents.iter().map(|parent| self.page(*parent)).collect();
                // SAFETY: the name is a string, and of the others as many are there as their lengths say.
                Refused::check(unsafe {
                    mmsb_transaction_connect(
                        self.handle,
                        self.page(*child),
                        name.as_ptr(),
                        transform.version,
                        transform.params.as_ptr(),
                        transform.params.len(),
                        parents.as_ptr(),
                        parents.len(),
                    )
                })
            }
            Op::Disconnect { child } => {
                Refused::check(mmsb_transaction_disconnect(self.handle, child.to_bits()))
            }
            Op::Annotate { page, key, value } => {
                let (page, key) = (self.page(*page), text(key)?);
                let (value, len) = match value {
                    Some(value) => (value.as_ptr(), value.len()),
                    None => (std::ptr::null(), 0),
                };
                // SAFETY: the key is a string, and so many bytes are at the value, or it is null.
                Refused::check(unsafe {
                    mmsb_transaction_annotate(self.handle, page, key.as_ptr(), value, len)
                })
            }
        }
    }
}

fn text(text: &str) -> Result<CString, Refused> {
    CString::new(text).map_err(|_| Refused::absent("texts with a zero byte"))
}

impl Across {
    fn build(&self, ops: &[Op]) -> Attempt<Open> {
        let mut handle = 0;
        // SAFETY: the pointer is to a variable of its type.
        let begun = Refused::check(unsafe { mmsb_transaction_begin(self.handle, &mut handle) });
        begun.map_err(|refused| (None, refused.into()))?;
        let mut open = Open {
            handle,
            news: Vec::new(),
        };
        for (index, op) in ops.iter().enumerate() {
            let added = open.add(op);
            added.map_err(|refused| (Some(index), refused.into()))?;
        }
        Ok(open)
    }

    fn commit(&self, ops: &[Op], durability: Durability) -> Attempt<Made> {
        let open = self.build(ops)?;
        let durability = match durability {
            Durability::Memory => MMSB_MEMORY,
            Durability::Buffered => MMSB_BUFFERED,
            Durability::Sync => MMSB_SYNC,
        };
        let wait_ns = PATIENCE.as_nanos() as u64;
        let mut lsn = 0;
        // SAFETY: the pointer is to a variable of its type.
        let status = unsafe { mmsb_transaction_commit(open.handle, durability, wait_ns, &mut lsn) };
        let doubt = match status {
            MMSB_OK => None,
            MMSB_IN_DOUBT => Some(Refused::last().into()),
            _ => return Err((None, Refused::last().into())),
        };
        let made = open.ids(ops);
        let (allocated, transferred) = made.map_err(|refused| (None, refused.into()))?;
        Ok(Made {
            lsn,
            allocated,
            transferred,
            doubt,
        })
    }
}

type Ids = (Vec<PageId>, Vec<(PageId, PageId)>);

impl Open {
    /// What the commit made of new pages, and of those that it transferred.
    fn ids(&self, ops: &[Op]) -> Result<Ids, Refused> {
        let mut allocated = Vec::new();
        for new in &self.news {
            let mut page = 0;
            // SAFETY: the pointer is to a variable of its type.
            Refused::check(unsafe { mmsb_transaction_page(self.handle, *new, &mut page) })?;
            allocated.push(PageId::from_bits(page));
        }
        let mut transferred = Vec::new();
        for op in ops {
            if let Op::Transfer { page: old } = op {
                let mut page = 0;
                // SAFETY: the pointer is to a variable of its type.
                Refused::check(unsafe {
                    mmsb_transaction_transferred(self.handle, old.to_bits(), &mut page)
                })?;
                transferred.push((*old, PageId::from_bits(page)));
            }
        }
        Ok((allocated, transferred))
    }
}
