//! Crashes: of the whole run, at one moment, or at every moment.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::code::{Code, Fault};
use super::num::Num;
use super::schema::ObjectSchema;
use super::value::Key;

/// When the machine crashes, and what is left on its disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Crash {
    /// Now, and whatever was not synced is lost.
    #[default]
    Forgetful,
    /// Only the process dies, now: what it has handed to the operating system stays in its cache.
    Process,
    /// Once at every moment since the beginning or the last crash, with everything that can be left then, each time
    /// followed by a recovery that is compared with the model. Afterwards as [`Crash::Forgetful`].
    Each {
        /// Whether each recovery is crashed in turn.
        again: bool,
    },
    /// At one moment, with this left.
    At(Window),
    /// Now, and what is left of what was not synced is drawn from a seed.
    Drawn(Num),
}

/// One moment, and what a crash leaves of what was not synced then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// How many operations of the storage were done since the beginning or the last crash; all of them if left out.
    pub at: Option<Num>,
    /// Which of the changes that were not synced are on the disk all the same, counted from 0.
    pub keep: Vec<Num>,
    /// A write of which only a part is on the disk.
    pub tear: Option<Tear>,
    /// A second crash, inside the recovery from this one.
    pub again: Option<Box<Window>>,
}

/// A write of which only a part is on the disk.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tear {
    /// Which of the changes that were not synced, counted from 0.
    pub change: Num,
    /// The first byte of the write that is on the disk.
    pub from: Num,
    /// The first byte behind it that is not.
    pub to: Num,
}

const EACH: &str = "each";
const PROCESS: &str = "process";
const KEYS: &[&str] = &["at", "keep", "tear", "again", "seed"];

/// `each`, or something else.
enum EachOr<T> {
    Each,
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for EachOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = EachOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`each`, or one moment")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EachOr<T>, E> {
                if text == EACH {
                    return Ok(EachOr::Each);
                }
                T::deserialize(de::value::StrDeserializer::new(text)).map(EachOr::Other)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<EachOr<T>, E> {
                T::deserialize(de::value::U64Deserializer::new(number)).map(EachOr::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EachOr<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(EachOr::Other)
            }
        }
        deserializer.deserialize_any(V(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Crash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Crash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`each`, `process`, or a mapping with at, keep, tear and again, or with seed",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Crash, E> {
                match text {
                    EACH => Ok(Crash::Each { again: false }),
                    PROCESS => Ok(Crash::Process),
                    _ => Err(
                        Fault::unknown(Code::UnknownWord, "crash", text, &[EACH, PROCESS])
                            .into_error(),
                    ),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Crash, A::Error> {
                crash(map)
            }
        }
        deserializer.deserialize_any(V)
    }
}

fn crash<'de, A: MapAccess<'de>>(mut map: A) -> Result<Crash, A::Error> {
    let (mut at, mut again, mut window) = (None, None, Window::default());
    let mut detail = None;
    let mut seed = None;
    while let Some(key) = map.next_key::<Key>()? {
        match key.as_str() {
            "at" => at = Some(map.next_value::<EachOr<Num>>()?),
            "again" => again = Some(map.next_value::<EachOr<Window>>()?),
            "keep" => window.keep = map.next_value()?,
            "tear" => window.tear = Some(map.next_value()?),
            "seed" => seed = Some(map.next_value::<Num>()?),
            _ => return Err(key.unknown(KEYS)),
        }
        if matches!(key.as_str(), "keep" | "tear") {
            detail = Some(key);
        }
    }
    if let Some(seed) = seed {
        if at.is_some() || again.is_some() || detail.is_some() {
            return Err(
                Code::Conflict.error("`seed` draws what is left, so nothing else can say it")
            );
        }
        return Ok(Crash::Drawn(seed));
    }
    match (at, again) {
        (Some(EachOr::Each), again) => {
            if let Some(key) = detail {
                let message = format!("`{}` and `at: each` exclude each other", key.as_str());
                return Err(key.fault(Code::Conflict, message).into_error());
            }
            match again {
                None => Ok(Crash::Each { again: false }),
                Some(EachOr::Each) => Ok(Crash::Each { again: true }),
                Some(EachOr::Other(_)) => Err(Code::Conflict
                    .error("with `at: each` a second crash can only come at each moment too")),
            }
        }
        (at, again) => {
            window.at = match at {
                Some(EachOr::Other(at)) => Some(at),
                _ => None,
            };
            window.again = match again {
                None => None,
                Some(EachOr::Other(again)) => Some(Box::new(again)),
                Some(EachOr::Each) => {
                    return Err(Code::Conflict.error("`again: each` stands beside `at: each` only"));
                }
            };
            Ok(Crash::At(window))
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping with at, keep and tear")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Window, A::Error> {
                match crash(map)? {
                    Crash::At(window) => Ok(window),
                    Crash::Each { .. } | Crash::Forgetful | Crash::Process | Crash::Drawn(_) => {
                        Err(Code::BadValue.error("one moment is meant here, not each"))
                    }
                }
            }
        }
        deserializer.deserialize_map(V)
    }
}

impl Serialize for Crash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Forgetful => Window::default().serialize(serializer),
            Self::Process => serializer.serialize_str(PROCESS),
            Self::Each { again: false } => serializer.serialize_str(EACH),
            Self::Each { again: true } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("at", EACH)?;
                map.serialize_entry("again", EACH)?;
                map.end()
            }
            Self::At(window) => window.serialize(serializer),
            Self::Drawn(seed) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("seed", seed)?;
                map.end()
            }
        }
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(at) = &self.at {
            map.serialize_entry("at", at)?;
        }
        if !self.keep.is_empty() {
            map.serialize_entry("keep", &self.keep)?;
        }
        if let Some(tear) = &self.tear {
            map.serialize_entry("tear", tear)?;
        }
        if let Some(again) = &self.again {
            map.serialize_entry("again", again)?;
        }
        map.end()
    }
}

impl JsonSchema for Window {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CrashWindow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        window(generator).build()
    }
}

fn window(generator: &mut SchemaGenerator) -> ObjectSchema {
    let num = generator.subschema_for::<Num>();
    let nums = json_schema!({ "type": "array", "items": num });
    ObjectSchema::new("One moment, and what a crash leaves of what was not synced then.")
        .optional(
            "at",
            "How many operations of the storage were done since the beginning or the last crash; all if left out.",
            &num,
        )
        .optional(
            "keep",
            "Which of the changes that were not synced are on the disk all the same, counted from 0.",
            &nums,
        )
        .optional(
            "tear",
            "A write of which only a part is on the disk.",
            &generator.subschema_for::<Tear>(),
        )
        .optional(
            "again",
            "A second crash, inside the recovery from this one.",
            &json_schema!({ "$ref": "#/$defs/CrashWindow" }),
        )
}

impl JsonSchema for Crash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Crash".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let window = generator.subschema_for::<Window>();
        let each = json_schema!({ "const": EACH });
        let sweep = ObjectSchema::new("At every moment, with everything that can be left then.")
            .required("at", "Every moment.", &each)
            .optional("again", "Crashes each recovery in turn.", &each)
            .build();
        let num = generator.subschema_for::<Num>();
        let drawn = ObjectSchema::new("Now; what is left of what was not synced is drawn.")
            .required("seed", "What it is drawn from.", &num)
            .build();
        json_schema!({
            "description": "When the machine crashes, and what is left on its disk.",
            "anyOf": [
                { "const": EACH, "description": "At every moment, with everything that can be left then." },
                { "const": PROCESS, "description": "Only the process dies; what it handed to the operating system stays." },
                sweep,
                drawn,
                window,
            ],
        })
    }
}
