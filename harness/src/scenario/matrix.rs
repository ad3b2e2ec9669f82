//! Expands one scenario to the cells of its matrix.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as WordError;

use super::ast::{AxisValue, Matrix, Options, Scenario};
use super::code::{Code, Fault};
use super::diagnostic::Diagnostic;
use super::num::{Expr, Num};
use super::value::{Map, Name, Span};

/// The largest number of cells that one scenario may have.
pub const MAX_CELLS: usize = 4096;

/// One combination of the axes of a scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The values as text, such as `threads=2,storage=fs`, in the order of the axes in the file;
    /// empty for a scenario without a matrix. Names are unique within a scenario.
    pub name: String,
    /// The value of each axis.
    pub values: BTreeMap<String, AxisValue>,
}

impl Cell {
    /// The scenario with the values of this cell put in: options are set, number axes are
    /// variables before all others, and there is no matrix left.
    ///
    /// An option that the file sets itself gives way to the axis of that name.
    #[must_use]
    pub fn apply(&self, scenario: &Scenario) -> Scenario {
        let mut out = scenario.clone();
        let mut lets = Vec::with_capacity(self.values.len() + out.lets.0.len());
        for (name, value) in &self.values {
            if let AxisValue::Num(num) = value {
                lets.push((Name::new(name.as_str()), num.clone()));
            }
            // The values were checked when the scenario was expanded.
            let _ = set_option(&mut out.options, name, value);
        }
        lets.append(&mut out.lets.0);
        out.lets = Map(lets);
        out.matrix = None;
        out
    }
}

/// The cells of a scenario, in the order of the file: the first axis changes slowest, and
/// `include` comes last. A scenario without a matrix has one cell without a name.
///
/// # Errors
/// The first thing that is wrong with the matrix. A scenario that was parsed with its check has
/// none.
pub fn expand(scenario: &Scenario) -> Result<Vec<Cell>, Diagnostic> {
    cells(scenario).map_err(|faults| {
        let fault = faults
            .into_iter()
            .next()
            .unwrap_or_else(|| Fault::new(Code::CellCount, "the matrix cannot be expanded"));
        Diagnostic::new("matrix", "", fault)
    })
}

/// As [`expand`], with every fault that there is.
pub(crate) fn cells(scenario: &Scenario) -> Result<Vec<Cell>, Vec<Fault>> {
    let Some(matrix) = &scenario.matrix else {
        return Ok(vec![Cell::default()]);
    };
    let mut faults = Vec::new();
    check_axes(matrix, &mut faults);
    for entry in matrix.exclude.iter().chain(&matrix.include) {
        check_entry(matrix, entry, &mut faults);
    }
    for entry in &matrix.include {
        for (axis, _) in matrix.axes.iter() {
            if entry.get(axis).is_none() {
                let message = format!("an added cell needs a value for the axis `{axis}`");
                faults.push(Fault::new(Code::BadAxis, message).at(entry_span(entry, axis.span())));
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    combine(matrix)
}

fn check_axes(matrix: &Matrix, faults: &mut Vec<Fault>) {
    for (axis, values) in matrix.axes.iter() {
        if values.is_empty() {
            let message = format!("the axis `{axis}` has no values");
            faults.push(Fault::new(Code::BadAxis, message).at(axis.span()));
        }
        for (at, value) in values.iter().enumerate() {
            check_value(axis, value, faults);
            if values.iter().take(at).any(|earlier| same(earlier, value)) {
                let message = format!("the axis `{axis}` has the value {} twice", text(value));
                faults.push(Fault::new(Code::BadAxis, message).at(span(value)));
            }
        }
    }
}

fn check_entry(matrix: &Matrix, entry: &Map<AxisValue>, faults: &mut Vec<Fault>) {
    let axes: Vec<&str> = matrix.axes.iter().map(|(axis, _)| axis.as_str()).collect();
    for (axis, value) in entry.iter() {
        if axes.contains(&axis.as_str()) {
            check_value(axis, value, faults);
        } else {
            faults.push(Fault::unknown(Code::UnknownAxis, "axis", axis, &axes).at(axis.span()));
        }
    }
}

fn check_value(axis: &Name, value: &AxisValue, faults: &mut Vec<Fault>) {
    if let Err(fault) = set_option(&mut Options::default(), axis, value) {
        faults.push(fault.at(span(value)));
    }
}

/// Every combination, less what is excluded, plus what is included.
fn combine(matrix: &Matrix) -> Result<Vec<Cell>, Vec<Fault>> {
    let first_axis = matrix
        .axes
        .0
        .first()
        .map(|(axis, _)| axis.span())
        .unwrap_or_default();
    let count = matrix
        .axes
        .iter()
        .try_fold(1usize, |count, (_, values)| count.checked_mul(values.len()))
        .filter(|count| count.saturating_add(matrix.include.len()) <= MAX_CELLS);
    let Some(count) = count else {
        let message = format!("the matrix has more than {MAX_CELLS} cells");
        return Err(vec![Fault::new(Code::CellCount, message).at(first_axis)]);
    };
    let mut rows: Vec<Vec<&AxisValue>> = Vec::with_capacity(count);
    if !matrix.axes.is_empty() {
        rows.push(Vec::new());
    }
    for (_, values) in matrix.axes.iter() {
        rows = rows
            .iter()
            .flat_map(|row| {
                values
                    .iter()
                    .map(move |value| row.iter().copied().chain([value]).collect())
            })
            .collect();
    }
    let mut faults = Vec::new();
    for entry in &matrix.exclude {
        let before = rows.len();
        rows.retain(|row| !matches(matrix, row, entry));
        if rows.len() == before {
            let fault = Fault::new(Code::UselessCell, "this entry excludes no cell");
            faults.push(fault.at(entry_span(entry, first_axis)));
        }
    }
    let mut cells: Vec<Cell> = rows.into_iter().map(|row| cell(matrix, &row)).collect();
    for entry in &matrix.include {
        let row: Vec<&AxisValue> = matrix
            .axes
            .iter()
            .filter_map(|(axis, _)| entry.get(axis))
            .collect();
        let cell = cell(matrix, &row);
        if cells.iter().any(|other| other.name == cell.name) {
            let fault = Fault::new(Code::UselessCell, "this cell is there already");
            faults.push(fault.at(entry_span(entry, first_axis)));
        } else {
            cells.push(cell);
        }
    }
    if cells.is_empty() {
        faults.push(Fault::new(Code::CellCount, "the matrix leaves no cell").at(first_axis));
    }
    if faults.is_empty() {
        Ok(cells)
    } else {
        Err(faults)
    }
}

fn matches(matrix: &Matrix, row: &[&AxisValue], entry: &Map<AxisValue>) -> bool {
    matrix
        .axes
        .iter()
        .zip(row)
        .filter_map(|((axis, _), value)| entry.get(axis).map(|wanted| same(wanted, value)))
        .all(|same| same)
}

fn cell(matrix: &Matrix, row: &[&AxisValue]) -> Cell {
    let pairs = || matrix.axes.iter().zip(row);
    let name: Vec<String> = pairs()
        .map(|((axis, _), value)| format!("{axis}={}", text(value)))
        .collect();
    let values = pairs()
        .map(|((axis, _), value)| (axis.to_string(), (*value).clone()))
        .collect();
    Cell {
        name: name.join(","),
        values,
    }
}

/// Whether two values mean the same: `4KiB` and `4096` do.
fn same(left: &AxisValue, right: &AxisValue) -> bool {
    match (left, right) {
        (AxisValue::Num(left), AxisValue::Num(right)) => left.constant() == right.constant(),
        _ => left == right,
    }
}

fn text(value: &AxisValue) -> String {
    match value {
        AxisValue::Num(num) => num.to_string(),
        AxisValue::Word(word) => word.to_string(),
    }
}

fn span(value: &AxisValue) -> Span {
    match value {
        AxisValue::Num(num) => num.span(),
        AxisValue::Word(word) => word.span(),
    }
}

fn entry_span(entry: &Map<AxisValue>, otherwise: Span) -> Span {
    entry.0.first().map_or(otherwise, |(axis, _)| axis.span())
}

/// Sets the option that an axis stands for; an axis that stands for none must have numbers.
fn set_option(options: &mut Options, axis: &str, value: &AxisValue) -> Result<(), Fault> {
    match axis {
        "storage" => options.storage = Some(word(value)?),
        "via" => options.via = Some(word(value)?),
        "durability" => options.durability = Some(word(value)?),
        "propagation" => options.propagation = Some(word(value)?),
        "retain" => options.retain = Some(word(value)?),
        "compress" => options.compress = Some(word(value)?),
        "threads" => options.threads = Some(number(value)?),
        "appliers" => options.appliers = Some(number(value)?),
        "segment" => options.segment = Some(number(value)?),
        "arena" => options.arena = Some(number(value)?),
        "history" => options.history = Some(number(value)?),
        "location" => options.location = Some(word(value)?),
        "device" => options.device = Some(word(value)?),
        "device_memory" => options.device_memory = Some(number(value)?),
        "resident" => options.resident = Some(number(value)?),
        "device_seed" => options.device_seed = Some(number(value)?),
        _ => {
            number(value)?;
        }
    }
    Ok(())
}

fn number(value: &AxisValue) -> Result<Num, Fault> {
    match value {
        AxisValue::Num(num) if matches!(num.expr(), Expr::Int(_) | Expr::Size(..)) => {
            match num.constant() {
                Some(_) => Ok(num.clone()),
                None => Err(Fault::new(
                    Code::BadAxis,
                    format!("{num} is more than 2^64 - 1"),
                )),
            }
        }
        AxisValue::Num(num) => Err(
            Fault::new(Code::BadAxis, format!("`{num}` is an expression"))
                .expected("a number or a size"),
        ),
        AxisValue::Word(word) => Err(Fault::new(Code::BadAxis, format!("`{word}` is no number"))
            .expected("a number or a size")),
    }
}

/// The choice that a word names.
fn word<T: for<'de> Deserialize<'de> + KnownWords>(value: &AxisValue) -> Result<T, Fault> {
    let text = text(value);
    let deserializer: serde::de::value::StrDeserializer<'_, WordError> =
        text.as_str().into_deserializer();
    T::deserialize(deserializer)
        .map_err(|_| Fault::unknown(Code::BadAxis, "axis value", &text, T::WORDS))
}

/// The words of a choice, for messages.
trait KnownWords {
    const WORDS: &'static [&'static str];
}

macro_rules! known_words {
    ($($Type:ident: $($word:literal)+;)+) => {
        $(impl KnownWords for super::ast::$Type {
            const WORDS: &'static [&'static str] = &[$($word),+];
        })+
    };
}

known_words! {
    StorageKind: "sim" "fs";
    Via: "rust" "c";
    Durability: "memory" "buffered" "sync";
    Propagation: "eager" "deferred";
    Retain: "all" "checkpoints";
    Compress: "none" "zstd";
    Location: "host" "device" "unified";
    DeviceKind: "host" "simulated" "cuda";
}
