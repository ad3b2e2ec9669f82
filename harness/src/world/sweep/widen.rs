//! Makes a sweep of a scenario that was not written as one.

use crate::scenario::ast::{Options, Scenario, Step, Steps, StorageKind};
use crate::scenario::crash::Crash;
use crate::scenario::fault::FaultKind;
use crate::scenario::matrix::Cell;
use crate::scenario::value::Located;

/// The scenario with every crash, and its end, turned into crashes at each moment.
///
/// # Errors
/// Says why that cannot be done.
pub fn widened(scenario: &Scenario, cell: &Cell, again: bool) -> Result<Scenario, String> {
    if cell.apply(scenario).options.storage == Some(StorageKind::Fs) {
        return Err("only what runs on simulated storage can be swept".to_owned());
    }
    if let Some(verb) = obstacle(&scenario.steps) {
        return Err(format!(
            "`{verb}` leaves more on the disk than the engine wrote"
        ));
    }
    let mut widened = scenario.clone();
    widen(&mut widened.steps, again);
    let last_life = scenario
        .steps
        .iter()
        .rev()
        .find_map(|step| match &step.value {
            Step::Close | Step::Crash(_) => Some((false, matches!(step.value, Step::Close))),
            Step::Open(_) | Step::Reopen(_) => Some((true, false)),
            _ => None,
        });
    let mut push = |step: Step| widened.steps.push(Located::new(step));
    match last_life {
        // Everything up to the last crash is swept by it.
        Some((false, false)) => {}
        Some((false, true)) => {
            push(Step::Open(Options::default()));
            push(Step::Crash(Crash::Each { again }));
        }
        Some((true, _)) | None => push(Step::Crash(Crash::Each { again })),
    }
    Ok(widened)
}

/// The verb of a step after which the journal does not tell all.
fn obstacle(steps: &Steps) -> Option<&'static str> {
    steps.iter().find_map(|step| match &step.value {
        Step::RemoveFile(_)
        | Step::OverwriteFile(_)
        | Step::TruncateFile(_)
        | Step::WriteFile(_)
        | Step::Trace(_) => Some(step.value.verb()),
        Step::Fault(inject) if inject.kind.is_silent() || inject.kind == FaultKind::Unreadable => {
            Some(step.value.verb())
        }
        Step::Repeat(repeat) => obstacle(&repeat.steps),
        // What a storm left out depends on its faults, and its own crash is no crash at each moment.
        Step::Storm(_) => Some(step.value.verb()),
        Step::Fails(fails) => obstacle(&fails.steps),
        Step::Transaction(transaction) => obstacle(&transaction.steps),
        Step::Concurrent(lists) => lists.iter().find_map(obstacle),
        _ => None,
    })
}

fn widen(steps: &mut Steps, again: bool) {
    for step in steps {
        match &mut step.value {
            Step::Crash(crash @ (Crash::Forgetful | Crash::Each { .. })) => {
                *crash = Crash::Each { again };
            }
            Step::Repeat(repeat) => widen(&mut repeat.steps, again),
            _ => {}
        }
    }
}
