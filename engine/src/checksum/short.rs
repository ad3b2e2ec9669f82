//! CRC32C of short byte strings, with the processor's own instruction.
//!
//! The library folds long strings several times as fast as this can. Yet before it comes to a short one it has chosen among
//! its ways twice, which takes as long as the checksum itself; and replay checks two short strings a record. So the choice
//! is made once for a whole loop: it is compiled for processors that have the instruction, and for those that have not.

/// Longer strings are left to the library: one instruction waits for the one before, so folding wins from here on.
const MAX_BYTES: usize = 256;

/// A loop that sums short strings.
pub(crate) trait Sums {
    /// What it comes to.
    type Output;

    /// Does it all. `crc32c` gives what [`crc32c`](super::crc32c) does. Must be inlined, and so must what it calls with
    /// `crc32c`: only so is it compiled for the instruction.
    fn run(self, crc32c: impl Fn(&[u8]) -> u32 + Copy) -> Self::Output;
}

/// Does `work` with the fastest checksum that the processor has.
#[inline]
pub(crate) fn with_crc32c<W: Sums>(work: W) -> W::Output {
    if super::is_altered() {
        return work.run(super::crc32c);
    }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { x86(work) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    if std::arch::is_aarch64_feature_detected!("crc") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { arm(work) };
    }
    work.run(super::crc32c)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "sse4.2")]
fn x86<W: Sums>(work: W) -> W::Output {
    use std::arch::x86_64::_mm_crc32_u64;
    work.run(|bytes| {
        let (words, rest) = bytes.as_chunks();
        if !rest.is_empty() || bytes.len() > MAX_BYTES {
            return super::crc32c(bytes);
        }
        let mut crc = u64::from(u32::MAX);
        // Records are multiples of 16 bytes long.
        let (pairs, last) = words.as_chunks::<2>();
        for [first, second] in pairs {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*first));
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*second));
        }
        for word in last {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        }
        !(crc as u32)
    })
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
#[target_feature(enable = "crc")]
fn arm<W: Sums>(work: W) -> W::Output {
    use std::arch::aarch64::__crc32cd;
    work.run(|bytes| {
        let (words, rest) = bytes.as_chunks();
        if !rest.is_empty() || bytes.len() > MAX_BYTES {
            return super::crc32c(bytes);
        }
        !words.iter().fold(u32::MAX, |crc, word| {
            __crc32cd(crc, u64::from_le_bytes(*word))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Each<'a>(&'a [u8]);

    impl Sums for Each<'_> {
        type Output = ();

        fn run(self, crc32c: impl Fn(&[u8]) -> u32 + Copy) {
            for start in 0..9 {
                for end in start..self.0.len() {
                    let part = &self.0[start..end];
                    assert_eq!(crc32c(part), crc_fast::crc32_iscsi(part), "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn short_and_long_strings_have_the_checksum_of_the_library() {
        let bytes: Vec<u8> = (0..600u32).map(|i| (i * i + 7) as u8).collect();
        with_crc32c(Each(&bytes));
    }
}
