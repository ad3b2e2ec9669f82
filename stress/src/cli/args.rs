//! The command line, and the help that explains it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mmsb_stress::campaign::Campaign;
use mmsb_stress::run::Shard;

const EXAMPLES: &str = "\
Examples:
  mmsb-stress run --for 60s                      a minute of everything
  mmsb-stress run --for 8h --seed-from $(git rev-parse HEAD) --out target/night
  mmsb-stress run --resume target/night --for 8h go on where it was stopped
  mmsb-stress merge shard-1 shard-2 --out all    join the shards of a fleet
  mmsb-stress repro target/night/findings/x.yaml --campaign twice

Exit codes:
  0  nothing was found
  1  something was found, a canary was silent, or a planted bug survived
  2  the command was called wrongly or could not be carried out
  3  nothing ran";

/// Soaks the MMSB engine with generated scenarios, and hands back what it finds as minimal scenarios.
#[derive(Debug, Parser)]
#[command(name = "mmsb-stress", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    /// When to use colours.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(super) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes it so for everything that is written.
    pub(super) fn write_global(self) {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
        .write_global();
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run scenarios for a while.
    #[command(after_help = "\
Examples:
  mmsb-stress run --for 10m --campaign sim,twice
  mmsb-stress run --for 8h --shard 3/16 --seed-from $COMMIT --out shard-3
  mmsb-stress run --resume shard-3 --for 8h

Campaigns: sim (simulated storage that fails and crashes), replay (the log replayed by 1, 2 and 8 threads), twice (two runs \
must write the same bytes), threads (real threads, real files), kill (kill -9 on real files). Each gets the same \
time. What is found is made small and written to DIR/findings, with the command that shows it again. SIGINT and \
SIGTERM end the run in order; --resume goes on.")]
    Run(RunArgs),
    /// Join the shards of a run into one report.
    #[command(after_help = "\
Examples:
  mmsb-stress merge shard-*/ --out all")]
    Merge(MergeArgs),
    /// Run one scenario as a campaign does.
    #[command(after_help = "\
Examples:
  mmsb-stress repro findings/nondeterministic-files-1a2b3c4d.yaml --campaign twice
  mmsb-stress repro findings/hang-sim-1a2b3c4d.yaml --timeout 10s")]
    Repro(ReproArgs),
    /// Plant bugs in the engine, and show that each is found. Needs a build with `--cfg mmsb_planted`: see ci/prove.
    #[command(after_help = "\
Examples:
  ci/prove
  mmsb-stress prove --only log-skip-rotation-sync --budget 2m

Exits with 1 if a bug survives its budget.")]
    Prove(ProveArgs),
    /// Print the scenario of a seed.
    #[command(after_help = "\
Examples:
  mmsb-stress show --campaign sim --seed 17
  mmsb-stress show --campaign kill --seed 17 > killed.yaml")]
    Show(ShowArgs),
    /// A process that does jobs.
    #[command(hide = true)]
    Worker(WorkerArgs),
    /// One child of the campaign `kill`.
    #[command(hide = true)]
    KillChild(KillChildArgs),
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// How long the run lasts, such as 60s, 10m or 8h; with --resume, all parts together.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(super) duration: Duration,
    /// The campaigns that take turns.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "sim,replay,twice,threads,kill"
    )]
    pub(super) campaign: Vec<Campaign>,
    /// Which part of a fleet this is, such as 3/16.
    #[arg(
        long,
        value_name = "NUMBER/OF",
        default_value = "1/1",
        conflicts_with = "resume"
    )]
    pub(super) shard: Shard,
    /// The text that all seeds are drawn from, such as a commit.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "0",
        conflicts_with = "resume"
    )]
    pub(super) seed_from: String,
    /// Where the run is kept; `target/stress` and a number if left out.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(super) out: Option<PathBuf>,
    /// Go on with the run in this directory.
    #[arg(long, value_name = "DIR")]
    pub(super) resume: Option<PathBuf>,
    /// Scenarios at the same time; as many as there are cores if left out.
    #[arg(long, short, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,
    /// End after so many scenarios, if that comes first.
    #[arg(long, value_name = "N")]
    pub(super) scenarios: Option<u64>,
    /// A scenario that stands still for longer is a finding, or takes ten times as long.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(super) timeout: Duration,
    /// One in so many scenarios has an expectation that must fail; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) canary_every: u64,
    /// How long making one finding small may take.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(super) minimise_for: Duration,
    /// How long a run must be steady before anything is said of leaks.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "120s")]
    pub(super) steady: Duration,
    /// Do not watch memory and descriptors, to see what watching costs.
    #[arg(long)]
    pub(super) no_monitor: bool,
    /// A worker that grows beyond so many MiB is replaced.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub(super) max_rss: u64,
}

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The directories of the shards.
    #[arg(required = true, value_name = "DIR")]
    pub(super) shards: Vec<PathBuf>,
    /// Where the joined report goes.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ReproArgs {
    /// The scenario.
    pub(super) file: PathBuf,
    /// As which campaign it is run.
    #[arg(long, value_name = "NAME", default_value = "sim")]
    pub(super) campaign: Campaign,
    /// The seed of the moments of kills.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(super) seed: u64,
    /// How long it may take.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    /// Only these bugs.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// How long each bug may survive.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2m")]
    pub(super) budget: Duration,
    /// The text that all seeds are drawn from.
    #[arg(long, value_name = "TEXT", default_value = "prove")]
    pub(super) seed_from: String,
    /// How long making a finding small may take.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "20s")]
    pub(super) minimise_for: Duration,
    /// Where the figures go, as Markdown and as JSON.
    #[arg(long, value_name = "DIR", default_value = "target/prove")]
    pub(super) out: PathBuf,
    /// Scenarios at the same time; as many as there are cores if left out.
    #[arg(long, short, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,
    /// List the bugs.
    #[arg(long)]
    pub(super) list: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The campaign that the scenario is made for.
    #[arg(long, value_name = "NAME", default_value = "sim")]
    pub(super) campaign: Campaign,
    /// The seed.
    #[arg(long, value_name = "SEED")]
    pub(super) seed: u64,
    /// With an expectation that must fail.
    #[arg(long)]
    pub(super) canary: bool,
}

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// A directory for real files.
    #[arg(long, value_name = "DIR")]
    pub(super) scratch: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct KillChildArgs {
    /// The scenario.
    pub(super) file: PathBuf,
    /// The directory of the bus.
    #[arg(long, value_name = "DIR")]
    pub(super) bus: PathBuf,
    /// Opening must come to this LSN or a higher one.
    #[arg(long, value_name = "LSN")]
    pub(super) at_least: u64,
    /// And to no higher one than this.
    #[arg(long, value_name = "LSN")]
    pub(super) at_most: Option<u64>,
    /// End once the directory was compared with the model.
    #[arg(long)]
    pub(super) verify: bool,
}

/// Reads a duration such as 30s, 5m or 8h.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration; write a number and s, m, h or d, such as 90s");
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("8h"), Ok(Duration::from_secs(28_800)));
        for text in ["", "8", "h", "8w", "-1s", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
