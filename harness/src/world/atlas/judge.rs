//! What came of a disk on which something went wrong.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::world::compare;
use crate::world::drive::Drive;
use crate::world::failure::Fault;
use crate::world::run::{World, panic_text};

/// What came of a disk on which something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Everything that was acknowledged is there, and nothing else.
    Recovered,
    /// The open was refused; with what words.
    Detected(String),
    /// The open succeeded and told of a loss of what was acknowledged. Something must have borne witness, so it had to
    /// be refused: not allowed, save where nothing can bear witness.
    Cut(String),
    /// The open succeeded and the state is not what it should be, without a word: never allowed.
    Silent(String),
    /// The engine panicked: never allowed.
    Crashed(String),
}

impl Judgement {
    /// Whether it is one of the two that are allowed at all.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        matches!(self, Self::Recovered | Self::Detected(_))
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovered => f.write_str("recovered"),
            Self::Detected(how) => write!(f, "detected: {how}"),
            Self::Cut(how) => write!(f, "cut: {how}"),
            Self::Silent(how) => write!(f, "silent: {how}"),
            Self::Crashed(how) => write!(f, "crashed: {how}"),
        }
    }
}

/// Opens the disk of a world that has no bus, and compares what is found with its model. Everything up to `safe_lsn`
/// was acknowledged as synced.
pub(crate) fn judge(world: &mut World<'_>, safe_lsn: u64) -> Judgement {
    let judged = catch_unwind(AssertUnwindSafe(|| open_and_compare(world, safe_lsn)));
    judged.unwrap_or_else(|panic| Judgement::Crashed(panic_text(&*panic)))
}

fn open_and_compare(world: &mut World<'_>, safe_lsn: u64) -> Judgement {
    let bus = match world.open_engine() {
        Ok(bus) => bus,
        Err(fault) => return Judgement::Detected(fault.message),
    };
    let report = bus.opened().clone();
    let lsn = report.last_lsn.0;
    let mut model = world.model.clone();
    if lsn > model.lsn() {
        return Judgement::Silent(format!("LSN {lsn} was found, which was never committed"));
    }
    if !model.roll_back(lsn) {
        return Judgement::Silent(format!("LSN {lsn} was found, which is too old to compare"));
    }
    let bus = match Drive::new(bus, world.settings.via) {
        Ok(bus) => bus,
        Err(refused) => return Judgement::Crashed(Box::<Fault>::from(refused).message),
    };
    let compared = compare::everything(&bus, &mut model, &Default::default())
        .and_then(|()| compare::figures(&bus, &model));
    bus.abandon();
    if let Err(fault) = compared {
        let place = fault.difference.map(|difference| difference.to_string());
        return Judgement::Silent(format!("{} {}", fault.message, place.unwrap_or_default()));
    }
    if lsn >= safe_lsn {
        return Judgement::Recovered;
    }
    match (report.torn, report.warnings.first()) {
        (Some(torn), _) => Judgement::Cut(format!(
            "cut at offset {} of {}, from LSN {} on",
            torn.offset, torn.file, torn.lsn
        )),
        (None, Some(warning)) => Judgement::Cut(warning.clone()),
        (None, None) => Judgement::Silent(format!(
            "recovery came to LSN {lsn}, but LSN {safe_lsn} was acknowledged"
        )),
    }
}
