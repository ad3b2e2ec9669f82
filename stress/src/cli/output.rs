//! Writing to the terminal or to a pipe, with colours where they are wanted.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anstyle::{AnsiColor, Style};
use thiserror::Error;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const DIM: Style = Style::new().dimmed();

/// Why a command could not be carried out, as one sentence for the user.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct CommandError(pub(super) String);

impl CommandError {
    /// Anything that has words for it.
    pub(super) fn of(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

/// A stream of text that goes on in silence when its reader goes away.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    error: Option<io::Error>,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self {
            out: Box::new(anstream::stdout()),
            error: None,
        }
    }

    /// Writes one line, or several.
    pub(super) fn line(&mut self, text: impl Display) {
        if self.error.is_none()
            && let Err(error) = writeln!(self.out, "{text}").and_then(|()| self.out.flush())
        {
            self.error = Some(error);
        }
    }

    /// Reports the first error, unless it is that nobody reads any more.
    pub(super) fn finish(self) -> Result<(), CommandError> {
        match self.error {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(CommandError(format!("cannot write the output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// Text in a style; the stream takes the style out again where it is not wanted.
pub(super) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line on the standard error.
pub(super) fn complain(message: &dyn Display) {
    // There is nowhere left to say that this failed.
    let _ = writeln!(anstream::stderr(), "{}: {message}", styled(BAD, "error"));
}
