//! Which scenarios a killed process can go on with.

use crate::scenario::ast::{Options, Scenario, Step, Steps};
use crate::scenario::value::Span;

use super::error::KillError;

/// Whether a scenario can be resumed wherever it is killed.
///
/// It can if its steps give every commit the same LSN and the same ids in every run, and none of them needs to have happened in
/// the process that goes on.
///
/// # Errors
/// [`KillError::Unsuitable`] with the first step that stands in the way.
pub fn check(scenario: &Scenario) -> Result<(), KillError> {
    let mut waiting: Vec<&Steps> = vec![&scenario.steps];
    while let Some(steps) = waiting.pop() {
        for step in steps {
            if let Some(why) = obstacle(&step.value) {
                return Err(unsuitable(step.value.verb(), step.span, why));
            }
            match &step.value {
                Step::Transaction(transaction) => waiting.push(&transaction.steps),
                Step::Repeat(repeat) => waiting.push(&repeat.steps),
                Step::Fails(fails) => waiting.push(&fails.steps),
                _ => {}
            }
        }
    }
    Ok(())
}

fn unsuitable(verb: &str, span: Span, why: &'static str) -> KillError {
    KillError::Unsuitable {
        verb: verb.to_owned(),
        line: span.line,
        why,
    }
}

fn obstacle(step: &Step) -> Option<&'static str> {
    let sets_storage = |options: &Options| options.storage.is_some();
    match step {
        Step::Crash(_) => Some("only the campaign kills"),
        Step::Fault(_) | Step::Heal | Step::Storm(_) => Some("a real disk does not fail on demand"),
        Step::Close | Step::Open(_) => Some("the bus stays open; use `reopen`"),
        Step::Reopen(options) if sets_storage(options) => Some("the campaign chooses the storage"),
        Step::Concurrent(_) => Some("threads leave the order of commits open"),
        Step::Subscribe(_) | Step::Drain(_) => Some("events are gone with the process"),
        Step::Trace(_) => Some("the steps of a trace are not known beforehand"),
        Step::Replay(_) | Step::Mark(_) => {
            Some("what a mark stands for may be gone with the process")
        }
        Step::RemoveFile(_)
        | Step::OverwriteFile(_)
        | Step::TruncateFile(_)
        | Step::WriteFile(_) => Some("the files belong to the campaign"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(steps: &str) -> Result<(), String> {
        let text =
            format!("version: 1\npages: {{a: 64}}\nsteps:\n{steps}  - expect: {{pages: 1}}\n");
        let scenario = crate::scenario::parse_str("test", &text).unwrap();
        check(&scenario).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_that_cannot_be_resumed_are_named() {
        let refused = verdict("  - repeat: {times: 2, steps: [crash, open]}\n").unwrap_err();
        assert!(
            refused.contains("`crash`") && refused.contains("line 4"),
            "{refused}"
        );
        assert!(verdict("  - concurrent: [[write: {page: a, hex: \"00\"}, commit]]\n").is_err());
        let fine =
            "  - repeat: {times: 2, steps: [write: {page: a, hex: \"00\"}, commit, checkpoint]}\n";
        assert_eq!(verdict(fine), Ok(()));
    }
}
