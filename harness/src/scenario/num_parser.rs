//! Parses numbers, sizes and expressions.
//!
//! A recursive descent parser with a depth limit; the grammar is
//! `sum = product {("+" | "-") product}`, `product = atom {("*" | "/" | "%") atom}`,
//! `atom = number [unit] | variable | ("min" | "max") "(" sum "," sum ")" | "(" sum ")"`.

use super::code::Code;
use super::num::{Expr, Op, Unit};

/// How deep parentheses may nest, and how long a chain of operators may be.
const MAX_DEPTH: usize = 32;
/// How many operators one expression may have: each one deepens the tree that is evaluated.
const MAX_OPERATORS: usize = 128;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParseError {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// What was probably meant, or nothing.
    pub(crate) suggestion: String,
}

impl ParseError {
    fn number(message: impl Into<String>) -> Self {
        Self {
            code: Code::BadNumber,
            message: message.into(),
            suggestion: String::new(),
        }
    }
}

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser {
        rest: text,
        depth: 0,
        operators: 0,
    };
    let expr = parser.sum()?;
    parser.skip_spaces();
    match parser.rest.chars().next() {
        None => Ok(expr),
        Some(c) => Err(ParseError::number(format!(
            "unexpected `{}` in the expression `{}`",
            c.escape_default(),
            text.escape_default()
        ))),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    operators: usize,
}

impl<'a> Parser<'a> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// Consumes `token` if it comes next, after spaces.
    fn eat(&mut self, token: char) -> bool {
        self.skip_spaces();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Consumes the longest prefix of characters that satisfy `accept`.
    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn sum(&mut self) -> Result<Expr, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::number(format!(
                "the expression nests more than {MAX_DEPTH} deep"
            )));
        }
        let mut left = self.product()?;
        loop {
            let op = if self.eat('+') {
                Op::Add
            } else if self.eat('-') {
                Op::Sub
            } else {
                self.depth -= 1;
                return Ok(left);
            };
            left = self.binary(op, left, Self::product)?;
        }
    }

    fn product(&mut self) -> Result<Expr, ParseError> {
        let mut left = self.atom()?;
        loop {
            let op = if self.eat('*') {
                Op::Mul
            } else if self.eat('/') {
                Op::Div
            } else if self.eat('%') {
                Op::Rem
            } else {
                return Ok(left);
            };
            left = self.binary(op, left, Self::atom)?;
        }
    }

    fn binary(
        &mut self,
        op: Op,
        left: Expr,
        right: fn(&mut Self) -> Result<Expr, ParseError>,
    ) -> Result<Expr, ParseError> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(ParseError::number(format!(
                "the expression has more than {MAX_OPERATORS} operators"
            )));
        }
        Ok(Expr::Binary(op, Box::new(left), Box::new(right(self)?)))
    }

    fn atom(&mut self) -> Result<Expr, ParseError> {
        if self.eat('(') {
            let inner = self.sum()?;
            return if self.eat(')') {
                Ok(inner)
            } else {
                Err(ParseError::number("a `(` is never closed"))
            };
        }
        match self.rest.chars().next() {
            Some('0'..='9') => self.number(),
            Some('a'..='z' | 'A'..='Z' | '_') => self.word(),
            Some(c) => Err(ParseError::number(format!(
                "expected a number or a variable before `{}`",
                c.escape_default()
            ))),
            None => Err(ParseError::number(
                "expected a number or a variable at the end",
            )),
        }
    }

    fn number(&mut self) -> Result<Expr, ParseError> {
        let digits = self.take_while(|c| c.is_ascii_digit());
        let count: u64 = digits
            .parse()
            .map_err(|_| ParseError::number(format!("{digits} is more than 2^64 - 1")))?;
        if self.rest.starts_with('.') {
            return Err(ParseError::number("only whole numbers are allowed"));
        }
        let before_spaces = self.rest;
        self.skip_spaces();
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.is_empty() {
            self.rest = before_spaces;
            return Ok(Expr::Int(count));
        }
        match Unit::ALL.into_iter().find(|unit| unit.to_string() == word) {
            Some(unit) => Ok(Expr::Size(count, unit)),
            None => Err(bad_unit(digits, word)),
        }
    }

    fn word(&mut self) -> Result<Expr, ParseError> {
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let op = match word {
            "min" => Op::Min,
            "max" => Op::Max,
            _ => return Ok(Expr::Var(word.to_owned())),
        };
        if !self.eat('(') {
            return Err(ParseError::number(format!(
                "`{word}` needs two operands: `{word}(a, b)`"
            )));
        }
        let left = self.sum()?;
        if !self.eat(',') {
            return Err(ParseError::number(format!(
                "`{word}` needs two operands: `{word}(a, b)`"
            )));
        }
        let call = self.binary(op, left, Self::sum)?;
        if self.eat(')') {
            Ok(call)
        } else {
            Err(ParseError::number(format!("`{word}(` is never closed")))
        }
    }
}

/// The error of an unknown unit, with the unit that was probably meant.
fn bad_unit(digits: &str, word: &str) -> ParseError {
    let unit = match word.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" | "ki" | "kbyte" => Some(Unit::KiB),
        "m" | "mb" | "mib" | "mi" | "mbyte" => Some(Unit::MiB),
        "g" | "gb" | "gib" | "gi" | "gbyte" => Some(Unit::GiB),
        "b" | "byte" | "bytes" => Some(Unit::B),
        _ => None,
    };
    ParseError {
        code: Code::BadUnit,
        message: format!("unknown unit `{word}`; sizes are written with B, KiB, MiB or GiB"),
        suggestion: unit
            .map(|unit| format!("{digits}{unit}"))
            .unwrap_or_default(),
    }
}
