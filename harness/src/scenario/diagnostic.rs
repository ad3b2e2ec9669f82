//! What is said about a scenario that is refused.

use std::fmt;

use super::code::{Code, Fault};
use super::value::Span;

/// One reason why a scenario is refused, with its place and, where it looks like a typo, what was
/// probably meant.
///
/// Displayed the way compilers do it:
///
/// ```text
/// demo.yaml:4:19: error[MMSB-E030]: unknown page `statee`
///   |
/// 4 |   - write: {page: statee, hex: "00"}
///   |                   ^^^^^^
///   = help: did you mean `state`?
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// The label of the file, mostly its path.
    pub file: String,
    /// The line, starting at 1; 0 for the file as a whole.
    pub line: u32,
    /// The column in characters, starting at 1; 0 for the file as a whole.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What may stand there, or nothing.
    pub expected: Option<String>,
    /// What was probably meant, or nothing.
    pub suggestion: Option<String>,
    /// What the caret points into, boxed because errors are returned by value.
    picture: Option<Box<Picture>>,
}

/// A line of the file and what is underlined in it.
#[derive(Clone, Debug, PartialEq)]
struct Picture {
    source_line: String,
    width: usize,
}

/// How much of a long source line is shown on either side of the caret, in characters.
const CONTEXT: usize = 60;

/// From how many characters a list of expected names gives way to the one that was meant.
const LONG_LIST: usize = 120;

impl Diagnostic {
    /// Makes a diagnostic out of a fault, with the source line that it stands in.
    pub(crate) fn new(file: &str, text: &str, fault: Fault) -> Self {
        let Fault {
            code,
            span: Span { line, column },
            message,
            expected,
            suggestion,
        } = fault;
        let picture = usize::try_from(line)
            .ok()
            .and_then(|line| line.checked_sub(1))
            .and_then(|skip| text.lines().nth(skip))
            .map(|source_line| {
                let width = word_width(source_line, column);
                Box::new(Picture {
                    source_line: source_line.to_owned(),
                    width,
                })
            });
        Self {
            code,
            file: file.to_owned(),
            line,
            column,
            message,
            expected: Some(expected).filter(|text| !text.is_empty()),
            suggestion: Some(suggestion).filter(|text| !text.is_empty()),
            picture,
        }
    }

    /// The part of the source line around the caret, and where in it the caret starts.
    fn window(&self) -> Option<(String, usize, usize)> {
        let Picture {
            source_line: line,
            width,
        } = self.picture.as_deref()?;
        let at = usize::try_from(self.column).ok()?.checked_sub(1)?;
        let start = at.saturating_sub(CONTEXT);
        // A tab or control character would move the caret away from what it points at.
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let window: String = line
            .chars()
            .skip(start)
            .take(2 * CONTEXT)
            .map(visible)
            .collect();
        Some((window, at - start, *width))
    }
}

/// How many characters the word at a column has, at least 1.
fn word_width(line: &str, column: u32) -> usize {
    let skip = usize::try_from(column)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let mut rest = line.chars().skip(skip);
    match rest.next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = rest.by_ref().take_while(|c| *c != quote).count();
            inner.saturating_add(2)
        }
        Some(c) if is_word(c) => rest.take_while(|c| is_word(*c)).count().saturating_add(1),
        _ => 1,
    }
    .min(CONTEXT)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            file,
            line,
            column,
            message,
            ..
        } = self;
        if *line == 0 {
            write!(f, "{file}: error[{code}]: {message}")?;
        } else {
            write!(f, "{file}:{line}:{column}: error[{code}]: {message}")?;
        }
        let margin = line.to_string().len();
        if let Some((window, caret, width)) = self.window() {
            write!(f, "\n{:margin$} |\n{line} | {}", "", window.trim_end())?;
            write!(f, "\n{:margin$} | {:caret$}{:^<width$}", "", "", "^",)?;
        }
        // A long list of what there is only hides the name that was meant.
        let long = |text: &&String| self.suggestion.is_some() && text.len() > LONG_LIST;
        if let Some(expected) = self.expected.as_ref().filter(|text| !long(text)) {
            write!(f, "\n{:margin$} = expected: {expected}", "")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n{:margin$} = help: did you mean `{suggestion}`?", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
