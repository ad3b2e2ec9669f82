//! Reads a value together with its position, from any format.
//!
//! The YAML parser gives positions to its own `Spanned` type only, and that type is at home in
//! deserializers that know newtypes. Those that serde itself makes of single values do not, so an
//! adapter stands between: what such a deserializer hands over directly goes the same way, without
//! a position.

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::value::{Located, Span};

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_yaml::Spanned::<T>::deserialize(Adapter(deserializer))?;
        Ok(Self {
            value: spanned.value,
            span: Span::from_location(spanned.referenced),
        })
    }
}

/// Passes a deserializer on, with a visitor that takes values outside of a newtype as well.
struct Adapter<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Adapter<D> {
    type Error = D::Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0
            .deserialize_newtype_struct(name, NewtypeOrValue(visitor))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct NewtypeOrValue<V>(V);

macro_rules! values {
    ($($method:ident($Value:ty);)+) => {
        $(fn $method<E: de::Error>(self, value: $Value) -> Result<V::Value, E> {
            self.0.visit_newtype_struct(value.into_deserializer())
        })+
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NewtypeOrValue<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(inner)
    }

    values! {
        visit_bool(bool);
        visit_u64(u64);
        visit_i64(i64);
        visit_f64(f64);
        visit_str(&str);
        visit_string(String);
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_newtype_struct(().into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_newtype_struct(MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.0.visit_newtype_struct(SeqAccessDeserializer::new(seq))
    }
}
