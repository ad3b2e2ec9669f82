//! Bytes written as hexadecimal digits or in base64.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::code::Code;
use super::value::{Span, located_text};

/// Bytes written as hexadecimal digits in pairs; spaces and underscores are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hex {
    bytes: Vec<u8>,
    span: Span,
}

impl Hex {
    /// Wraps bytes that were not read from a file.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            span: Span::default(),
        }
    }

    /// Where the digits were read.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }
}

impl Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes lower-case digits without separators.
pub(crate) fn hex_text(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads pairs of digits; spaces and underscores may stand anywhere.
pub(crate) fn hex_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for c in text.chars() {
        if matches!(c, ' ' | '_' | '\n') {
            continue;
        }
        let digit = c
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or_else(|| format!("`{}` is no hexadecimal digit", c.escape_default()))?;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(format!(
            "an odd number of hexadecimal digits ({}); each byte takes two",
            bytes.len() * 2 + 1
        )),
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex_text(&self.bytes))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, span) = located_text(deserializer)?;
        let bytes = hex_bytes(&text).map_err(|message| Code::BadBytes.error(message))?;
        Ok(Self { bytes, span })
    }
}

impl JsonSchema for Hex {
    fn schema_name() -> Cow<'static, str> {
        "Hex".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes as hexadecimal digits in pairs; spaces and underscores are \
                ignored. Quote it where it has only decimal digits.",
            "type": ["string", "integer"],
            "pattern": "^[0-9A-Fa-f _\\n]*$",
        })
    }
}

/// Bytes written in base64 with the standard alphabet and padding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Base64(pub Vec<u8>);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Base64 {
    fn decode(text: &str) -> Result<Vec<u8>, String> {
        let text: Vec<u8> = text
            .bytes()
            .filter(|b| !matches!(b, b' ' | b'\n'))
            .collect();
        if !text.len().is_multiple_of(4) {
            return Err("base64 comes in groups of four characters, padded with `=`".to_owned());
        }
        let padding = text.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 {
            return Err("base64 ends with at most two `=`".to_owned());
        }
        let digits = text.len() - padding;
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in text.iter().take(digits) {
            let value = ALPHABET
                .iter()
                .position(|known| known == byte)
                .and_then(|at| u32::try_from(at).ok())
                .ok_or_else(|| {
                    format!(
                        "`{}` is no base64 digit",
                        char::from(*byte).escape_default()
                    )
                })?;
            bits = bits << 6 | value;
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push(u8::try_from(bits >> held & 0xff).unwrap_or_default());
                bits &= (1 << held) - 1;
            }
        }
        if bits != 0 {
            return Err("the bits that base64 leaves over are not zero".to_owned());
        }
        Ok(bytes)
    }

    fn encode(&self) -> String {
        let digit = |value: u32| {
            let at = usize::try_from(value & 63).unwrap_or_default();
            char::from(ALPHABET.get(at).copied().unwrap_or(b'A'))
        };
        let mut text = String::with_capacity(self.0.len().div_ceil(3) * 4);
        for group in self.0.chunks(3) {
            let at = |i: usize| u32::from(group.get(i).copied().unwrap_or_default());
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            text.push(digit(bits >> 18));
            text.push(digit(bits >> 12));
            text.push(if group.len() > 1 {
                digit(bits >> 6)
            } else {
                '='
            });
            text.push(if group.len() > 2 { digit(bits) } else { '=' });
        }
        text
    }
}

impl Deref for Base64 {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, _) = located_text(deserializer)?;
        Self::decode(&text)
            .map(Self)
            .map_err(|message| Code::BadBytes.error(message))
    }
}

impl JsonSchema for Base64 {
    fn schema_name() -> Cow<'static, str> {
        "Base64".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes in base64 with the standard alphabet and padding.",
            "type": "string",
            "contentEncoding": "base64",
        })
    }
}
