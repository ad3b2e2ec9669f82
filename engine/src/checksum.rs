//! CRC32C, the checksum of everything on disk.

/// CRC32C (Castagnoli, reflected, as in iSCSI and ext4) of `bytes`.
#[must_use]
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // The control of the scorecard: without checksums, damage must be seen to pass in silence.
    if cfg!(mmsb_unchecked) {
        return 0;
    }
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of two byte strings one after the other, from those of both, and the length of the second. O(log length).
#[must_use]
pub(crate) fn crc32c_combine(first: u32, second: u32, second_bytes: u64) -> u32 {
    if cfg!(mmsb_unchecked) {
        return 0;
    }
    let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
    crc_fast::checksum_combine(algorithm, first.into(), second.into(), second_bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::{crc32c, crc32c_combine};

    #[test]
    fn combined_is_the_checksum_of_both() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * i) as u8).collect();
        for cut in [0, 1, 16, 500, 999, 1000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(
                crc32c_combine(crc32c(a), crc32c(b), b.len() as u64),
                crc32c(&bytes)
            );
        }
    }

    #[test]
    fn matches_the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4: 32 bytes of zeros, and of ones.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
