//! The corpus: one test for each scenario file and matrix cell.
//!
//! Names derive from the file alone: `folder/file`, or `folder/file[axis=value,...]`. With `--exact NAME`, which is how
//! nextest runs each test in a process of its own, only the file of that name is read.

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use mmsb_harness::scenario::{self, Cell, Diagnostic, Scenario, matrix};
use mmsb_harness::world::{self, Context};

fn main() {
    let arguments = Arguments::from_args();
    let root = root();
    let trials = match only_name(&arguments) {
        Some(name) => of_file(&root, Path::new(&format!("{}.yaml", file_of(name)))),
        None => whole_corpus(&root),
    };
    libtest_mimic::run(&arguments, trials).exit();
}

/// All tests. A corpus that is not there is a failure: nothing would have been tested.
fn whole_corpus(root: &Path) -> Vec<Trial> {
    let files = files(root);
    if files.is_empty() {
        let message = format!(
            "no scenarios in {}; set MMSB_SCENARIOS to their folder",
            root.display()
        );
        return vec![Trial::test("corpus", move || Err(message.into()))];
    }
    files.iter().flat_map(|file| of_file(root, file)).collect()
}

/// Where the scenarios are: asked at run time, because test binaries travel.
fn root() -> PathBuf {
    if let Some(root) = std::env::var_os("MMSB_SCENARIOS") {
        return root.into();
    }
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    package.join("../scenarios")
}

/// The one name that is asked for.
fn only_name(arguments: &Arguments) -> Option<&str> {
    arguments.filter.as_deref().filter(|_| arguments.exact)
}

/// The file of a test, without its ending.
fn file_of(name: &str) -> &str {
    name.split_once('[').map_or(name, |(file, _)| file)
}

/// Every scenario file below the root, relative to it, in order.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(root.join(&folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The tests of one file. A file that cannot be read is one test, which fails with the reasons.
fn of_file(root: &Path, file: &Path) -> Vec<Trial> {
    let path = root.join(file);
    if !path.is_file() {
        return Vec::new();
    }
    let name = file.with_extension("").to_string_lossy().replace('\\', "/");
    let read = scenario::parse_file(&path).and_then(|scenario| {
        Ok((
            matrix::expand(&scenario).map_err(|error| vec![error])?,
            scenario,
        ))
    });
    match read {
        Ok((cells, scenario)) => cells
            .into_iter()
            .map(|cell| trial(&name, &path, scenario.clone(), cell))
            .collect(),
        Err(errors) => vec![Trial::test(name, move || Err(explain(&errors)))],
    }
}

fn explain(errors: &[Diagnostic]) -> Failed {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
        .into()
}

fn trial(name: &str, path: &Path, scenario: Scenario, cell: Cell) -> Trial {
    let name = if cell.name.is_empty() {
        name.to_owned()
    } else {
        format!("{name}[{}]", cell.name)
    };
    let missing = world::missing(&scenario, &cell);
    let path = path.to_owned();
    let trial = Trial::test(name, move || run(&path, &scenario, &cell));
    match missing {
        // In the kind, because that is the only text that a listing shows.
        Some(reason) => trial
            .with_kind(format!("skipped: {reason}"))
            .with_ignored_flag(true),
        None => trial,
    }
}

fn run(path: &Path, scenario: &Scenario, cell: &Cell) -> Result<(), Failed> {
    let scratch = tempfile::tempdir()?;
    let context = Context {
        directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        scratch: scratch.path().to_owned(),
        ..Context::default()
    };
    let outcome = world::run(scenario, cell, &context);
    match outcome.failure() {
        Some(failure) => {
            let (line, column) = (failure.span.line, failure.span.column);
            Err(format!("{}:{line}:{column}: {failure}", path.display()).into())
        }
        None if outcome.checks == 0 => Err("the scenario executed no check".into()),
        None => Ok(()),
    }
}
