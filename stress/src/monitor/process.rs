//! What the kernel says of a process. `None` where it says nothing, as on systems without `/proc`.

use std::fs;

/// The unit of `statm`; all Linux machines that this runs on have pages of 4 KiB, and others only scale the figure.
const KERNEL_PAGE_BYTES: u64 = 4096;

/// Memory of a process that is resident, in bytes.
#[must_use]
pub fn rss_bytes(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    Some(resident * KERNEL_PAGE_BYTES)
}

/// As [`rss_bytes`], of a process and of those that its first thread has started.
#[must_use]
pub fn family_rss_bytes(process: u32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let children = children
        .split_ascii_whitespace()
        .filter_map(|id| id.parse().ok());
    std::iter::once(process)
        .chain(children)
        .filter_map(rss_bytes)
        .sum()
}

/// Whether a thread of a process runs, would run if there was a processor for it, or waits for a disk. Where that is not known, no.
#[must_use]
pub fn is_busy(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    threads.into_iter().flatten().flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('R' | 'D'))
    })
}

/// Open descriptors of a process.
#[must_use]
pub fn descriptors(process: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as u64)
}

/// Processor time that this process has used so far, of all its threads, in seconds.
#[must_use]
pub fn processor_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let (seconds, ns) = (time.tv_sec as f64, time.tv_nsec as f64);
    seconds + ns * 1e-9
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let id = std::process::id();
        assert!(rss_bytes(id).unwrap() > 100_000);
        let before = descriptors(id).unwrap();
        let file = fs::File::open("/proc/self/statm").unwrap();
        assert!(descriptors(id).unwrap() > before.saturating_sub(1));
        drop(file);
        assert_eq!(rss_bytes(u32::MAX), None);
        assert_eq!(family_rss_bytes(u32::MAX), 0);
        assert!(family_rss_bytes(id) > 100_000);
        // Whoever asks runs.
        assert!(is_busy(id));
    }
}
