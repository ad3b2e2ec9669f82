//! A sequence of allocations and frees, and the format that it is written in.

use std::collections::HashMap;
use std::io::{self, Write};

use super::error::{TraceError, TraceProblem};

/// How a trace begins.
pub(super) const MAGIC: &str = "mmsb-allocation-trace";
const FIRST_LINE: &str = "mmsb-allocation-trace 1";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An allocation, which has the next number: 0, 1, 2 and so on.
    Allocate {
        /// Its number.
        number: u32,
        /// Its length in bytes; at least 1.
        len_bytes: u64,
    },
    /// A free of an allocation that is live.
    Free {
        /// The number of the allocation.
        number: u32,
        /// The length that it was allocated with.
        len_bytes: u64,
    },
}

/// A sequence of allocations and frees.
///
/// Written down it is lines of text: `mmsb-allocation-trace 1`, then `a ID SIZE` for an allocation and `f ID` for a free, with
/// decimal numbers. An id can be used again once it is free. Empty lines and lines that begin with `#` mean nothing.
///
/// ```
/// use mmsb_harness::gpu::Trace;
/// let trace = Trace::parse(b"mmsb-allocation-trace 1\n# two, one of them freed\na 7 4096\na 8 100\nf 7\n")?;
/// assert_eq!(trace.events().len(), 3);
/// let mut written = Vec::new();
/// trace.write(&mut written).expect("a vector takes everything");
/// assert_eq!(written, b"mmsb-allocation-trace 1\na 0 4096\na 1 100\nf 0\n");
/// # Ok::<(), mmsb_harness::gpu::TraceError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    events: Vec<Event>,
    allocations: u32,
}

impl Trace {
    /// Reads a trace in our own format.
    ///
    /// # Errors
    /// See [`TraceProblem`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceError> {
        let mut builder = TraceBuilder::default();
        for (line, text) in lines(bytes) {
            let refused = |problem| TraceError::at(line, problem);
            if line == 1 {
                if text != FIRST_LINE {
                    let found = text.into_owned();
                    return Err(refused(TraceProblem::UnknownVersion { found }));
                }
                continue;
            }
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut words = text.split_ascii_whitespace();
            let mut number = || words.next().map(|word| word.parse::<u64>().ok());
            let event = match number() {
                // The first word is a letter, so it is no number.
                Some(None) => {
                    let action = text.chars().next();
                    (action, number(), number(), number())
                }
                _ => (None, None, None, None),
            };
            let is_word = text.as_bytes().get(1).is_some_and(u8::is_ascii_whitespace);
            match event {
                (Some('a'), Some(Some(id)), Some(Some(len)), None) if is_word => {
                    builder.allocate(id, len)
                }
                (Some('f'), Some(Some(id)), None, None) if is_word => builder.free(id),
                _ => Err(TraceProblem::NoEvent {
                    found: text.chars().take(80).collect(),
                }),
            }
            .map_err(refused)?;
        }
        Ok(builder.finish())
    }

    /// Writes the trace in our own format.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{FIRST_LINE}")?;
        for event in &self.events {
            match event {
                Event::Allocate { number, len_bytes } => writeln!(out, "a {number} {len_bytes}")?,
                Event::Free { number, .. } => writeln!(out, "f {number}")?,
            }
        }
        Ok(())
    }

    /// The events in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many allocations there are: their numbers are below.
    #[must_use]
    pub const fn allocations(&self) -> u32 {
        self.allocations
    }

    /// The most bytes that were live at once.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        let mut live_bytes = 0_u64;
        let mut peak_bytes = 0;
        for event in &self.events {
            match event {
                Event::Allocate { len_bytes, .. } => {
                    live_bytes = live_bytes.saturating_add(*len_bytes);
                    peak_bytes = peak_bytes.max(live_bytes);
                }
                Event::Free { len_bytes, .. } => live_bytes = live_bytes.saturating_sub(*len_bytes),
            }
        }
        peak_bytes
    }
}

/// Makes a trace of events with ids of any kind, such as pointers.
#[derive(Debug, Default)]
pub struct TraceBuilder {
    trace: Trace,
    /// Id to number and length. Only looked up, never walked.
    live: HashMap<u64, (u32, u64)>,
}

impl TraceBuilder {
    /// Adds an allocation.
    ///
    /// # Errors
    /// If the id is live, the length is zero, or there are too many.
    pub fn allocate(&mut self, id: u64, len_bytes: u64) -> Result<(), TraceProblem> {
        if len_bytes == 0 {
            return Err(TraceProblem::EmptyAllocation);
        }
        if self.live.contains_key(&id) {
            return Err(TraceProblem::LiveId { id });
        }
        let number = self.trace.allocations;
        self.trace.allocations = number.checked_add(1).ok_or(TraceProblem::TooLong)?;
        self.live.insert(id, (number, len_bytes));
        let event = Event::Allocate { number, len_bytes };
        self.trace.events.push(event);
        Ok(())
    }

    /// Adds a free.
    ///
    /// # Errors
    /// If the id is not live.
    pub fn free(&mut self, id: u64) -> Result<(), TraceProblem> {
        let (number, len_bytes) = self
            .live
            .remove(&id)
            .ok_or(TraceProblem::UnknownId { id })?;
        self.trace.events.push(Event::Free { number, len_bytes });
        Ok(())
    }

    /// Whether an id is live.
    #[must_use]
    pub fn is_live(&self, id: u64) -> bool {
        self.live.contains_key(&id)
    }

    /// The trace.
    #[must_use]
    pub fn finish(self) -> Trace {
        self.trace
    }
}

/// The lines with their numbers, from 1, without what ends them.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, std::borrow::Cow<'_, str>)> {
    (1..).zip(bytes.split(|byte| *byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        String::from_utf8_lossy(line)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Trace::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let head = "mmsb-allocation-trace 1\n";
        let cases = [
            (
                "mmsb-allocation-trace 2\n".to_owned(),
                "line 1: `mmsb-allocation-trace 2` is a version",
            ),
            (format!("{head}a 1\n"), "line 2: `a 1` is no event"),
            (
                format!("{head}\na 1 2 3\n"),
                "line 3: `a 1 2 3` is no event",
            ),
            (
                format!("{head}alloc 1 2\n"),
                "line 2: `alloc 1 2` is no event",
            ),
            (format!("{head}a 1 -2\n"), "line 2: `a 1 -2` is no event"),
            (format!("{head}1 2\n"), "line 2: `1 2` is no event"),
            (format!("{head}f 1 2\n"), "line 2: `f 1 2` is no event"),
            (
                format!("{head}a 1 5\na 1 5\n"),
                "line 3: 1 is allocated already",
            ),
            (
                format!("{head}a 1 5\nf 1\nf 1\n"),
                "line 4: 1 is not allocated",
            ),
            (
                format!("{head}a 1 0\n"),
                "line 2: an allocation has at least one byte",
            ),
        ];
        for (text, expected) in cases {
            let refusal = refusal(&text);
            assert!(refusal.starts_with(expected), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_any_line_ends() {
        let text = "mmsb-allocation-trace 1\r\na 5 10\r\n\r\n# c\r\na 6 20\r\nf 5\r\na 5 30\r\n";
        let trace = Trace::parse(text.as_bytes()).unwrap();
        let mut written = Vec::new();
        trace.write(&mut written).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&written),
            "mmsb-allocation-trace 1\na 0 10\na 1 20\nf 0\na 2 30\n"
        );
        assert_eq!(Trace::parse(&written), Ok(trace.clone()));
        assert_eq!(trace.peak_bytes(), 50);
    }
}
