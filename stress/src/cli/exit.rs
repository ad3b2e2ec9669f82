//! What the command tells the shell.

use std::process::ExitCode;

/// The exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything passed, or was done.
    Passed,
    /// Something was found, a canary was silent, or a planted bug survived.
    Failed,
    /// The command was called wrongly or could not be carried out.
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
