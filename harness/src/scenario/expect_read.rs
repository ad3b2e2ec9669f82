//! Reads and writes checks: all keys of all checks are read in any order, and which of them are
//! there tells the check.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::code::{Code, Fault};
use super::data::{Data, Region};
use super::digest::Digest;
use super::expect::{Bound, Content, Counter, Expect, Meta, PageCheck, UnchangedSince};
use super::num::Num;
use super::read::Short;
use super::shape::{Form, join_keys};
use super::value::{Key, Located, Name, Span};

/// The keys of checks that are not a form of [`Content`].
const OWN_KEYS: &[&str] = &[
    "page",
    "snapshot",
    "at",
    "len",
    "unchanged_since",
    "state",
    "same",
    "equal",
    "zero",
    "counter",
    "is",
    "at_least",
    "at_most",
    "epoch",
    "residency",
    "on_device",
    "meta",
    "pages",
    "stale",
    "lsn",
    "device",
];
const CONTENT_KEYS: &[&str] =
    &join_keys::<{ Data::KEYS.len() + Digest::KEYS.len() }>(Digest::KEYS, Data::KEYS);
const KEYS: &[&str] = &join_keys::<{ OWN_KEYS.len() + CONTENT_KEYS.len() }>(OWN_KEYS, CONTENT_KEYS);

impl Form for Content {
    const KEYS: &'static [&'static str] = CONTENT_KEYS;
    const WHAT: &'static str = "the expected content";

    fn take<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Option<Self>, A::Error> {
        if let Some(digest) = Digest::take(key, map)? {
            return Ok(Some(Self::Digest(digest)));
        }
        Ok(Data::take(key, map)?.map(Self::Data))
    }
}

/// The keys of a page check and of a counter check, as far as they are there.
#[derive(Default)]
struct Parts {
    page: Option<(Key, Name)>,
    snapshot: Option<(Key, Name)>,
    at: Option<(Key, Num)>,
    len: Option<(Key, Num)>,
    unchanged_since: Option<(Key, Name)>,
    counter: Option<(Key, Name)>,
    bound: Option<(Key, Bound)>,
    content: Option<(Key, Content)>,
    /// With `page` the number of zeros that must be there, else the range that must be zero.
    zero: Option<(Key, Zero)>,
    /// A check that one key says in full.
    whole: Option<(Key, Expect)>,
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Expect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping that says what to check, such as {page: a, hex: \"00\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Expect, A::Error> {
                let mut parts = Parts::default();
                while let Some(key) = map.next_key::<Key>()? {
                    parts.take(key, &mut map)?;
                }
                parts.finish().map_err(Fault::into_error)
            }
        }
        deserializer.deserialize_map(V)
    }
}

impl Parts {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: Key, map: &mut A) -> Result<(), A::Error> {
        let whole = match key.as_str() {
            "page" => return put(&mut self.page, key, map.next_value()?),
            "snapshot" => return put(&mut self.snapshot, key, map.next_value()?),
            "at" => return put(&mut self.at, key, map.next_value()?),
            "len" => return put(&mut self.len, key, map.next_value()?),
            "unchanged_since" => return put(&mut self.unchanged_since, key, map.next_value()?),
            "counter" => return put(&mut self.counter, key, map.next_value()?),
            "is" => return put(&mut self.bound, key, Bound::Is(map.next_value()?)),
            "at_least" => return put(&mut self.bound, key, Bound::AtLeast(map.next_value()?)),
            "at_most" => return put(&mut self.bound, key, Bound::AtMost(map.next_value()?)),
            "state" => Expect::State(map.next_value()?),
            "same" => Expect::Same(map.next_value()?),
            "equal" => Expect::Equal(map.next_value()?),
            "zero" => return put(&mut self.zero, key, map.next_value()?),
            "epoch" => Expect::Epoch(map.next_value()?),
            "residency" => Expect::Residency(map.next_value()?),
            "on_device" => Expect::OnDevice(map.next_value()?),
            "meta" => Expect::Meta(map.next_value()?),
            "pages" => Expect::Pages(map.next_value()?),
            "stale" => Expect::Stale(map.next_value()?),
            "lsn" => Expect::Lsn(map.next_value()?),
            "device" => Expect::Device(map.next_value()?),
            other => match Content::take(other, map)? {
                Some(content) => return put(&mut self.content, key, content),
                None => return Err(key.unknown(KEYS)),
            },
        };
        put(&mut self.whole, key, whole)
    }

    /// Turns the keys that are there into the one check that they say.
    fn finish(mut self) -> Result<Expect, Fault> {
        if let Some((key, zero)) = self.zero.take() {
            if self.page.is_some() {
                let content = Content::Data(Data::Zero(zero.into_num(&key)?));
                put_fault(&mut self.content, key, content)?;
            } else {
                let zero = Expect::Zero(zero.into_region()?);
                put_fault(&mut self.whole, key, zero)?;
            }
        }
        let expect = if let Some((key, whole)) = self.whole.take() {
            // `{page: a, zero: true}` and the like: say how that check is written.
            self.nothing_left(key.as_str())?;
            whole
        } else if let Some((_, counter)) = self.counter.take() {
            let bound = self.bound.take().ok_or_else(|| {
                Fault::new(Code::MissingField, "a counter needs a bound")
                    .expected("one of is, at_least, at_most")
            })?;
            self.nothing_left("counter")?;
            Expect::Counter(Counter {
                counter,
                bound: bound.1,
            })
        } else if let Some((_, mark)) = self.unchanged_since.take() {
            let page = self.page.take().map(|(_, page)| page);
            self.nothing_left("unchanged_since")?;
            Expect::UnchangedSince(UnchangedSince { page, mark })
        } else {
            self.page_check()?
        };
        Ok(expect)
    }

    fn page_check(mut self) -> Result<Expect, Fault> {
        let missing = |what: &str, known: &[&str]| {
            Fault::new(Code::MissingField, what).expected(format!("one of {}", known.join(", ")))
        };
        let Some((_, page)) = self.page.take() else {
            return Err(missing("the check does not say what it looks at", OWN_KEYS));
        };
        let Some((_, content)) = self.content.take() else {
            return Err(missing(
                "the check does not say what the page must hold",
                CONTENT_KEYS,
            ));
        };
        let check = PageCheck {
            page,
            snapshot: self.snapshot.take().map(|(_, name)| name),
            at: self.at.take().map(|(_, at)| at).unwrap_or_default(),
            len: self.len.take().map(|(_, len)| len),
            content,
        };
        self.nothing_left("page")?;
        Ok(Expect::Page(check))
    }

    /// Refuses a key that does not belong to the check named by `key`.
    fn nothing_left(&self, key: &str) -> Result<(), Fault> {
        let left = [
            self.page.as_ref().map(|(key, _)| key),
            self.snapshot.as_ref().map(|(key, _)| key),
            self.at.as_ref().map(|(key, _)| key),
            self.len.as_ref().map(|(key, _)| key),
            self.unchanged_since.as_ref().map(|(key, _)| key),
            self.counter.as_ref().map(|(key, _)| key),
            self.bound.as_ref().map(|(key, _)| key),
            self.content.as_ref().map(|(key, _)| key),
        ];
        match left.into_iter().flatten().next() {
            None => Ok(()),
            Some(extra) => Err(extra.fault(
                Code::Conflict,
                format!(
                    "`{}` does not go together with `{key}` in one check",
                    extra.as_str()
                ),
            )),
        }
    }
}

/// The value of `zero`, which means one of two things.
enum Zero {
    Scalar(String, Span),
    Range(Region),
}

impl Zero {
    fn into_num(self, key: &Key) -> Result<Num, Fault> {
        match self {
            Self::Scalar(text, span) => {
                let mut num = Num::from_text(&text).map_err(|fault| fault.at(span))?;
                num.place(span);
                Ok(num)
            }
            Self::Range(_) => {
                let message = "`zero` with a range does not go together with `page`";
                Err(key.fault(Code::Conflict, message))
            }
        }
    }

    fn into_region(self) -> Result<Region, Fault> {
        match self {
            Self::Scalar(text, span) => {
                let mut page = Name::from_text(&text).map_err(|fault| fault.at(span))?;
                page.place(span);
                Ok(Region {
                    page,
                    at: Num::ZERO,
                    len: None,
                })
            }
            Self::Range(region) => Ok(region),
        }
    }
}

impl<'de> Deserialize<'de> for Zero {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Zero;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a page or a range, or beside `page` a number of zeros")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Zero, E> {
                Ok(Zero::Scalar(text.to_owned(), Span::default()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Zero, E> {
                Ok(Zero::Scalar(number.to_string(), Span::default()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Zero, A::Error> {
                Region::from_map(map).map(Zero::Range)
            }
        }
        struct Inner(Zero);
        impl<'de> Deserialize<'de> for Inner {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(V).map(Self)
            }
        }
        let Located {
            value: Inner(zero),
            span,
        } = Located::deserialize(deserializer)?;
        Ok(match zero {
            Zero::Scalar(text, _) => Zero::Scalar(text, span),
            range @ Zero::Range(_) => range,
        })
    }
}

fn put<T, E: de::Error>(slot: &mut Option<(Key, T)>, key: Key, value: T) -> Result<(), E> {
    put_fault(slot, key, value).map_err(Fault::into_error)
}

fn put_fault<T>(slot: &mut Option<(Key, T)>, key: Key, value: T) -> Result<(), Fault> {
    match slot {
        None => {
            *slot = Some((key, value));
            Ok(())
        }
        Some((earlier, _)) => {
            let message = format!(
                "`{}` does not go together with `{}` in one check",
                key.as_str(),
                earlier.as_str()
            );
            Err(key.fault(Code::Conflict, message))
        }
    }
}

impl Serialize for Expect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Page(check) => check.entries(&mut map)?,
            Self::State(digest) => map.serialize_entry("state", digest)?,
            Self::Same(pages) => map.serialize_entry("same", pages)?,
            Self::Equal(equal) => map.serialize_entry("equal", equal)?,
            Self::Zero(region) => map.serialize_entry("zero", region)?,
            Self::UnchangedSince(UnchangedSince { page, mark }) => {
                if let Some(page) = page {
                    map.serialize_entry("page", page)?;
                }
                map.serialize_entry("unchanged_since", mark)?;
            }
            Self::Counter(Counter { counter, bound }) => {
                map.serialize_entry("counter", counter)?;
                match bound {
                    Bound::Is(num) => map.serialize_entry("is", num)?,
                    Bound::AtLeast(num) => map.serialize_entry("at_least", num)?,
                    Bound::AtMost(num) => map.serialize_entry("at_most", num)?,
                }
            }
            Self::Epoch(epoch) => map.serialize_entry("epoch", epoch)?,
            Self::Residency(residency) => map.serialize_entry("residency", residency)?,
            Self::OnDevice(pages) => map.serialize_entry("on_device", pages)?,
            Self::Meta(meta) => map.serialize_entry("meta", meta)?,
            Self::Pages(count) => map.serialize_entry("pages", count)?,
            Self::Stale(page) => map.serialize_entry("stale", page)?,
            Self::Lsn(lsn) => map.serialize_entry("lsn", lsn)?,
            Self::Device(state) => map.serialize_entry("device", state)?,
        }
        map.end()
    }
}

impl PageCheck {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("page", &self.page)?;
        if let Some(snapshot) = &self.snapshot {
            map.serialize_entry("snapshot", snapshot)?;
        }
        if !self.at.is_zero() {
            map.serialize_entry("at", &self.at)?;
        }
        if let Some(len) = &self.len {
            map.serialize_entry("len", len)?;
        }
        match &self.content {
            Content::Data(data) => data.entry(map),
            Content::Digest(digest) => digest.entry(map),
        }
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("page", &self.page)?;
        map.serialize_entry("key", &self.key)?;
        match &self.value {
            Some(value) => map.serialize_entry("is", value)?,
            None => map.serialize_entry("absent", &true)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with page, key, and is or absent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
                const KEYS: &[&str] = &["page", "key", "is", "absent"];
                let (mut page, mut name, mut value) = (None, None, None::<(Key, Option<String>)>);
                while let Some(key) = map.next_key::<Key>()? {
                    match key.as_str() {
                        "page" => page = Some(map.next_value()?),
                        "key" => name = Some(map.next_value()?),
                        "is" => {
                            let text = Some(map.next_value::<String>()?);
                            put(&mut value, key, text)?;
                        }
                        "absent" => {
                            super::read::only_true(&key, &mut map)?;
                            put(&mut value, key, None)?;
                        }
                        _ => return Err(key.unknown(KEYS)),
                    }
                }
                Ok(Meta {
                    page: page.ok_or_else(|| de::Error::missing_field("page"))?,
                    key: name.ok_or_else(|| de::Error::missing_field("key"))?,
                    value: value.map(|(_, value)| value).ok_or_else(|| {
                        Fault::new(Code::MissingField, "neither `is` nor `absent` is given")
                            .into_error::<A::Error>()
                    })?,
                })
            }
        }
        deserializer.deserialize_map(V)
    }
}
