//! Writing to the terminal or to a pipe, with colours where they are wanted.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use thiserror::Error;

/// What is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What is not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What somebody should look at.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// What stands out.
pub const BOLD: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();

/// Why a command could not be carried out, as one sentence for the user.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CommandError(pub String);

impl CommandError {
    /// Anything that has words for it.
    pub fn of(error: impl Display) -> Self {
        Self(error.to_string())
    }

    /// That something could not be done to a file.
    pub fn file(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self(format!("cannot {what} {}: {error}", path.display()))
    }
}

/// A stream of text that goes on in silence when its reader goes away, as `mmsb list | head` does.
pub struct Output {
    out: Box<dyn Write + Send>,
    error: Option<io::Error>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// The standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self {
            out: Box::new(anstream::stdout()),
            error: None,
        }
    }

    /// The standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self {
            out: Box::new(anstream::stderr()),
            error: None,
        }
    }

    /// Writes one line, or several.
    pub fn line(&mut self, text: impl Display) {
        self.text(format_args!("{text}\n"));
    }

    /// Writes text without a line break of its own.
    pub fn text(&mut self, text: impl Display) {
        if self.error.is_none()
            && let Err(error) = write!(self.out, "{text}").and_then(|()| self.out.flush())
        {
            self.error = Some(error);
        }
    }

    /// Whether nothing more can be written, so that nobody need produce more.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.error.is_some()
    }

    /// Reports the first error, unless it is that nobody reads any more.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn finish(self) -> Result<(), CommandError> {
        match self.error {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(CommandError(format!("cannot write the output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// Text in a style; the stream takes the style out again where it is not wanted.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Text in the style of the standard error, which may have no colours though the standard output has.
pub fn complain(message: &dyn Display) {
    let mut err = AutoStream::new(io::stderr(), ColorChoice::global());
    // There is nowhere left to say that this failed.
    let _ = writeln!(err, "{}: {message}", styled(BAD, "error"));
}

/// As [`complain`], about something that does not stop the command.
pub fn warn(message: &dyn Display) {
    let mut err = AutoStream::new(io::stderr(), ColorChoice::global());
    let _ = writeln!(err, "{}: {message}", styled(WARN, "warning"));
}
