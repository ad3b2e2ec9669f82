//! The choices of a simulated device.

/// SplitMix64: small, and good enough to choose by.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number less than `bound`, which is not zero.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) const fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Overwrites `bytes` with a pattern of 4 KiB, so that nobody takes them for zeros or for what was there before.
    pub(super) fn poison(&mut self, bytes: &mut [u8]) {
        let mut pattern = [0; 4096];
        for word in pattern.as_chunks_mut::<8>().0 {
            *word = self.next().to_le_bytes();
        }
        for chunk in bytes.chunks_mut(pattern.len()) {
            for (to, from) in chunk.iter_mut().zip(&pattern) {
                *to = *from;
            }
        }
    }
}
