//! Transactions: gathered through a handle, committed, and asked what became of new pages.

use std::ffi::c_char;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mmsb_engine::{
    Bus, Commit, Durability, Location, NewPage, PageId, PageRef, Transaction, TransactionError,
    TransformId,
};

use crate::border::{Out, call, optional, slice, text};
use crate::bus::{MMSB_DEVICE_MEMORY, MMSB_HOST};
use crate::failure::{Failure, Outcome};
use crate::lookup::{BUSES, Owned, TRANSACTIONS};
use crate::status;

/// On the disk when the commit returns. The default.
pub const MMSB_SYNC: u32 = 0;
/// In the order and visible; lost if the process dies.
pub const MMSB_MEMORY: u32 = 1;
/// Handed to the operating system: survives the process, not a power cut.
pub const MMSB_BUFFERED: u32 = 2;

/// Ids of pages that do not exist yet have this bit: `1 | nonce of the transaction:31 | ordinal:32`.
const NEW_PAGE: u64 = 1 << 63;
const NONCE_MASK: u64 = 0x7fff_ffff;

/// A transaction, and what a caller may ask of it.
pub(crate) struct Pending<'a> {
    transaction: Transaction<'a>,
    nonce: u64,
    new_pages: Vec<NewPage>,
    phase: Phase,
}

enum Phase {
    Open,
    Committed(Commit),
    Failed,
}

impl<'a> Pending<'a> {
    fn new(bus: &'a Bus) -> Self {
        static NONCES: AtomicU64 = AtomicU64::new(1);
        Self {
            transaction: bus.begin(),
            nonce: NONCES.fetch_add(1, Ordering::Relaxed) & NONCE_MASK,
            new_pages: Vec::new(),
            phase: Phase::Open,
        }
    }

    fn open(&mut self) -> Outcome<&mut Transaction<'a>> {
        match self.phase {
            Phase::Open => Ok(&mut self.transaction),
            Phase::Committed(_) => Err(Failure::state(
                "the transaction was committed; begin another",
            )),
            Phase::Failed => Err(Failure::state("the transaction was refused; begin another")),
        }
    }

    fn new_page(&self, page: u64) -> Outcome<NewPage> {
        let ordinal = (page & 0xffff_ffff) as usize;
        let is_ours = (page >> 32) & NONCE_MASK == self.nonce;
        let found = is_ours.then(|| self.new_pages.get(ordinal)).flatten();
        found.copied().ok_or_else(|| {
            let message = format!("{page:#x} is a new page of another transaction");
            Failure::new(status::MMSB_PAGE, "page.foreign", message)
        })
    }

    #[inline]
    fn reference(&self, page: u64) -> Outcome<PageRef> {
        if page & NEW_PAGE == 0 {
            return Ok(PageRef::Existing(PageId::from_bits(page)));
        }
        self.new_page(page).map(PageRef::New)
    }

    fn existing(&self, page: u64) -> Outcome<PageId> {
        if page & NEW_PAGE == 0 {
            return Ok(PageId::from_bits(page));
        }
        self.new_page(page)?;
        Err(Failure::argument(
            "the page is new in this transaction; this takes one that exists",
        ))
    }

    fn commit(&self) -> Outcome<&Commit> {
        match &self.phase {
            Phase::Committed(commit) => Ok(commit),
            _ => Err(Failure::state("the transaction was not committed")),
        }
    }
}

pub(crate) fn durability_of(durability: u32) -> Outcome<Durability> {
    match durability {
        MMSB_SYNC => Ok(Durability::Sync),
        MMSB_MEMORY => Ok(Durability::Memory),
        MMSB_BUFFERED => Ok(Durability::Buffered),
        other => Err(Failure::argument(format!(
            "durability is {other}, which is none"
        ))),
    }
}

/// How long to sleep between two tries, at first and at most.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(2);

/// Commits, and tries again for `wait_ns` if views are in the way.
pub(crate) fn commit_within(
    transaction: &mut Transaction<'_>,
    durability: Durability,
    wait_ns: u64,
) -> Result<Commit, TransactionError> {
    let mut deadline = None;
    let mut nap = FIRST_NAP;
    loop {
        let result = transaction.try_commit(durability);
        if wait_ns == 0 || !is_in_the_way(&result) {
            return result;
        }
        let now = Instant::now();
        let until = *deadline.get_or_insert_with(|| now.checked_add(Duration::from_nanos(wait_ns)));
        if until.is_some_and(|until| now >= until) {
            return result;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(LONGEST_NAP);
    }
}

const fn is_in_the_way(result: &Result<Commit, TransactionError>) -> bool {
    matches!(result, Err(TransactionError::ViewHeld { .. }))
}

/// Begins a transaction. Release it with `mmsb_transaction_release`, whatever becomes of it. One thread at a time may use it.
///
/// # Safety
/// `transaction` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_begin(bus: u64, transaction: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(transaction, "transaction")? };
        let bus: &Arc<Bus> = &*BUSES.share(bus)?;
        // SAFETY: what is pending stays in the table until it is dropped there.
        let owned = unsafe { Owned::new(bus, |bus| Ok::<_, Failure>(Pending::new(bus)))? };
        out.set(TRANSACTIONS.insert(owned)?);
        Ok(())
    })
}

/// Releases a transaction. One that was not committed is discarded.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_transaction_release(transaction: u64) -> i32 {
    call(|| TRANSACTIONS.remove(transaction).map(drop))
}

/// Allocates a page of `len` zeros at `location`. `*page` names it in this transaction alone, until
/// `mmsb_transaction_page` tells the id that the commit gave it.
///
/// # Safety
/// `page` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_allocate(
    transaction: u64,
    len: u64,
    location: u32,
    page: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(page, "page")? };
        let location = match location {
            MMSB_HOST => Location::Host,
            MMSB_DEVICE_MEMORY => Location::Device,
            crate::bus::MMSB_UNIFIED => Location::Unified,
            other => {
                return Err(Failure::argument(format!(
                    "location is {other}, which is none"
                )));
            }
        };
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let new = pending.open()?.allocate_at(len, location)?;
        out.set(NEW_PAGE | (pending.nonce << 32) | pending.new_pages.len() as u64);
        pending.new_pages.push(new);
        Ok(())
    })
}

/// Writes `len` bytes to `page` from `offset` on. They are copied; later writes win over earlier ones.
///
/// # Safety
/// `len` bytes can be read from `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_write(
    transaction: u64,
    page: u64,
    offset: u64,
    bytes: *const u8,
    len: usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let bytes = unsafe { slice(bytes, len, "bytes")? };
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let page = pending.reference(page)?;
        Ok(pending.open()?.write(page, offset, bytes)?)
    })
}

/// Frees a page.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_transaction_free(transaction: u64, page: u64) -> i32 {
    call(|| {
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let page = pending.existing(page)?;
        Ok(pending.open()?.free(page)?)
    })
}

/// Gives a page a new id, which `mmsb_transaction_transferred` tells after the commit; every copy of the old one is stale then.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_transaction_transfer(transaction: u64, page: u64) -> i32 {
    call(|| {
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let page = pending.existing(page)?;
        Ok(pending.open()?.transfer(page)?)
    })
}

/// Makes `child` a derived page: its bytes are the transform `name` at `version` with `params`, of `parents`.
///
/// # Safety
/// `name` is a string, `params_len` bytes can be read from `params`, and `parent_count` ids from `parents`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_connect(
    transaction: u64,
    child: u64,
    name: *const c_char,
    version: u32,
    params: *const u8,
    params_len: usize,
    parents: *const u64,
    parent_count: usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (name, params, parents) = unsafe {
            (
                text(name, "name")?,
                slice(params, params_len, "params")?,
                slice(parents, parent_count, "parents")?,
            )
        };
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let child = pending.reference(child)?;
        let parents = parents.iter().map(|page| pending.reference(*page));
        let parents = parents.collect::<Outcome<Vec<_>>>()?;
        let transform = TransformId {
            name: name.to_owned(),
            version,
            params: params.to_vec(),
        };
        Ok(pending.open()?.connect(child, transform, &parents)?)
    })
}

/// Makes a derived page an ordinary one again, with the bytes that it has.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_transaction_disconnect(transaction: u64, child: u64) -> i32 {
    call(|| {
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let child = pending.existing(child)?;
        Ok(pending.open()?.disconnect(child)?)
    })
}

/// Sets the metadata `key` of a page; removes it if `value` is null.
///
/// # Safety
/// `key` is a string; `value` is null, or `len` bytes can be read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_annotate(
    transaction: u64,
    page: u64,
    key: *const c_char,
    value: *const u8,
    len: usize,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (key, bytes) = unsafe {
            (
                text(key, "key")?,
                slice(value, if value.is_null() { 0 } else { len }, "value")?,
            )
        };
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let page = pending.reference(page)?;
        let value = (!value.is_null()).then_some(bytes);
        Ok(pending.open()?.annotate(page, key, value)?)
    })
}

/// Commits: the transaction gets its place in the order, becomes visible, and is as durable as `durability` says when this returns.
/// `lsn` (may be null) is its place, also with `MMSB_IN_DOUBT`.
///
/// Views that are held on pages that it changes are never waited for: `MMSB_VIEW_HELD` says that nothing has changed and that the
/// transaction can be committed again. With `wait_ns` it tries again for so long by itself. After any other error the
/// transaction can only be released.
///
/// # Safety
/// `lsn` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_commit(
    transaction: u64,
    durability: u32,
    wait_ns: u64,
    lsn: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { optional(lsn, "lsn")? };
        let durability = durability_of(durability)?;
        let pending = &mut TRANSACTIONS.alone(transaction)?.value;
        let result = commit_within(pending.open()?, durability, wait_ns);
        let (commit, failure) = match result {
            Ok(commit) => (commit, None),
            Err(TransactionError::InDoubt { commit, cause }) => {
                let told = commit.as_ref().clone();
                let error = TransactionError::InDoubt { commit, cause };
                (told, Some(Failure::from(error)))
            }
            Err(error) => {
                if !matches!(
                    error,
                    TransactionError::ViewHeld { .. } | TransactionError::GuardHeld { .. }
                ) {
                    pending.phase = Phase::Failed;
                }
                return Err(error.into());
            }
        };
        if let Some(out) = out {
            out.set(commit.lsn.0);
        }
        pending.phase = Phase::Committed(commit);
        failure.map_or(Ok(()), Err)
    })
}

/// The id that the commit gave to a page that the transaction allocated.
///
/// # Safety
/// `page` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_page(
    transaction: u64,
    new_page: u64,
    page: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(page, "page")? };
        let pending = &TRANSACTIONS.share(transaction)?.value;
        let commit = pending.commit()?;
        if new_page & NEW_PAGE == 0 {
            return Err(Failure::argument(
                "the page is not a new one of a transaction",
            ));
        }
        let found = commit.page(pending.new_page(new_page)?);
        out.set(
            found
                .ok_or_else(|| Failure::state("the commit has no such page"))?
                .to_bits(),
        );
        Ok(())
    })
}

/// The new id of a page that the transaction transferred.
///
/// # Safety
/// `page` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_transaction_transferred(
    transaction: u64,
    old: u64,
    page: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(page, "page")? };
        let pending = &TRANSACTIONS.share(transaction)?.value;
        let found = pending.commit()?.transferred(PageId::from_bits(old));
        let found =
            found.ok_or_else(|| Failure::argument("the transaction transferred no such page"))?;
        out.set(found.to_bits());
        Ok(())
    })
}
