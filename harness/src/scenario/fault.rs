//! Faults of the storage, as steps name them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::code::{Code, Fault};
use super::num::Num;
use super::value::Located;

/// Makes the storage fail once, at the n-th operation of a kind from here on.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// The operation that fails: what the file holds, a dot, and what is done with it, as in `log.sync`.
    pub on: Site,
    /// Which of these operations, counted from 1 and from this step on; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<Num>,
    /// How it fails.
    pub kind: FaultKind,
    /// For `torn`, `short` and `full` how many bytes get through, for `rot` which byte of the operation has a bit
    /// flipped, for `misdirected` the offset in the file that is hit instead. Drawn from the seed if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Num>,
    /// What everything that is left open is drawn from; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Num>,
}

/// How an operation of the storage fails.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// An error. What a sync was to make durable is durable nevertheless; of a write nothing arrives.
    Failed,
    /// An error of a sync, after which the data is in the cache, taken for clean, and never gets to the disk.
    FailedLost,
    /// A write of which only the first bytes arrive, and an error.
    Torn,
    /// No room: of a write that makes its file longer a part or nothing arrives, and so it is for all such writes and
    /// for creations until `heal`.
    Full,
    /// A write or sync that reports success, and nothing has happened.
    Lost,
    /// A write that hits another place of the file, or a read that comes from one.
    Misdirected,
    /// A bit flips: of what a write leaves on the disk for good, of what a read delivers once.
    Rot,
    /// The sector cannot be read from then on, until it is written again.
    Unreadable,
    /// The call is interrupted before anything happens, which is no error.
    Interrupted,
    /// The call does less than it was asked for, which is no error.
    Short,
}

impl FaultKind {
    /// Every kind, in the order of the reference.
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::FailedLost,
        Self::Torn,
        Self::Full,
        Self::Lost,
        Self::Misdirected,
        Self::Rot,
        Self::Unreadable,
        Self::Interrupted,
        Self::Short,
    ];

    /// The word by which scenarios name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::FailedLost => "failed-lost",
            Self::Torn => "torn",
            Self::Full => "full",
            Self::Lost => "lost",
            Self::Misdirected => "misdirected",
            Self::Rot => "rot",
            Self::Unreadable => "unreadable",
            Self::Interrupted => "interrupted",
            Self::Short => "short",
        }
    }

    /// Whether an operation can fail in this way.
    #[must_use]
    pub fn fits(self, act: Act) -> bool {
        match self {
            Self::Failed => true,
            Self::FailedLost => act == Act::Sync,
            Self::Torn => act == Act::Write,
            Self::Full => matches!(act, Act::Write | Act::Create),
            Self::Lost => matches!(act, Act::Write | Act::Sync),
            Self::Misdirected | Self::Rot | Self::Unreadable | Self::Interrupted | Self::Short => {
                matches!(act, Act::Read | Act::Write)
            }
        }
    }

    /// Whether the storage tells nobody: after such a fault the disk is not what was written to it.
    #[must_use]
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Lost | Self::Misdirected | Self::Rot)
    }
}

macro_rules! words {
    ($(#[$meta:meta])* pub enum $Name:ident { $( $(#[doc = $doc:literal])+ $Variant:ident = $word:literal, )+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name { $( $(#[doc = $doc])+ $Variant, )+ }

        impl $Name {
            /// Every one, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The word by which scenarios name it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $word, )+ }
            }
        }
    };
}

words! {
    /// What a file holds.
    pub enum Holds {
        /// A segment of the log.
        Log = "log",
        /// A segment that waits for its use.
        Spare = "spare",
        /// The manifest of a checkpoint, finished or not.
        Manifest = "manifest",
        /// The page images of a checkpoint.
        Images = "images",
        /// The mark of the last close.
        Closed = "closed",
        /// The names of the files.
        Names = "names",
        /// Any file.
        Any = "any",
    }
}

words! {
    /// What is done with a file.
    pub enum Act {
        /// It is created.
        Create = "create",
        /// It is opened.
        Open = "open",
        /// It is read.
        Read = "read",
        /// It is written, or gets another length.
        Write = "write",
        /// It is made durable.
        Sync = "sync",
        /// It gets another name.
        Rename = "rename",
        /// It is removed.
        Remove = "remove",
        /// All names are listed; only of `names`.
        List = "list",
    }
}

/// An operation of the storage, such as `log.sync` or `names.list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// What the file holds.
    pub holds: Holds,
    /// What is done with it.
    pub act: Act,
}

impl Site {
    /// Whether there is such an operation.
    #[must_use]
    pub fn exists(self) -> bool {
        match self.holds {
            Holds::Names => matches!(self.act, Act::List | Act::Sync),
            _ => self.act != Act::List,
        }
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let form = "what the file holds, a dot, and what is done with it, such as log.sync";
        let bad = |message: String| Fault::new(Code::UnknownWord, message).expected(form);
        let Some((holds, act)) = text.split_once('.') else {
            return Err(bad(format!(
                "`{}` is no operation of the storage",
                text.escape_default()
            )));
        };
        let words: Vec<&str> = Holds::ALL.iter().map(|holds| holds.as_str()).collect();
        let holds = Holds::ALL
            .iter()
            .find(|known| known.as_str() == holds)
            .ok_or_else(|| Fault::unknown(Code::UnknownWord, "kind of file", holds, &words))?;
        let words: Vec<&str> = Act::ALL.iter().map(|act| act.as_str()).collect();
        let act = Act::ALL
            .iter()
            .find(|known| known.as_str() == act)
            .ok_or_else(|| Fault::unknown(Code::UnknownWord, "operation", act, &words))?;
        let site = Self {
            holds: *holds,
            act: *act,
        };
        if site.exists() {
            Ok(site)
        } else {
            Err(bad(format!("there is no operation `{site}`")))
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.holds.as_str(), self.act.as_str())
    }
}

impl Serialize for Site {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Site {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Located { value, span } = Located::<String>::deserialize(deserializer)?;
        Self::parse(&value).map_err(|fault| fault.at(span).into_error())
    }
}

impl JsonSchema for Site {
    fn schema_name() -> Cow<'static, str> {
        "Site".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut sites = Vec::new();
        for holds in Holds::ALL {
            for act in Act::ALL {
                let site = Self {
                    holds: *holds,
                    act: *act,
                };
                if site.exists() {
                    sites.push(site.to_string());
                }
            }
        }
        json_schema!({
            "description": "An operation of the storage: what the file holds, a dot, and what is done with it.",
            "enum": sites,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_that_exists_is_read_back() {
        let mut count = 0;
        for holds in Holds::ALL {
            for act in Act::ALL {
                let site = Site {
                    holds: *holds,
                    act: *act,
                };
                let read = Site::parse(&site.to_string()).ok();
                assert_eq!(read, site.exists().then_some(site));
                count += usize::from(site.exists());
            }
        }
        assert_eq!(count, 6 * 7 + 2);
        for text in ["log", "logs.sync", "log.sink", "names.write", "log.list"] {
            assert!(Site::parse(text).is_err(), "{text}");
        }
    }
}
