//! What a generator can do.

use super::Choice;

macro_rules! verbs {
    ($( $(#[doc = $doc:literal])+ $Verb:ident, )+) => {
        /// What a generator can do; the numbers of a [`Choice`] say the details.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Verb { $( $(#[doc = $doc])+ $Verb, )+ }

        impl Verb {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$Verb),+];
        }
    };
}

verbs! {
    /// Writes random bytes.
    Write,
    /// Writes one byte all over a page.
    Fill,
    /// Writes several runs at once.
    Delta,
    /// Writes what a mask selects.
    Masked,
    /// Writes the difference to other content.
    Diff,
    /// Writes many short runs.
    Scatter,
    /// Copies from one page to another.
    Copy,
    /// Allocates a page.
    Allocate,
    /// Allocates a page that derives from others.
    Derive,
    /// Allocates a page that derives from the newest one.
    Deepen,
    /// Allocates a page that derives from the first one.
    Widen,
    /// Makes a page derived.
    Connect,
    /// Makes a derived page a plain one.
    Disconnect,
    /// Frees a page.
    Free,
    /// Gives a page a new owner.
    Transfer,
    /// Sets or removes an annotation.
    Annotate,
    /// Commits what is staged.
    Commit,
    /// Drops what is staged.
    Abort,
    /// Checks a page.
    Check,
    /// Asks for what must be refused.
    Refused,
    /// Subscribes, or reads the events of the subscription.
    Listen,
    /// Takes a consistent cut of pages.
    Snapshot,
    /// Writes a checkpoint.
    Checkpoint,
    /// Closes and opens the bus.
    Reopen,
    /// Closes and opens the bus, with other options.
    Reconfigure,
    /// Loses the power, and all that was not synced.
    Crash,
    /// Loses the process.
    CrashProcess,
    /// Loses the power, and of what was not synced a part that is drawn.
    CrashDrawn,
    /// From here on the storage may fail.
    BeginStorm,
    /// The storage is sound again.
    EndStorm,
    /// Remembers the state.
    Mark,
    /// Rebuilds a state from the log alone.
    Replay,
    /// Fills the device anew from the log.
    RestoreDevice,
    /// Evicts pages from the device, and drops mirrors.
    Evict,
    /// Brings pages to the device, and mirrors up to date.
    Prefetch,
    /// Has the device say what it has.
    CheckDevice,
    /// Loses the device, and restores it.
    LoseDevice,
    /// Asks for more memory than the device has.
    ExhaustDevice,
    /// Recomputes derived pages.
    Propagate,
    /// Lets the bus do its deferred work.
    Maintain,
    /// Runs several threads.
    Concurrent,
}

impl Verb {
    /// The verb of a choice, as property tests and the fuzzer draw it. This never changes: inputs that are kept rely
    /// on it, so newer verbs are not among them.
    #[must_use]
    pub(super) fn of(choice: Choice) -> Self {
        match choice.verb % 40 {
            0..=5 => Self::Write,
            6 => Self::Fill,
            7..=8 => Self::Delta,
            9 => Self::Masked,
            10 => Self::Diff,
            11 => Self::Scatter,
            12 => Self::Copy,
            13..=15 => Self::Allocate,
            16..=18 => Self::Derive,
            19 => Self::Connect,
            20 => Self::Disconnect,
            21 => Self::Free,
            22 => Self::Transfer,
            23 => Self::Annotate,
            24..=29 => Self::Commit,
            30 => Self::Abort,
            31 => Self::Check,
            32 => Self::Refused,
            33 => Self::Listen,
            34 => Self::Checkpoint,
            35 => Self::Reopen,
            36 => Self::Crash,
            37 => Self::Mark,
            38 => Self::Replay,
            _ if choice.a.is_multiple_of(2) => Self::Propagate,
            _ => Self::Maintain,
        }
    }

    /// What becomes of the verb of a choice where there is a device: some choices are about that.
    #[must_use]
    pub(super) fn with_device(self, choice: Choice) -> Self {
        if choice.b.is_multiple_of(2) {
            return self;
        }
        match (self, choice.c % 4) {
            (Self::Propagate | Self::Maintain, _) => Self::RestoreDevice,
            (Self::Check, _) => Self::CheckDevice,
            (Self::Annotate | Self::Abort, 0 | 1) => Self::Evict,
            (Self::Annotate | Self::Abort, 2) => Self::Prefetch,
            (Self::Listen, 0 | 1) => Self::LoseDevice,
            (Self::Listen, 2) => Self::ExhaustDevice,
            _ => self,
        }
    }

    /// Whether it may be done while the storage fails, and so be left out.
    #[must_use]
    pub(super) fn stands_in_storm(self) -> bool {
        !matches!(
            self,
            Self::Crash
                | Self::CrashProcess
                | Self::CrashDrawn
                | Self::BeginStorm
                | Self::Mark
                | Self::Listen
                | Self::Refused
                | Self::RestoreDevice
                | Self::CheckDevice
                | Self::LoseDevice
                | Self::ExhaustDevice
                | Self::Concurrent
                | Self::Reconfigure
        )
    }
}
