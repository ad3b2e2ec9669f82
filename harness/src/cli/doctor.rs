//! `mmsb doctor`: what this machine offers.

use mmsb_harness::world::{GpuPolicy, Presence, devices};
use serde::Serialize;

use super::args::DoctorArgs;
use super::exit::Exit;
use super::output::{BAD, CommandError, GOOD, Output, WARN, complain, styled, warn};

/// What was found.
#[derive(Serialize)]
struct Findings {
    devices: Vec<DeviceFinding>,
    /// `require`, `auto` or `off`.
    gpu: &'static str,
    /// Why tests that need a GPU are skipped; null if they run.
    gpu_skips: Option<String>,
    limits: Limits,
}

#[derive(Serialize)]
struct DeviceFinding {
    kind: &'static str,
    available: bool,
    /// A stable name for the reason why it is not.
    error: Option<&'static str>,
    reason: Option<String>,
    name: Option<String>,
    driver: Option<String>,
    memory_bytes: Option<u64>,
    granule_bytes: Option<u64>,
}

/// What the operating system allows; null where that is not known.
#[derive(Serialize)]
struct Limits {
    cores: usize,
    /// Host memory that a process may lock, which pinning counts as on some systems; null also if there is no limit.
    locked_memory_bytes: Option<u64>,
    locked_memory_is_unlimited: bool,
    /// `always`, `madvise` or `never`.
    transparent_huge_pages: Option<String>,
    huge_pages: Option<u64>,
    huge_page_bytes: Option<u64>,
}

/// Prints what there is, and fails if it is required and missing.
pub(super) fn doctor(args: &DoctorArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let policy = GpuPolicy::from_env();
    let findings = Findings {
        devices: devices().iter().map(DeviceFinding::of).collect(),
        gpu: policy.as_str(),
        gpu_skips: policy.skips(),
        limits: Limits::read(),
    };
    if args.json {
        let text = serde_json::to_string_pretty(&findings)
            .map_err(|error| CommandError(format!("cannot write JSON: {error}")))?;
        out.line(text);
    } else {
        findings.print(out);
    }
    let variable = GpuPolicy::VARIABLE;
    if let Some(word) = std::env::var_os(variable) {
        let word = word.to_string_lossy();
        if !word.is_empty() && word != policy.as_str() {
            warn(&format_args!(
                "{variable}={word} is not known, and taken for `{}`; use require, auto or off",
                policy.as_str()
            ));
        }
    }
    let missing = findings
        .devices
        .iter()
        .find(|device| device.kind == "cuda" && !device.available);
    match missing {
        Some(device) if policy == GpuPolicy::Require => {
            let reason = device.reason.as_deref().unwrap_or_default();
            complain(&format_args!("a GPU is required: {reason}"));
            Ok(Exit::Failed)
        }
        _ => Ok(Exit::Passed),
    }
}

impl DeviceFinding {
    fn of(presence: &Presence) -> Self {
        let (info, error) = match &presence.found {
            Ok(info) => (Some(info), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            kind: presence.kind.name(),
            available: info.is_some(),
            error: error.map(|error| error.kind()),
            reason: error.map(ToString::to_string),
            name: info.map(|info| info.name.clone()),
            driver: info.map(|info| info.driver.clone()),
            memory_bytes: info.map(|info| info.memory_bytes),
            granule_bytes: info.map(|info| info.granule_bytes),
        }
    }
}

impl Findings {
    fn print(&self, out: &mut Output) {
        for device in &self.devices {
            let kind = format!("{:<10}", device.kind);
            match (&device.name, &device.reason) {
                (Some(name), _) => {
                    let memory = size(device.memory_bytes.unwrap_or_default());
                    let driver = device.driver.as_deref().filter(|driver| !driver.is_empty());
                    let driver = driver
                        .map(|driver| format!(", {driver}"))
                        .unwrap_or_default();
                    out.line(format_args!(
                        "{} {kind} {name}, {memory}{driver}",
                        styled(GOOD, "yes")
                    ));
                }
                (None, reason) => {
                    let reason = reason.as_deref().unwrap_or_default();
                    out.line(format_args!("{}  {kind} {reason}", styled(BAD, "no")));
                }
            }
        }
        let gpu = match &self.gpu_skips {
            Some(reason) => format!("skipped: {reason}"),
            None => "run".to_owned(),
        };
        out.line(format_args!(
            "\nMMSB_GPU={}: tests that need a GPU are {gpu}",
            self.gpu
        ));
        let limits = &self.limits;
        out.line(format_args!("{} processor cores", limits.cores));
        match limits.locked_memory_bytes {
            Some(bytes) => out.line(format_args!(
                "{} locked memory at most; raise it with `ulimit -l` if pinning fails",
                styled(WARN, size(bytes))
            )),
            None if limits.locked_memory_is_unlimited => out.line("locked memory without limit"),
            None => {}
        }
        if let Some(mode) = &limits.transparent_huge_pages {
            out.line(format_args!("transparent huge pages: {mode}"));
        }
        if let (Some(count), Some(bytes)) = (limits.huge_pages, limits.huge_page_bytes) {
            out.line(format_args!("{count} huge pages of {}", size(bytes)));
        }
    }
}

impl Limits {
    /// Looks in the files in which Linux tells these things; elsewhere there are none.
    fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (limits, memory) = (file("/proc/self/limits"), file("/proc/meminfo"));
        let locked = locked_memory(&limits);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            locked_memory_bytes: locked.and_then(|word| word.parse().ok()),
            locked_memory_is_unlimited: locked == Some("unlimited"),
            transparent_huge_pages: chosen(&file("/sys/kernel/mm/transparent_hugepage/enabled")),
            huge_pages: figure(&memory, "HugePages_Total:"),
            huge_page_bytes: figure(&memory, "Hugepagesize:").map(|kib| kib * 1024),
        }
    }
}

/// The soft limit on locked memory: a number, or `unlimited`.
fn locked_memory(limits: &str) -> Option<&str> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()
}

/// The word in brackets: `always [madvise] never` is `madvise`.
fn chosen(words: &str) -> Option<String> {
    let (_, rest) = words.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The number after a name.
fn figure(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_read() {
        let limits = "Limit Soft Limit Hard Limit Units\nMax locked memory         8388608   8388608   bytes\n";
        assert_eq!(locked_memory(limits), Some("8388608"));
        assert_eq!(
            locked_memory("Max locked memory unlimited unlimited bytes"),
            Some("unlimited")
        );
        assert_eq!(locked_memory(""), None);
        assert_eq!(
            chosen("always [madvise] never\n").as_deref(),
            Some("madvise")
        );
        assert_eq!(chosen(""), None);
        assert_eq!(
            figure("A: 1\nHugepagesize:       2048 kB\n", "Hugepagesize:"),
            Some(2048)
        );
        assert_eq!(size(3 << 20), "3 MiB");
        assert_eq!(size(100), "100 B");
    }
}
