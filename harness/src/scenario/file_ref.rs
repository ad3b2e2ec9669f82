//! Names of the files of a closed bus, by what they hold.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::code::{Code, Fault};
use super::value::Located;

/// A file of a closed bus: `log.0`, `log.first`, `log.last`, the same of `manifest` and `images`,
/// or `foreign.NAME` for a file that is not the bus's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileRef {
    /// One of the bus's own files.
    Own {
        /// What the file holds.
        artefact: Artefact,
        /// Which one of them, in ascending order of what they hold.
        which: Which,
    },
    /// A file of this name that is not the bus's own.
    Foreign(String),
}

/// What one of the bus's own files holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Artefact {
    /// A segment of the log.
    Log,
    /// The manifest of a checkpoint.
    Manifest,
    /// The page images of a checkpoint.
    Images,
}

impl Artefact {
    /// Every artefact, in the order of the reference.
    pub const ALL: [Self; 3] = [Self::Log, Self::Manifest, Self::Images];

    /// The word by which scenarios name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Manifest => "manifest",
            Self::Images => "images",
        }
    }
}

/// Which file of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The oldest.
    First,
    /// The newest.
    Last,
    /// Counted from the oldest, which is 0.
    Nth(u32),
}

impl FileRef {
    /// Reads a file reference out of a text that the parser has read already.
    pub(crate) fn from_text(text: &str) -> Result<Self, Fault> {
        let form = "log.N, manifest.N, images.N (N may be `first` or `last`) or foreign.NAME";
        Self::parse(text).map_err(|(message, suggestion)| {
            Fault::new(Code::BadFile, message)
                .expected(form)
                .suggest(suggestion)
        })
    }

    /// Gives the message and what was probably meant.
    fn parse(text: &str) -> Result<Self, (String, String)> {
        let fault = |message: String| (message, String::new());
        let Some((kind, rest)) = text.split_once('.') else {
            return Err(fault(format!("`{}` is no file", text.escape_default())));
        };
        if kind == "foreign" {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            return if !rest.is_empty()
                && rest.len() <= 64
                && rest.chars().all(fine)
                && !rest.starts_with('.')
            {
                Ok(Self::Foreign(rest.to_owned()))
            } else {
                Err(fault(
                    "a foreign file name has 1 to 64 letters, digits, `.`, `_`, `-`, and no leading dot"
                        .to_owned(),
                ))
            };
        }
        let Some(artefact) = Artefact::ALL
            .into_iter()
            .find(|artefact| artefact.as_str() == kind)
        else {
            let known = Artefact::ALL
                .iter()
                .map(|artefact| artefact.as_str())
                .chain(["foreign"]);
            let suggestion = super::nearest::nearest(kind, known)
                .map(|name| format!("{name}.{rest}"))
                .unwrap_or_default();
            return Err((
                format!("`{}` is no kind of file", kind.escape_default()),
                suggestion,
            ));
        };
        let which = match rest {
            "first" => Which::First,
            "last" => Which::Last,
            _ if rest.len() > 1 && rest.starts_with('0') => {
                return Err(fault("write the number without leading zeros".to_owned()));
            }
            _ if rest.bytes().all(|b| b.is_ascii_digit()) => Which::Nth(
                rest.parse()
                    .map_err(|_| fault(format!("`{rest}` is no file number")))?,
            ),
            _ => {
                return Err(fault(format!(
                    "`{}` is no file number",
                    rest.escape_default()
                )));
            }
        };
        Ok(Self::Own { artefact, which })
    }
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(name) => write!(f, "foreign.{name}"),
            Self::Own { artefact, which } => match which {
                Which::First => write!(f, "{}.first", artefact.as_str()),
                Which::Last => write!(f, "{}.last", artefact.as_str()),
                Which::Nth(n) => write!(f, "{}.{n}", artefact.as_str()),
            },
        }
    }
}

impl Serialize for FileRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Located { value, .. } = Located::<String>::deserialize(deserializer)?;
        Self::from_text(&value).map_err(Fault::into_error)
    }
}

impl JsonSchema for FileRef {
    fn schema_name() -> Cow<'static, str> {
        "FileRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A file of the closed bus: log.N, manifest.N or images.N, where N is a \
                number from 0, `first` or `last`; or foreign.NAME for a file of another program.",
            "type": "string",
            "pattern": "^((log|manifest|images)\\.([0-9]+|first|last)|foreign\\.[A-Za-z0-9_-][A-Za-z0-9._-]*)$",
        })
    }
}
