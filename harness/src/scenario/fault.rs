//! Faults of the storage and of the device, as steps name them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::code::{Code, Fault};
use super::num::Num;
use super::value::Located;

/// Makes the storage or the device fail once, at the n-th operation of a kind from here on.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// The operation that fails: what the file holds, a dot, and what is done with it, as in `log.sync`; or what the device does,
    /// as in `device.upload`.
    pub on: Target,
    /// Which of these operations, counted from 1 and from this step on; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<Num>,
    /// How it fails.
    pub kind: FaultKind,
    /// For `torn`, `short` and `full` how many bytes get through, for `rot` which byte of the operation has a bit
    /// flipped, for `misdirected` the offset in the file that is hit instead. Drawn from the seed if left out. Not for a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Num>,
    /// What everything that is left open is drawn from; 0 if left out. A device draws from `device_seed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Num>,
}

/// How an operation of the storage or of the device fails.
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
    /// An error. What a sync was to make durable is durable nevertheless; of a write nothing arrives. A device is of no use after
    /// it until it was filled anew.
    Failed,
    /// An error of a sync, after which the data is in the cache, taken for clean, and never gets to the disk.
    FailedLost,
    /// A write of which only the first bytes arrive, and an error.
    Torn,
    /// No room: of a write that makes its file longer a part or nothing arrives, and so it is for all such writes and
    /// for creations until `heal`.
    Full,
    /// A write or sync that reports success, and nothing has happened. A device is gone, until `heal`.
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
    /// The device has no memory left for one request.
    OutOfMemory,
    /// No more host memory can be pinned for the device.
    Exhausted,
    /// A bit flips on the way to or from the device, and nobody is told.
    Corrupt,
    /// A copy to the device takes effect only after it was reported as done; one from it never does.
    Late,
}

impl FaultKind {
    /// Every kind, in the order of the reference.
    pub const ALL: [Self; 14] = [
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
        Self::OutOfMemory,
        Self::Exhausted,
        Self::Corrupt,
        Self::Late,
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
            Self::OutOfMemory => "out-of-memory",
            Self::Exhausted => "exhausted",
            Self::Corrupt => "corrupt",
            Self::Late => "late",
        }
    }

    /// Whether an operation of the storage can fail in this way.
    #[must_use]
    pub fn is_of_storage(self) -> bool {
        Act::ALL.iter().any(|act| self.fits(*act))
    }

    /// Whether an operation can fail in this way.
    #[must_use]
    pub fn strikes(self, target: Target) -> bool {
        match target {
            Target::Storage(site) => self.fits(site.act),
            Target::Device(act) => match self {
                Self::Failed | Self::Lost => true,
                Self::OutOfMemory => act == DeviceAct::Map,
                Self::Exhausted => act == DeviceAct::Pin,
                Self::Corrupt | Self::Late => {
                    matches!(act, DeviceAct::Upload | DeviceAct::Download)
                }
                _ => false,
            },
        }
    }

    /// Whether an operation of the storage can fail in this way.
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
            Self::OutOfMemory | Self::Exhausted | Self::Corrupt | Self::Late => false,
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

words! {
    /// What a device does.
    pub enum DeviceAct {
        /// It gives memory to a part of its address range.
        Map = "map",
        /// It pins host memory.
        Pin = "pin",
        /// It copies from the host.
        Upload = "upload",
        /// It copies to the host.
        Download = "download",
        /// It does other work.
        Launch = "launch",
        /// It is waited for.
        Wait = "wait",
    }
}

/// What a fault strikes, such as `log.sync` or `device.upload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An operation of the storage.
    Storage(Site),
    /// An operation of the device.
    Device(DeviceAct),
}

impl Target {
    /// The word before the dot of an operation of the device.
    const DEVICE: &'static str = "device";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.split_once('.') {
            Some((Self::DEVICE, act)) => {
                let words: Vec<&str> = DeviceAct::ALL.iter().map(|act| act.as_str()).collect();
                let found = DeviceAct::ALL.iter().find(|known| known.as_str() == act);
                found.copied().map(Self::Device).ok_or_else(|| {
                    Fault::unknown(Code::UnknownWord, "operation of a device", act, &words)
                })
            }
            _ => Site::parse(text).map(Self::Storage),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(site) => site.fmt(f),
            Self::Device(act) => write!(f, "{}.{}", Self::DEVICE, act.as_str()),
        }
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
        let mut words: Vec<&str> = Holds::ALL.iter().map(|holds| holds.as_str()).collect();
        words.push(Target::DEVICE);
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

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Located { value, span } = Located::<String>::deserialize(deserializer)?;
        Self::parse(&value).map_err(|fault| fault.at(span).into_error())
    }
}

impl JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut sites = Vec::new();
        for holds in Holds::ALL {
            for act in Act::ALL {
                let site = Site {
                    holds: *holds,
                    act: *act,
                };
                if site.exists() {
                    sites.push(site.to_string());
                }
            }
        }
        sites.extend(
            DeviceAct::ALL
                .iter()
                .map(|act| Self::Device(*act).to_string()),
        );
        json_schema!({
            "description": "An operation of the storage: what the file holds, a dot, and what is done with it. Or one of the device.",
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
        for act in DeviceAct::ALL {
            let target = Target::Device(*act);
            assert_eq!(Target::parse(&target.to_string()).ok(), Some(target));
        }
        let error = Target::parse("device.uplaod").unwrap_err();
        assert!(format!("{error:?}").contains("upload"), "{error:?}");
        for text in [
            "log",
            "device",
            "device.sync",
            "logs.sync",
            "log.sink",
            "names.write",
            "log.list",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
