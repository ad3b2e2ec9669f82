//! The one place that knows how structured values become bytes.
//!
//! `bincode` is no longer maintained, so nothing else in the crate may name it beyond deriving its
//! traits: should it have to go, this module and the golden files are what a successor must satisfy.
//! Layout: little endian, fixed-width integers, lengths as `u64`, enum variants as `u32`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};

/// No value takes more memory than this when it is decoded. bincode counts the size of the elements in memory, which
/// is at most [`GROWTH`] times their encoding; it checks on decoding alone, so [`encode_into`] does on encoding.
const MAX_DECODED_BYTES: usize = if usize::BITS >= 64 {
    (1u64 << 36) as usize
} else {
    1 << 30
};
/// How much larger a value can be in memory than encoded: a `free` is 12 bytes in the log, and as large as any operation in memory.
const GROWTH: usize = 16;

type Config<const MAX_BYTES: usize> = Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>>;

const fn config<const MAX_BYTES: usize>() -> Config<MAX_BYTES> {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_BYTES>()
}

/// Why bytes are not a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value is not representable, or too large to be decoded again.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The bytes are not an encoding of the expected type.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// The value ended before the bytes did.
    #[error("{0} bytes follow the encoded value")]
    TrailingBytes(usize),
}

/// Appends the encoding of `value` to `out`.
pub(crate) fn encode_into(
    value: &impl bincode::Encode,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let bytes = bincode::encode_to_vec(value, config::<MAX_DECODED_BYTES>())
        .map_err(|error| CodecError::Encode(error.to_string()))?;
    if bytes.len() > MAX_DECODED_BYTES / GROWTH {
        return Err(CodecError::Encode(format!(
            "{} bytes are too many",
            bytes.len()
        )));
    }
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Decodes a value that must use up all of `bytes`.
///
/// A length that is a lie cannot make us allocate without bound: the limit follows from how many bytes there are.
/// bincode takes it as a constant, hence the steps.
pub(crate) fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.len().saturating_mul(GROWTH) {
        0..=0x1_0000 => decode_within::<T, 0x1_0000>(bytes),
        0x1_0001..=0x10_0000 => decode_within::<T, 0x10_0000>(bytes),
        0x10_0001..=0x100_0000 => decode_within::<T, 0x100_0000>(bytes),
        0x100_0001..=0x1000_0000 => decode_within::<T, 0x1000_0000>(bytes),
        _ => decode_within::<T, MAX_DECODED_BYTES>(bytes),
    }
}

fn decode_within<T: bincode::Decode<()>, const MAX_BYTES: usize>(
    bytes: &[u8],
) -> Result<T, CodecError> {
    let (value, consumed) = bincode::decode_from_slice(bytes, config::<MAX_BYTES>())
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - consumed {
        0 => Ok(value),
        // bincode itself accepts them.
        trailing => Err(CodecError::TrailingBytes(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_trailing_bytes_and_length_bombs() {
        let mut bytes = Vec::new();
        encode_into(&vec![1u8, 2, 3], &mut bytes).unwrap();
        assert_eq!(decode::<Vec<u8>>(&bytes).unwrap(), [1, 2, 3]);
        bytes.push(0);
        assert!(matches!(
            decode::<Vec<u8>>(&bytes),
            Err(CodecError::TrailingBytes(1))
        ));
        assert!(matches!(
            decode::<Vec<u64>>(&[0xff; 8]),
            Err(CodecError::Decode(_))
        ));
    }

    #[test]
    fn a_short_lie_about_a_length_allocates_little() {
        // 2^32 elements of 8 bytes, of which not one is there: refused before memory is asked for.
        let mut bytes = (1u64 << 32).to_le_bytes().to_vec();
        bytes.resize(400, 0);
        assert!(matches!(
            decode::<Vec<(u32, u32)>>(&bytes),
            Err(CodecError::Decode(why)) if why.contains("LimitExceeded")
        ));
    }

    #[test]
    fn values_of_every_step_are_decoded() {
        for count in [0, 1, 1000, 5000, 70_000, 1 << 20, 3 << 20] {
            let values = vec![7u64; count];
            let mut bytes = Vec::new();
            encode_into(&values, &mut bytes).unwrap();
            assert_eq!(decode::<Vec<u64>>(&bytes).unwrap(), values, "{count}");
        }
    }

    #[test]
    fn layout_is_pinned() {
        let mut bytes = Vec::new();
        encode_into(&(0x0102_0304_u32, Some(7u64), "ab".to_owned()), &mut bytes).unwrap();
        let expected: &[u8] = &[
            4, 3, 2, 1, // u32, little endian
            1, 7, 0, 0, 0, 0, 0, 0, 0, // Some(7u64)
            2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', // length as u64, then the bytes
        ];
        assert_eq!(bytes, expected);
    }
}
