//! Finds scenarios and names the tests that they hold.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use mmsb_harness::scenario::ast::{AxisValue, Options, Trace};
use mmsb_harness::scenario::num::{Expr, Num};
use mmsb_harness::scenario::value::{Located, Name};
use mmsb_harness::scenario::{Cell, Diagnostic, Scenario, Step, ast, matrix, parse_file};
use regex::Regex;

use super::args::Selection;
use super::output::CommandError;

/// The folder from which tests are named, wherever in it a path points.
const ROOT: &str = "scenarios";
/// How deep folders are looked into: beyond it there is a loop of links rather than an order.
const MAX_DEPTH: usize = 32;
/// Bytes of address space for the pages of a trace that is run by itself.
const TRACE_ARENA_BYTES: u64 = 64 << 30;
/// Bytes of a log segment when a trace is run by itself.
const TRACE_SEGMENT_BYTES: u64 = 16 << 20;

/// A scenario file, or a trace that is run as if it were one.
#[derive(Debug)]
pub(super) struct File {
    /// The name of the tests in it, without a cell: `delta/sparse`.
    pub(super) name: String,
    pub(super) path: PathBuf,
    is_trace: bool,
}

/// One test: a scenario in one cell of its matrix.
pub(super) struct Test {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) scenario: Arc<Scenario>,
    pub(super) cell: Cell,
    /// Why it is not to be run, if it is not.
    pub(super) skip: Option<String>,
}

/// The tests of some paths, and the files that hold none because something is wrong with them.
pub(super) struct Corpus {
    /// In order of name, cells in the order of their matrix.
    pub(super) entries: Vec<Result<Test, Invalid>>,
}

/// A file that is no scenario.
pub(super) struct Invalid {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Corpus {
    /// Gives an option of every test a value, whatever its file says.
    pub(super) fn set(&mut self, option: &str, word: &str) {
        for test in self.entries.iter_mut().flatten() {
            let value = AxisValue::Word(Name::new(word));
            test.cell.values.insert(option.to_owned(), value);
        }
    }

    /// Reads every scenario of the paths and keeps the tests that the filter selects. A file that
    /// cannot be read as a scenario is kept if its own name matches, or nothing is filtered.
    pub(super) fn load(selection: &Selection) -> Result<Self, CommandError> {
        let filter = Filter::new(selection.filter.as_deref());
        let mut entries = Vec::new();
        for file in find(&selection.paths)? {
            match file.tests() {
                Ok(tests) => {
                    entries.extend(
                        tests
                            .into_iter()
                            .filter(|test| filter.selects(&test.name))
                            .map(Ok),
                    );
                }
                Err(diagnostics) if filter.selects(&file.name) => {
                    let File { name, path, .. } = file;
                    entries.push(Err(Invalid {
                        name,
                        path,
                        diagnostics,
                    }));
                }
                Err(_) => {}
            }
        }
        Ok(Self { entries })
    }
}

impl File {
    /// Whether it is a trace, which is checked line by line.
    pub(super) fn is_trace(&self) -> bool {
        self.is_trace
    }

    /// Reads the tests of the file.
    fn tests(&self) -> Result<Vec<Test>, Vec<Diagnostic>> {
        let scenario = if self.is_trace {
            trace_scenario(&self.path)
        } else {
            parse_file(&self.path)?
        };
        let cells = matrix::expand(&scenario).map_err(|diagnostic| vec![diagnostic])?;
        let scenario = Arc::new(scenario);
        let test = |cell: Cell| Test {
            name: test_name(&self.name, &cell),
            path: self.path.clone(),
            scenario: Arc::clone(&scenario),
            cell,
            skip: None,
        };
        Ok(cells.into_iter().map(test).collect())
    }
}

/// The name of a test: that of its file and, in brackets, of its cell.
fn test_name(file: &str, cell: &Cell) -> String {
    if cell.name.is_empty() {
        file.to_owned()
    } else {
        format!("{file}[{}]", cell.name)
    }
}

/// The scenario that runs one trace, which lies in the same folder.
fn trace_scenario(path: &Path) -> Scenario {
    let file = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let number = |value| Some(Num::new(Expr::Int(value)));
    Scenario {
        version: Located::new(ast::VERSION),
        about: format!("The trace {file}."),
        options: Options {
            arena: number(TRACE_ARENA_BYTES),
            segment: number(TRACE_SEGMENT_BYTES),
            ..Options::default()
        },
        steps: vec![Located::new(Step::Trace(Trace {
            file: Located::new(file),
        }))],
        ..Scenario::default()
    }
}

/// The files of the given paths in order of name, each once.
///
/// Folders are searched for scenarios only: the traces in them belong to the scenarios that run
/// them. Names that start with a dot are left out, as editors put their copies there.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<File>, CommandError> {
    let mut files = BTreeMap::new();
    for path in paths {
        let metadata =
            fs::metadata(path).map_err(|error| CommandError::file("read", path, &error))?;
        if metadata.is_dir() {
            search(path, path, MAX_DEPTH, &mut files)?;
            continue;
        }
        let is_trace = match kind(path) {
            Some(Kind::Scenario) => false,
            Some(Kind::Trace) => true,
            None => {
                let path = path.display();
                return Err(CommandError(format!(
                    "{path} is no .yaml scenario and no .jsonl trace"
                )));
            }
        };
        // The folder of a bare file name is the empty path, which is no path to anything.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        insert(
            &mut files,
            folder.unwrap_or(Path::new(".")),
            path.clone(),
            is_trace,
        );
    }
    Ok(files.into_values().collect())
}

/// Files by name and, for files of one name under different roots, by path.
type Found = BTreeMap<(String, PathBuf), File>;

fn search(root: &Path, folder: &Path, depth: usize, files: &mut Found) -> Result<(), CommandError> {
    let failed = |error| CommandError::file("read the folder", folder, &error);
    if depth == 0 {
        let folder = folder.display();
        return Err(CommandError(format!(
            "{folder} lies deeper than {MAX_DEPTH} folders; is it a loop?"
        )));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            continue;
        }
        if path.is_dir() {
            search(root, &path, depth - 1, files)?;
        } else if kind(&path) == Some(Kind::Scenario) {
            insert(files, root, path, false);
        }
    }
    Ok(())
}

fn insert(files: &mut Found, root: &Path, path: PathBuf, is_trace: bool) {
    let name = file_name(root, &path);
    let key = (name.clone(), absolute(&path));
    files.entry(key).or_insert(File {
        name,
        path,
        is_trace,
    });
}

#[derive(PartialEq, Eq)]
enum Kind {
    Scenario,
    Trace,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension().and_then(OsStr::to_str) {
        Some("yaml" | "yml") => Some(Kind::Scenario),
        Some("jsonl") => Some(Kind::Trace),
        _ => None,
    }
}

/// The name of a file: its path below the innermost folder called `scenarios`, or below the folder
/// that was searched, without its extension. So one file has one name from wherever it is run.
fn file_name(root: &Path, path: &Path) -> String {
    let full = absolute(path);
    // Folders above the present one are not the user's doing.
    let here = std::env::current_dir().unwrap_or_default();
    let inside = full.strip_prefix(&here).unwrap_or(path);
    let parts: Vec<&OsStr> = inside.components().map(Component::as_os_str).collect();
    let folders = parts.len().saturating_sub(1);
    let below = match parts.iter().take(folders).rposition(|part| *part == ROOT) {
        Some(at) => parts.iter().skip(at + 1).collect::<PathBuf>(),
        None => full.strip_prefix(absolute(root)).unwrap_or(path).to_owned(),
    };
    let below = below.with_extension("");
    let parts: Vec<String> = below
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    parts.join("/")
}

fn absolute(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    full.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

/// What a name has to have.
struct Filter {
    text: Option<String>,
    regex: Option<Regex>,
}

impl Filter {
    fn new(text: Option<&str>) -> Self {
        // A text that is no expression, such as `[threads`, is still a text.
        Self {
            text: text.map(str::to_owned),
            regex: text.and_then(|text| Regex::new(text).ok()),
        }
    }

    fn selects(&self, name: &str) -> bool {
        let Some(text) = &self.text else {
            return true;
        };
        name.contains(text.as_str())
            || self
                .regex
                .as_ref()
                .is_some_and(|regex| regex.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_text_or_an_expression() {
        let selects = |text, name| Filter::new(Some(text)).selects(name);
        assert!(selects("sparse[threads=2]", "delta/sparse[threads=2]"));
        assert!(selects("[threads", "delta/sparse[threads=2]"));
        assert!(selects("^delta/.*=2", "delta/sparse[threads=2]"));
        assert!(!selects("^sparse", "delta/sparse"));
        assert!(Filter::new(None).selects("anything"));
    }

    #[test]
    fn names_are_those_below_scenarios_or_below_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let name = |root: &str, path: &str| {
            file_name(&folder.path().join(root), &folder.path().join(path))
        };
        assert_eq!(name("other", "other/a/b.yaml"), "a/b");
        assert_eq!(name("x", "x/b.c.yaml"), "b.c");
        let here = std::env::current_dir().unwrap();
        let inside = here.join("scenarios/delta");
        assert_eq!(
            file_name(&inside, &inside.join("sparse.yaml")),
            "delta/sparse"
        );
        assert_eq!(
            file_name(Path::new("./scenarios"), Path::new("./scenarios/a.yaml")),
            "a"
        );
        assert_eq!(file_name(Path::new("."), Path::new("t.jsonl")), "t");
    }

    #[test]
    fn folders_are_searched_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b/z.yaml",
            "b/a.yml",
            "a.yaml",
            "schema.json",
            "t.jsonl",
            ".hidden/x.yaml",
            ".x.yaml",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let root = folder.path().to_owned();
        let files = find(&[root.clone(), root.join("."), root.join("t.jsonl")]).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| (file.name.as_str(), file.is_trace))
            .collect();
        assert_eq!(
            names,
            [("a", false), ("b/a", false), ("b/z", false), ("t", true)]
        );
        assert!(find(&[root.join("schema.json")]).is_err());
        assert!(find(&[root.join("missing")]).is_err());
    }
}
