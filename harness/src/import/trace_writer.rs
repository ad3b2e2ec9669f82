//! Writes the steps of a trace, split so that no line is too long to be read.

use std::io::{self, Write};

use mmsb_engine::delta::Delta;

use crate::scenario::Step;
use crate::scenario::ast;
use crate::scenario::data::{Data, Run};
use crate::scenario::print_trace_line;
use crate::scenario::value::{Base64, Name};

/// About how long a line may become, in bytes: well below what a reader accepts.
const LINE_BUDGET_BYTES: usize = 4 << 20;
/// Bytes of JSON around the data of one run.
const RUN_OVERHEAD_BYTES: usize = 40;
/// Bytes of JSON that one byte of data takes at most: text is escaped, base64 takes fewer.
const EXPANSION: usize = 2;
/// Longest piece of data on one line.
const PIECE_BYTES: usize = LINE_BUDGET_BYTES / EXPANSION;

/// Writes steps as JSON, one a line.
pub(super) struct TraceWriter<W> {
    out: W,
    lines: u64,
}

impl<W: Write> TraceWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, lines: 0 }
    }

    /// How many lines were written.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Writes one step, which must be short enough for one line.
    pub(super) fn step(&mut self, step: &Step) -> io::Result<()> {
        self.lines = self.lines.saturating_add(1);
        writeln!(self.out, "{}", print_trace_line(step))
    }

    /// Allocates a page with its first content.
    pub(super) fn allocate(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fits = bytes.len() <= PIECE_BYTES;
        let page = ast::NewPage {
            page: Name::new(name),
            size: Some((bytes.len() as u64).into()),
            fill: fits.then(|| data(bytes)),
            meta: Default::default(),
            derive: None,
            location: None,
        };
        self.step(&Step::Allocate(ast::Allocate { pages: vec![page] }))?;
        if fits {
            return Ok(());
        }
        let mut at = 0u64;
        for piece in bytes.chunks(PIECE_BYTES) {
            let write = ast::Write {
                page: Name::new(name),
                at: at.into(),
                data: data(piece),
            };
            self.step(&Step::Write(write))?;
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// Writes a delta, as several steps if it is long.
    pub(super) fn delta(&mut self, name: &str, delta: &Delta) -> io::Result<()> {
        let mut runs = Vec::new();
        let mut line_bytes = 0usize;
        for (offset, bytes) in delta.runs() {
            let mut at = offset;
            for piece in bytes.chunks(PIECE_BYTES) {
                let piece_bytes = piece
                    .len()
                    .saturating_mul(EXPANSION)
                    .saturating_add(RUN_OVERHEAD_BYTES);
                if line_bytes.saturating_add(piece_bytes) > LINE_BUDGET_BYTES && !runs.is_empty() {
                    self.runs(name, std::mem::take(&mut runs))?;
                    line_bytes = 0;
                }
                line_bytes = line_bytes.saturating_add(piece_bytes);
                runs.push(Run {
                    at: at.into(),
                    data: data(piece),
                });
                at = at.saturating_add(piece.len() as u64);
            }
        }
        if runs.is_empty() {
            Ok(())
        } else {
            self.runs(name, runs)
        }
    }

    fn runs(&mut self, name: &str, runs: Vec<Run>) -> io::Result<()> {
        self.step(&Step::Delta(ast::Delta {
            page: Name::new(name),
            runs,
        }))
    }

    /// Hands everything to the operating system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Text where a person can read it, base64 otherwise.
fn data(bytes: &[u8]) -> Data {
    let readable = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(readable) => Data::Text(text.to_owned()),
        _ => Data::Base64(Base64(bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{MAX_TRACE_LINE_LEN_BYTES, parse_trace_line};
    use mmsb_engine::delta::DiffOptions;

    /// Applies the steps of a trace to one page.
    fn apply(trace: &[u8], page: &mut Vec<u8>) {
        let text = std::str::from_utf8(trace).unwrap();
        for (line, number) in text.lines().zip(1..) {
            assert!(line.len() <= MAX_TRACE_LINE_LEN_BYTES);
            let mut put = |at: &crate::scenario::num::Num, data: &Data| {
                let at = usize::try_from(at.constant().unwrap()).unwrap();
                let bytes = data.to_bytes(&Default::default(), None).unwrap().unwrap();
                page[at..at + bytes.len()].copy_from_slice(&bytes);
            };
            match parse_trace_line("trace", number, line).unwrap() {
                Step::Allocate(allocate) => {
                    let new = &allocate.pages[0];
                    let size = new.size.as_ref().unwrap().constant().unwrap();
                    *page = vec![0; usize::try_from(size).unwrap()];
                    if let Some(fill) = &new.fill {
                        page.copy_from_slice(
                            &fill.to_bytes(&Default::default(), None).unwrap().unwrap(),
                        );
                    }
                }
                Step::Write(write) => put(&write.at, &write.data),
                Step::Delta(delta) => delta.runs.iter().for_each(|run| put(&run.at, &run.data)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn long_contents_and_deltas_are_split_and_mean_the_same() {
        let mut old = vec![0; 3 * PIECE_BYTES + 17];
        crate::scenario::data::fill_random(1, &mut old);
        let mut new = old.clone();
        // Many short runs, whose overhead counts, and one run that is longer than a line.
        for at in (0..PIECE_BYTES).step_by(40) {
            new[at] ^= 1;
        }
        for byte in &mut new[PIECE_BYTES..3 * PIECE_BYTES] {
            *byte = !*byte;
        }
        let mut writer = TraceWriter::new(Vec::new());
        writer.allocate("p", &old).unwrap();
        let delta = Delta::diff(&old, &new, DiffOptions::default()).unwrap();
        writer.delta("p", &delta).unwrap();
        assert!(writer.lines() > 5, "{}", writer.lines());
        let mut page = Vec::new();
        apply(&writer.out, &mut page);
        assert!(page == new);
    }

    #[test]
    fn text_is_readable_and_bytes_are_exact() {
        for bytes in [
            &b"line\n\ttab \"quoted\" \\ \xc3\xa9"[..],
            b"\0\x01\xff",
            b"\r\n",
            b"\x7f",
            b"\xc3",
        ] {
            let mut writer = TraceWriter::new(Vec::new());
            writer.allocate("p", bytes).unwrap();
            let mut page = Vec::new();
            apply(&writer.out, &mut page);
            assert_eq!(page, bytes);
        }
    }
}
