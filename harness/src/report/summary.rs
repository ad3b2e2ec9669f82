//! A run as text: a table by folder, why tests were skipped, which took longest, and the closing line.

use std::collections::BTreeMap;
use std::time::Duration;

use super::results::{Run, Totals, Verdict};

/// How many of the slowest tests are named.
const SLOWEST: usize = 5;

/// Writes the summary of a run without the closing line.
#[must_use]
pub fn summary(run: &Run) -> String {
    let mut out = String::new();
    push_folders(&mut out, run);
    push_skips(&mut out, run);
    push_slowest(&mut out, run);
    let totals = run.totals();
    out.push_str(&format!(
        "\n{} steps and {} checks in {}\n",
        totals.steps,
        totals.checks,
        duration_text(run.duration)
    ));
    let coverage = run.coverage();
    if coverage.moments > 0 {
        out.push_str(&format!("crashes: {coverage}\n"));
    }
    out
}

/// The closing line, which scripts may look for: `3 passed, 1 failed, 0 skipped`.
#[must_use]
pub fn closing_line(totals: &Totals) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        totals.passed, totals.failed, totals.skipped
    )
}

/// A duration with three significant digits or so, such as `412 µs`, `38.1 ms` or `2m 04s`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if duration.as_secs() >= 60 {
        return format!(
            "{}m {:02}s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        );
    }
    if seconds >= 1.0 {
        return format!("{seconds:.2} s");
    }
    if seconds >= 0.001 {
        return format!("{:.1} ms", seconds * 1e3);
    }
    format!("{} µs", duration.as_micros())
}

fn push_folders(out: &mut String, run: &Run) {
    let folders = run.folders();
    let width = folders
        .iter()
        .map(|(folder, _)| folder.chars().count())
        .max()
        .unwrap_or_default()
        .max(6);
    out.push_str(&format!(
        "{:width$}  {:>7} {:>7} {:>7}\n",
        "folder", "passed", "failed", "skipped"
    ));
    for (folder, results) in folders {
        let Totals {
            passed,
            failed,
            skipped,
            ..
        } = Totals::of(results);
        out.push_str(&format!(
            "{folder:width$}  {passed:>7} {failed:>7} {skipped:>7}\n"
        ));
    }
}

fn push_skips(out: &mut String, run: &Run) {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for result in &run.results {
        if let Verdict::Skipped(reason) = &result.verdict {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if !reasons.is_empty() {
        out.push_str("\nskipped because\n");
    }
    for (reason, count) in reasons {
        out.push_str(&format!("{count:>9}  {reason}\n"));
    }
}

fn push_slowest(out: &mut String, run: &Run) {
    let mut ran: Vec<_> = run
        .results
        .iter()
        .filter(|result| !result.duration.is_zero())
        .collect();
    if ran.is_empty() {
        return;
    }
    // A stable sort: tests that took equally long stay in order of name.
    ran.sort_by_key(|result| std::cmp::Reverse(result.duration));
    out.push_str("\nslowest\n");
    for result in ran.into_iter().take(SLOWEST) {
        out.push_str(&format!(
            "{:>9}  {}\n",
            duration_text(result.duration),
            result.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::examples;
    use super::*;

    #[test]
    fn the_summary_has_every_part() {
        let run = examples::run();
        let expected = "\
folder   passed  failed skipped
a             2       0       1
a/sub         0       1       0
.             0       1       0

skipped because
        1  needs a GPU

slowest
  30.0 ms  a/passes[size=1/2]
  20.0 ms  a/sub/fails
  10.0 ms  a/passes

15 steps and 10 checks in 45.0 ms
";
        assert_eq!(summary(&run), expected);
        assert_eq!(closing_line(&run.totals()), "2 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn durations_are_readable() {
        let text = |micros| duration_text(Duration::from_micros(micros));
        assert_eq!(text(412), "412 µs");
        assert_eq!(text(38_140), "38.1 ms");
        assert_eq!(text(2_500_000), "2.50 s");
        assert_eq!(text(124_000_000), "2m 04s");
    }
}
