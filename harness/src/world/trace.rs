//! Traces: one step a line, executed as they are read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use super::failure::{Fault, Outcome};
use super::path::Part;
use super::run::{Progress, World};
use crate::scenario::ast::Trace;
use crate::scenario::value::{Located, Span};
use crate::scenario::{MAX_TRACE_LINE_LEN_BYTES, parse_trace_line};

/// Progress is told once in so many lines.
const LINES_PER_REPORT: u64 = 256;

impl World<'_> {
    pub(crate) fn trace(&mut self, trace: &Trace) -> Outcome {
        let path = self.context.directory.join(trace.file.as_str());
        let label = path.display().to_string();
        let unreadable =
            |error: std::io::Error| Fault::new(format!("cannot read the trace {label}: {error}"));
        let file = File::open(&path).map_err(unreadable)?;
        let total_bytes = file.metadata().map_err(unreadable)?.len();
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut line = String::new();
        let (mut number, mut done_bytes) = (0u64, 0u64);
        loop {
            line.clear();
            // A line without an end must not fill the memory before it is refused.
            let read = reader
                .by_ref()
                .take(MAX_TRACE_LINE_LEN_BYTES as u64 + 1)
                .read_line(&mut line);
            let read = read.map_err(unreadable)?;
            if read == 0 {
                break;
            }
            number += 1;
            done_bytes += read as u64;
            if !line.trim().is_empty() {
                self.trace_line(&label, number, line.trim_end_matches(['\n', '\r']))?;
            }
            if number.is_multiple_of(LINES_PER_REPORT) {
                self.report(Progress {
                    steps: self.steps(),
                    done_bytes,
                    total_bytes,
                });
            }
        }
        if number == 0 {
            return Err(Fault::new(format!("the trace {label} is empty")));
        }
        self.report(Progress {
            steps: self.steps(),
            done_bytes,
            total_bytes,
        });
        Ok(())
    }

    fn trace_line(&mut self, label: &str, number: u64, text: &str) -> Outcome {
        let line = u32::try_from(number).unwrap_or(u32::MAX);
        let step = parse_trace_line(label, line, text)
            .map_err(|diagnostic| Fault::new(diagnostic.to_string()))?;
        let step = Located {
            value: step,
            span: Span { line, column: 1 },
        };
        self.stage.path.push(Part::Line(number));
        let result = self.step(0, &step);
        self.stage.path.pop();
        result
    }
}
