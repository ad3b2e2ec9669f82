//! How the `git` executable is run.

use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output};

use super::error::GitImportError;

/// A git command in a repository that depends on as little of the user's configuration as possible.
///
/// The executable was preferred to a library: it reads every repository that the user's git reads,
/// with its worktrees, alternates and extensions, and adds nothing to what the harness is built of.
pub(super) fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .args(["--literal-pathspecs", "--no-replace-objects", "-C"])
        .arg(repository)
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0");
    command
}

/// Runs a command to its end.
pub(super) fn output(mut command: Command) -> Result<Output, GitImportError> {
    command
        .output()
        .map_err(|source| GitImportError::Start { source })
}

/// What a failed command says, on one line.
pub(super) fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it says nothing");
    line.trim().trim_start_matches("fatal: ").to_owned()
}

/// A running command. Dropping it ends it and waits for it, so that none outlives an error.
pub(super) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts a command whose pipes were set up.
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self, GitImportError> {
        let child = command
            .spawn()
            .map_err(|source| GitImportError::Start { source })?;
        Ok(Self { name, child })
    }

    /// Its input, once, if it was piped.
    pub(super) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its output, once, if it was piped.
    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until it ends by itself, which it does when its output was read to the end.
    pub(super) fn finish(&mut self) -> Result<(), GitImportError> {
        let command = self.name;
        let status = self
            .child
            .wait()
            .map_err(|source| GitImportError::Exchange { command, source })?;
        if status.success() {
            return Ok(());
        }
        Err(GitImportError::Failed {
            command,
            message: status.to_string(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless an error left it blocked on a pipe that nobody serves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
