//! What queues execute.

use crate::access::Access;
use crate::clocks::Clock;
use crate::dispatch::Launch;
use crate::faults::Effect;

/// Where a copy to the device takes its bytes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Pinned memory, read when the copy runs.
    Pinned(u64),
    /// Other memory, which CUDA reads before the call returns.
    Staged(Vec<u8>),
}

#[derive(Debug)]
pub(crate) enum Job {
    ToDevice {
        to: u64,
        from: Source,
        len_bytes: u64,
    },
    ToHost {
        to: u64,
        from: u64,
        len_bytes: u64,
    },
    Within {
        to: u64,
        from: u64,
        len_bytes: u64,
    },
    Set {
        to: u64,
        /// Repeated; its length divides that of the range.
        pattern: Vec<u8>,
        len_bytes: u64,
    },
    Launch(Launch),
    Record {
        event: u64,
        version: u64,
    },
    Wait {
        event: u64,
        version: u64,
    },
}

/// A job in a queue, and what comes before it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) time: u64,
    pub(crate) known: Clock,
    /// What is to go wrong with it.
    pub(crate) effect: Option<Effect>,
}

impl Job {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ToDevice { .. } => "a copy to the device",
            Self::ToHost { .. } => "a copy to the host",
            Self::Within { .. } => "a copy on the device",
            Self::Set { .. } => "a memset",
            Self::Launch(launch) => launch.name(),
            Self::Record { .. } => "an event",
            Self::Wait { .. } => "a wait",
        }
    }

    pub(crate) const fn is_copy(&self) -> bool {
        matches!(
            self,
            Self::ToDevice { .. } | Self::ToHost { .. } | Self::Within { .. }
        )
    }

    /// Where a copy writes to.
    pub(crate) const fn target(&self) -> Option<(u64, u64)> {
        match self {
            Self::ToDevice { to, len_bytes, .. }
            | Self::ToHost { to, len_bytes, .. }
            | Self::Within { to, len_bytes, .. } => Some((*to, *len_bytes)),
            _ => None,
        }
    }

    /// The bytes that it touches; of a launch, see [`Launch::accesses`].
    pub(crate) fn accesses(&self) -> Vec<Access> {
        match self {
            Self::ToDevice {
                to,
                from,
                len_bytes,
            } => {
                let mut accesses = vec![Access::write(*to, *len_bytes)];
                if let Source::Pinned(from) = from {
                    accesses.push(Access::read(*from, *len_bytes));
                }
                accesses
            }
            Self::ToHost {
                to,
                from,
                len_bytes,
            }
            | Self::Within {
                to,
                from,
                len_bytes,
            } => vec![
                Access::write(*to, *len_bytes),
                Access::read(*from, *len_bytes),
            ],
            Self::Set { to, len_bytes, .. } => vec![Access::write(*to, *len_bytes)],
            Self::Launch(_) | Self::Record { .. } | Self::Wait { .. } => Vec::new(),
        }
    }

    /// Copies and sets bytes.
    ///
    /// # Safety
    /// All of [`Job::accesses`] is mapped.
    pub(crate) unsafe fn move_bytes(&self) {
        match self {
            Self::ToDevice {
                to,
                from: Source::Staged(bytes),
                len_bytes,
            } => {
                let len = bytes.len().min(*len_bytes as usize);
                // SAFETY: the target is mapped for `len_bytes`, and the source is a vector as long.
                unsafe { std::ptr::copy(bytes.as_ptr(), *to as *mut u8, len) };
            }
            Self::ToDevice {
                to,
                from: Source::Pinned(from),
                len_bytes,
            }
            | Self::ToHost {
                to,
                from,
                len_bytes,
            }
            | Self::Within {
                to,
                from,
                len_bytes,
            } => {
                // SAFETY: both ranges are mapped for `len_bytes`.
                unsafe {
                    std::ptr::copy(*from as *const u8, *to as *mut u8, *len_bytes as usize);
                }
            }
            Self::Set {
                to,
                pattern,
                len_bytes,
            } => {
                let mut at = 0;
                while at < *len_bytes {
                    let len = pattern.len().min((*len_bytes - at) as usize);
                    // SAFETY: the range is mapped for `len_bytes`.
                    unsafe {
                        std::ptr::copy_nonoverlapping(pattern.as_ptr(), (*to + at) as *mut u8, len);
                    }
                    at += len as u64;
                }
            }
            Self::Launch(_) | Self::Record { .. } | Self::Wait { .. } => {}
        }
    }
}
