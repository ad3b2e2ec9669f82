//! The scenario language: what a scenario is, how it is read, checked, printed and expanded.
//!
//! [`parse_str`] and [`parse_file`] read YAML and refuse what is wrong with [`Diagnostic`]s that
//! point at the place; [`print()`] writes it back; [`matrix::expand`] gives the cells of a matrix.

#[macro_use]
mod shape;

pub mod ast;
mod bytes;
mod check;
mod code;
pub mod crash;
pub mod data;
mod diagnostic;
mod digest;
pub mod docs;
mod error_kind;
pub mod expect;
mod expect_read;
pub mod fault;
mod file_ref;
mod float;
mod located;
pub mod matrix;
mod nearest;
mod node;
pub mod num;
mod num_parser;
mod parse;
mod print;
mod read;
mod schema;
mod settings;
pub mod value;

pub use ast::{Scenario, Step, Steps};
pub use code::Code;
pub use diagnostic::Diagnostic;
pub use error_kind::ErrorKind;
pub use matrix::Cell;
pub use parse::{
    MAX_FILE_LEN_BYTES, MAX_TRACE_LINE_LEN_BYTES, parse_bytes, parse_file, parse_str,
    parse_trace_line,
};
pub use print::{SCHEMA_LINE, print, print_trace_line};
pub use schema::{schema, schema_text};

#[cfg(any(test, feature = "arbitrary"))]
pub mod arbitrary;
#[cfg(test)]
mod tests;
