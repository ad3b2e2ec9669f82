//! What this machine offers, so that a test which cannot run here is listed as ignored, with the reason.

use super::devices::GpuPolicy;
use super::drive::lacks;
use crate::scenario::ast::{AxisValue, Capability, DeviceKind, Scenario, StorageKind, Via};
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
    let is_across = match cell.values.get("via") {
        Some(AxisValue::Word(word)) => word.as_str() == "c",
        _ => scenario.options.via == Some(Via::C),
    };
    let wants_gpu = match cell.values.get("device") {
        Some(AxisValue::Word(word)) => word.as_str() == "cuda",
        _ => scenario.options.device == Some(DeviceKind::Cuda),
    };
    let wanted = scenario
        .requires
        .iter()
        .copied()
        .chain(wants_files.then_some(Capability::Filesystem))
        .chain(wants_gpu.then_some(Capability::Gpu));
    wanted
        .filter_map(lack)
        .next()
        .or_else(|| is_across.then(|| lacks(scenario))?)
}

/// Why the machine lacks a capability.
fn lack(capability: Capability) -> Option<String> {
    let reason = match capability {
        Capability::Sim => None,
        Capability::Linux => (!cfg!(target_os = "linux")).then_some("this is not Linux"),
        Capability::Filesystem => cfg!(miri).then_some("there is no file system under Miri"),
        Capability::Gpu => return GpuPolicy::from_env().skips(),
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
    use crate::scenario::value::Name;

    #[test]
    fn a_gpu_is_named_as_missing() {
        let required = Scenario {
            requires: vec![Capability::Sim, Capability::Gpu],
            ..Scenario::default()
        };
        let mut named = Scenario::default();
        named.options.device = Some(DeviceKind::Cuda);
        let in_a_cell = |word: &str| Cell {
            name: String::new(),
            values: [("device".to_owned(), AxisValue::Word(Name::new(word)))].into(),
        };
        let reason = GpuPolicy::from_env().skips();
        assert_eq!(missing(&required, &Cell::default()), reason);
        assert_eq!(missing(&named, &Cell::default()), reason);
        assert_eq!(missing(&Scenario::default(), &in_a_cell("cuda")), reason);
        assert_eq!(
            missing(&named, &in_a_cell("host")),
            None,
            "the cell decides"
        );
        assert_eq!(missing(&Scenario::default(), &Cell::default()), None);
    }
}
