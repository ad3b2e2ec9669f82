//! A folder with scenarios, `mmsb` run in it, and what came of that.
use std::fs;
use std::process::{Command, Output};

/// A scenario that passes in each of two cells.
pub(crate) const PASSES: &str = "\
version: 1
about: Writes and reads.
matrix: { axes: { threads: [1, 2] } }
pages: { a: 64 }
steps:
  - write: { page: a, at: 8, hex: \"01 02\" }
  - commit
  - expect: { page: a, at: 8, hex: \"01 02\" }
";

/// A scenario whose last check does not hold.
pub(crate) const FAILS: &str = "\
version: 1
about: Expects what was not written.
options: { storage: fs }
pages: { a: 64 }
steps:
  - write: { page: a, at: 8, hex: \"01 02\" }
  - commit
  - expect: { page: a, at: 8, hex: \"01 03\" }
";

/// A scenario that does not run where no GPU is wanted.
pub(crate) const SKIPPED: &str = "\
version: 1
about: Needs a GPU.
requires: [gpu]
pages: { a: 64 }
steps:
  - expect: { zero: a }
";

/// A scenario with a cell that needs a GPU.
pub(crate) const ON_CUDA: &str = "\
version: 1
about: On two devices.
matrix: { axes: { device: [simulated, cuda] } }
pages: { a: { size: 64, location: device } }
steps:
  - expect: { zero: a }
";

/// A file with a typo in it.
pub(crate) const BROKEN: &str = "\
version: 1
about: Names a page that is not there.
pages: { state: 64 }
steps:
  - write: { page: statee, hex: \"00\" }
  - commit
  - expect: { zero: state }
";

pub(crate) struct Workspace {
    directory: tempfile::TempDir,
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Workspace {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let workspace = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            let path = workspace.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        workspace
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmsb"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_remove("MMSB_SCENARIOS")
            .env_remove("CLICOLOR_FORCE");
        command
    }

    pub(crate) fn mmsb(&self, args: &[&str]) -> Ran {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().unwrap();
        Ran {
            code: status.code().expect("ended by itself"),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn closing_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}

/// Takes the times out of a text, as they differ from run to run.
pub(crate) fn without_times(text: &str) -> String {
    let mut lines = Vec::new();
    let mut slowest = false;
    for line in text.lines() {
        slowest = (slowest || line == "slowest") && !line.is_empty();
        let line = match line.split_once(" in ") {
            Some((counts, _)) if counts.ends_with("checks") => counts.to_owned(),
            _ if line.ends_with(" ms") || line.ends_with(" µs") || line.ends_with(" s") => {
                line.rsplitn(3, ' ').nth(2).unwrap_or_default().to_owned()
            }
            _ => line.to_owned(),
        };
        if !slowest {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

pub(crate) fn mixed() -> Workspace {
    Workspace::new(&[
        ("scenarios/b/passes.yaml", PASSES),
        ("scenarios/b/fails.yaml", FAILS),
        ("scenarios/a/skipped.yaml", SKIPPED),
        ("scenarios/schema.json", "{}"),
    ])
}
