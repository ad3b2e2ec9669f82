//! Small repositories made by the git executable, imported, and checked by a second reading.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Counts, GitImportError, Import, import};
use crate::scenario::expect::{Content, Expect};
use crate::scenario::value::{Digest, Name};
use crate::scenario::{Step, parse_trace_line};

struct Repository {
    directory: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let this = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        this.git(&["init", "--quiet", "--initial-branch=main"]);
        this
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.path())
            .args([
                "-c",
                "protocol.file.allow=always",
                "-c",
                "commit.gpgsign=false",
            ])
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "A")
                .env(format!("GIT_{role}_EMAIL"), "a@example.org")
                .env(format!("GIT_{role}_DATE"), "1700000000 +0000");
        }
        command
    }

    fn git(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, name: impl AsRef<OsStr>, bytes: &[u8]) {
        let path = self.path().join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
    }

    fn import(&self, path: &str) -> (Counts, String) {
        let mut trace = Vec::new();
        let import_ = Import {
            repository: self.path(),
            path: OsStr::new(path),
            revision: "HEAD",
        };
        let counts = import(import_, &mut trace, |_, _| {}).unwrap();
        (counts, String::from_utf8(trace).unwrap())
    }

    /// The content of every file of a commit that is neither empty nor a submodule.
    fn tree(&self, revision: &str) -> Vec<Vec<u8>> {
        let listing = self
            .command()
            .args(["ls-tree", "-r", "-z", revision])
            .output()
            .unwrap()
            .stdout;
        let mut contents = Vec::new();
        for entry in listing
            .split(|byte| *byte == 0)
            .filter(|entry| !entry.is_empty())
        {
            let text = String::from_utf8_lossy(entry).into_owned();
            let mut words = text.split_ascii_whitespace();
            let (_, kind, id) = (words.next(), words.next().unwrap(), words.next().unwrap());
            if kind == "blob" {
                contents.push(
                    self.command()
                        .args(["cat-file", "blob", id])
                        .output()
                        .unwrap()
                        .stdout,
                );
            }
        }
        contents.retain(|bytes| !bytes.is_empty());
        contents.sort();
        contents
    }

    fn blob_id(&self, bytes: &[u8]) -> String {
        let mut child = self
            .command()
            .args(["hash-object", "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let output = child.wait_with_output().unwrap().stdout;
        String::from_utf8(output).unwrap().trim().to_owned()
    }
}

/// Runs a trace on plain vectors; checks every expectation; gives the pages after each commit.
fn replay(repository: &Repository, trace: &str) -> Vec<Vec<Vec<u8>>> {
    let mut pages: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut states = Vec::new();
    let mut checks = 0;
    for (line, number) in trace.lines().zip(1..) {
        let scope = Default::default();
        let number_of =
            |num: &crate::scenario::num::Num| usize::try_from(num.constant().unwrap()).unwrap();
        match parse_trace_line("trace", number, line).unwrap() {
            Step::Allocate(allocate) => {
                let page = &allocate.pages[0];
                let bytes = page
                    .fill
                    .as_ref()
                    .unwrap()
                    .to_bytes(&scope, None)
                    .unwrap()
                    .unwrap();
                assert_eq!(bytes.len(), number_of(page.size.as_ref().unwrap()));
                assert!(
                    pages
                        .insert(page.page.to_string(), bytes.into_owned())
                        .is_none()
                );
            }
            Step::Free(free) => assert!(pages.remove(free.page.as_str()).is_some()),
            Step::Delta(delta) => {
                let page = pages.get_mut(delta.page.as_str()).unwrap();
                for run in &delta.runs {
                    let bytes = run.data.to_bytes(&scope, None).unwrap().unwrap();
                    page[number_of(&run.at)..][..bytes.len()].copy_from_slice(&bytes);
                }
            }
            Step::Commit(_) => {
                let mut state: Vec<Vec<u8>> = pages.values().cloned().collect();
                state.sort();
                states.push(state);
            }
            Step::Expect(Expect::Page(check)) => {
                let Content::Digest(Digest::Git(digest)) = check.content else {
                    panic!("{line}")
                };
                let page = &pages[check.page.as_str()];
                assert_eq!(
                    repository.blob_id(page),
                    digest.to_string(),
                    "line {number}"
                );
                checks += 1;
            }
            Step::Expect(Expect::Pages(count)) => assert_eq!(number_of(&count), pages.len()),
            Step::Replay(_) | Step::Reopen(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(checks > 0);
    states
}

#[test]
fn every_kind_of_change_gives_the_trees_of_git() {
    let repository = Repository::new();
    let odd = OsString::from(OsStr::from_bytes(b"dir/odd\n\xff name"));
    repository.write("a.txt", b"first version\n");
    repository.write("dir/b", b"\0\x01binary\xff");
    repository.write(&odd, b"odd");
    repository.write("empty", b"");
    repository.commit();
    repository.write("a.txt", b"FIRST version\n");
    repository.write("dir/b", &[7; 5000]);
    repository.write("empty", b"no longer");
    repository.commit();
    repository.git(&["mv", "a.txt", "renamed.txt"]);
    repository.write(&odd, b"");
    repository.commit();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(repository.path().join("renamed.txt"), executable).unwrap();
    repository.commit();
    repository.git(&["rm", "--quiet", "dir/b"]);
    repository.commit();
    std::os::unix::fs::symlink("renamed.txt", repository.path().join("link")).unwrap();
    repository.commit();
    fs::remove_file(repository.path().join("link")).unwrap();
    repository.write("link/now-a-directory", b"x");
    repository.write("link.now-a-directory", b"same page name");
    repository.commit();
    repository.commit();

    let (counts, trace) = repository.import(".");
    let states = replay(&repository, &trace);
    // Of 8 commits one changes only a mode, and one that changes nothing touches no path.
    let with_changes: Vec<String> = [7, 6, 5, 3, 2, 1]
        .iter()
        .map(|back| format!("HEAD~{back}"))
        .collect();
    let trees: Vec<_> = with_changes
        .iter()
        .map(|revision| repository.tree(revision))
        .collect();
    assert_eq!(states, trees);
    assert_eq!(counts.commits, 7);
    assert_eq!(counts.transactions, 6);
    assert_eq!(counts.mode_changes, 1);
    assert_eq!(counts.skipped_empty, 2);
    assert_eq!((counts.runs, counts.run_bytes), (1, 5));
    assert_eq!(counts.live_pages, 4);
    assert_eq!(counts.lines, trace.lines().count() as u64);
    assert!(!counts.shallow);
}

#[test]
fn a_merge_is_one_transaction_against_its_first_parent() {
    let repository = Repository::new();
    repository.write("base", b"base");
    repository.commit();
    repository.git(&["switch", "--quiet", "--create", "side"]);
    for version in [b"side 1", b"side 2"] {
        repository.write("side", version);
        repository.commit();
    }
    repository.git(&["switch", "--quiet", "main"]);
    repository.write("base", b"BASE");
    repository.commit();
    repository.git(&["merge", "--quiet", "--no-edit", "side"]);
    repository.write("after", b"after");
    repository.commit();

    let (counts, trace) = repository.import(".");
    let revisions = ["HEAD~3", "HEAD~2", "HEAD~1", "HEAD"];
    let trees: Vec<_> = revisions
        .iter()
        .map(|revision| repository.tree(revision))
        .collect();
    assert_eq!(replay(&repository, &trace), trees);
    assert_eq!(counts.commits, 4);
    assert!(!trace.contains("side 1"));
}

#[test]
fn a_path_limits_the_history_and_is_taken_literally() {
    let repository = Repository::new();
    repository.write("in/a", b"1");
    repository.write("out", b"1");
    repository.write("[in]*", b"star");
    repository.commit();
    repository.write("out", b"2");
    repository.commit();
    repository.write("in/a", b"3");
    repository.commit();

    let (counts, trace) = repository.import("in");
    assert_eq!(
        (counts.commits, counts.versions, counts.live_pages),
        (2, 2, 1)
    );
    replay(&repository, &trace);
    let (counts, _) = repository.import("[in]*");
    assert_eq!((counts.commits, counts.versions), (1, 1));
}

#[test]
fn submodules_are_left_out_and_counted() {
    let inner = Repository::new();
    inner.write("x", b"x");
    inner.commit();
    let outer = Repository::new();
    outer.write("was-file", b"a file first");
    outer.commit();
    outer.git(&["rm", "--quiet", "--cached", "was-file"]);
    fs::remove_file(outer.path().join("was-file")).unwrap();
    let url = inner.path().to_str().unwrap();
    outer.git(&["submodule", "--quiet", "add", "--force", url, "was-file"]);
    outer.commit();
    let (counts, trace) = outer.import(".");
    replay(&outer, &trace);
    assert_eq!(counts.skipped_submodules, 1);
    assert_eq!(counts.live_pages, 1, "only .gitmodules");
}

#[test]
fn the_same_history_gives_the_same_trace() {
    let repository = Repository::new();
    for version in 0..5u8 {
        repository.write("a/b", &[version; 100]);
        repository.write("a.b", &[version; 10]);
        repository.commit();
    }
    // Configuration of the user must not show.
    repository.git(&["config", "diff.renames", "copies"]);
    repository.git(&["config", "core.quotePath", "true"]);
    repository.git(&["config", "log.showRoot", "false"]);
    let (first, one) = repository.import(".");
    let order = repository.path().join(".git/order");
    fs::write(&order, "a/b\n").unwrap();
    repository.git(&["config", "diff.orderFile", order.to_str().unwrap()]);
    let (second, other) = repository.import(".");
    assert_eq!(first, second);
    assert_eq!(one, other);
    replay(&repository, &one);
}

#[test]
fn what_cannot_be_imported_is_refused_with_a_reason() {
    let repository = Repository::new();
    let mut sink = Vec::new();
    let mut try_import = |path: &Path, inside: &str, revision: &str| {
        let import_ = Import {
            repository: path,
            path: OsStr::new(inside),
            revision,
        };
        import(import_, &mut sink, |_, _| {}).unwrap_err()
    };
    let error = try_import(repository.path(), ".", "HEAD");
    assert!(
        matches!(error, GitImportError::Revision { .. }),
        "no commit yet: {error}"
    );
    repository.write("a", b"a");
    repository.commit();
    let error = try_import(repository.path(), "missing", "HEAD");
    assert!(matches!(error, GitImportError::Nothing { .. }), "{error}");
    let error = try_import(repository.path(), ".", "--all");
    assert!(matches!(error, GitImportError::Revision { .. }), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = try_import(empty.path(), ".", "HEAD");
    assert!(
        matches!(error, GitImportError::Repository { .. }),
        "{error}"
    );
    let error = try_import(&empty.path().join("none"), ".", "HEAD");
    assert!(
        matches!(error, GitImportError::Repository { .. }),
        "{error}"
    );

    let id = repository.git(&["rev-parse", "HEAD:a"]);
    let (folder, file) = id.split_at(2);
    fs::remove_file(
        repository
            .path()
            .join(".git/objects")
            .join(folder)
            .join(file),
    )
    .unwrap();
    let error = try_import(repository.path(), ".", "HEAD");
    assert!(
        matches!(error, GitImportError::MissingObject { .. }),
        "{error}"
    );
}

#[test]
fn names_in_traces_are_names() {
    let repository = Repository::new();
    repository.write("{i} \"quoted\"", b"1");
    repository.commit();
    let (_, trace) = repository.import(".");
    for (line, number) in trace.lines().zip(1..) {
        if let Step::Allocate(allocate) = parse_trace_line("trace", number, line).unwrap() {
            assert_eq!(allocate.pages[0].page, Name::new("_i___quoted_"));
        }
    }
}
