//! CRC32C, the checksum of everything on disk.

use crate::planted::planted;

/// CRC32C (Castagnoli, reflected, as in iSCSI and ext4) of `bytes`.
#[must_use]
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // The control of the scorecard: without checksums, damage must be seen to pass in silence.
    if cfg!(mmsb_unchecked) {
        return 0;
    }
    let covered = match bytes.len().checked_sub(512) {
        Some(len) if planted!(ChecksumShort) && len > 512 => bytes.get(..len).unwrap_or(bytes),
        _ => bytes,
    };
    crc_fast::crc32_iscsi(covered)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn matches_the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4: 32 bytes of zeros, and of ones.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
