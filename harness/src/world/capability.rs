//! What this machine offers, so that a test which cannot run here is listed as ignored, with the reason.

use crate::scenario::ast::{AxisValue, Capability, Scenario, StorageKind};
use crate::scenario::matrix::Cell;

/// Why the scenario cannot run here in this cell, or `None` if it can.
///
/// It looks at the machine only, so that the answer is known when tests are listed.
#[must_use]
pub fn missing(scenario: &Scenario, cell: &Cell) -> Option<String> {
    let wants_files = match cell.values.get("storage") {
        Some(AxisValue::Word(word)) => word.as_str() == "fs",
        _ => scenario.options.storage == Some(StorageKind::Fs),
    };
    let wanted = scenario
        .requires
        .iter()
        .copied()
        .chain(wants_files.then_some(Capability::Filesystem));
    wanted.filter_map(lack).next()
}

/// Why the machine lacks a capability.
fn lack(capability: Capability) -> Option<String> {
    let reason = match capability {
        Capability::Sim => None,
        Capability::Linux => (!cfg!(target_os = "linux")).then_some("this is not Linux"),
        Capability::Filesystem => cfg!(miri).then_some("there is no file system under Miri"),
        // No build of the engine addresses a GPU yet, whatever the machine has.
        Capability::Gpu => Some("this build has no device support"),
        Capability::Multicore => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (cores < 2).then_some("there is one processor core")
        }
    };
    reason.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_named_as_missing() {
        let scenario = Scenario {
            requires: vec![Capability::Sim, Capability::Gpu],
            ..Scenario::default()
        };
        let reason = missing(&scenario, &Cell::default());
        assert_eq!(reason.as_deref(), Some("this build has no device support"));
        assert_eq!(missing(&Scenario::default(), &Cell::default()), None);
    }
}
