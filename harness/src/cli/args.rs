//! The command line, and the help that explains it.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anstream::ColorChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::log::LogArgs;

const EXAMPLES: &str = "\
Examples:
  mmsb new scenarios/demo/first.yaml     write a first scenario, with comments
  mmsb run scenarios/demo                run what is in a folder
  mmsb run --filter sparse --jobs 4      run the tests whose names match
  mmsb list                              name every test, and what cannot run here
  mmsb check                             look for mistakes without running anything
  mmsb expand scenarios/demo/first.yaml  show the cells of a matrix
  mmsb schema > scenarios/schema.json    write the schema by which editors complete
  mmsb import git . --path src -o src.jsonl && mmsb run src.jsonl
  mmsb log verify data                   say what is wrong with a bus that does not open

Exit codes:
  0  everything passed
  1  a scenario failed, or damage or a difference was found
  2  a file is no scenario, or the command was called wrongly
  3  nothing ran";

/// Runs scenarios against the MMSB engine and compares every step with a model.
#[derive(Debug, Parser)]
#[command(name = "mmsb", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    /// When to use colours.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run scenarios and traces.
    #[command(after_help = "\
Examples:
  mmsb run                                      everything under `scenarios`
  mmsb run scenarios/delta --filter 'sparse|masked'
  mmsb run --junit report.xml --json report.json --quiet
  mmsb run scenarios/crash/torn.yaml --keep     keep the files of a failed run
  mmsb run trace.jsonl                          an imported trace

The last line is always `N passed, N failed, N skipped`. Tests are reported in order of name, \
whatever --jobs is.")]
    Run(RunArgs),
    /// List the names of the tests.
    #[command(after_help = "\
Examples:
  mmsb list
  mmsb list scenarios/delta --filter threads=2

A test that cannot run on this machine is listed with the reason, after a tab.")]
    List(Selection),
    /// Look for mistakes in scenarios without running them.
    #[command(after_help = "\
Examples:
  mmsb check
  mmsb check scenarios/demo/first.yaml

Every mistake of every file is shown with its line, its column and what was probably meant.")]
    Check(CheckArgs),
    /// Show the cells of a scenario's matrix.
    #[command(after_help = "\
Examples:
  mmsb expand scenarios/replay/threads.yaml
  mmsb expand scenarios/replay/threads.yaml --cell threads=2,storage=fs

With --cell the scenario is printed as it runs in that cell.")]
    Expand(ExpandArgs),
    /// Print the JSON Schema of the language.
    #[command(after_help = "\
Examples:
  mmsb schema > scenarios/schema.json
  mmsb schema --check scenarios/schema.json     exits with 1 if the file is out of date")]
    Schema(SchemaArgs),
    /// Write a first scenario, with comments, that passes.
    #[command(after_help = "\
Examples:
  mmsb new scenarios/demo/first.yaml
  mmsb run scenarios/demo/first.yaml

An existing file is never replaced.")]
    New(NewArgs),
    /// Turn what others recorded into a trace.
    Import(ImportArgs),
    /// Look into the log of a bus, also where the bus does not open, and save what can be saved.
    Log(LogArgs),
}

/// Which tests.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Scenario files, traces (.jsonl), or folders to look in.
    #[arg(
        value_name = "PATH",
        env = "MMSB_SCENARIOS",
        default_value = "scenarios"
    )]
    pub(super) paths: Vec<PathBuf>,
    /// Only tests whose name contains this text or matches it as a regular expression.
    #[arg(long, short, value_name = "TEXT")]
    pub(super) filter: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// How many tests run side by side; as many as there are cores if left out.
    #[arg(long, short, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Write the results as JSON to a file, or to the standard output (`-`).
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the results as JUnit XML to a file.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Skip the tests after the first that fails.
    #[arg(long)]
    pub(super) fail_fast: bool,
    /// Keep the files of tests that fail, and say where they are.
    #[arg(long)]
    pub(super) keep: bool,
    /// Show failures and the summary only.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Scenario files, traces (.jsonl), or folders to look in.
    #[arg(
        value_name = "PATH",
        env = "MMSB_SCENARIOS",
        default_value = "scenarios"
    )]
    pub(super) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExpandArgs {
    /// The scenario.
    pub(super) file: PathBuf,
    /// Print the scenario as it runs in this cell.
    #[arg(long, value_name = "NAME")]
    pub(super) cell: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Print nothing, but compare with this file.
    #[arg(long, value_name = "FILE")]
    pub(super) check: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The file to write, such as `scenarios/demo/first.yaml`; its folders are made.
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    pub(super) source: Source,
}

#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Import the history of files in a git repository.
    #[command(after_help = "\
Examples:
  mmsb import git . --path . -o target/trace.jsonl
  mmsb import git ~/src/linux --path Documentation --rev v6.1 -o docs.jsonl
  mmsb run docs.jsonl

Each commit along first parents becomes a transaction, each file a page. After each commit the trace \
expects every file that it touched to have the blob id that git gave it, so git says what is right, \
and running the trace checks it.")]
    Git(GitArgs),
}

#[derive(Debug, Args)]
pub(super) struct GitArgs {
    /// A directory in the repository.
    pub(super) repository: PathBuf,
    /// The file or folder whose history is imported, relative to REPOSITORY; `.` for all.
    #[arg(long, value_name = "PATH")]
    pub(super) path: OsString,
    /// The revision that the history leads to.
    #[arg(long, value_name = "REVISION", default_value = "HEAD")]
    pub(super) rev: String,
    /// The trace to write.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Makes it the choice of every output from here on.
    pub(super) fn choose(self) {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
        .write_global();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        let root = Arguments::command();
        let leaves = root.get_subcommands().flat_map(|command| {
            let below: Vec<_> = command.get_subcommands().collect();
            if below.is_empty() {
                vec![command]
            } else {
                below
            }
        });
        for command in leaves {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("  mmsb "), "{}", command.get_name());
        }
    }
}
