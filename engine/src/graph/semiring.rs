//! The arithmetic of [`Elementwise`](super::Elementwise): lane types and the operations on them.

/// A pair of operations on lanes, ⊕ (combine) and ⊗ (pair).
///
/// | semiring | ⊕ | ⊗ | lanes |
/// | --- | --- | --- | --- |
/// | `plus-times` | sum | product | all |
/// | `min-plus` | minimum | sum | all |
/// | `max-plus` | maximum | sum | all |
/// | `or-and` | bitwise or | bitwise and | integers |
/// | `xor-and` | bitwise exclusive or | bitwise and | integers |
///
/// Integer sums and products wrap around. Float sums and products are those of IEEE 754, rounded to
/// nearest with ties to even, never fused. The minimum and maximum of floats are the `minimum` and
/// `maximum` of IEEE 754-2019: −0 is less than +0, and a NaN on either side gives a NaN. Every NaN
/// that is written is the one quiet NaN with an empty payload and a clear sign, because which
/// payload survives an operation differs from one processor to the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Semiring {
    /// Sum of products.
    PlusTimes,
    /// Minimum of sums.
    MinPlus,
    /// Maximum of sums.
    MaxPlus,
    /// Bitwise or of bitwise ands.
    OrAnd,
    /// Bitwise exclusive or of bitwise ands.
    XorAnd,
}

impl Semiring {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [
        Self::PlusTimes,
        Self::MinPlus,
        Self::MaxPlus,
        Self::OrAnd,
        Self::XorAnd,
    ];

    /// The name used in scenarios and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlusTimes => "plus-times",
            Self::MinPlus => "min-plus",
            Self::MaxPlus => "max-plus",
            Self::OrAnd => "or-and",
            Self::XorAnd => "xor-and",
        }
    }

    /// The byte that stands for it in parameters.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::PlusTimes => 0,
            Self::MinPlus => 1,
            Self::MaxPlus => 2,
            Self::OrAnd => 3,
            Self::XorAnd => 4,
        }
    }

    /// Whether it works on bits, and so on integer lanes only.
    #[must_use]
    pub const fn is_bitwise(self) -> bool {
        matches!(self, Self::OrAnd | Self::XorAnd)
    }
}

/// The type of one lane; lanes are little endian and lie side by side from the start of the page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Lane {
    /// 8-bit unsigned integer.
    U8,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl Lane {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::U8, Self::U32, Self::I64, Self::F32, Self::F64];

    /// The name used in scenarios and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The byte that stands for it in parameters.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::U8 => 0,
            Self::U32 => 1,
            Self::I64 => 2,
            Self::F32 => 3,
            Self::F64 => 4,
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len_bytes(self) -> u32 {
        match self {
            Self::U8 => 1,
            Self::U32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether its bits are not an integer.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// A lane type as the inner loops see it.
pub(super) trait LaneValue: Copy + 'static {
    const LEN: usize;
    /// The lane in `bytes`, which are `LEN` long.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// Writes the lane to `bytes`, which are `LEN` long: the same bits, except that there is one
    /// NaN.
    fn write(self, bytes: &mut [u8]);
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn least(self, other: Self) -> Self;
    fn greatest(self, other: Self) -> Self;
}

/// The bitwise operations, which floats do not have.
pub(super) trait BitLane: LaneValue {
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
}

macro_rules! integer_lane {
    ($type:ty) => {
        impl LaneValue for $type {
            const LEN: usize = size_of::<$type>();
            #[inline(always)]
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$type>::from_le_bytes)
            }
            #[inline(always)]
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn least(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn greatest(self, other: Self) -> Self {
                self.max(other)
            }
        }
        impl BitLane for $type {
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
        }
    };
}

macro_rules! float_lane {
    ($type:ty, $quiet_nan:expr) => {
        impl LaneValue for $type {
            const LEN: usize = size_of::<$type>();
            #[inline(always)]
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$type>::from_le_bytes)
            }
            #[inline(always)]
            fn write(self, bytes: &mut [u8]) {
                // By bits: a NaN constant of the float type may be re-signed by the compiler.
                let bits = if self.is_nan() {
                    $quiet_nan
                } else {
                    self.to_bits()
                };
                bytes.copy_from_slice(&bits.to_le_bytes());
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn least(self, other: Self) -> Self {
                // `f32::min` may return either zero, and drops a NaN, so it is not used.
                let smaller = if self < other || (self == other && self.is_sign_negative()) {
                    self
                } else {
                    other
                };
                if self.is_nan() { self } else { smaller }
            }
            #[inline(always)]
            fn greatest(self, other: Self) -> Self {
                let larger = if self > other || (self == other && self.is_sign_positive()) {
                    self
                } else {
                    other
                };
                if self.is_nan() { self } else { larger }
            }
        }
    };
}

integer_lane!(u8);
integer_lane!(u32);
integer_lane!(i64);
float_lane!(f32, 0x7fc0_0000_u32);
float_lane!(f64, 0x7ff8_0000_0000_0000_u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_positions() {
        for (i, semiring) in Semiring::ALL.iter().enumerate() {
            assert_eq!(usize::from(semiring.code()), i);
        }
        for (i, lane) in Lane::ALL.iter().enumerate() {
            assert_eq!(usize::from(lane.code()), i);
        }
    }

    #[test]
    fn zeros_are_ordered_and_nan_wins() {
        for (a, b) in [(0.0_f64, -0.0_f64), (-0.0, 0.0)] {
            assert_eq!(a.least(b).to_bits(), (-0.0_f64).to_bits());
            assert_eq!(a.greatest(b).to_bits(), 0.0_f64.to_bits());
        }
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::INFINITY)] {
            assert!(a.least(b).is_nan());
            assert!(a.greatest(b).is_nan());
        }
        assert_eq!(1.0_f32.least(2.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(1.0_f32.greatest(2.0).to_bits(), 2.0_f32.to_bits());
    }

    #[test]
    fn there_is_one_nan() {
        let (mut long, mut short) = ([0; 8], [0; 4]);
        for bits in [
            0x7ff8_0000_0000_0001_u64,
            0xfff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
        ] {
            f64::from_bits(bits).write(&mut long);
            assert_eq!(long, 0x7ff8_0000_0000_0000_u64.to_le_bytes());
        }
        f32::from_bits(0xffc0_0001).write(&mut short);
        assert_eq!(short, 0x7fc0_0000_u32.to_le_bytes());
    }

    #[test]
    fn integers_wrap() {
        assert_eq!(255_u8.plus(2), 1);
        assert_eq!(i64::MAX.plus(1), i64::MIN);
        assert_eq!(u32::MAX.times(2), u32::MAX - 1);
    }
}
