//! Macros for the two shapes that serde's derive cannot read with exact positions.
//!
//! `#[serde(flatten)]` and untagged enums buffer their input, which loses every line and column.
//! So these macros write the visitors that read the same shapes straight from the parser.

use serde::de::MapAccess;

/// A choice of keys that stands among the fields of a mapping, such as `hex:` or `text:`.
pub(crate) trait Form: Sized {
    /// Every key, in the order in which messages list them.
    const KEYS: &'static [&'static str];
    /// What the choice is called in messages, such as "the bytes".
    const WHAT: &'static str;

    /// Reads the value of `key`, or returns `None` if the key is none of [`Self::KEYS`].
    fn take<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Option<Self>, A::Error>;
}

/// Defines an enum of forms, one key each, and reads it inside or outside of a flat struct.
macro_rules! form {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident ($what:literal) {
            $( $(#[doc = $doc:literal])+ $key:literal $(| $alias:literal)* => $Variant:ident($Payload:ty), )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub enum $Name {
            $( $(#[doc = $doc])+ #[serde(rename = $key)] $Variant($Payload), )+
        }

        impl $crate::scenario::schema::FormSchema for $Name {
            fn choices(
                object: $crate::scenario::schema::ObjectSchema,
                generator: &mut schemars::SchemaGenerator,
            ) -> $crate::scenario::schema::ObjectSchema {
                object$(
                    .choice($key, concat!($($doc),+), &generator.subschema_for::<$Payload>())
                    $( .choice($alias, concat!("The same as `", $key, "`."), &generator.subschema_for::<$Payload>()) )*
                )+
            }
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use $crate::scenario::schema::{FormSchema, ObjectSchema};
                Self::choices(ObjectSchema::new(""), generator).build()
            }
        }

        impl $Name {
            /// Writes the form as one entry of a mapping.
            #[allow(dead_code, reason = "used for those forms that stand in a check")]
            pub(crate) fn entry<M: serde::ser::SerializeMap>(
                &self,
                map: &mut M,
            ) -> Result<(), M::Error> {
                match self {
                    $( Self::$Variant(value) => map.serialize_entry($key, value), )+
                }
            }
        }

        impl $crate::scenario::shape::Form for $Name {
            const KEYS: &'static [&'static str] = &[$($key),+];
            const WHAT: &'static str = $what;

            fn take<'de, A: serde::de::MapAccess<'de>>(
                key: &str,
                map: &mut A,
            ) -> Result<Option<Self>, A::Error> {
                Ok(Some(match key {
                    $( $key $(| $alias)* => Self::$Variant(map.next_value()?), )+
                    _ => return Ok(None),
                }))
            }
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map($crate::scenario::shape::OneForm::<Self>::default())
            }
        }
    };
}

/// Reads a mapping that holds one form and nothing else.
pub(crate) struct OneForm<F>(std::marker::PhantomData<F>);

impl<F> Default for OneForm<F> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<'de, F: Form> serde::de::Visitor<'de> for OneForm<F> {
    type Value = F;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a mapping with one of the keys {}", F::KEYS.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<F, A::Error> {
        let mut form = None;
        while let Some(key) = map.next_key::<super::value::Key>()? {
            take_form(&key, &mut form, &mut map, F::KEYS)?;
        }
        form.ok_or_else(|| missing_form::<F, A::Error>())
    }
}

/// Reads the value of a key that must belong to a form, and refuses a second form.
pub(crate) fn take_form<'de, F: Form, A: MapAccess<'de>>(
    key: &super::value::Key,
    form: &mut Option<F>,
    map: &mut A,
    expected: &'static [&'static str],
) -> Result<(), A::Error> {
    let Some(value) = F::take(key.as_str(), map)? else {
        return Err(key.unknown(expected));
    };
    if form.replace(value).is_some() {
        let message = format!("`{}` gives {} a second time", key.as_str(), F::WHAT);
        return Err(key
            .fault(super::code::Code::Conflict, message)
            .expected(format!("only one of {}", F::KEYS.join(", ")))
            .into_error());
    }
    Ok(())
}

/// The error of a mapping that lacks its form.
pub(crate) fn missing_form<F: Form, E: serde::de::Error>() -> E {
    super::code::Fault::new(
        super::code::Code::MissingField,
        format!("nothing gives {}", F::WHAT),
    )
    .expected(format!("one of {}", F::KEYS.join(", ")))
    .into_error()
}

/// Defines a struct whose last part is one of the keys of a [`Form`], next to its own fields.
macro_rules! flat {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident {
            $( $(#[doc = $fdoc:literal])+ $(#[serde($($fserde:tt)*)])? $field:ident: $Type:ty $(= $default:expr)?, )*
        }
        $(#[$formmeta:meta])*
        $form:ident: $Form:ty
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $Name {
            $( $(#[doc = $fdoc])+ $(#[serde($($fserde)*)])? pub $field: $Type, )*
            $(#[$formmeta])*
            #[serde(flatten)]
            pub $form: $Form,
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use $crate::scenario::schema::{FormSchema, ObjectSchema};
                let object = ObjectSchema::new(concat!($($doc),+));
                $( let object = flat!(@property object, generator, stringify!($field),
                    concat!($($fdoc),+), $Type $(, $default)?); )*
                <$Form>::choices(object, generator).build()
            }
        }

        impl $Name {
            /// Every key, forms included.
            const KEYS: &'static [&'static str] = &{
                const OWN: &[&str] = &[$(stringify!($field)),*];
                const FORMS: &[&str] = <$Form as $crate::scenario::shape::Form>::KEYS;
                $crate::scenario::shape::join_keys::<{ OWN.len() + FORMS.len() }>(OWN, FORMS)
            };
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct V;
                impl<'de> serde::de::Visitor<'de> for V {
                    type Value = $Name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "a mapping with the keys {}", $Name::KEYS.join(", "))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$Name, A::Error> {
                        $( let mut $field: Option<$Type> = None; )*
                        let mut form = None;
                        while let Some(key) = map.next_key::<$crate::scenario::value::Key>()? {
                            match key.as_str() {
                                $( stringify!($field) => $field = Some(map.next_value()?), )*
                                _ => $crate::scenario::shape::take_form::<$Form, A>(
                                    &key, &mut form, &mut map, $Name::KEYS,
                                )?,
                            }
                        }
                        Ok($Name {
                            $( $field: match $field {
                                Some(value) => value,
                                None => flat!(@default $field $(, $default)?),
                            }, )*
                            $form: form.ok_or_else(
                                $crate::scenario::shape::missing_form::<$Form, A::Error>,
                            )?,
                        })
                    }
                }
                deserializer.deserialize_map(V)
            }
        }
    };
    (@property $object:ident, $generator:ident, $key:expr, $doc:expr, $Type:ty) => {
        $object.required($key, $doc, &$generator.subschema_for::<$Type>())
    };
    (@property $object:ident, $generator:ident, $key:expr, $doc:expr, $Type:ty, $default:expr) => {
        $object.optional($key, $doc, &$generator.subschema_for::<$Type>())
    };
    (@default $field:ident) => {
        return Err(serde::de::Error::missing_field(stringify!($field)))
    };
    (@default $field:ident, $default:expr) => { $default };
}

/// Joins two lists of keys at compile time; `N` is the sum of their lengths.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated only at compile time, where it cannot pass unseen"
)]
pub(crate) const fn join_keys<const N: usize>(
    first: &[&'static str],
    second: &[&'static str],
) -> [&'static str; N] {
    let mut out = [""; N];
    let mut at = 0;
    while at < N {
        out[at] = if at < first.len() {
            first[at]
        } else {
            second[at - first.len()]
        };
        at += 1;
    }
    out
}

/// Defines the enum of steps: a mapping with one key, or for verbs without arguments a plain word.
macro_rules! steps {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $( $(#[doc = $doc:literal])+ $key:literal => $Variant:ident $(($Payload:ty))?, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $Name {
            $( $(#[doc = $doc])+ $Variant $(($Payload))?, )+
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut verbs = Vec::new();
                $( steps!(@schema verbs, generator, $key, concat!($($doc),+) $(, $Payload)?); )+
                schemars::json_schema!({
                    "description": "One step: a mapping with one verb, or a bare verb.",
                    "anyOf": verbs,
                })
            }
        }

        impl $Name {
            /// Every verb, in the order of the reference.
            pub const VERBS: &'static [&'static str] = &[$($key),+];

            /// The verb by which the step is written.
            #[must_use]
            pub fn verb(&self) -> &'static str {
                match self {
                    $( Self::$Variant { .. } => $key, )+
                }
            }
        }

        impl serde::Serialize for $Name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( steps!(@pattern $Variant payload $($Payload)?) =>
                        steps!(@write serializer, $key, payload $(, $Payload)?), )+
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct V;
                impl<'de> serde::de::Visitor<'de> for V {
                    type Value = $Name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a step: a mapping with one verb as its key, or a bare verb")
                    }

                    fn visit_str<E: serde::de::Error>(self, verb: &str) -> Result<$Name, E> {
                        match verb {
                            $( $key => steps!(@bare $Variant, $key, E $(, $Payload)?), )+
                            _ => Err($crate::scenario::code::Fault::unknown(
                                $crate::scenario::code::Code::UnknownWord,
                                "step",
                                verb,
                                $Name::VERBS,
                            )
                            .into_error()),
                        }
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$Name, A::Error> {
                        let Some(key) = map.next_key::<$crate::scenario::value::Key>()? else {
                            return Err($crate::scenario::code::Code::MissingField
                                .error("a step needs a verb, such as `write` or `commit`"));
                        };
                        let step = match key.as_str() {
                            $( $key => steps!(@read $Variant, map $(, $Payload)?), )+
                            _ => return Err(key.unknown_verb($Name::VERBS)),
                        };
                        match map.next_key::<$crate::scenario::value::Key>()? {
                            None => step.ok_or_else(|| key.needs_arguments()),
                            Some(extra) => Err(extra.after_verb(key.as_str(), $Name::VERBS)),
                        }
                    }
                }
                deserializer.deserialize_any(V)
            }
        }
    };
    (@schema $verbs:ident, $generator:ident, $key:literal, $doc:expr) => {
        $verbs.push(schemars::json_schema!({ "description": $doc.trim(), "const": $key }));
    };
    (@schema $verbs:ident, $generator:ident, $key:literal, $doc:expr, $Payload:ty) => {
        if <$Payload as $crate::scenario::shape::Bare>::bare().is_some() {
            steps!(@schema $verbs, $generator, $key, $doc);
        }
        $verbs.push(
            $crate::scenario::schema::ObjectSchema::new($doc)
                .required($key, $doc, &$generator.subschema_for::<$Payload>())
                .build(),
        );
    };
    (@pattern $Variant:ident $payload:ident) => { Self::$Variant };
    (@pattern $Variant:ident $payload:ident $Payload:ty) => { Self::$Variant($payload) };
    (@write $serializer:ident, $key:literal, $payload:ident) => {
        $serializer.serialize_str($key)
    };
    (@write $serializer:ident, $key:literal, $payload:ident, $Payload:ty) => {
        if <$Payload as $crate::scenario::shape::Bare>::is_bare($payload) {
            $serializer.serialize_str($key)
        } else {
            use serde::ser::SerializeMap;
            let mut map = $serializer.serialize_map(Some(1))?;
            map.serialize_entry($key, $payload)?;
            map.end()
        }
    };
    (@bare $Variant:ident, $key:literal, $E:ident) => { Ok(Self::Value::$Variant) };
    (@bare $Variant:ident, $key:literal, $E:ident, $Payload:ty) => {
        match <$Payload as $crate::scenario::shape::Bare>::bare() {
            Some(payload) => Ok(Self::Value::$Variant(payload)),
            None => Err($crate::scenario::code::Code::MissingField.error(concat!(
                "`", $key, "` needs arguments"
            ))),
        }
    };
    (@read $Variant:ident, $map:ident) => {{
        $map.next_value::<$crate::scenario::value::Nothing>()?;
        Some(Self::Value::$Variant)
    }};
    // Arguments that are left out may be keys that are indented too little, which is told when
    // the next key has been seen.
    (@read $Variant:ident, $map:ident, $Payload:ty) => {
        $map.next_value::<Option<$Payload>>()?
            .or_else(<$Payload as $crate::scenario::shape::Bare>::bare)
            .map(Self::Value::$Variant)
    };
}

/// The arguments of a verb, as far as they may be left out altogether.
pub(crate) trait Bare: Sized {
    /// The arguments that a bare verb stands for, or `None` if it needs some.
    fn bare() -> Option<Self> {
        None
    }

    /// Whether the step is written as a bare verb.
    fn is_bare(&self) -> bool {
        false
    }
}
