//! The first-parent history of a revision as a sequence of changes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use super::command::{Process, complaint, git, output};
use super::error::GitImportError;

const COMMAND: &str = "diff-tree";

/// What stands at a path in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing.
    Absent,
    /// A file or symbolic link, whose content is the blob with this id.
    Blob(String),
    /// The commit of another repository.
    Submodule,
}

/// A path that a commit changed, as it stands after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The path in the repository: any bytes but NUL.
    pub(super) path: Vec<u8>,
    /// What stands there now.
    pub(super) entry: Entry,
}

/// A commit with what it changed against its first parent, in order of path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// The changed paths.
    pub(super) changes: Vec<Change>,
}

/// Checks that the repository can be imported.
pub(super) fn check_repository(repository: &Path) -> Result<(), GitImportError> {
    let mut command = git(repository);
    command.args(["rev-parse", "--show-object-format"]);
    let answer = output(command)?;
    if !answer.status.success() {
        let message = complaint(&answer);
        return Err(GitImportError::Repository {
            path: repository.to_owned(),
            message,
        });
    }
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "sha1" => Ok(()),
        other => Err(GitImportError::ObjectFormat {
            format: other.to_owned(),
        }),
    }
}

/// The id of the commit that a revision names.
pub(super) fn resolve(repository: &Path, revision: &str) -> Result<String, GitImportError> {
    let mut command = git(repository);
    command
        .args(["rev-parse", "--verify", "--end-of-options"])
        .arg(format!("{revision}^{{commit}}"));
    let answer = output(command)?;
    if !answer.status.success() {
        let message = complaint(&answer);
        return Err(GitImportError::Revision {
            revision: revision.to_owned(),
            message,
        });
    }
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

/// How many commits the history has.
pub(super) fn count(repository: &Path, commit: &str, path: &OsStr) -> Result<u64, GitImportError> {
    let mut command = git(repository);
    command
        .args(["rev-list", "--count", "--first-parent", commit, "--"])
        .arg(path);
    let answer = output(command)?;
    let text = String::from_utf8_lossy(&answer.stdout);
    match text.trim().parse() {
        Ok(count) if answer.status.success() => Ok(count),
        _ => Err(GitImportError::Failed {
            command: "rev-list",
            message: complaint(&answer),
        }),
    }
}

/// Whether the history was cut off when the repository was cloned.
pub(super) fn is_shallow(repository: &Path) -> Result<bool, GitImportError> {
    let mut command = git(repository);
    command.args(["rev-parse", "--is-shallow-repository"]);
    Ok(output(command)?.stdout.starts_with(b"true"))
}

/// The commits of a history, oldest first, read as they are asked for.
///
/// Plumbing commands are piped into each other, as their output does not depend on configuration.
/// Merges are compared with their first parent, so each commit follows from the one before it.
pub(super) struct History {
    commits: Process,
    differences: Process,
    /// `None` after the end.
    fields: Option<BufReader<ChildStdout>>,
    /// Whether the id of the next commit was read while looking for the end of the one before.
    started: bool,
}

impl History {
    /// Starts to read the history of the files under `path` that leads to `commit`.
    pub(super) fn open(
        repository: &Path,
        commit: &str,
        path: &OsStr,
    ) -> Result<Self, GitImportError> {
        let mut command = git(repository);
        command
            .args(["rev-list", "--reverse", "--first-parent", commit, "--"])
            .arg(path);
        let mut commits = Process::start("rev-list", command.stdout(Stdio::piped()))?;
        let ids = commits.stdout().map_or_else(Stdio::null, Stdio::from);
        let mut command = git(repository);
        command
            .args([
                COMMAND,
                "--stdin",
                "--diff-merges=first-parent",
                "--root",
                "-r",
                "--raw",
                "-z",
            ])
            .args([
                "--no-abbrev",
                "--no-renames",
                "--no-relative",
                "--ignore-submodules=none",
            ])
            .arg("--")
            .arg(path)
            .stdin(ids)
            .stdout(Stdio::piped());
        let mut differences = Process::start(COMMAND, &mut command)?;
        let fields = differences.stdout().map(BufReader::new);
        Ok(Self {
            commits,
            differences,
            fields,
            started: false,
        })
    }

    /// The next commit, or `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Commit>, GitImportError> {
        if !self.started {
            match self.field()? {
                Some(id) if is_id(&id) => {}
                Some(other) => return Err(malformed(&String::from_utf8_lossy(&other))),
                None => return Ok(None),
            }
        }
        self.started = false;
        let mut changes = Vec::new();
        loop {
            match self.field()? {
                Some(field) if field.starts_with(b":") => {
                    let entry = parse_entry(&field)
                        .ok_or_else(|| malformed(&String::from_utf8_lossy(&field)))?;
                    let path = self
                        .field()?
                        .ok_or_else(|| malformed("a path is missing"))?;
                    changes.push(Change { path, entry });
                }
                Some(id) if is_id(&id) => {
                    self.started = true;
                    break;
                }
                Some(other) => return Err(malformed(&String::from_utf8_lossy(&other))),
                None => break,
            }
        }
        Ok(Some(Commit { changes }))
    }

    /// The next field, which ends with NUL. At the end of the output this checks that it is the end
    /// of the history and not that of a process that died.
    fn field(&mut self) -> Result<Option<Vec<u8>>, GitImportError> {
        let Some(fields) = &mut self.fields else {
            return Ok(None);
        };
        let mut field = Vec::new();
        fields
            .read_until(0, &mut field)
            .map_err(|source| GitImportError::Exchange {
                command: COMMAND,
                source,
            })?;
        match field.pop() {
            Some(0) => Ok(Some(field)),
            Some(_) => Err(malformed("its output ends in the middle of a field")),
            None => {
                self.fields = None;
                self.commits.finish()?;
                self.differences.finish()?;
                Ok(None)
            }
        }
    }
}

/// Whether a field is the id of a commit, which begins its list of changes.
fn is_id(field: &[u8]) -> bool {
    field.len() == 40 && field.iter().all(u8::is_ascii_hexdigit)
}

/// Reads `:OLD_MODE NEW_MODE OLD_ID NEW_ID STATUS`.
fn parse_entry(field: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(field).ok()?;
    let mut words = text.strip_prefix(':')?.split(' ');
    let (_, mode, _, id) = (words.next()?, words.next()?, words.next()?, words.next()?);
    match mode {
        "000000" => Some(Entry::Absent),
        "160000" => Some(Entry::Submodule),
        "100644" | "100755" | "100664" | "120000" => {
            is_id(id.as_bytes()).then(|| Entry::Blob(id.to_owned()))
        }
        _ => None,
    }
}

fn malformed(what: &str) -> GitImportError {
    GitImportError::Malformed {
        command: COMMAND,
        what: what.escape_debug().to_string(),
    }
}
