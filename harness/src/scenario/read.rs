//! The visitors of those types that have a short form beside their mapping, or whose keys decide
//! what they are.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::ast::{
    Allocate, Annotate, AxisValue, Connect, Delta, Diff, Drain, Durability, Fails, FileArg, Masked,
    NewPage, Options, OverwriteFile, PageArg, PageSpec, Repeat, Replay, ReplayTo, Scatter,
    Snapshot, Steps, Storm, Subscribe, Trace, Transaction, Transfer, TruncateFile, Write,
    WriteFile,
};
use super::code::{Code, Fault};
use super::crash::Crash;
use super::data::{Fill, Random, Region};
use super::expect::Expect;
use super::fault::Inject;
use super::num::{Expr, Num};
use super::shape::Bare;
use super::value::{FileRef, Key, Located, Map, Name, Names, Span};

/// A type with a short form: a single scalar in place of its mapping.
pub(crate) trait Short: Sized {
    /// What may stand there, for messages.
    const EXPECTING: &'static str;

    /// Makes the value from a text.
    fn from_text(text: &str) -> Result<Self, Fault>;

    /// Makes the value from a number.
    fn from_number(number: u64) -> Result<Self, Fault> {
        Self::from_text(&number.to_string())
    }

    /// Reads the mapping form.
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;

    /// Gives the position of the scalar to what was made from it.
    fn place(&mut self, span: Span);
}

/// What a [`Short`] type was read from.
enum ShortOrMap<T> {
    Short(T),
    Map(T),
}

impl<'de, T: Short> Deserialize<'de> for ShortOrMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Short> Visitor<'de> for V<T> {
            type Value = ShortOrMap<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTING)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ShortOrMap<T>, E> {
                T::from_text(text)
                    .map(ShortOrMap::Short)
                    .map_err(Fault::into_error)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ShortOrMap<T>, E> {
                T::from_number(number)
                    .map(ShortOrMap::Short)
                    .map_err(Fault::into_error)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ShortOrMap<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<ShortOrMap<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ShortOrMap<T>, A::Error> {
                T::from_map(map).map(ShortOrMap::Map)
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

fn read_short<'de, T: Short, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let Located { value, span } = Located::<ShortOrMap<T>>::deserialize(deserializer)?;
    Ok(match value {
        ShortOrMap::Map(value) => value,
        ShortOrMap::Short(mut value) => {
            value.place(span);
            value
        }
    })
}

macro_rules! short_form {
    ($($Type:ty),+ $(,)?) => {
        $(impl<'de> Deserialize<'de> for $Type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_short(deserializer)
            }
        })+
    };
}

short_form!(
    PageSpec, Random, Fill, Region, PageArg, FileArg, ReplayTo, AxisValue
);

impl Short for PageSpec {
    const EXPECTING: &'static str =
        "a size, or a mapping with size, fill, meta, derive and location";

    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self {
            size: Some(Num::from_text(text)?),
            ..Self::default()
        })
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(map))
    }

    fn place(&mut self, span: Span) {
        self.size.iter_mut().for_each(|size| size.place(span));
    }
}

impl Serialize for PageSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self {
                size: Some(size),
                fill: None,
                meta,
                derive: None,
                location: None,
            } if meta.is_empty() => size.serialize(serializer),
            _ => Self::serialize(self, serializer),
        }
    }
}

impl Short for Random {
    const EXPECTING: &'static str = "a seed, or a mapping with seed and len";

    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self {
            seed: Num::from_text(text)?,
            len: None,
        })
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(map))
    }

    fn place(&mut self, span: Span) {
        self.seed.place(span);
    }
}

impl Serialize for Random {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.len {
            None => self.seed.serialize(serializer),
            Some(_) => Self::serialize(self, serializer),
        }
    }
}

impl Short for Fill {
    const EXPECTING: &'static str = "a byte, or a mapping with byte and len";

    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self {
            byte: Num::from_text(text)?,
            len: None,
        })
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(map))
    }

    fn place(&mut self, span: Span) {
        self.byte.place(span);
    }
}

impl Serialize for Fill {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.len {
            None => self.byte.serialize(serializer),
            Some(_) => Self::serialize(self, serializer),
        }
    }
}

impl Short for Region {
    const EXPECTING: &'static str = "a page, or a mapping with page, at and len";

    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self {
            page: Name::from_text(text)?,
            at: Num::ZERO,
            len: None,
        })
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(map))
    }

    fn place(&mut self, span: Span) {
        self.page.place(span);
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.at.is_zero() && self.len.is_none() {
            self.page.serialize(serializer)
        } else {
            Self::serialize(self, serializer)
        }
    }
}

/// Reads a mapping that has one key only.
fn only_key<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    name: &'static str,
    mut map: A,
) -> Result<T, A::Error> {
    let mut value = None;
    while let Some(key) = map.next_key::<Key>()? {
        if key.as_str() != name {
            return Err(key.unknown(&[name]));
        }
        value = Some(map.next_value()?);
    }
    value.ok_or_else(|| de::Error::missing_field(name))
}

impl Short for PageArg {
    const EXPECTING: &'static str = "a page, or a mapping with the key page";

    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self {
            page: Name::from_text(text)?,
        })
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self {
            page: only_key("page", map)?,
        })
    }

    fn place(&mut self, span: Span) {
        self.page.place(span);
    }
}

impl Serialize for PageArg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.page.serialize(serializer)
    }
}

impl Short for FileArg {
    const EXPECTING: &'static str = "a file such as log.0, or a mapping with the key file";

    fn from_text(text: &str) -> Result<Self, Fault> {
        Ok(Self {
            file: FileRef::from_text(text)?,
        })
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Ok(Self {
            file: only_key("file", map)?,
        })
    }

    fn place(&mut self, _: Span) {}
}

impl Serialize for FileArg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.file.serialize(serializer)
    }
}

impl Short for ReplayTo {
    const EXPECTING: &'static str = "`end`, a mark, or an LSN";

    fn from_text(text: &str) -> Result<Self, Fault> {
        if text == "end" {
            return Ok(Self::End);
        }
        // A word is a mark; whoever means a variable writes `{lsn: variable}`.
        match Name::from_text(text) {
            Ok(name) if !text.starts_with(|c: char| c.is_ascii_digit()) => Ok(Self::Mark(name)),
            _ => Num::from_text(text).map(Self::Lsn),
        }
    }

    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        only_key("lsn", map).map(Self::Lsn)
    }

    fn place(&mut self, span: Span) {
        match self {
            Self::End => {}
            Self::Mark(name) => name.place(span),
            Self::Lsn(lsn) => lsn.place(span),
        }
    }
}

impl Serialize for ReplayTo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::End => serializer.serialize_str("end"),
            Self::Mark(name) => name.serialize(serializer),
            Self::Lsn(lsn) if matches!(lsn.expr(), Expr::Int(_)) => lsn.serialize(serializer),
            Self::Lsn(lsn) => one_entry(serializer, "lsn", lsn),
        }
    }
}

impl Short for AxisValue {
    const EXPECTING: &'static str = "a number, a size or a word";

    fn from_text(text: &str) -> Result<Self, Fault> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            Num::from_text(text).map(Self::Num)
        } else {
            Name::from_text(text).map(Self::Word)
        }
    }

    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let message = "an axis value is a number, a size or a word, not a mapping";
        Err(match map.next_key::<Key>()? {
            Some(key) => key.fault(Code::WrongType, message).into_error(),
            None => Code::WrongType.error(message),
        })
    }

    fn place(&mut self, span: Span) {
        match self {
            Self::Num(num) => num.place(span),
            Self::Word(name) => name.place(span),
        }
    }
}

fn one_entry<S: Serializer>(
    serializer: S,
    key: &str,
    value: &impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

impl Serialize for Allocate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.pages.as_slice() {
            [page] => page.serialize(serializer),
            pages => one_entry(serializer, "pages", &pages),
        }
    }
}

impl<'de> Deserialize<'de> for Allocate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Allocate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with page and size, or with pages")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Allocate, A::Error> {
                const KEYS: &[&str] = &[
                    "page", "size", "fill", "meta", "derive", "location", "pages",
                ];
                let (mut page, mut pages, mut spec) = (None, None, PageSpec::default());
                let mut first_own = None;
                while let Some(key) = map.next_key::<Key>()? {
                    match key.as_str() {
                        "page" => page = Some(map.next_value()?),
                        "size" => spec.size = Some(map.next_value()?),
                        "fill" => spec.fill = Some(map.next_value()?),
                        "meta" => spec.meta = map.next_value()?,
                        "derive" => spec.derive = Some(map.next_value()?),
                        "location" => spec.location = Some(map.next_value()?),
                        "pages" => {
                            pages = Some(map.next_value::<Vec<NewPage>>()?);
                            continue;
                        }
                        _ => return Err(key.unknown(KEYS)),
                    }
                    first_own.get_or_insert(key);
                }
                let PageSpec {
                    size,
                    fill,
                    meta,
                    derive,
                    location,
                } = spec;
                let pages = match (pages, first_own) {
                    (Some(_), Some(key)) => {
                        let message = format!("`{}` and `pages` exclude each other", key.as_str());
                        return Err(key.fault(Code::Conflict, message).into_error());
                    }
                    (Some(pages), None) => pages,
                    (None, _) => {
                        let page = page.ok_or_else(|| de::Error::missing_field("page"))?;
                        vec![NewPage {
                            page,
                            size,
                            fill,
                            meta,
                            derive,
                            location,
                        }]
                    }
                };
                Ok(Allocate { pages })
            }
        }
        deserializer.deserialize_map(V)
    }
}

impl Serialize for Annotate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("page", &self.page)?;
        map.serialize_entry("key", &self.key)?;
        match &self.value {
            Some(value) => map.serialize_entry("value", value)?,
            None => map.serialize_entry("remove", &true)?,
        }
        map.end()
    }
}

/// Reads a flag that has only one meaning, hence only the value `true`.
pub(crate) fn only_true<'de, A: MapAccess<'de>>(key: &Key, map: &mut A) -> Result<(), A::Error> {
    if map.next_value::<bool>()? {
        return Ok(());
    }
    let message = format!("`{}` can only be true; leave it out instead", key.as_str());
    Err(key.fault(Code::BadValue, message).into_error())
}

impl<'de> Deserialize<'de> for Annotate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Annotate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with page, key, and value or remove")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotate, A::Error> {
                const KEYS: &[&str] = &["page", "key", "value", "remove"];
                let (mut page, mut name, mut value) = (None, None, None::<Option<String>>);
                while let Some(key) = map.next_key::<Key>()? {
                    let new = match key.as_str() {
                        "page" => {
                            page = Some(map.next_value()?);
                            continue;
                        }
                        "key" => {
                            name = Some(map.next_value()?);
                            continue;
                        }
                        "value" => Some(map.next_value::<String>()?),
                        "remove" => {
                            only_true(&key, &mut map)?;
                            None
                        }
                        _ => return Err(key.unknown(KEYS)),
                    };
                    if value.replace(new).is_some() {
                        let message = "`value` and `remove` exclude each other";
                        return Err(key.fault(Code::Conflict, message).into_error());
                    }
                }
                Ok(Annotate {
                    page: page.ok_or_else(|| de::Error::missing_field("page"))?,
                    key: name.ok_or_else(|| de::Error::missing_field("key"))?,
                    value: value.ok_or_else(|| {
                        Fault::new(Code::MissingField, "neither `value` nor `remove` is given")
                            .into_error::<A::Error>()
                    })?,
                })
            }
        }
        deserializer.deserialize_map(V)
    }
}

/// Verbs that need arguments.
macro_rules! never_bare {
    ($($Type:ty),+ $(,)?) => { $(impl Bare for $Type {})+ };
}

never_bare!(
    Allocate,
    Annotate,
    Connect,
    Delta,
    Diff,
    Drain,
    Expect,
    Fails,
    Storm,
    FileArg,
    Inject,
    Map<Num>,
    Masked,
    Name,
    Names,
    OverwriteFile,
    PageArg,
    Repeat,
    Scatter,
    Snapshot,
    Subscribe,
    Trace,
    Transaction,
    Transfer,
    TruncateFile,
    Vec<Steps>,
    Write,
    WriteFile,
);

impl Bare for Option<Durability> {
    fn bare() -> Option<Self> {
        Some(None)
    }

    fn is_bare(&self) -> bool {
        self.is_none()
    }
}

impl Bare for Options {
    fn bare() -> Option<Self> {
        Some(Self::default())
    }

    fn is_bare(&self) -> bool {
        self.is_empty()
    }
}

impl Bare for Crash {
    fn bare() -> Option<Self> {
        Some(Self::default())
    }

    fn is_bare(&self) -> bool {
        *self == Self::default()
    }
}

impl Bare for Replay {
    fn bare() -> Option<Self> {
        Some(Self::default())
    }

    fn is_bare(&self) -> bool {
        *self == Self::default()
    }
}
