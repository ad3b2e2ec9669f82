//! Generates the reference of `docs/SCENARIOS.md` from the schema, so that the document cannot
//! say anything else than the editor.

use std::fmt::Write as _;

use serde_json::Value;

use super::code::Code;
use super::schema::schema;

/// The line above the generated part of the document.
pub const BEGIN: &str = "<!-- generated: do not edit below -->";
/// The line below it.
pub const END: &str = "<!-- end of the generated part -->";

/// The reference: every key of every mapping, every step, check, way to write bytes, word and
/// diagnostic code.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut out = String::new();
    let _ = writeln!(out, "## Reference\n\n### A scenario\n");
    keys(&mut out, &schema);
    for (title, name) in [
        ("Options", "Options"),
        ("Matrix", "Matrix"),
        ("A page", "NewPage"),
    ] {
        let _ = writeln!(out, "### {title}\n");
        keys(&mut out, &definition(&schema, name));
    }
    let _ = writeln!(out, "### Transforms (`derive`, `connect`)\n");
    keys(&mut out, &definition(&schema, "Derive"));
    for name in ["Slice", "Elementwise", "Custom"] {
        let _ = writeln!(out, "`{}`:\n", name.to_lowercase());
        keys(&mut out, &definition(&schema, name));
    }
    let _ = writeln!(out, "### Bytes\n");
    keys(&mut out, &definition(&schema, "Data"));
    let _ = writeln!(out, "### Steps\n");
    steps(&mut out, &schema);
    let _ = writeln!(out, "### One moment of a crash (`crash`)\n");
    keys(&mut out, &definition(&schema, "CrashWindow"));
    let _ = writeln!(out, "`tear`:\n");
    keys(&mut out, &definition(&schema, "Tear"));
    let _ = writeln!(out, "### Faults of storage and device (`fault`)\n");
    keys(&mut out, &definition(&schema, "Inject"));
    let _ = writeln!(out, "### Checks (`expect`)\n");
    checks(&mut out, &schema);
    let _ = writeln!(out, "### Words\n");
    for (title, name) in [
        ("requires", "Capability"),
        ("storage", "StorageKind"),
        ("via", "Via"),
        ("durability", "Durability"),
        ("propagation", "Propagation"),
        ("retain", "Retain"),
        ("compress", "Compress"),
        ("location", "Location"),
        ("device", "DeviceKind"),
        ("semiring", "Semiring"),
        ("lane", "Lane"),
        ("kind, of `fault`", "FaultKind"),
        ("error, of `fails`", "ErrorKind"),
    ] {
        let _ = writeln!(out, "`{title}`:\n");
        words(&mut out, &definition(&schema, name));
    }
    let _ = writeln!(out, "### Diagnostics\n\n| code | meaning |\n| --- | --- |");
    for (code, meaning) in Code::ALL {
        let _ = writeln!(out, "| {code} | {} |", meaning.trim());
    }
    out
}

/// Puts the reference into a document, between its markers.
///
/// Returns `None` if the document lacks the markers.
#[must_use]
pub fn update(document: &str) -> Option<String> {
    let (head, rest) = document.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n\n{}\n{END}{tail}", reference()))
}

fn definition(schema: &Value, name: &str) -> Value {
    schema
        .get("$defs")
        .and_then(|defs| defs.get(name))
        .cloned()
        .unwrap_or_default()
}

fn description(schema: &Value) -> String {
    let text = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // A line break ends a table row, and a bar ends a cell.
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// The long form of a mapping with a short form, else the schema itself.
fn long_form(schema: &Value) -> &Value {
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    alternatives
        .into_iter()
        .flatten()
        .find(|alternative| alternative.get("properties").is_some())
        .unwrap_or(schema)
}

/// A table of the keys of a mapping, required ones first.
fn keys(out: &mut String, schema: &Value) {
    let schema = long_form(schema);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let _ = writeln!(out, "| key | |\n| --- | --- |");
    for needed in [true, false] {
        for (key, value) in properties {
            if required.contains(&key.as_str()) == needed {
                let mark = if needed { " (required)" } else { "" };
                let _ = writeln!(out, "| `{key}`{mark} | {} |", description(value));
            }
        }
    }
    out.push('\n');
}

fn steps(out: &mut String, schema: &Value) {
    let _ = writeln!(out, "| step | | keys |\n| --- | --- | --- |");
    let step = definition(schema, "Step");
    let mut bare: Vec<&str> = Vec::new();
    for verb in step
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(name) = verb.get("const").and_then(Value::as_str) {
            bare.push(name);
        }
    }
    let mut written: Vec<&str> = Vec::new();
    for verb in step
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let properties = verb.get("properties").and_then(Value::as_object);
        let Some((name, arguments)) = properties.and_then(|properties| properties.iter().next())
        else {
            continue;
        };
        written.push(name);
        let also = if bare.contains(&name.as_str()) {
            ", also bare"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "| `{name}`{also} | {} | {} |",
            description(verb),
            argument_keys(schema, arguments)
        );
    }
    for verb in step
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(name) = verb.get("const").and_then(Value::as_str)
            && !written.contains(&name)
        {
            let _ = writeln!(out, "| `{name}` | {} | none |", description(verb));
        }
    }
    out.push('\n');
}

/// The keys of a step's arguments in one cell; those that give bytes are left to their section.
fn argument_keys(schema: &Value, arguments: &Value) -> String {
    let reference = arguments
        .get("$ref")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(name) = reference.strip_prefix("#/$defs/") else {
        return String::new();
    };
    let arguments = definition(schema, name);
    let choices = |name: &str| -> Vec<String> {
        definition(schema, name)
            .get("properties")
            .and_then(Value::as_object)
            .map(|properties| properties.keys().cloned().collect())
            .unwrap_or_default()
    };
    let (data, derive) = (choices("Data"), choices("Derive"));
    let Some(properties) = long_form(&arguments)
        .get("properties")
        .and_then(Value::as_object)
    else {
        return String::new();
    };
    let mut keys: Vec<String> = Vec::new();
    for key in properties.keys() {
        let all = |names: &[String]| names.iter().all(|name| properties.contains_key(name));
        let text = if data.contains(key) && all(&data) {
            "bytes".to_owned()
        } else if derive.contains(key) && all(&derive) {
            "a transform".to_owned()
        } else {
            format!("`{key}`")
        };
        if !keys.contains(&text) {
            keys.push(text);
        }
    }
    keys.join(", ")
}

fn checks(out: &mut String, schema: &Value) {
    let _ = writeln!(out, "| check | keys |\n| --- | --- |");
    let data = definition(schema, "Data");
    let data = data
        .get("properties")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let expect = definition(schema, "Expect");
    for check in expect
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some(properties) = check.get("properties").and_then(Value::as_object) else {
            continue;
        };
        let many = properties.len() > data.len();
        let mut keys: Vec<String> = properties
            .keys()
            .filter(|key| !(many && data.contains_key(*key)))
            .map(|key| format!("`{key}`"))
            .collect();
        if many {
            keys.push("or bytes".to_owned());
        }
        let _ = writeln!(out, "| {} | {} |", description(check), keys.join(", "));
    }
    out.push('\n');
}

fn words(out: &mut String, schema: &Value) {
    let _ = writeln!(out, "| word | |\n| --- | --- |");
    for word in schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(text) = word.get("const").and_then(Value::as_str) {
            let _ = writeln!(out, "| `{text}` | {} |", description(word));
        }
    }
    out.push('\n');
}
