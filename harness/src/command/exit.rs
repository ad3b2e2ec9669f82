//! What a command tells the shell.

use std::process::ExitCode;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything passed, or was done.
    Passed,
    /// A scenario failed, or what was checked differs, or something was found.
    Failed,
    /// A file is no scenario, or the command was called wrongly or could not be carried out.
    Usage,
    /// Nothing ran.
    NothingRan,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Passed => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::NothingRan => Self::from(3),
        }
    }
}
