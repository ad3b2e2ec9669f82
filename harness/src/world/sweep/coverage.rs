//! How much of what can happen was tried.

use std::fmt;

/// How much of what can happen was tried.
///
/// A window is one state that a crash can leave at one moment. Windows that leave the same bytes, with the same
/// commits to be found in them, are tried once and counted each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// Moments: before, between and after the operations of the storage.
    pub moments: u64,
    /// Windows that there are.
    pub windows: u64,
    /// Windows that were tried.
    pub covered: u64,
    /// Windows inside of the recoveries.
    pub again: u64,
    /// Those of them that were tried.
    pub again_covered: u64,
    /// Recoveries that were run, all in all.
    pub recoveries: u64,
}

impl Coverage {
    /// Adds what another sweep came to.
    pub fn add(&mut self, other: &Self) {
        self.moments += other.moments;
        self.windows += other.windows;
        self.covered += other.covered;
        self.again += other.again;
        self.again_covered += other.again_covered;
        self.recoveries += other.recoveries;
    }

    /// Whether every window was tried.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.covered == self.windows && self.again_covered == self.again
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} moments, windows {} of {} ({})",
            self.moments,
            self.covered,
            self.windows,
            percent(self.covered, self.windows)
        )?;
        if self.again > 0 {
            write!(
                f,
                ", inside recovery {} of {} ({})",
                self.again_covered,
                self.again,
                percent(self.again_covered, self.again)
            )?;
        }
        write!(f, ", {} recoveries", self.recoveries)
    }
}

/// A share that is called 100 % only if it is all.
fn percent(part: u64, whole: u64) -> String {
    if part >= whole {
        return "100 %".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_percent() {
        assert_eq!(percent(999_999, 1_000_000), "99.9 %");
        assert_eq!(percent(3, 3), "100 %");
        assert_eq!(percent(0, 0), "100 %");
        assert_eq!(percent(1, 3), "33.3 %");
    }
}
