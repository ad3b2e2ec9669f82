//! Writes a scenario as the YAML that a person would write: short values on one line, steps one
//! below the other.

use std::fmt::Write as _;

use serde::Serialize;

use super::ast::{Scenario, Step};
use super::node::Node;

/// The widest line that is still written on one line, in characters.
const WIDTH: usize = 100;

/// The first line of every printed scenario, by which editors find the schema.
pub const SCHEMA_LINE: &str = "# yaml-language-server: $schema=../schema.json";

/// Writes a scenario. Parsing the text gives the same scenario.
#[must_use]
pub fn print(scenario: &Scenario) -> String {
    let mut out = String::from(SCHEMA_LINE);
    out.push('\n');
    block(&mut out, &node(scenario), 0);
    out
}

/// Writes a step as one line of a trace: JSON, without the line break.
#[must_use]
pub fn print_trace_line(step: &Step) -> String {
    serde_json::to_string(step).unwrap_or_default()
}

/// A value as a tree. Every type of the language serialises to JSON without an error: keys are
/// strings and floats that JSON lacks are words.
fn node(value: &impl Serialize) -> Node {
    serde_json::to_string(value)
        .and_then(|json| serde_json::from_str(&json))
        .unwrap_or(Node::Null)
}

/// Writes a mapping or list in block style, one entry a line. The first entry continues the line
/// that is being written; the others are indented.
fn block(out: &mut String, node: &Node, indent: usize) {
    match node {
        Node::Map(entries) => {
            for (at, (key, value)) in entries.iter().enumerate() {
                pad(out, if at > 0 { indent } else { 0 });
                let _ = write!(out, "{}:", string(key));
                let own_line = indent == 0 && key == "pages";
                match one_line(value, indent + key.len() + 2).filter(|_| !own_line) {
                    Some(text) => {
                        let _ = writeln!(out, " {text}");
                    }
                    None => {
                        out.push('\n');
                        pad(out, indent + 2);
                        block(out, value, indent + 2);
                    }
                }
            }
        }
        Node::Seq(items) => {
            for (at, item) in items.iter().enumerate() {
                pad(out, if at > 0 { indent } else { 0 });
                out.push_str("- ");
                // A step reads better without braces of its own: `- write: {page: a}`.
                let is_step = matches!(item, Node::Map(entries) if entries.len() == 1);
                match one_line(item, indent + 2).filter(|_| !is_step) {
                    Some(text) => {
                        let _ = writeln!(out, "{text}");
                    }
                    None => block(out, item, indent + 2),
                }
            }
        }
        scalar => {
            let _ = writeln!(out, "{}", flow(scalar));
        }
    }
}

/// The value on one line, if it fits behind `column` characters and is not better read as a block.
fn one_line(node: &Node, column: usize) -> Option<String> {
    if prefers_block(node) {
        return None;
    }
    let text = flow(node);
    (node.is_scalar() || text.chars().count().saturating_add(column) <= WIDTH).then_some(text)
}

/// Whether a value holds a list of mappings or lists, which reads better one below the other.
fn prefers_block(node: &Node) -> bool {
    match node {
        Node::Seq(items) => items.iter().any(|item| !item.is_scalar()),
        Node::Map(entries) => entries.iter().any(|(_, value)| prefers_block(value)),
        _ => false,
    }
}

/// Writes a value on one line.
fn flow(node: &Node) -> String {
    match node {
        Node::Null => "null".to_owned(),
        Node::Bool(value) => value.to_string(),
        Node::Unsigned(value) => value.to_string(),
        Node::Signed(value) => value.to_string(),
        Node::Float(value) => float(*value),
        Node::Str(text) => string(text),
        Node::Seq(items) => {
            format!(
                "[{}]",
                items.iter().map(flow).collect::<Vec<_>>().join(", ")
            )
        }
        Node::Map(entries) => {
            let entry = |(key, value): &(String, Node)| format!("{}: {}", string(key), flow(value));
            format!(
                "{{{}}}",
                entries.iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

/// The shortest text that is read as the same float, and as a float.
fn float(value: f64) -> String {
    format!("{value:?}")
}

/// A string without quotes where YAML reads it as this string and nothing else, or in double
/// quotes.
fn string(text: &str) -> String {
    const RESERVED: &[&str] = &[
        "true", "false", "null", "yes", "no", "on", "off", "inf", "nan",
    ];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let fine = text.chars().all(plain)
        && (text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || is_size(text))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if fine { text.to_owned() } else { quoted(text) }
}

fn is_size(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && matches!(unit, "B" | "KiB" | "MiB" | "GiB")
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // What YAML does not print as it is: controls, line separators, the byte order mark,
            // and what is no character.
            c if c.is_control()
                || matches!(
                    c,
                    '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
                ) =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}
