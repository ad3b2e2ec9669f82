//! What an `expect` step checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::code::{Code, Fault};
use super::data::{Data, Region};
use super::error_kind::ErrorKind;
use super::num::Num;
use super::value::{Digest, Name, Names, StateDigest};

/// One check. Which one is told by its keys, in any order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Expect {
    /// `{page: a, at: 0, hex: ...}`: the bytes or the digest of a page or of a range of it.
    Page(PageCheck),
    /// `{state: "blake3:..."}`: the state digest.
    State(StateDigest),
    /// `{same: [a, b]}`: pages that hold the same bytes.
    Same(Names),
    /// `{equal: {page: a, at: 0, len: 8, to: {page: b, at: 8}}}`: two ranges that hold the same bytes.
    Equal(Equal),
    /// `{zero: a}`: a page or a range of it that holds only zeros.
    Zero(Region),
    /// `{unchanged_since: mark}`, or of one page `{page: a, unchanged_since: mark}`: the bytes are
    /// those of the time of the mark.
    UnchangedSince(UnchangedSince),
    /// `{counter: name, is: n}`: a counter of the bus, such as `commits`.
    Counter(Counter),
    /// `{epoch: {page: a, is: n}}`: how often the page changed.
    Epoch(Epoch),
    /// `{residency: {page: a, is: evicted}}`: where the bytes of a page are now.
    Residency(Residency),
    /// `{on_device: [a, b]}`: the digests that the device computes of pages on it, or of mirrors of unified pages, are those of their bytes.
    /// Pages in host memory are passed over.
    OnDevice(Names),
    /// `{meta: {page: a, key: owner, is: qa}}`: an annotation of a page.
    Meta(Meta),
    /// `{pages: n}`: how many pages there are.
    Pages(Num),
    /// `{stale: a}`: a name that stands for a page no longer there, or for a derived page that
    /// could not be recomputed.
    Stale(Name),
    /// `{lsn: n}`: the LSN of the last commit.
    Lsn(Num),
    /// `{device: sound}`, or the kind of error since which what is on the device has to be restored; `unsound` for any.
    Device(DeviceState),
}

/// What became of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Nothing: what is on it can be used.
    Sound,
    /// It met some error, and pages on it cannot be read.
    Unsound,
    /// It met this error, and pages on it cannot be read.
    Failed(ErrorKind),
}

impl DeviceState {
    /// The errors that a device can be in, in the order of the reference.
    pub const ERRORS: [ErrorKind; 4] = [
        ErrorKind::DeviceFailed,
        ErrorKind::DeviceCorruptCopy,
        ErrorKind::DeviceLost,
        ErrorKind::DeviceInvalid,
    ];

    /// The word by which scenarios name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Unsound => "unsound",
            Self::Failed(error) => error.as_str(),
        }
    }

    /// Every word.
    pub(crate) fn words() -> Vec<&'static str> {
        let errors = Self::ERRORS.into_iter().map(ErrorKind::as_str);
        [Self::Sound.as_str(), Self::Unsound.as_str()]
            .into_iter()
            .chain(errors)
            .collect()
    }
}

impl Serialize for DeviceState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DeviceState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, span) = super::value::located_text(deserializer)?;
        if text == Self::Sound.as_str() {
            return Ok(Self::Sound);
        }
        if text == Self::Unsound.as_str() {
            return Ok(Self::Unsound);
        }
        let error = Self::ERRORS
            .into_iter()
            .find(|error| error.as_str() == text);
        error.map(Self::Failed).ok_or_else(|| {
            Fault::unknown(
                Code::UnknownWord,
                "state of a device",
                &text,
                &Self::words(),
            )
            .at(span)
            .into_error()
        })
    }
}

impl JsonSchema for DeviceState {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeviceState".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`sound`; or the error since which what is on the device has to be restored, or `unsound` for any of them.",
            "enum": Self::words(),
        })
    }
}

/// The bytes or the digest of a page or of a range of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PageCheck {
    /// The page.
    pub page: Name,
    /// A snapshot to look into, in place of the present.
    pub snapshot: Option<Name>,
    /// Where the range starts.
    pub at: Num,
    /// How long the range is: for a digest, up to the end of the page if left out; for data, as long
    /// as the data.
    pub len: Option<Num>,
    /// What must be there.
    pub content: Content,
}

/// What must be in a range of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// These bytes.
    Data(Data),
    /// Bytes with this digest.
    Digest(Digest),
}

/// Two ranges of the same length that hold the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Equal {
    /// The one page.
    pub page: Name,
    /// Where its range starts; 0 if left out.
    #[serde(default, skip_serializing_if = "Num::is_zero")]
    pub at: Num,
    /// How long it is; up to the end of the page if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<Num>,
    /// The other range; its length is that of the first where it is left out.
    pub to: Region,
}

/// Bytes that are those of the time of a mark.
#[derive(Clone, Debug, PartialEq)]
pub struct UnchangedSince {
    /// The page, or `None` for the whole state.
    pub page: Option<Name>,
    /// The mark.
    pub mark: Name,
}

/// A counter of the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    /// The name of the counter.
    pub counter: Name,
    /// The bound.
    pub bound: Bound,
}

/// What a number must satisfy.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// Exactly this.
    Is(Num),
    /// This or more.
    AtLeast(Num),
    /// This or less.
    AtMost(Num),
}

/// How often a page changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// The page.
    pub page: Name,
    /// Its epoch.
    pub is: Num,
}

/// Where the bytes of a page are now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Residency {
    /// The page.
    pub page: Name,
    /// Where they are.
    pub is: Whereabouts,
}

/// Where the bytes of a page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whereabouts {
    /// In host memory.
    Host,
    /// In host memory, and in device memory a mirror of them.
    Mirrored,
    /// In device memory.
    Device,
    /// In the log alone, until they are needed on the device.
    Evicted,
}

impl Whereabouts {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 4] = [Self::Host, Self::Mirrored, Self::Device, Self::Evicted];

    /// The word by which scenarios name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Mirrored => "mirrored",
            Self::Device => "device",
            Self::Evicted => "evicted",
        }
    }
}

/// An annotation of a page: `is: text`, or `absent: true`.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// The page.
    pub page: Name,
    /// The key.
    pub key: String,
    /// The value that it must have, or `None` if the key must be absent.
    pub value: Option<String>,
}
