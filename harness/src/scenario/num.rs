//! Numbers, sizes and arithmetic expressions over variables.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

use super::code::{Code, Fault};
use super::value::{Located, Span};

/// The values of the variables that an expression may use.
///
/// Scopes are small (a scenario has a handful of variables) and ordered, so that error messages
/// list names in the same order every time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    values: BTreeMap<String, u64>,
}

impl Scope {
    /// A scope without variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a variable, replacing an earlier value, which is returned.
    pub fn set(&mut self, name: &str, value: u64) -> Option<u64> {
        if let Some(slot) = self.values.get_mut(name) {
            return Some(std::mem::replace(slot, value));
        }
        self.values.insert(name.to_owned(), value)
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) -> Option<u64> {
        self.values.remove(name)
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values.get(name).copied()
    }

    /// The names of all variables in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A variable is not set.
    #[error("unknown variable `{name}`{}", suggest(.nearest))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable in scope with the most similar name.
        nearest: Option<String>,
    },
    /// The value lies outside 0 to 2^64 - 1.
    #[error("`{left} {op} {right}` is outside 0 to 2^64 - 1")]
    Overflow {
        /// The left operand.
        left: u64,
        /// The operator.
        op: Op,
        /// The right operand.
        right: u64,
    },
    /// A division by zero.
    #[error("`{left} {op} 0` divides by zero")]
    DivisionByZero {
        /// The left operand.
        left: u64,
        /// The operator, `/` or `%`.
        op: Op,
    },
    /// The size is larger than 2^64 - 1 bytes.
    #[error("{count}{unit} is more than 2^64 - 1 bytes")]
    SizeOverflow {
        /// How many units.
        count: u64,
        /// The unit.
        unit: Unit,
    },
    /// The expression inside a name cannot be read.
    #[error("{message}")]
    Malformed {
        /// What is wrong with it.
        message: String,
    },
}

fn suggest(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!(", did you mean `{name}`?"))
        .unwrap_or_default()
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Addition.
    Add,
    /// Subtraction; a negative result is an error.
    Sub,
    /// Multiplication.
    Mul,
    /// Division, rounded down.
    Div,
    /// Remainder.
    Rem,
    /// The smaller of two, written `min(a, b)`.
    Min,
    /// The larger of two, written `max(a, b)`.
    Max,
}

impl Op {
    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Rem => "%",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// How strongly the operator binds; `min` and `max` are calls and bind strongest.
    fn precedence(self) -> u8 {
        match self {
            Self::Add | Self::Sub => 1,
            Self::Mul | Self::Div | Self::Rem => 2,
            Self::Min | Self::Max => 3,
        }
    }

    fn apply(self, left: u64, right: u64) -> Result<u64, EvalError> {
        let value = match self {
            Self::Add => left.checked_add(right),
            Self::Sub => left.checked_sub(right),
            Self::Mul => left.checked_mul(right),
            Self::Div | Self::Rem if right == 0 => {
                return Err(EvalError::DivisionByZero { left, op: self });
            }
            Self::Div => left.checked_div(right),
            Self::Rem => left.checked_rem(right),
            Self::Min => Some(left.min(right)),
            Self::Max => Some(left.max(right)),
        };
        value.ok_or(EvalError::Overflow {
            left,
            op: self,
            right,
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// A unit of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// One byte.
    B,
    /// 1024 bytes.
    KiB,
    /// 1024 KiB.
    MiB,
    /// 1024 MiB.
    GiB,
}

impl Unit {
    /// Every unit, smallest first.
    pub const ALL: [Self; 4] = [Self::B, Self::KiB, Self::MiB, Self::GiB];

    /// How many bytes one unit is.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::B => 1,
            Self::KiB => 1 << 10,
            Self::MiB => 1 << 20,
            Self::GiB => 1 << 30,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::B => "B",
            Self::KiB => "KiB",
            Self::MiB => "MiB",
            Self::GiB => "GiB",
        })
    }
}

/// An arithmetic expression. Displaying it and parsing the text gives the same expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A plain number.
    Int(u64),
    /// A size, such as `4KiB`.
    Size(u64, Unit),
    /// A variable.
    Var(String),
    /// Two operands under an operator.
    Binary(Op, Box<Expr>, Box<Expr>),
}

impl Expr {
    /// Computes the value.
    ///
    /// # Errors
    /// An unknown variable, a division by zero, or a value outside `u64`.
    pub fn eval(&self, scope: &Scope) -> Result<u64, EvalError> {
        match self {
            Self::Int(value) => Ok(*value),
            Self::Size(count, unit) => {
                count
                    .checked_mul(unit.bytes())
                    .ok_or(EvalError::SizeOverflow {
                        count: *count,
                        unit: *unit,
                    })
            }
            Self::Var(name) => scope.get(name).ok_or_else(|| EvalError::UnknownVariable {
                name: name.clone(),
                nearest: super::nearest::nearest(name, scope.names()).map(str::to_owned),
            }),
            Self::Binary(op, left, right) => op.apply(left.eval(scope)?, right.eval(scope)?),
        }
    }

    /// Calls `visit` with every variable in the expression, from left to right.
    pub fn variables<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Var(name) => visit(name),
            Self::Binary(_, left, right) => {
                left.variables(visit);
                right.variables(visit);
            }
            Self::Int(_) | Self::Size(..) => {}
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Writes an operand, in parentheses where it would otherwise be read differently.
        fn operand(f: &mut fmt::Formatter<'_>, expr: &Expr, outer: u8) -> fmt::Result {
            match expr {
                Expr::Binary(op, ..) if op.precedence() < outer => write!(f, "({expr})"),
                _ => write!(f, "{expr}"),
            }
        }
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Size(count, unit) => write!(f, "{count}{unit}"),
            Self::Var(name) => f.write_str(name),
            Self::Binary(op @ (Op::Min | Op::Max), left, right) => {
                write!(f, "{op}({left}, {right})")
            }
            Self::Binary(op, left, right) => {
                operand(f, left, op.precedence())?;
                write!(f, " {op} ")?;
                // Operators associate to the left, so a right operand of the same strength needs
                // its parentheses.
                operand(f, right, op.precedence() + 1)
            }
        }
    }
}

/// A number: an integer, a size such as `64KiB`, or an expression over variables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Num {
    expr: Expr,
    span: Span,
}

impl Num {
    /// The number 0.
    pub const ZERO: Self = Self {
        expr: Expr::Int(0),
        span: Span { line: 0, column: 0 },
    };

    /// Makes a number from an expression that was not read from a file.
    #[must_use]
    pub fn new(expr: Expr) -> Self {
        Self {
            expr,
            span: Span::default(),
        }
    }

    /// The expression.
    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Where the number was read.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether it is written as the plain number 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.expr == Expr::Int(0)
    }

    /// The value, if it uses no variables and can be computed.
    #[must_use]
    pub fn constant(&self) -> Option<u64> {
        self.expr.eval(&Scope::new()).ok()
    }

    /// Computes the value with checked arithmetic.
    ///
    /// # Errors
    /// An unknown variable, a division by zero, or a value outside `u64`.
    pub fn eval(&self, scope: &Scope) -> Result<u64, EvalError> {
        self.expr.eval(scope)
    }

    /// Reads a number out of a text that the parser has read already.
    pub(crate) fn from_text(text: &str) -> Result<Self, Fault> {
        parse_fault(text).map(Self::new)
    }

    /// Sets where the number was read.
    pub(crate) fn place(&mut self, span: Span) {
        self.span = span;
    }
}

impl Default for Num {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<u64> for Num {
    fn from(value: u64) -> Self {
        Self::new(Expr::Int(value))
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.expr {
            Expr::Int(value) => serializer.serialize_u64(*value),
            expr => serializer.collect_str(expr),
        }
    }
}

/// A number without its position, as the parser hands it over.
struct BareNum(Expr);

impl<'de> Deserialize<'de> for BareNum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumVisitor)
    }
}

struct NumVisitor;

impl Visitor<'_> for NumVisitor {
    type Value = BareNum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a size such as 4KiB, or an expression")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<BareNum, E> {
        Ok(BareNum(Expr::Int(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<BareNum, E> {
        u64::try_from(value)
            .map(|value| BareNum(Expr::Int(value)))
            .map_err(|_| Code::BadNumber.error(format!("{value} is negative")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<BareNum, E> {
        Err(Code::BadNumber.error(format!("{value} is not a whole number")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BareNum, E> {
        parse_fault(text).map(BareNum).map_err(Fault::into_error)
    }
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Located {
            value: BareNum(expr),
            span,
        } = Located::deserialize(deserializer)?;
        Ok(Self { expr, span })
    }
}

impl JsonSchema for Num {
    fn schema_name() -> Cow<'static, str> {
        "Num".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole number, a size in B, KiB, MiB or GiB, or an expression over \
                variables with + - * / % ( ) min(a, b) max(a, b): 100, 64KiB, \"i * 64 + 8\".",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[A-Za-z0-9_+*/%(), -]+$" },
            ],
        })
    }
}

fn parse_fault(text: &str) -> Result<Expr, Fault> {
    super::num_parser::parse(text)
        .map_err(|error| Fault::new(error.code, error.message).suggest(error.suggestion))
}

/// Parses the expression inside the braces of a name.
pub(crate) fn parse_embedded(source: &str) -> Result<Expr, EvalError> {
    super::num_parser::parse(source).map_err(|error| EvalError::Malformed {
        message: error.message,
    })
}
