//! Where in a scenario execution stands, kept cheaply and written only when something fails.

use std::fmt;

/// One part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The n-th step of a list, with its verb.
    Step(usize, &'static str),
    /// The n-th round of a repetition, or the n-th list of `concurrent`.
    Round(u64),
    /// A line of a trace, from 1.
    Line(u64),
}

/// The steps that are being executed, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Part>);

impl Path {
    pub(crate) fn push(&mut self, part: Part) {
        self.0.push(part);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for part in &self.0 {
            match part {
                Part::Step(index, verb) => {
                    let dot = if first { "" } else { "." };
                    write!(f, "{dot}steps[{index}].{verb}")?;
                }
                Part::Round(round) => write!(f, "[{round}]")?,
                Part::Line(line) => write!(f, "[line {line}]")?,
            }
            first = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_from_the_outside_in() {
        let path = Path(vec![
            Part::Step(3, "repeat"),
            Part::Round(7),
            Part::Step(0, "write"),
        ]);
        assert_eq!(path.to_string(), "steps[3].repeat[7].steps[0].write");
    }
}
