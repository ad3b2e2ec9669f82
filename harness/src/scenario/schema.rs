//! The JSON Schema of the language, from which editors complete and explain, and those parts of
//! it that cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map as Object, Value, json};

use super::ast::{Allocate, Annotate, NewPage, ReplayTo, Scenario};
use super::data::{Data, Region};
use super::expect::{Content, DeviceState, Epoch, Equal, Expect, Meta, Residency};
use super::num::Num;
use super::value::{Digest, Name, Names, StateDigest};

/// The schema of a scenario file (JSON Schema 2020-12), with stable order and content.
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Scenario>()
        .to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), json!("MMSB scenario"));
        let version =
            json!({ "const": super::ast::VERSION, "description": "The version of the language." });
        if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("version".to_owned(), version);
        }
    }
    // Whether a JSON object keeps its order depends on features of other crates in the build.
    schema.sort_all_objects();
    schema
}

/// The schema as the text of `scenarios/schema.json`.
#[must_use]
pub fn schema_text() -> String {
    let mut text = format!("{:#}", schema());
    text.push('\n');
    text
}

/// Lets a number stand in place of the mapping.
pub(crate) fn or_num(schema: &mut Schema) {
    short_form(schema, "#/$defs/Num");
}

/// Lets a name stand in place of the mapping.
pub(crate) fn or_name(schema: &mut Schema) {
    short_form(schema, "#/$defs/Name");
}

/// Lets a file reference stand in place of the mapping.
pub(crate) fn or_file(schema: &mut Schema) {
    short_form(schema, "#/$defs/FileRef");
}

fn short_form(schema: &mut Schema, reference: &str) {
    let mut long = std::mem::take(schema).to_value();
    let description = long
        .as_object_mut()
        .and_then(|object| object.remove("description"));
    *schema = json_schema!({ "anyOf": [{ "$ref": reference }, long] });
    if let Some(description) = description {
        schema.insert("description".to_owned(), description);
    }
}

/// The schema of a mapping with fixed keys.
pub(crate) struct ObjectSchema {
    description: String,
    properties: Object<String, Value>,
    required: Vec<&'static str>,
    /// Of these keys exactly one must be there.
    one_of: Vec<&'static str>,
}

impl ObjectSchema {
    pub(crate) fn new(description: &str) -> Self {
        Self {
            description: description.trim().to_owned(),
            properties: Object::new(),
            required: Vec::new(),
            one_of: Vec::new(),
        }
    }

    fn property(&mut self, key: &str, description: &str, schema: &Schema) {
        let mut value = schema.clone().to_value();
        if !description.is_empty()
            && let Some(object) = value.as_object_mut()
        {
            object.insert("description".to_owned(), json!(description.trim()));
        }
        self.properties.insert(key.to_owned(), value);
    }

    pub(crate) fn required(
        mut self,
        key: &'static str,
        description: &str,
        schema: &Schema,
    ) -> Self {
        self.property(key, description, schema);
        self.required.push(key);
        self
    }

    pub(crate) fn optional(
        mut self,
        key: &'static str,
        description: &str,
        schema: &Schema,
    ) -> Self {
        self.property(key, description, schema);
        self
    }

    pub(crate) fn choice(mut self, key: &'static str, description: &str, schema: &Schema) -> Self {
        self.property(key, description, schema);
        self.one_of.push(key);
        self
    }

    pub(crate) fn build(self) -> Schema {
        let mut schema = json_schema!({
            "type": "object",
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.description.is_empty() {
            schema.insert("description".to_owned(), json!(self.description));
        }
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), json!(self.required));
        }
        if !self.one_of.is_empty() {
            let one_of: Vec<Value> = self
                .one_of
                .iter()
                .map(|key| json!({ "required": [key] }))
                .collect();
            schema.insert("oneOf".to_owned(), json!(one_of));
        }
        schema
    }
}

/// A [`super::shape::Form`] as part of the schema of a mapping.
pub(crate) trait FormSchema {
    /// Adds each key as one of the choices.
    fn choices(object: ObjectSchema, generator: &mut SchemaGenerator) -> ObjectSchema;
}

macro_rules! named {
    ($Type:ty, $name:literal, |$generator:ident| $body:expr) => {
        impl JsonSchema for $Type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $body
            }
        }
    };
}

fn only_true() -> Schema {
    json_schema!({ "const": true })
}

fn text() -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

named!(ReplayTo, "ReplayTo", |generator| {
    let num = generator.subschema_for::<Num>();
    let name = generator.subschema_for::<Name>();
    let lsn = ObjectSchema::new("The LSN that an expression gives.").required("lsn", "", &num);
    json_schema!({
        "description": "How far: `end`, a mark, an LSN, or `{lsn: expression}`.",
        "anyOf": [{ "const": "end" }, { "type": "integer", "minimum": 0 }, name, lsn.build()],
    })
});

named!(Allocate, "Allocate", |generator| {
    let one = generator.subschema_for::<NewPage>();
    let list = json_schema!({ "type": "array", "items": one, "minItems": 1 });
    let many = ObjectSchema::new("Several pages.")
        .required("pages", "In order.", &list)
        .build();
    json_schema!({ "description": "One page, or several.", "anyOf": [one, many] })
});

named!(Annotate, "Annotate", |generator| {
    ObjectSchema::new("Sets or removes an annotation of a page.")
        .required("page", "The page.", &generator.subschema_for::<Name>())
        .required("key", "The key.", &text())
        .choice("value", "The value to set.", &text())
        .choice("remove", "Removes the key.", &only_true())
        .build()
});

named!(Meta, "Meta", |generator| {
    ObjectSchema::new("An annotation of a page.")
        .required("page", "The page.", &generator.subschema_for::<Name>())
        .required("key", "The key.", &text())
        .choice("is", "The value it must have.", &text())
        .choice("absent", "The key must not be there.", &only_true())
        .build()
});

impl FormSchema for Content {
    fn choices(object: ObjectSchema, generator: &mut SchemaGenerator) -> ObjectSchema {
        Digest::choices(Data::choices(object, generator), generator)
    }
}

named!(Expect, "Expect", |generator| {
    let name = generator.subschema_for::<Name>();
    let num = generator.subschema_for::<Num>();
    let page = ObjectSchema::new("The bytes or the digest of a page or of a range of it.")
        .required("page", "The page.", &name)
        .optional("snapshot", "A snapshot to look into, in place of the present.", &name)
        .optional("at", "Where the range starts; 0 if left out.", &num)
        .optional("len", "How long the range is; if left out, as long as the data, or for a digest up to the end of the page.", &num);
    let unchanged = ObjectSchema::new("The bytes are those of the time of a mark.")
        .optional("page", "The page; the whole state if left out.", &name)
        .required("unchanged_since", "The mark.", &name);
    let counter = ObjectSchema::new("A counter of the bus.")
        .required("counter", "Its name.", &name)
        .choice("is", "Exactly this.", &num)
        .choice("at_least", "This or more.", &num)
        .choice("at_most", "This or less.", &num);
    let mut checks = vec![
        Content::choices(page, generator).build(),
        unchanged.build(),
        counter.build(),
    ];
    let wholes: [(&str, &'static str, Schema); 12] = [
        (
            "The state digest.",
            "state",
            generator.subschema_for::<StateDigest>(),
        ),
        (
            "Pages that hold the same bytes.",
            "same",
            generator.subschema_for::<Names>(),
        ),
        (
            "Two ranges that hold the same bytes.",
            "equal",
            generator.subschema_for::<Equal>(),
        ),
        (
            "A page or a range of it that holds only zeros.",
            "zero",
            generator.subschema_for::<Region>(),
        ),
        (
            "How often a page changed.",
            "epoch",
            generator.subschema_for::<Epoch>(),
        ),
        (
            "Where the bytes of a page are now.",
            "residency",
            generator.subschema_for::<Residency>(),
        ),
        (
            "Pages that the device has as they are: those on it, and mirrors of unified ones. Pages in host memory are passed over.",
            "on_device",
            generator.subschema_for::<Names>(),
        ),
        (
            "An annotation of a page.",
            "meta",
            generator.subschema_for::<Meta>(),
        ),
        ("How many pages there are.", "pages", num.clone()),
        (
            "A page that is no longer there, or a derived page that could not be recomputed.",
            "stale",
            name,
        ),
        ("The LSN of the last commit.", "lsn", num),
        (
            "Whether what is on the device can be used, or the error since which it has to be restored.",
            "device",
            generator.subschema_for::<DeviceState>(),
        ),
    ];
    for (description, key, schema) in &wholes {
        checks.push(
            ObjectSchema::new(description)
                .required(key, description, schema)
                .build(),
        );
    }
    json_schema!({ "description": "One check.", "anyOf": checks })
});
