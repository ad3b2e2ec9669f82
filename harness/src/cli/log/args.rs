//! The command line of `mmsb log`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mmsb_engine::{Lsn, PageId};

#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    #[command(subcommand)]
    pub(super) command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Show what stands in a log, record by record, also behind damage.
    #[command(after_help = "\
Examples:
  mmsb log dump data                      everything
  mmsb log dump data --from 100 --to 120  some transactions
  mmsb log dump data --page 3.1 --hex     what was written to a page, with the bytes
  mmsb log dump data --json | jq .        one JSON object a line

Exit codes: 0 in order, 1 damage found, 2 not readable.")]
    Dump(DumpArgs),
    /// Say what there is, what is wrong with it, and what opening would do.
    #[command(after_help = "\
Examples:
  mmsb log verify data
  mmsb log verify data --json

Nothing is locked or changed, so a bus that does not open can be verified.

Exit codes: 0 nothing is wrong, 1 damage found, 2 not readable.")]
    Verify(DirectoryArgs),
    /// Find where two logs part.
    #[command(after_help = "\
Examples:
  mmsb log diff data copy
  mmsb log diff run-1 run-2 --json

Transactions are compared one by one. Where they differ in form, the states that they come to are compared.

Exit codes: 0 the same, 1 they differ (also if one goes on where the other ends, or is damaged), \
2 not readable.")]
    Diff(DiffArgs),
    /// Name the transaction that last wrote a byte of a page.
    #[command(after_help = "\
Examples:
  mmsb log blame data 3.1 0x40
  mmsb log blame data 3.1 64 --index            keep an index beside the directory: data.blame-index
  mmsb log blame data 3.1 64 --index=/tmp/i     keep it elsewhere

With --index the first call reads the whole log, and later ones almost nothing. An index of a log that \
went on or was changed since is made anew.

Exit codes: 0 answered, 1 answered as far as the log is whole, 2 no such page, or not readable.")]
    Blame(BlameArgs),
    /// Write a new directory with everything of a damaged one that can be proven good.
    #[command(after_help = "\
Examples:
  mmsb log salvage data data.salvaged

The source is not changed. The target must be new or empty. What could not be saved is listed.

Exit codes: 0 nothing was lost, 1 something was lost, 2 nothing could be saved, or not readable.")]
    Salvage(SalvageArgs),
    /// Count what is in a log.
    #[command(after_help = "\
Examples:
  mmsb log stats data
  mmsb log stats data --top 50 --json

Exit codes: 0 done, 2 not readable.")]
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
pub(super) struct DirectoryArgs {
    /// The directory of the bus.
    #[arg(value_name = "DIRECTORY")]
    pub(super) directory: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    pub(super) common: DirectoryArgs,
    /// Only from this LSN on.
    #[arg(long, value_name = "LSN", value_parser = lsn)]
    pub(super) from: Option<Lsn>,
    /// Only up to this LSN.
    #[arg(long, value_name = "LSN", value_parser = lsn)]
    pub(super) to: Option<Lsn>,
    /// Only what concerns this page; without a generation, every page that had the position.
    #[arg(long, value_name = "INDEX[.GENERATION]", value_parser = page_filter)]
    pub(super) page: Option<PageFilter>,
    /// Show the bytes of every write.
    #[arg(long)]
    pub(super) hex: bool,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The one directory.
    #[arg(value_name = "LEFT")]
    pub(super) left: PathBuf,
    /// The other.
    #[arg(value_name = "RIGHT")]
    pub(super) right: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct BlameArgs {
    /// The directory of the bus.
    #[arg(value_name = "DIRECTORY")]
    pub(super) directory: PathBuf,
    /// The page, as `mmsb log dump` shows it.
    #[arg(value_name = "INDEX.GENERATION", value_parser = page)]
    pub(super) page: PageId,
    /// The offset of the byte in the page, decimal or with 0x.
    #[arg(value_name = "OFFSET", value_parser = number)]
    pub(super) offset: u64,
    /// Answer from an index, which is made if there is none; beside the directory if no file is named.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(super) index: Option<Option<PathBuf>>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SalvageArgs {
    /// The damaged directory.
    #[arg(value_name = "SOURCE")]
    pub(super) source: PathBuf,
    /// The directory to write, which must be new or empty.
    #[arg(value_name = "TARGET")]
    pub(super) target: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    pub(super) common: DirectoryArgs,
    /// How many pages to list, those first to which most was written.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) top: usize,
}

/// Which pages `dump` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageFilter {
    index: u32,
    generation: Option<u32>,
}

impl PageFilter {
    pub(super) fn takes(self, page: PageId) -> bool {
        let is_it = |generation| generation == page.generation();
        page.index() == self.index && self.generation.is_none_or(is_it)
    }
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

fn lsn(text: &str) -> Result<Lsn, String> {
    number(text).map(Lsn)
}

fn page_filter(text: &str) -> Result<PageFilter, String> {
    let (index, generation) = match text.split_once('.') {
        Some((index, generation)) => (index, Some(generation)),
        None => (text, None),
    };
    let part = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
    Ok(PageFilter {
        index: part(index)?,
        generation: generation.map(part).transpose()?,
    })
}

fn page(text: &str) -> Result<PageId, String> {
    match page_filter(text)? {
        PageFilter {
            index,
            generation: Some(generation),
        } => Ok(PageId::new(index, generation)),
        PageFilter { .. } => Err(
            "the generation is missing; `mmsb log dump --page INDEX` shows which there are"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_numbers_are_read() {
        assert_eq!(number("0x40"), Ok(64));
        assert_eq!(page("3.1"), Ok(PageId::new(3, 1)));
        assert!(page("3").is_err() && page("3.x").is_err() && page("").is_err());
        let filter = page_filter("3").unwrap();
        assert!(filter.takes(PageId::new(3, 9)) && !filter.takes(PageId::new(4, 9)));
        assert!(!page_filter("3.1").unwrap().takes(PageId::new(3, 2)));
    }
}
