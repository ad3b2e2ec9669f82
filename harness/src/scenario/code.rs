//! The stable codes of diagnostics.

use std::fmt;

use super::nearest::nearest;
use super::value::Span;

/// Separates a code from its message inside a serde error, which has no other room for a code.
const MARK: char = '\u{1}';

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $Variant:ident = $code:literal, )+) => {
        /// The kind of a diagnostic. Codes are stable: one is never reused for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $( $(#[doc = $doc])+ $Variant, )+
        }

        impl Code {
            /// Every code with its meaning, in ascending order.
            pub const ALL: &'static [(Code, &'static str)] = &[
                $( (Self::$Variant, concat!($($doc),+)), )+
            ];

            /// The code as it is printed, such as `MMSB-E020`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$Variant => concat!("MMSB-", $code), )+
                }
            }
        }
    };
}

codes! {
    /// The text is not well-formed YAML.
    Syntax = "E001",
    /// The file is not UTF-8.
    NotUtf8 = "E002",
    /// The file is empty.
    Empty = "E003",
    /// The file holds more than one YAML document.
    ManyDocuments = "E004",
    /// The file is longer than 1 MiB, or nests too deep.
    TooLarge = "E005",
    /// A tab stands where YAML wants spaces.
    Tab = "E006",
    /// Anchors, aliases, merge keys and tags are not part of the language.
    Anchor = "E007",
    /// The file cannot be read.
    Unreadable = "E008",
    /// A key stands twice in one mapping.
    DuplicateKey = "E010",
    /// A key that the mapping does not have.
    UnknownKey = "E011",
    /// A key is missing.
    MissingField = "E012",
    /// The verb of a step, or a word out of a closed list, does not exist.
    UnknownWord = "E013",
    /// The value has the wrong type.
    WrongType = "E014",
    /// Two keys that exclude each other.
    Conflict = "E015",
    /// A step with more than one verb.
    ManyVerbs = "E016",
    /// A boolean other than `true` and `false`.
    BadBool = "E017",
    /// The version of the language is not known.
    UnknownVersion = "E020",
    /// A number, size or expression cannot be read.
    BadNumber = "E021",
    /// A unit other than B, KiB, MiB, GiB.
    BadUnit = "E022",
    /// A name is not well formed.
    BadName = "E023",
    /// Bytes in hexadecimal or base64 cannot be read.
    BadBytes = "E024",
    /// A digest cannot be read.
    BadDigest = "E025",
    /// A file reference cannot be read.
    BadFile = "E026",
    /// A page that is not there.
    UnknownPage = "E030",
    /// A page is used before it is allocated.
    PageTooEarly = "E031",
    /// A page is used after it was freed.
    PageFreed = "E032",
    /// A variable that is not set.
    UnknownVariable = "E033",
    /// A mark that is not set, or is set only later.
    UnknownMark = "E034",
    /// A subscription or snapshot that is not there.
    UnknownHandle = "E035",
    /// A name is given twice.
    DuplicateName = "E036",
    /// A range reaches beyond its page.
    OutOfRange = "E037",
    /// A value outside its limits.
    BadValue = "E038",
    /// An expression that cannot be evaluated.
    BadExpression = "E039",
    /// A derived page is written to, or a plain page is treated as derived.
    DerivedPage = "E040",
    /// The scenario executes no check.
    NoCheck = "E050",
    /// Writes are staged but never committed.
    Uncommitted = "E051",
    /// A list of steps that must not be empty is.
    NoSteps = "E052",
    /// A step that cannot stand here, such as a write to a closed bus.
    Misplaced = "E053",
    /// An axis that the matrix does not have.
    UnknownAxis = "E060",
    /// An axis value of the wrong type, or an axis without values.
    BadAxis = "E061",
    /// The matrix leaves no cell, or has too many.
    CellCount = "E062",
    /// An entry of `exclude` matches no cell, or an entry of `include` is there already.
    UselessCell = "E063",
}

impl Code {
    /// Makes a serde error that carries this code and a message.
    pub(crate) fn error<E: serde::de::Error>(self, message: impl Into<String>) -> E {
        Fault::new(self, message).into_error()
    }

    fn from_str(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .map(|(code, _)| *code)
            .find(|code| code.as_str() == text)
    }
}

/// What a serde error carries on its way through the parser: serde has room for a message only,
/// so the parts travel in it, kept apart by a control character that YAML forbids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) expected: String,
    pub(crate) suggestion: String,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            span: Span::default(),
            message: message.into(),
            expected: String::new(),
            suggestion: String::new(),
        }
    }

    /// Places the fault, where the parser's own position would be another.
    pub(crate) fn at(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = suggestion.into();
        self
    }

    /// A name that is none of a list, with the one that was probably meant.
    pub(crate) fn unknown(code: Code, kind: &str, name: &str, known: &[&str]) -> Self {
        let fault = Self::new(code, format!("unknown {kind} `{}`", name.escape_default()))
            .expected(format!("one of {}", known.join(", ")));
        match nearest(name, known.iter().copied()) {
            Some(near) => fault.suggest(near),
            None => fault,
        }
    }

    pub(crate) fn into_error<E: serde::de::Error>(self) -> E {
        let Self {
            code,
            span,
            message,
            expected,
            suggestion,
        } = self;
        let Span { line, column } = span;
        E::custom(format_args!(
            "{MARK}{code}{MARK}{line}{MARK}{column}{MARK}{message}{MARK}{expected}{MARK}{suggestion}{MARK}"
        ))
    }

    /// Takes apart a message made by [`Fault::into_error`].
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(MARK).skip(1);
        let code = Code::from_str(parts.next()?)?;
        let line = parts.next()?.parse().ok()?;
        let column = parts.next()?.parse().ok()?;
        Some(Self {
            code,
            span: Span { line, column },
            message: parts.next()?.to_owned(),
            expected: parts.next()?.to_owned(),
            suggestion: parts.next()?.to_owned(),
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
