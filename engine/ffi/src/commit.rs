//! Writes and their commit in one call.

use mmsb_engine::PageId;

use crate::border::{call, optional, slice};
use crate::failure::Failure;
use crate::lookup::BUSES;
use crate::transaction::{commit_within, durability_of};

/// One write: `len` bytes to `page` from `offset` on. It never gets other fields; another structure would have another function.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct mmsb_write {
    /// The page.
    pub page: u64,
    /// Where in it.
    pub offset: u64,
    /// What.
    pub bytes: *const u8,
    /// How much.
    pub len: u64,
}

/// Commits `count` writes to pages that exist as one transaction. Otherwise as `mmsb_transaction_commit`.
///
/// # Safety
/// `count` writes can be read from `writes`, and of each as many bytes as it says; `lsn` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_commit_writes(
    bus: u64,
    writes: *const mmsb_write,
    count: usize,
    durability: u32,
    wait_ns: u64,
    lsn: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let (writes, out) = unsafe { (slice(writes, count, "writes")?, optional(lsn, "lsn")?) };
        let durability = durability_of(durability)?;
        let bus = BUSES.share(bus)?;
        let mut transaction = bus.begin();
        for write in writes {
            let len = usize::try_from(write.len)
                .map_err(|_| Failure::argument("a write is longer than memory can be"))?;
            // SAFETY: the caller's contract.
            let bytes = unsafe { slice(write.bytes, len, "bytes")? };
            transaction.write(PageId::from_bits(write.page), write.offset, bytes)?;
        }
        let result = commit_within(&mut transaction, durability, wait_ns);
        let place = match &result {
            Ok(commit) => Some(commit.lsn),
            Err(mmsb_engine::TransactionError::InDoubt { commit, .. }) => Some(commit.lsn),
            Err(_) => None,
        };
        if let (Some(out), Some(lsn)) = (out, place) {
            out.set(lsn.0);
        }
        result?;
        Ok(())
    })
}
