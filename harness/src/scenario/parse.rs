//! Reads scenarios and trace lines, and turns whatever is wrong with them into diagnostics.

use std::path::Path;

use serde_yaml::budget::BudgetBreach;
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::ast::{Scenario, Step, VERSION};
use super::code::{Code, Fault};
use super::diagnostic::Diagnostic;
use super::value::Span;

/// The longest scenario file in bytes. Long runs of steps belong in a trace, which is streamed.
pub const MAX_FILE_LEN_BYTES: usize = 1 << 20;
/// The longest line of a trace in bytes.
pub const MAX_TRACE_LINE_LEN_BYTES: usize = 16 << 20;
/// How deep YAML may nest.
const MAX_DEPTH: usize = 48;

/// Reads and checks a scenario.
///
/// # Errors
/// Every reason why it is refused: one if its shape is wrong, as nothing can be said about the
/// rest then; otherwise all that the semantic check finds, in the order of the file.
pub fn parse_str(label: &str, text: &str) -> Result<Scenario, Vec<Diagnostic>> {
    let scenario = parse_shape(text).map_err(|fault| vec![Diagnostic::new(label, text, fault)])?;
    let faults = super::check::check(&scenario);
    if faults.is_empty() {
        return Ok(scenario);
    }
    Err(faults
        .into_iter()
        .map(|fault| Diagnostic::new(label, text, fault))
        .collect())
}

/// Reads and checks a scenario file.
///
/// # Errors
/// As [`parse_str`], and files that cannot be read, are too long or not UTF-8.
pub fn parse_file(path: &Path) -> Result<Scenario, Vec<Diagnostic>> {
    let label = path.display().to_string();
    let whole = |fault| vec![Diagnostic::new(&label, "", fault)];
    // The length is asked for first, so that a huge file is refused without reading it.
    let metadata = std::fs::metadata(path).map_err(|error| {
        whole(Fault::new(
            Code::Unreadable,
            format!("cannot be read: {error}"),
        ))
    })?;
    if metadata.len() > MAX_FILE_LEN_BYTES as u64 {
        return Err(whole(too_long(metadata.len())));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        whole(Fault::new(
            Code::Unreadable,
            format!("cannot be read: {error}"),
        ))
    })?;
    parse_bytes(&label, &bytes)
}

/// Reads and checks a scenario that may not be UTF-8.
///
/// # Errors
/// As [`parse_str`], and text that is not UTF-8, with the place of the first wrong byte.
pub fn parse_bytes(label: &str, bytes: &[u8]) -> Result<Scenario, Vec<Diagnostic>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_str(label, text),
        Err(error) => {
            let (valid, _) = bytes
                .split_at_checked(error.valid_up_to())
                .unwrap_or_default();
            let valid = String::from_utf8_lossy(valid);
            let fault = Fault::new(Code::NotUtf8, "the file is not UTF-8")
                .at(end_of(&valid))
                .expected("text in UTF-8; write other bytes as hex");
            Err(vec![Diagnostic::new(label, &valid, fault)])
        }
    }
}

/// Reads one line of a trace: a step as JSON.
///
/// The line is checked for its shape only; what it refers to is known when it runs.
///
/// # Errors
/// The line is no step. The diagnostic has the line number given and the column in the line.
pub fn parse_trace_line(label: &str, line_no: u32, text: &str) -> Result<Step, Diagnostic> {
    let result = if text.len() > MAX_TRACE_LINE_LEN_BYTES {
        let message = format!("the line has more than {MAX_TRACE_LINE_LEN_BYTES} bytes");
        Err(Fault::new(Code::TooLarge, message).at(Span { line: 1, column: 1 }))
    } else {
        serde_json::from_str(text).map_err(|error| json_fault(&error))
    };
    result.map_err(|fault| {
        let mut diagnostic = Diagnostic::new(label, text, fault);
        diagnostic.line = line_no;
        diagnostic
    })
}

/// Reads the shape of a scenario, without the semantic check.
pub(crate) fn parse_shape(text: &str) -> Result<Scenario, Fault> {
    if text.len() > MAX_FILE_LEN_BYTES {
        return Err(too_long(text.len() as u64));
    }
    scan_lines(text)?;
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: MAX_DEPTH,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
            max_documents: 2,
        },
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        non_finite_float_policy: serde_yaml::options::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        // A newer version may have any shape, so its version is what is wrong with it.
        newer_version(text).unwrap_or_else(|| yaml_fault(&error, text))
    })
}

/// The fault of a file of another version, found without reading its shape.
fn newer_version(text: &str) -> Option<Fault> {
    let (line, number) = text
        .lines()
        .zip(1u32..)
        .find(|(line, _)| line.starts_with("version:"))?;
    let value = line.strip_prefix("version:")?.split('#').next()?;
    let column = "version:".len() + (value.len() - value.trim_start().len()) + 1;
    let version: u64 = value.trim().parse().ok()?;
    let span = Span {
        line: number,
        column: u32::try_from(column).ok()?,
    };
    (version != VERSION).then(|| super::check::unknown_version(&version.to_string()).at(span))
}

fn too_long(len_bytes: u64) -> Fault {
    Fault::new(Code::TooLarge, format!("the file has {len_bytes} bytes")).expected(format!(
        "at most {MAX_FILE_LEN_BYTES}; move steps into a trace, which is streamed"
    ))
}

/// Finds what is better said by looking at the lines than by asking the parser: an empty file, and
/// a tab in the indentation.
fn scan_lines(text: &str) -> Result<(), Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut content = false;
    for (line, number) in text.lines().zip(1u32..) {
        let indent = line.trim_start_matches(' ');
        if indent.starts_with('\t') && !indent.trim().is_empty() {
            let column = u32::try_from(line.len() - indent.len()).unwrap_or(u32::MAX);
            return Err(Fault::new(Code::Tab, "a tab in the indentation")
                .at(Span {
                    line: number,
                    column: column.saturating_add(1),
                })
                .expected("spaces; YAML does not allow tabs here"));
        }
        content |=
            !indent.trim().is_empty() && !indent.starts_with('#') && line.trim_end() != "---";
    }
    if content {
        return Ok(());
    }
    Err(Fault::new(Code::Empty, "the file is empty").expected("a scenario: version, pages, steps"))
}

/// The place after the last character of a text.
fn end_of(text: &str) -> Span {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    let last = text.rsplit('\n').next().unwrap_or_default();
    Span {
        line: count(text.matches('\n').count()),
        column: count(last.chars().count()),
    }
}

fn json_fault(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let column = u32::try_from(error.column()).unwrap_or(u32::MAX).max(1);
    let span = Span { line: 1, column };
    match Fault::decode(&text) {
        Some(fault) => fault.at(span),
        None => {
            // serde_json appends the position, which the diagnostic has already.
            let message = first_line(&text);
            let code = if error.is_data() {
                Code::WrongType
            } else {
                Code::Syntax
            };
            serde_fault(&message)
                .unwrap_or_else(|| Fault::new(code, message))
                .at(span)
        }
    }
}

/// Takes apart the messages that serde makes of unknown and missing names, as serde_json keeps
/// nothing but the text.
fn serde_fault(message: &str) -> Option<Fault> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let name = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    if message.starts_with("unknown field `") {
        Some(Fault::unknown(Code::UnknownKey, "key", name, &known))
    } else if message.starts_with("unknown variant `") {
        Some(Fault::unknown(Code::UnknownWord, "word", name, &known))
    } else if message.starts_with("missing field `") {
        Some(Fault::new(
            Code::MissingField,
            format!("`{name}` is missing"),
        ))
    } else if message.starts_with("duplicate field `") {
        Some(Fault::new(
            Code::DuplicateKey,
            format!("`{name}` stands twice in this mapping"),
        ))
    } else {
        None
    }
}

/// Turns an error of the YAML parser into a fault with our own code and words.
fn yaml_fault(error: &serde_yaml::Error, text: &str) -> Fault {
    use serde_yaml::Error as E;
    let error = error.without_snippet();
    let span = error
        .location()
        .map(Span::from_location)
        .unwrap_or_default();
    let fault = match error {
        E::Message { msg, .. } | E::SerdeVariantId { msg, .. } => match Fault::decode(msg) {
            Some(fault) if fault.span.is_known() => return fault,
            Some(fault) => fault,
            None => Fault::new(Code::WrongType, msg.clone()),
        },
        E::SerdeUnknownField {
            field, expected, ..
        } => Fault::unknown(Code::UnknownKey, "key", field, expected),
        E::SerdeUnknownVariant {
            variant, expected, ..
        } => Fault::unknown(Code::UnknownWord, "word", variant, expected),
        E::SerdeMissingField { field, .. } => {
            Fault::new(Code::MissingField, format!("`{field}` is missing"))
        }
        E::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | E::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => Fault::new(Code::WrongType, format!("{unexpected} does not fit here"))
            .expected(expected.clone()),
        E::Unexpected { expected, .. } => {
            let expected = match *expected {
                "mapping start" => "a mapping",
                "sequence start" => "a list",
                other => other,
            };
            Fault::new(Code::WrongType, "a value of another kind stands here").expected(expected)
        }
        E::InvalidScalar { ty, .. } => {
            Fault::new(Code::WrongType, "the value cannot be read").expected(*ty)
        }
        E::NullIntoString { .. } => {
            Fault::new(Code::WrongType, "a value is missing").expected("a text or a name")
        }
        E::InvalidBooleanStrict { .. } => {
            Fault::new(Code::BadBool, "no boolean").expected("true or false")
        }
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?").escape_default().to_string();
            Fault::new(
                Code::DuplicateKey,
                format!("`{key}` stands twice in this mapping"),
            )
        }
        E::MultipleDocuments { .. } => {
            Fault::new(Code::ManyDocuments, "a second YAML document starts here")
                .expected("one scenario a file")
        }
        E::Budget { breach, .. } => budget_fault(breach),
        E::UnknownAnchor { .. }
        | E::MergeKeyNotAllowed { .. }
        | E::RecursiveReferencesRequireWeakTypes { .. }
        | E::AliasError { .. } => anchor_fault(),
        E::Eof { .. } => {
            Fault::new(Code::Syntax, "the file ends in the middle of a value").at(end_of(text))
        }
        other if other.to_string().contains("tag") => anchor_fault(),
        // The parser's own limit on nested brackets comes before the budget's.
        other
            if other.to_string().contains("nesting") || other.to_string().contains("recursion") =>
        {
            depth_fault()
        }
        other => Fault::new(Code::Syntax, first_line(&other.to_string())),
    };
    if fault.span.is_known() {
        fault
    } else {
        fault.at(span)
    }
}

/// The first line of a message, less the position that the parser appends.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ")
        .map_or(line, |(message, _)| message)
        .to_owned()
}

fn anchor_fault() -> Fault {
    Fault::new(
        Code::Anchor,
        "anchors, aliases, merge keys and tags are not part of the language",
    )
    .expected("the value written out; use `let`, `repeat` or `matrix` to avoid repetition")
}

fn depth_fault() -> Fault {
    Fault::new(Code::TooLarge, "the YAML nests too deep")
        .expected(format!("at most {MAX_DEPTH} levels"))
}

fn budget_fault(breach: &BudgetBreach) -> Fault {
    match breach {
        BudgetBreach::Anchors { .. }
        | BudgetBreach::Aliases { .. }
        | BudgetBreach::MergeKeys { .. } => anchor_fault(),
        BudgetBreach::Depth { .. } => depth_fault(),
        _ => Fault::new(Code::TooLarge, "the YAML has too many parts"),
    }
}
