//! CRC32C, the checksum of everything on disk.

use crate::planted::planted;

mod short;

pub(crate) use short::{Sums, with_crc32c};

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

/// Whether checksums are not what they should be, on purpose: in builds that show that this would be seen.
#[inline]
fn is_altered() -> bool {
    cfg!(mmsb_unchecked) || planted!(ChecksumShort)
}

/// The checksum of two byte strings one after the other, from those of both, and the length of the second.
///
/// What follows multiplies a checksum by a power of x, modulo the polynomial of the CRC. The power takes a multiplication for each bit
/// of the length, about a microsecond in all; the library that sums multiplies matrices, which takes a hundred times as long.
/// After Mark Adler's `crc32_combine` in zlib 1.2.12.
#[must_use]
pub(crate) fn crc32c_combine(first: u32, second: u32, second_bytes: u64) -> u32 {
    if cfg!(mmsb_unchecked) {
        return 0;
    }
    multiply(power_of_x(second_bytes.wrapping_mul(8)), first) ^ second
}

/// The polynomial of CRC32C without x³², reflected: the highest bit stands for x⁰.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The product of two polynomials, reflected, modulo that of the CRC.
fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted) = (0, b);
    for bit in (0..32).rev() {
        product ^= shifted & 0u32.wrapping_sub((a >> bit) & 1);
        shifted = (shifted >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(shifted & 1));
    }
    product
}

/// x to the power of `exponent`, reflected, modulo the polynomial of the CRC.
fn power_of_x(exponent: u64) -> u32 {
    let (mut power, mut square, mut left) = (1 << 31, 1 << 30, exponent);
    while left > 0 {
        if left & 1 != 0 {
            power = multiply(square, power);
        }
        square = multiply(square, square);
        left >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::{crc32c, crc32c_combine};

    #[test]
    fn combined_is_the_checksum_of_both() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * i) as u8).collect();
        for cut in 0..=1000 {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(
                crc32c_combine(crc32c(a), crc32c(b), b.len() as u64),
                crc32c(&bytes)
            );
        }
        let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
        for len in [
            1 << 20,
            983_040,
            4_194_305,
            u64::from(u32::MAX) + 7,
            1 << 40,
        ] {
            let expected = crc_fast::checksum_combine(algorithm, 0x1234_5678, 0x9abc_def0, len);
            assert_eq!(
                u64::from(crc32c_combine(0x1234_5678, 0x9abc_def0, len)),
                expected
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
