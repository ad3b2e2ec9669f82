//! The ways in which bytes are written down, and how they become bytes.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::num::{EvalError, Num, Scope};
use super::value::{Base64, F32, F64, Hex, Name};

form! {
    /// Bytes, written in one of several ways.
    pub enum Data ("the bytes") {
        /// Hexadecimal digits in pairs; spaces and underscores are ignored.
        "hex" => Hex(Hex),
        /// The UTF-8 bytes of a text.
        "text" => Text(String),
        /// Base64 with the standard alphabet and padding.
        "base64" => Base64(Base64),
        /// Bytes as numbers from 0 to 255; `bytes` is another name for it.
        "u8" | "bytes" => U8(Vec<u8>),
        /// 32 bit unsigned numbers, little endian.
        "u32" => U32(Vec<u32>),
        /// 64 bit signed numbers, little endian.
        "i64" => I64(Vec<i64>),
        /// Single precision floats, little endian; also `inf`, `-inf` and `nan`.
        "f32" => F32(Vec<F32>),
        /// Double precision floats, little endian; also `inf`, `-inf` and `nan`.
        "f64" => F64(Vec<F64>),
        /// Reproducible random bytes: a seed, or `{seed, len}`.
        "random" => Random(Random),
        /// One byte repeated: a number, or `{byte, len}`.
        "fill" => Fill(Fill),
        /// This many zeros.
        "zero" => Zero(Num),
        /// The present bytes of a page: its name, or `{page, at, len}`.
        "copy" => Copy(Region),
    }
}

/// Reproducible random bytes: the first `len` bytes of the extendable output of BLAKE3 over the
/// seed in decimal, so that `printf 7 | b3sum --length 64` shows those of seed 7.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = super::schema::or_num)]
pub struct Random {
    /// The seed.
    pub seed: Num,
    /// How many bytes; if left out, up to the end of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<Num>,
}

/// One byte repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = super::schema::or_num)]
pub struct Fill {
    /// The byte, 0 to 255.
    pub byte: Num,
    /// How many bytes; if left out, up to the end of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<Num>,
}

/// A range of a page: its name alone for the whole page, or `{page, at, len}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = super::schema::or_name)]
pub struct Region {
    /// The page.
    pub page: Name,
    /// Where the range starts; 0 if left out.
    #[serde(default, skip_serializing_if = "Num::is_zero")]
    pub at: Num,
    /// How many bytes; if left out, up to the end of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<Num>,
}

flat! {
    /// Bytes for one place of a page.
    pub struct Run {
        /// Where the bytes start; 0 if left out.
        #[serde(default, skip_serializing_if = "Num::is_zero")]
        at: Num = Num::ZERO,
    }
    /// The bytes.
    data: Data
}

/// The longest run of bytes that data may stand for: the length of the largest page.
pub const MAX_LEN_BYTES: u64 = 4 << 30;

/// Why data cannot be turned into bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataError {
    /// An expression has no value.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The length is above [`MAX_LEN_BYTES`].
    #[error("{len_bytes} bytes are more than the {MAX_LEN_BYTES} that a page can have")]
    TooLong {
        /// The length that was asked for.
        len_bytes: u64,
    },
    /// The byte of a fill is above 255.
    #[error("{value} is no byte, which has a value from 0 to 255")]
    NoByte {
        /// The value that was given.
        value: u64,
    },
    /// The length is left out where nothing gives it.
    #[error("`len` is missing, and there is no end of a page to take it from")]
    NoLength,
    /// The runs of a scatter are longer than the page.
    #[error("a run of {run_len_bytes} bytes does not fit into a page of {page_len_bytes}")]
    RunTooLong {
        /// The length of one run.
        run_len_bytes: u64,
        /// The length of the page.
        page_len_bytes: u64,
    },
}

impl Data {
    /// The bytes that the data stands for, or `None` for `copy`, whose bytes only the world knows.
    ///
    /// `rest_len_bytes` is how much of the page lies behind the place where the bytes go; data
    /// without a length of its own fills it.
    ///
    /// # Errors
    /// An expression has no value, or the length is missing or above [`MAX_LEN_BYTES`].
    pub fn to_bytes(
        &self,
        scope: &Scope,
        rest_len_bytes: Option<u64>,
    ) -> Result<Option<Cow<'_, [u8]>>, DataError> {
        fn lanes<T: Copy, const N: usize>(
            values: &[T],
            encode: impl Fn(T) -> [u8; N],
        ) -> Cow<'static, [u8]> {
            Cow::Owned(values.iter().flat_map(|value| encode(*value)).collect())
        }
        let len_of = |len: &Option<Num>| -> Result<usize, DataError> {
            let len_bytes = match len {
                Some(len) => len.eval(scope)?,
                None => rest_len_bytes.ok_or(DataError::NoLength)?,
            };
            checked_len(len_bytes)
        };
        Ok(Some(match self {
            Self::Hex(hex) => Cow::Borrowed(hex),
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            Self::Base64(base64) => Cow::Borrowed(base64),
            Self::U8(bytes) => Cow::Borrowed(bytes),
            Self::U32(values) => lanes(values, u32::to_le_bytes),
            Self::I64(values) => lanes(values, i64::to_le_bytes),
            Self::F32(values) => lanes(values, |F32(value)| value.to_le_bytes()),
            Self::F64(values) => lanes(values, |F64(value)| value.to_le_bytes()),
            Self::Random(Random { seed, len }) => {
                let mut bytes = vec![0; len_of(len)?];
                fill_random(seed.eval(scope)?, &mut bytes);
                Cow::Owned(bytes)
            }
            Self::Fill(Fill { byte, len }) => {
                let value = byte.eval(scope)?;
                let byte = u8::try_from(value).map_err(|_| DataError::NoByte { value })?;
                Cow::Owned(vec![byte; len_of(len)?])
            }
            Self::Zero(len) => Cow::Owned(vec![0; checked_len(len.eval(scope)?)?]),
            Self::Copy(_) => return Ok(None),
        }))
    }

    /// The length in bytes, as far as it is known without the page that the bytes go to.
    /// `value` gives the values of numbers that are known.
    pub(crate) fn known_len(&self, value: impl Fn(&Num) -> Option<u64>) -> Option<u64> {
        let lanes = |count: usize, width: u64| u64::try_from(count).ok()?.checked_mul(width);
        match self {
            Self::Hex(hex) => lanes(hex.len(), 1),
            Self::Text(text) => lanes(text.len(), 1),
            Self::Base64(base64) => lanes(base64.len(), 1),
            Self::U8(bytes) => lanes(bytes.len(), 1),
            Self::U32(values) => lanes(values.len(), 4),
            Self::I64(values) => lanes(values.len(), 8),
            Self::F32(values) => lanes(values.len(), 4),
            Self::F64(values) => lanes(values.len(), 8),
            Self::Random(Random { len, .. })
            | Self::Fill(Fill { len, .. })
            | Self::Copy(Region { len, .. }) => len.as_ref().and_then(value),
            Self::Zero(len) => value(len),
        }
    }
}

fn checked_len(len_bytes: u64) -> Result<usize, DataError> {
    usize::try_from(len_bytes)
        .ok()
        .filter(|_| len_bytes <= MAX_LEN_BYTES)
        .ok_or(DataError::TooLong { len_bytes })
}

/// Fills a buffer with the random bytes of a seed, which are defined at [`Random`].
pub fn fill_random(seed: u64, out: &mut [u8]) {
    blake3::Hasher::new()
        .update(seed.to_string().as_bytes())
        .finalize_xof()
        .fill(out);
}

/// The places and bytes of a `scatter` step.
///
/// They are drawn from the extendable output of BLAKE3 over `scatter SEED`, the seed in decimal:
/// for each run 8 bytes, which modulo the number of possible places give its start, then its
/// bytes. The modulo favours low places by at most one part in 2^32 for the largest page, which
/// does not matter here; in return the definition fits into one sentence.
///
/// # Errors
/// A run is longer than the page, or all together are longer than [`MAX_LEN_BYTES`].
pub fn scatter_runs(
    seed: u64,
    runs: u64,
    run_len_bytes: u64,
    page_len_bytes: u64,
) -> Result<Vec<(u64, Vec<u8>)>, DataError> {
    let places = page_len_bytes
        .checked_sub(run_len_bytes)
        .and_then(|last| last.checked_add(1))
        .ok_or(DataError::RunTooLong {
            run_len_bytes,
            page_len_bytes,
        })?;
    let total = runs.saturating_mul(run_len_bytes.saturating_add(8));
    checked_len(total)?;
    let run_len = checked_len(run_len_bytes)?;
    let mut output = blake3::Hasher::new()
        .update(format!("scatter {seed}").as_bytes())
        .finalize_xof();
    let mut out = Vec::with_capacity(checked_len(runs)?);
    for _ in 0..runs {
        let mut place = [0; 8];
        output.fill(&mut place);
        let mut bytes = vec![0; run_len];
        output.fill(&mut bytes);
        out.push((u64::from_le_bytes(place) % places, bytes));
    }
    Ok(out)
}
