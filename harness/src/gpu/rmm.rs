//! Logs of RMM's logging resource adaptor.

use super::error::{TraceError, TraceProblem};
use super::trace::{TraceBuilder, lines};
use super::{Imported, note};

/// The columns that are read.
#[derive(Clone, Copy)]
struct Columns {
    action: usize,
    pointer: usize,
    size: usize,
}

impl Columns {
    fn of(header: &str) -> Result<Self, TraceProblem> {
        let find = |column: &'static str| {
            let at = cells(header).position(|cell| cell.eq_ignore_ascii_case(column));
            at.ok_or(TraceProblem::MissingColumn { column })
        };
        Ok(Self {
            action: find("Action")?,
            pointer: find("Pointer")?,
            size: find("Size")?,
        })
    }
}

/// Whether the first line is the header of such a log.
pub(super) fn is_header(bytes: &[u8]) -> bool {
    let mut first = lines(bytes);
    first.next().is_some_and(|(_, line)| {
        let mut cells = cells(&line);
        cells
            .any(|cell| cell.eq_ignore_ascii_case("Action") || cell.eq_ignore_ascii_case("Pointer"))
    })
}

/// Reads a log: columns `Thread,Time,Action,Pointer,Size,Stream` in any order, of which action, pointer and size count.
///
/// The order of the lines is the order of the events. A free of a pointer that was not allocated in the log is left out; an
/// allocation at a pointer that is live, whose free must be missing, frees it first; failed allocations and those of no bytes are
/// left out. The notes say how many there were.
///
/// # Errors
/// See [`TraceProblem`].
pub fn import(bytes: &[u8]) -> Result<Imported, TraceError> {
    let mut columns = None;
    let mut builder = TraceBuilder::default();
    let (mut unknown, mut missing, mut failed, mut empty) = (0, 0, 0, 0);
    for (line, text) in lines(bytes) {
        let refused = |problem| TraceError::at(line, problem);
        if text.trim().is_empty() {
            continue;
        }
        let Some(columns) = columns else {
            columns = Some(Columns::of(&text).map_err(refused)?);
            continue;
        };
        let action = cell(&text, columns.action, "Action").map_err(refused)?;
        match action {
            "allocate" => {
                let pointer = pointer(&text, columns).map_err(refused)?;
                let size = cell(&text, columns.size, "Size").map_err(refused)?;
                let len_bytes: u64 = size
                    .parse()
                    .map_err(|_| refused(bad("Size", size, "number of bytes")))?;
                if len_bytes == 0 {
                    empty += 1;
                    continue;
                }
                if builder.is_live(pointer) {
                    missing += 1;
                    builder.free(pointer).map_err(refused)?;
                }
                builder.allocate(pointer, len_bytes).map_err(refused)?;
            }
            "free" | "deallocate" => {
                let pointer = pointer(&text, columns).map_err(refused)?;
                if builder.is_live(pointer) {
                    builder.free(pointer).map_err(refused)?;
                } else {
                    unknown += 1;
                }
            }
            "allocate failure" => failed += 1,
            other => {
                let expected = "action: allocate, free or allocate failure";
                return Err(refused(bad("Action", other, expected)));
            }
        }
    }
    let mut notes = Vec::new();
    note(
        &mut notes,
        unknown,
        "frees of pointers that the log does not allocate were left out",
    );
    note(
        &mut notes,
        missing,
        "frees were missing and assumed where the pointer is allocated again",
    );
    note(&mut notes, failed, "allocations that failed were left out");
    note(&mut notes, empty, "allocations of no bytes were left out");
    Ok(Imported {
        trace: builder.finish(),
        format: "rmm",
        notes,
    })
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"'))
}

fn cell<'a>(line: &'a str, at: usize, column: &'static str) -> Result<&'a str, TraceProblem> {
    cells(line)
        .nth(at)
        .ok_or_else(|| bad(column, line, "line with all columns"))
}

fn pointer(line: &str, columns: Columns) -> Result<u64, TraceProblem> {
    let text = cell(line, columns.pointer, "Pointer")?;
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    u64::from_str_radix(digits.unwrap_or(text), 16)
        .map_err(|_| bad("Pointer", text, "pointer in hexadecimal"))
}

fn bad(column: &'static str, found: &str, expected: &'static str) -> TraceProblem {
    TraceProblem::BadCell {
        column,
        found: found.chars().take(80).collect(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Event;

    const HEADER: &str = "Thread,Time,Action,Pointer,Size,Stream\n";

    #[test]
    fn a_log_is_read_and_what_is_odd_is_noted() {
        let log = format!(
            "{HEADER}1,10:41:27.9,allocate,0x7f00,1024,0x0\n\
             1,10:41:27.9,free,0x9999,8,0x0\n\
             2,10:41:27.9,allocate,0x8000,0,0x0\n\
             2,10:41:27.9,allocate failure,0x0,99999999,0x0\n\
             2,10:41:28.0,allocate,0x7f00,2048,0x0\n\
             2,10:41:28.1,free,0x7f00,2048,0x0\n\n"
        );
        let imported = crate::gpu::read(log.as_bytes()).unwrap();
        let expected = [
            Event::Allocate {
                number: 0,
                len_bytes: 1024,
            },
            Event::Free {
                number: 0,
                len_bytes: 1024,
            },
            Event::Allocate {
                number: 1,
                len_bytes: 2048,
            },
            Event::Free {
                number: 1,
                len_bytes: 2048,
            },
        ];
        assert_eq!(imported.trace.events(), expected);
        assert_eq!((imported.format, imported.notes.len()), ("rmm", 4));
        assert!(imported.notes.iter().all(|note| note.starts_with("1 ")));
    }

    #[test]
    fn columns_are_found_by_name_and_mistakes_named_with_their_line() {
        let log = b"Size,Action,Pointer\n64,allocate,a0\n64,free,0xA0\n";
        assert_eq!(import(log).unwrap().trace.events().len(), 2);
        let cases = [
            (
                "Thread,Time,Action,Size\n".to_owned(),
                "line 1: the column Pointer is missing",
            ),
            (
                format!("{HEADER}1,t,allocate,0x1,12x,0\n"),
                "line 2: `12x` in column Size",
            ),
            (
                format!("{HEADER}1,t,allocate,zz,12,0\n"),
                "line 2: `zz` in column Pointer",
            ),
            (
                format!("{HEADER}1,t,resize,0x1,12,0\n"),
                "line 2: `resize` in column Action",
            ),
            (format!("{HEADER}\n1,t\n"), "line 3: `1,t` in column Action"),
        ];
        for (log, expected) in cases {
            let refusal = import(log.as_bytes()).unwrap_err().to_string();
            assert!(refusal.starts_with(expected), "{log:?}: {refusal}");
        }
    }
}
