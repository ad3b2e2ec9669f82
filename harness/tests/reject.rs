//! Every file in `tests/reject` must be refused, at the place and with the code that its first
//! line says: `# expect: LINE:COLUMN CODE`, and `help: NAME` where a typo must be recognised.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use mmsb_harness::scenario::{Code, Diagnostic, parse_file};

/// What the first line of a file demands.
#[derive(Debug, PartialEq)]
struct Expected {
    line: u32,
    column: u32,
    code: String,
    help: Option<String>,
}

impl Expected {
    fn read(bytes: &[u8]) -> Option<Self> {
        let first = bytes.split(|byte| *byte == b'\n').next()?;
        let text = std::str::from_utf8(first)
            .ok()?
            .strip_prefix("# expect: ")?;
        let (place, rest) = text.split_once(' ')?;
        let (line, column) = place.split_once(':')?;
        let (code, help) = match rest.split_once(" help: ") {
            Some((code, help)) => (code, Some(help.to_owned())),
            None => (rest, None),
        };
        Some(Self {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
            code: code.to_owned(),
            help,
        })
    }

    fn of(diagnostic: &Diagnostic) -> Self {
        Self {
            line: diagnostic.line,
            column: diagnostic.column,
            code: diagnostic.code.to_string(),
            help: diagnostic.suggestion.clone(),
        }
    }
}

fn files() -> Vec<PathBuf> {
    // Taken at run time where there is one, so that an archive of the tests runs elsewhere.
    let root = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("tests/reject"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_is_refused_at_its_place() {
    let files = files();
    assert!(files.len() >= 60, "only {} files", files.len());
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy();
        let Some(expected) = Expected::read(&fs::read(path).unwrap()) else {
            wrong.push(format!(
                "{name}: the first line is not `# expect: LINE:COLUMN CODE`"
            ));
            continue;
        };
        match parse_file(path) {
            Ok(_) => wrong.push(format!("{name}: accepted, expected {expected:?}")),
            Err(diagnostics) => {
                let mut first = Expected::of(&diagnostics[0]);
                if expected.help.is_none() {
                    first.help = None;
                }
                if first != expected || diagnostics.len() > 1 {
                    let all: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                    wrong.push(format!(
                        "{name}: expected {expected:?}, got\n{}",
                        all.join("\n")
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} files:\n{}",
        wrong.len(),
        files.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_code_has_a_file() {
    let used: BTreeSet<String> = files()
        .iter()
        .filter_map(|path| Expected::read(&fs::read(path).unwrap()))
        .map(|expected| expected.code)
        .collect();
    let unused: Vec<&str> = Code::ALL
        .iter()
        .map(|(code, _)| code.as_str())
        .filter(|code| !used.contains(*code))
        .collect();
    // A file that cannot be read can be no file of the corpus.
    assert_eq!(unused, [Code::Unreadable.as_str()]);
}

#[test]
fn a_missing_file_is_reported() {
    let diagnostics = parse_file(&PathBuf::from("does/not/exist.yaml")).unwrap_err();
    assert_eq!(diagnostics[0].code, Code::Unreadable);
    assert!(
        diagnostics[0]
            .to_string()
            .starts_with("does/not/exist.yaml: error[MMSB-E008]")
    );
}
