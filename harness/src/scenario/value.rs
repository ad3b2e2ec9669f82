//! The small values that scenarios are made of: names and ordered mappings, with the positions
//! they were read from. The typed values of the modules beside it are exported here too.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::code::{Code, Fault};
use super::num::{EvalError, Scope, parse_embedded};

/// Where in its file a value was read; line and column start at 1, and 0 means unknown.
///
/// Any two spans compare equal: where a value stood is not part of what it means, so that
/// scenarios made by a generator, by hand or by the printer compare by content alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The line, starting at 1, or 0 if the value was not read from a file.
    pub line: u32,
    /// The column in characters, starting at 1, or 0 if the value was not read from a file.
    pub column: u32,
}

impl Span {
    pub(crate) fn from_location(location: serde_yaml::Location) -> Self {
        let clamp = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            line: clamp(location.line()),
            column: clamp(location.column()),
        }
    }

    /// Whether the value was read from a file at all.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.line > 0
    }
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl Hash for Span {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A value together with the place it was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Located<T> {
    /// The value itself.
    pub value: T,
    /// Where it was read.
    pub span: Span,
}

impl<T> Located<T> {
    /// Wraps a value that was not read from a file.
    pub fn new(value: T) -> Self {
        Self {
            value,
            span: Span::default(),
        }
    }
}

impl<T> From<T> for Located<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> Serialize for Located<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The name of a page, mark, variable, tag or subscription.
///
/// A name may hold expressions in braces, which are evaluated where the name is used: inside
/// `repeat: {as: i}` the name `"p{i}"` stands for `p0`, `p1` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    text: String,
    span: Span,
}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Span {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Name {
    /// Makes a name that was not read from a file.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            span: Span::default(),
        }
    }

    /// The name as written, braces included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where the name was read.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Reads a name out of a text that the parser has read already.
    pub(crate) fn from_text(text: &str) -> Result<Self, Fault> {
        Self::validate(text).map_err(|message| Fault::new(Code::BadName, message))?;
        Ok(Self::new(text))
    }

    /// Sets where the name was read.
    pub(crate) fn place(&mut self, span: Span) {
        self.span = span;
    }

    /// Whether the name holds an expression in braces, so that what it stands for is known only
    /// when the scenario runs.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.text.contains('{')
    }

    /// Calls `visit` with every variable of the expressions in braces.
    pub(crate) fn each_variable(&self, visit: &mut dyn FnMut(&str)) {
        for part in self.text.split('{').skip(1) {
            let source = part.split('}').next().unwrap_or_default();
            if let Ok(expr) = parse_embedded(source) {
                expr.variables(&mut |variable| visit(variable));
            }
        }
    }

    /// Evaluates the expressions in braces; a name without any is returned as it is.
    ///
    /// # Errors
    /// An unknown variable, or an expression whose value is outside `u64`.
    pub fn resolve(&self, scope: &Scope) -> Result<Cow<'_, str>, EvalError> {
        if !self.is_template() {
            return Ok(Cow::Borrowed(&self.text));
        }
        let mut out = String::with_capacity(self.text.len());
        let mut rest = self.text.as_str();
        while let Some((before, tail)) = rest.split_once('{') {
            out.push_str(before);
            let (source, after) = tail.split_once('}').unwrap_or((tail, ""));
            let value = parse_embedded(source)?.eval(scope)?;
            out.push_str(&value.to_string());
            rest = after;
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }

    /// Checks the spelling: letters, digits, `_`, `-` and `.`, not starting with `-` or `.`, at
    /// most 64 characters, expressions in braces between them.
    pub(crate) fn validate(text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("a name must not be empty".to_owned());
        }
        if text.len() > 64 {
            return Err(format!(
                "a name has at most 64 bytes, this one has {}",
                text.len()
            ));
        }
        let mut inside = None::<usize>;
        for (at, c) in text.char_indices() {
            match (inside, c) {
                (None, '{') => inside = Some(at + 1),
                (Some(start), '}') => {
                    let source = text.get(start..at).unwrap_or_default();
                    parse_embedded(source).map_err(|e| e.to_string())?;
                    inside = None;
                }
                (Some(_), '{') => return Err("braces do not nest in a name".to_owned()),
                (Some(_), _) => {}
                (None, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_') => {}
                (None, '-' | '.') if at > 0 => {}
                (None, _) => {
                    return Err(format!(
                        "`{}` may not stand in a name: use letters, digits, `_`, `-` and `.`",
                        c.escape_default()
                    ));
                }
            }
        }
        if inside.is_some() {
            return Err("a `{` in this name is never closed".to_owned());
        }
        Ok(())
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Deserialises a plain string and the place it stands.
pub(crate) fn located_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(String, Span), D::Error> {
    let Located { value, span } = Located::deserialize(deserializer)?;
    Ok((value, span))
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, span) = located_text(deserializer)?;
        Self::validate(&text).map_err(|message| Code::BadName.error(message))?;
        Ok(Self { text, span })
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A name: letters, digits, `_`, `-` and `.`, at most 64 characters. \
                Expressions in braces are evaluated where the name is used: \"p{i}\".",
            "type": ["string", "integer"],
            "minLength": 1,
            "maxLength": 64,
        })
    }
}

/// One name or a list of names; a list of one is written without its brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<Name>);

impl Deref for Names {
    type Target = [Name];

    fn deref(&self) -> &[Name] {
        &self.0
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany(Vec<Name>);
        impl<'de> Deserialize<'de> for OneOrMany {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(V)
            }
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                let name = Name::from_text(text).map_err(Fault::into_error::<E>)?;
                Ok(OneOrMany(vec![name]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OneOrMany, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(OneOrMany(names))
            }
        }
        let Located {
            value: OneOrMany(mut names),
            span,
        } = Located::deserialize(deserializer)?;
        for name in &mut names {
            if !name.span.is_known() {
                name.span = span;
            }
        }
        Ok(Names(names))
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Name>();
        json_schema!({
            "description": "One name, or a list of names.",
            "anyOf": [name, { "type": "array", "items": name }],
        })
    }
}

/// A mapping from names to values that keeps the order in which it was written.
///
/// Look-up is linear: the mappings of a scenario are as long as a person writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<T>(pub Vec<(Name, T)>);

impl<T> Map<T> {
    /// The value of `name`, as written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0
            .iter()
            .find(|(key, _)| key.as_str() == name)
            .map(|(_, value)| value)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &(Name, T)> {
        self.0.iter()
    }
}

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for Map<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<T>, A::Error> {
                let mut entries: Vec<(Name, T)> = Vec::new();
                while let Some(key) = map.next_key::<Name>()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Map(entries))
            }
        }
        deserializer.deserialize_map(V(std::marker::PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<T>(),
            "propertyNames": { "minLength": 1, "maxLength": 64 },
        })
    }
}

/// A key of a mapping, for visitors that tell apart their keys themselves.
///
/// In a struct without a derived visitor the position of a wrong key has to be kept, because the
/// parser's own position has moved on by the time the key is refused.
pub(crate) struct Key {
    text: String,
    span: Span,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, span) = located_text(deserializer)?;
        Ok(Self { text, span })
    }
}

impl Key {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// A fault at this key.
    pub(crate) fn fault(&self, code: Code, message: impl Into<String>) -> Fault {
        Fault::new(code, message).at(self.span)
    }

    /// The error of a key that the mapping does not have.
    pub(crate) fn unknown<E: de::Error>(&self, known: &[&str]) -> E {
        Fault::unknown(Code::UnknownKey, "key", &self.text, known)
            .at(self.span)
            .into_error()
    }

    /// The error of a verb that does not exist.
    pub(crate) fn unknown_verb<E: de::Error>(&self, verbs: &[&str]) -> E {
        Fault::unknown(Code::UnknownWord, "step", &self.text, verbs)
            .at(self.span)
            .into_error()
    }

    /// The error of a verb that lacks its arguments.
    pub(crate) fn needs_arguments<E: de::Error>(&self) -> E {
        let message = format!("`{}` needs arguments", self.text);
        self.fault(Code::MissingField, message).into_error()
    }

    /// The error of a second key next to a verb, which is mostly one that is indented too little.
    pub(crate) fn after_verb<E: de::Error>(&self, verb: &str, verbs: &[&str]) -> E {
        let hint = if verbs.contains(&self.text.as_str()) {
            "start it with `- ` as a step of its own"
        } else {
            "indent it further if it belongs to the verb"
        };
        let message = format!(
            "`{}` stands beside the verb `{verb}`",
            self.text.escape_default()
        );
        self.fault(Code::ManyVerbs, message)
            .expected(hint)
            .into_error()
    }
}

/// The value of a verb without arguments, where it is written as a key: nothing.
pub(crate) struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Unwanted>::deserialize(deserializer).map(|_| Self)
    }
}

/// Any value at all, where there must be none.
pub(crate) struct Unwanted;

impl<'de> Deserialize<'de> for Unwanted {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(Code::WrongType.error("this step takes no arguments"))
    }
}

pub use super::bytes::{Base64, Hex};
pub use super::digest::{Digest, DigestHex, StateDigest};
pub use super::file_ref::{Artefact, FileRef, Which};
pub use super::float::{F32, F64};
