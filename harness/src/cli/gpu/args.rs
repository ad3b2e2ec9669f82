//! The command line of `mmsb gpu`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use mmsb_harness::gpu::generate::Kind;

#[derive(Debug, Args)]
pub(in crate::cli) struct GpuArgs {
    #[command(subcommand)]
    pub(super) command: GpuCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum GpuCommand {
    /// Replay a trace against allocators, and on a simulated GPU, and measure.
    #[command(after_help = "\
Examples:
  mmsb gpu replay-bench trace.txt                     a trace of our own
  mmsb gpu replay-bench rmm.csv --memory 24GiB        a log of RMM's logging adaptor: does it fit on a smaller GPU?
  mmsb gpu replay-bench snapshot.pickle --json        what torch.cuda.memory._dump_snapshot wrote
  mmsb gpu replay-bench trace.txt --snapshot out.pickle    and open out.pickle in pytorch.org/memory_viz

Backends of this build: pool (the engine's allocator of device pages), placement (its allocator of host pages). Neither \
asks a device, so what is measured is the work of the host. Backends that ask CUDA are not part of this build.

The simulated GPU is the pool with memory mapped granule by granule. Its figures are exact and the same on every machine; \
latencies are not.

Exit codes: 0 everything fitted, 1 an allocation did not fit into --memory, 2 the trace cannot be read.")]
    ReplayBench(ReplayBenchArgs),
    /// Turn a log of RMM or a snapshot of PyTorch into a trace of our own.
    #[command(after_help = "\
Examples:
  mmsb gpu import rmm.csv -o trace.txt
  mmsb gpu import snapshot.pickle -o trace.txt

A pickle is only read: one that would import or call anything is refused.")]
    Import(GpuImportArgs),
    /// Make up a trace.
    #[command(after_help = "\
Examples:
  mmsb gpu generate training -o training.txt
  mmsb gpu generate churn --events 1000000 --seed 7 -o churn.txt

The same kind, number of events and seed give the same trace everywhere.")]
    Generate(GenerateArgs),
}

#[derive(Debug, Args)]
pub(super) struct ReplayBenchArgs {
    /// The trace: our own format, an RMM log, or a PyTorch snapshot.
    #[arg(value_name = "TRACE")]
    pub(super) trace: PathBuf,
    /// Memory of the simulated GPU, such as 80GiB.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "80GiB")]
    pub(super) memory: u64,
    /// The unit in which it maps memory; a power of two.
    #[arg(long, value_name = "SIZE", value_parser = granule, default_value = "2MiB")]
    pub(super) granule: u64,
    /// Memory that stays mapped though no page needs it, until it is short; all of it if left out.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) reserve: Option<u64>,
    /// How often the trace is replayed; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) repeats: u32,
    /// Only this backend; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) backend: Vec<String>,
    /// Write what the simulated GPU did for PyTorch's memory viewer.
    #[arg(long, value_name = "FILE")]
    pub(super) snapshot: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct GpuImportArgs {
    /// What was recorded.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The trace to write.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// What kind of trace.
    #[arg(value_enum, value_name = "KIND")]
    pub(super) kind: KindArg,
    /// About how many events.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(super) events: u32,
    /// The seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(super) seed: u64,
    /// The trace to write.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: PathBuf,
}

/// What kind of trace.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KindArg {
    /// Training a transformer with sequences of differing length.
    Training,
    /// Pages of 64 B to 64 MiB, one replaced at random at a time.
    Churn,
    /// Buffers that are outgrown again and again.
    Growing,
    /// What tears a range apart.
    Fragmenting,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Training => Self::Training,
            KindArg::Churn => Self::Churn,
            KindArg::Growing => Self::Growing,
            KindArg::Fragmenting => Self::Fragmenting,
        }
    }
}

/// Reads a number of bytes such as `80GiB`, `512MiB` or `4096`.
fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("it must be a whole number with a unit: 80GiB, 512MiB or 4096".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "it must begin with a whole number, as 80GiB does".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "it is too large".to_owned())
}

/// Reads the length of a granule.
fn granule(text: &str) -> Result<u64, String> {
    let granule_bytes = size(text)?;
    if !granule_bytes.is_power_of_two() || !(4096..=1 << 32).contains(&granule_bytes) {
        return Err("it must be a power of two from 4KiB to 4GiB".to_owned());
    }
    Ok(granule_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(size("80GiB"), Ok(80 << 30));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("5 MiB"), Ok(5 << 20));
        for wrong in ["", "GiB", "80GB", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(granule("64KiB"), Ok(64 << 10));
        assert!(granule("3MiB").is_err() && granule("1KiB").is_err());
    }
}
