//! A second witness of the end of a log: a small file that says up to where the log went when it was closed.
//!
//! The note of a close stands at the end of the log, beside the last records: a lost sector, or a file that was cut, can
//! take both at once, and what is left looks like a log that ends earlier. The mark stands in a file of its own,
//! so no single fault takes the records and everything that bears witness to them. What it says stays true for good,
//! because what was durable once is only ever followed by more.

use std::io;

use super::format::Identity;
use crate::checksum::crc32c;
use crate::lsn::Lsn;
use crate::storage::Storage;

/// The name of the file.
pub(crate) const MARK_NAME: &str = "closed";
/// What it is called until it is whole.
pub(crate) const UNFINISHED_MARK_NAME: &str = "closed.tmp";

const MAGIC: [u8; 8] = *b"MMSB-END";
const VERSION: u32 = 1;
/// Length of the file.
pub(crate) const MARK_BYTES: usize = 64;
const CHECKED_BYTES: usize = MARK_BYTES - 4;

/// The fields of the file with their lengths, in order.
pub(crate) const MARK_LAYOUT: &[(&str, u64)] = &[
    ("close mark.magic", 8),
    ("close mark.version", 4),
    ("close mark.zero", 4),
    ("close mark.identity", 16),
    ("close mark.lsn", 8),
    ("close mark.reserved", 20),
    ("close mark.checksum", 4),
];

fn encode(identity: &Identity, lsn: Lsn) -> [u8; MARK_BYTES] {
    let mut out = [0; MARK_BYTES];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[16..32].copy_from_slice(identity);
    out[32..40].copy_from_slice(&lsn.0.to_le_bytes());
    let crc = crc32c(&out[..CHECKED_BYTES]);
    out[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Whose log it was, and its last LSN.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Identity, Lsn), &'static str> {
    let whole: &[u8; MARK_BYTES] = bytes.try_into().map_err(|_| "it has another length")?;
    let (Some(checked), Some(crc)) = (
        whole.first_chunk::<CHECKED_BYTES>(),
        whole.last_chunk::<4>(),
    ) else {
        return Err("it has another length");
    };
    if checked[..8] != MAGIC {
        return Err("it does not start as one does");
    }
    if checked[8..12] != VERSION.to_le_bytes() {
        return Err("it is of another version");
    }
    if crc32c(checked).to_le_bytes() != *crc {
        return Err("its checksum does not match");
    }
    let mut identity = [0; 16];
    identity.copy_from_slice(&checked[16..32]);
    let mut lsn = [0; 8];
    lsn.copy_from_slice(&checked[32..40]);
    Ok((identity, Lsn(u64::from_le_bytes(lsn))))
}

/// Notes that the log was durable up to `lsn`. Written aside, synced and renamed: it is there as a whole or not at all.
pub(crate) fn write(storage: &dyn Storage, identity: &Identity, lsn: Lsn) -> io::Result<()> {
    let file = storage.create(UNFINISHED_MARK_NAME)?;
    file.write_all_at(&encode(identity, lsn), 0)?;
    file.sync()?;
    storage.rename(UNFINISHED_MARK_NAME, MARK_NAME)?;
    storage.sync_names()
}

/// What the file says, if there is one. The error is what is wrong with it, in words: a log can do without it.
pub(crate) fn read(
    storage: &dyn Storage,
    names: &[String],
) -> Result<Option<(Identity, Lsn)>, String> {
    if !names.iter().any(|name| name == MARK_NAME) {
        return Ok(None);
    }
    let bytes = || -> io::Result<Vec<u8>> {
        let file = storage.open(MARK_NAME, false)?;
        let len_bytes = file.len_bytes()?.min(MARK_BYTES as u64 + 1);
        let mut bytes = vec![0; len_bytes as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = bytes().map_err(|error| format!("cannot read {MARK_NAME}: {error}"))?;
    decode(&bytes)
        .map(Some)
        .map_err(|why| format!("{MARK_NAME} is no mark of a close: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_round_trips_and_every_flipped_bit_is_seen() {
        let bytes = encode(b"0123456789abcdef", Lsn(42));
        assert_eq!(decode(&bytes), Ok((*b"0123456789abcdef", Lsn(42))));
        for bit in 0..MARK_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(decode(&bytes[..63]).is_err());
        let sum: u64 = MARK_LAYOUT.iter().map(|(_, len)| len).sum();
        assert_eq!(sum, MARK_BYTES as u64);
    }
}
