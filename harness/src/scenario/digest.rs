//! Digests of ranges of bytes and of the whole state.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::bytes::{hex_bytes, hex_text};
use super::code::Code;
use super::value::located_text;

/// A digest of `N` bytes, written as `2 * N` lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DigestHex<const N: usize>(pub [u8; N]);

impl<const N: usize> DigestHex<N> {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong_length = || format!("this digest has {} digits, got {}", N * 2, text.len());
        if text.len() != N * 2 {
            return Err(wrong_length());
        }
        hex_bytes(text)?
            .try_into()
            .map(Self)
            .map_err(|_| wrong_length())
    }
}

impl<const N: usize> fmt::Display for DigestHex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex_text(&self.0))
    }
}

impl<const N: usize> Serialize for DigestHex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for DigestHex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, _) = located_text(deserializer)?;
        Self::parse(&text).map_err(|message| Code::BadDigest.error(message))
    }
}

impl<const N: usize> JsonSchema for DigestHex<N> {
    fn schema_name() -> Cow<'static, str> {
        format!("DigestHex{N}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^[0-9A-Fa-f]{{{}}}$", N * 2) })
    }
}

form! {
    /// The digest of a range of bytes.
    #[derive(Copy, Eq, Hash)]
    pub enum Digest ("the expected content") {
        /// BLAKE3, as `b3sum` prints it.
        "blake3" => Blake3(DigestHex<32>),
        /// SHA-256, as `sha256sum` prints it.
        "sha256" => Sha256(DigestHex<32>),
        /// The SHA-1 by which git names the range as a blob, as `git hash-object` prints it.
        "git" => Git(DigestHex<20>),
    }
}

/// The digest of the whole state, written as `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateDigest(pub [u8; 32]);

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", hex_text(&self.0))
    }
}

impl Serialize for StateDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, _) = located_text(deserializer)?;
        let Some(digits) = text.strip_prefix("blake3:") else {
            return Err(Code::BadDigest.error("a state digest starts with `blake3:`"));
        };
        DigestHex::parse(digits)
            .map(|DigestHex(bytes)| Self(bytes))
            .map_err(|message| Code::BadDigest.error(message))
    }
}

impl JsonSchema for StateDigest {
    fn schema_name() -> Cow<'static, str> {
        "StateDigest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`blake3:` and 64 hexadecimal digits.",
            "type": "string",
            "pattern": "^blake3:[0-9A-Fa-f]{64}$",
        })
    }
}
