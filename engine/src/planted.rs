//! Bugs on purpose, for whoever wants to see that they are found.
//!
//! Only in a build with `--cfg mmsb_planted` is there any of it, and then at most one is live: the one that the
//! variable `MMSB_PLANTED` names when the process starts. Everywhere else `planted!` is the constant `false`, and what depends
//! on it is not compiled into the program.

/// Whether a bug is live.
macro_rules! planted {
    ($Bug:ident) => {{
        #[cfg(mmsb_planted)]
        {
            $crate::planted::is_live($crate::planted::Bug::$Bug)
        }
        #[cfg(not(mmsb_planted))]
        {
            false
        }
    }};
}
pub(crate) use planted;

#[cfg(mmsb_planted)]
pub use live::*;

#[cfg(mmsb_planted)]
mod live {
    use std::sync::LazyLock;

    macro_rules! bugs {
        ($( $Bug:ident = $name:literal: $about:literal; )+) => {
            /// A planted bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug { $( #[doc = $about] $Bug, )+ }

            /// Every bug: its name, and what it does.
            pub const ALL: &[(&str, &str)] = &[$(($name, $about)),+];

            static LIVE: LazyLock<Option<Bug>> = LazyLock::new(|| {
                match std::env::var("MMSB_PLANTED").ok()?.as_str() {
                    $( $name => Some(Bug::$Bug), )+
                    _ => None,
                }
            });
        };
    }

    include!("planted_bugs.rs");

    /// Whether this is the bug that is live.
    #[must_use]
    pub fn is_live(bug: Bug) -> bool {
        *LIVE == Some(bug)
    }
}
