//! Floats that JSON and YAML can both hold, whatever their value.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::code::Code;

macro_rules! float {
    ($Name:ident, $inner:ty, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Compared by bits, so that NaN equals itself and 0 differs from -0. Written as a number,
        /// or as one of the words `inf`, `-inf` and `nan`, which JSON has no numbers for.
        #[derive(Clone, Copy, Debug)]
        pub struct $Name(pub $inner);

        impl PartialEq for $Name {
            fn eq(&self, other: &Self) -> bool {
                self.0.to_bits() == other.0.to_bits()
            }
        }

        impl Eq for $Name {}

        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.0.is_finite() {
                    self.0.serialize(serializer)
                } else if self.0.is_nan() {
                    serializer.serialize_str("nan")
                } else if self.0 > 0.0 {
                    serializer.serialize_str("inf")
                } else {
                    serializer.serialize_str("-inf")
                }
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct V;
                impl Visitor<'_> for V {
                    type Value = $Name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a float, or one of `inf`, `-inf`, `nan`")
                    }

                    #[allow(clippy::cast_possible_truncation, reason = "rounds to the lane")]
                    #[allow(clippy::unnecessary_cast, reason = "needed for one of the two types")]
                    fn visit_f64<E: de::Error>(self, value: f64) -> Result<$Name, E> {
                        Ok($Name(value as $inner))
                    }

                    #[allow(clippy::cast_precision_loss, reason = "rounds to the lane")]
                    fn visit_u64<E: de::Error>(self, value: u64) -> Result<$Name, E> {
                        Ok($Name(value as $inner))
                    }

                    #[allow(clippy::cast_precision_loss, reason = "rounds to the lane")]
                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$Name, E> {
                        Ok($Name(value as $inner))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$Name, E> {
                        match text {
                            "inf" | ".inf" => Ok($Name(<$inner>::INFINITY)),
                            "-inf" | "-.inf" => Ok($Name(<$inner>::NEG_INFINITY)),
                            "nan" | ".nan" => Ok($Name(<$inner>::NAN)),
                            _ => Err(Code::BadNumber.error(format!(
                                "`{}` is no float; write a number, `inf`, `-inf` or `nan`",
                                text.escape_default()
                            ))),
                        }
                    }
                }
                deserializer.deserialize_any(V)
            }
        }

        impl JsonSchema for $Name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($Name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [
                    { "type": "number" },
                    { "enum": ["inf", "-inf", "nan", ".inf", "-.inf", ".nan"] },
                ] })
            }
        }
    };
}

float!(F32, f32, "A single precision float.");
float!(F64, f64, "A double precision float.");
