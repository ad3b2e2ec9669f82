//! The command line, and the help that explains it.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mmsb_harness::kill::Limit;

use super::gpu::GpuArgs;
use super::log::LogArgs;

const EXAMPLES: &str = "\
Examples:
  mmsb new scenarios/demo/first.yaml     write a first scenario, with comments
  mmsb run scenarios/demo                run what is in a folder
  mmsb run --filter sparse --jobs 4      run the tests whose names match
  mmsb sweep scenarios/durability        crash at every moment, in every way
  mmsb list                              name every test, and what cannot run here
  mmsb check                             look for mistakes without running anything
  mmsb expand scenarios/demo/first.yaml  show the cells of a matrix
  mmsb schema > scenarios/schema.json    write the schema by which editors complete
  mmsb doctor                            say which devices there are, and why not others
  mmsb import git . --path src -o src.jsonl && mmsb run src.jsonl
  mmsb kill scenarios/kill/steady-writers.yaml --dir target/kill
  mmsb shrink found.yaml                 make a failing scenario small
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
    /// Crash scenarios at every moment, in every way, and check each recovery.
    #[command(after_help = "\
Examples:
  mmsb sweep scenarios/durability
  mmsb sweep scenarios/checkpoint --grain sector    quicker: writes are torn at sectors only
  mmsb sweep --exhaustive 3                         every sequence of up to three operations

A scenario is run once on simulated storage. Then every state that a crash can have left on the disk is made: at each \
moment, any of the changes that were not synced, in any order, the last of them whole or in part. From each the bus is \
opened and compared with the model: what was synced must be there, and nothing that was never committed. Work goes on, and \
crashes once more; and each recovery is itself crashed at every moment. What can be left is told in docs/GUARANTEES.md.

A failure names the one step that shows it, such as `crash: {at: 12, keep: [0]}`.")]
    Sweep(SweepArgs),
    /// Damage every field of every file format, and show what came of it.
    #[command(after_help = "\
Examples:
  mmsb scorecard > docs/SCORECARD.md
  mmsb scorecard --check docs/SCORECARD.md    exits with 1 if the file is out of date
  mmsb scorecard --control                    for builds without checksums: exits with 0 if damage passes in silence

Exits with 1 if any damage passed in silence or crashed the engine.")]
    Scorecard(ScorecardArgs),
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
    /// Say which devices there are, why others cannot be used, and what limits they meet.
    #[command(after_help = "\
Examples:
  mmsb doctor
  mmsb doctor --json
  MMSB_GPU=require mmsb doctor     exits with 1 if there is no GPU

MMSB_GPU says what becomes of tests that need a GPU: `auto` (skipped where there is none), `off` (skipped) or \
`require` (they run, and fail where there is none).")]
    Doctor(DoctorArgs),
    /// Write a first scenario, with comments, that passes.
    #[command(after_help = "\
Examples:
  mmsb new scenarios/demo/first.yaml
  mmsb run scenarios/demo/first.yaml

An existing file is never replaced.")]
    New(NewArgs),
    /// Turn what others recorded into a trace.
    Import(ImportArgs),
    /// Kill processes that run a scenario on real files, and verify what they leave.
    #[command(after_help = "\
Examples:
  mmsb kill scenarios/kill/steady-writers.yaml --dir target/kill --rounds 200
  mmsb kill scenarios/kill/steady-writers.yaml --dir target/kill --for 5m --set rounds=1000000
  mmsb kill scenarios/kill/steady-writers.yaml --dir target/kill --rounds 0    only verify

A child process runs the scenario on DIR/bus and acknowledges each commit; it is killed with SIGKILL at a \
moment drawn from the seed. The next one opens the directory, compares it with the model, and goes \
on. Nothing acknowledged as `sync` or `buffered` may be missing, and nothing may be there that was never committed.

A campaign that is in DIR already goes on. What is found wrong stays there, with the command that shows it again.")]
    Kill(KillArgs),
    /// One child of `mmsb kill`.
    #[command(hide = true)]
    #[command(after_help = "\
Examples:
  mmsb kill-child scenarios/kill/steady-writers.yaml --bus /tmp/bus --at-least 0 --verify

Tells its parent, one JSON value a line, what it comes to.")]
    KillChild(KillChildArgs),
    /// Make a failing scenario small.
    #[command(after_help = "\
Examples:
  mmsb shrink found.yaml > small.yaml
  mmsb shrink found.yaml --cell threads=2 --output scenarios/regress/small.yaml

Steps, faults, payloads, numbers, options and pages go for as long as the scenario fails in the same way: with the same kind \
of error, message and verb. Of a matrix the first cell that fails is taken.")]
    Shrink(ShrinkArgs),
    /// Look into the log of a bus, also where the bus does not open, and save what can be saved.
    Log(LogArgs),
    /// Replay traces of allocations of device memory, and make or convert them.
    Gpu(GpuArgs),
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
    /// Go this way to the engine, whatever the files say.
    #[arg(long, value_enum, value_name = "WAY")]
    pub(super) via: Option<ViaArg>,
    /// Show failures and the summary only.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// The way to the engine.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ViaArg {
    /// The functions of the crate.
    Rust,
    /// The C ABI.
    C,
}

impl ViaArg {
    /// The word of the option `via`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// How closely torn writes are cut.
    #[arg(long, value_enum, value_name = "GRAIN", default_value_t = GrainArg::Byte)]
    pub(super) grain: GrainArg,
    /// Do not crash the recoveries.
    #[arg(long)]
    pub(super) no_again: bool,
    /// In place of files, every sequence of at most N operations on a small bus.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4), conflicts_with = "filter")]
    pub(super) exhaustive: Option<u8>,
}

/// How closely torn writes are cut.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum GrainArg {
    /// At every byte of short writes.
    Byte,
    /// At sectors of 512 bytes.
    Sector,
}

impl From<GrainArg> for mmsb_harness::world::Grain {
    fn from(grain: GrainArg) -> Self {
        match grain {
            GrainArg::Byte => Self::Byte,
            GrainArg::Sector => Self::Sector,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ScorecardArgs {
    /// Print nothing, but compare with this file.
    #[arg(long, value_name = "FILE")]
    pub(super) check: Option<PathBuf>,
    /// Expect silent damage: shows that the scorecard can see it. Needs an engine built with `--cfg mmsb_unchecked`.
    #[arg(long, conflicts_with = "check")]
    pub(super) control: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShrinkArgs {
    /// The scenario, which must fail.
    pub(super) file: PathBuf,
    /// The cell of its matrix; the first that fails if left out.
    #[arg(long, value_name = "NAME")]
    pub(super) cell: Option<String>,
    /// Write the result to a file, not to the standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// How many candidates may be run.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub(super) tries: usize,
    /// How long it may take, such as 30s, 5m or 8h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "5m")]
    pub(super) duration: Duration,
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
pub(super) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
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

/// What the children of a campaign run.
#[derive(Debug, Args)]
pub(super) struct KilledScenario {
    /// The scenario. Steps that cannot be resumed are refused: crash, open, close, concurrent, subscriptions, marks, traces
    /// and changes of files.
    #[arg(value_name = "SCENARIO")]
    pub(super) file: PathBuf,
    /// The cell of its matrix, if it has several.
    #[arg(long, value_name = "NAME")]
    pub(super) cell: Option<String>,
    /// Give a variable of the scenario's `let` another value; may be repeated.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = variable)]
    pub(super) set: Vec<(String, u64)>,
}

impl KilledScenario {
    /// The words of a command line that mean the same.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec![self.file.display().to_string()];
        if let Some(cell) = &self.cell {
            words.extend(["--cell".to_owned(), cell.clone()]);
        }
        for (name, value) in &self.set {
            words.extend(["--set".to_owned(), format!("{name}={value}")]);
        }
        words
    }
}

#[derive(Debug, Args)]
pub(super) struct KillArgs {
    #[command(flatten)]
    pub(super) scenario: KilledScenario,
    /// Where the campaign keeps its files: a directory that is empty, or holds a campaign of the scenario.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// How many children are started; 100 if neither this nor --for is given, 0 to verify only.
    #[arg(long, value_name = "N")]
    pub(super) rounds: Option<u64>,
    /// How long the campaign lasts, such as 30s, 5m or 8h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// The seed from which the moments of the kills are drawn.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(super) seed: u64,
    /// Write the report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl KillArgs {
    /// When the campaign ends.
    pub(super) fn limit(&self) -> Limit {
        let rounds = self.rounds.or(self.duration.is_none().then_some(100));
        Limit {
            rounds,
            duration: self.duration,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct KillChildArgs {
    #[command(flatten)]
    pub(super) scenario: KilledScenario,
    /// The directory of the bus.
    #[arg(long, value_name = "DIR")]
    pub(super) bus: PathBuf,
    /// The LSN that opening must come to at least.
    #[arg(long, value_name = "LSN")]
    pub(super) at_least: u64,
    /// The LSN that opening must come to at most.
    #[arg(long, value_name = "LSN")]
    pub(super) at_most: Option<u64>,
    /// Compare the directory with the model and end.
    #[arg(long)]
    pub(super) verify: bool,
}

/// Reads `name=number`.
fn variable(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("it must read NAME=NUMBER, such as rounds=1000")?;
    let value = value
        .parse()
        .map_err(|_| format!("`{value}` is not a whole number"))?;
    Ok((name.to_owned(), value))
}

/// Reads a duration such as `30s`, `5m` or `8h`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("it must be a whole number with a unit: 30s, 5m or 8h".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "it must begin with a whole number, as 30s does".to_owned())?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| "it is too long".to_owned())
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
    fn durations_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("8h"), Ok(Duration::from_secs(28_800)));
        for wrong in ["", "5", "m", "5 m", "-1s", "1.5s", "99999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
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
