//! Gives memory back between scenarios.

/// Gives memory that nothing uses back to the system.
///
/// The allocator keeps what a scenario has freed for as long as anything above it on the heap is in use, and what stays after every
/// scenario is (caches of the standard library and of threads) lands there by chance. So what a worker kept was that of the largest
/// scenario so far, some time: no leak, but memory, and a floor that steps up like that of one. What is free is looked for here, in
/// the middle of the heap too. It takes microseconds where there is little to give back.
///
/// Other allocators than that of glibc do it by themselves, or not at all.
pub(super) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the function has no conditions; it locks what it looks at.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}
