//! What a scenario wants that the C ABI does not have.

use crate::scenario::ast::{Scenario, Step, Steps};
use crate::scenario::expect::Expect;

/// Why a scenario cannot be driven across the C ABI, or `None` if it can.
pub(crate) fn lacks(scenario: &Scenario) -> Option<String> {
    let mut waiting: Vec<&Steps> = vec![&scenario.steps];
    while let Some(steps) = waiting.pop() {
        for step in steps {
            let what = match &step.value {
                Step::Evict(_) => Some("`evict`".to_owned()),
                Step::Prefetch(_) => Some("`prefetch`".to_owned()),
                Step::Expect(Expect::Residency(_)) => Some("`expect: residency`".to_owned()),
                Step::Expect(Expect::OnDevice(_)) => Some("`expect: on_device`".to_owned()),
                Step::Expect(Expect::Counter(check)) => absent(&check.counter.to_string()),
                Step::Transaction(transaction) => {
                    waiting.push(&transaction.steps);
                    None
                }
                Step::Repeat(repeat) => {
                    waiting.push(&repeat.steps);
                    None
                }
                Step::Fails(fails) => {
                    waiting.push(&fails.steps);
                    None
                }
                Step::Storm(storm) => {
                    waiting.push(&storm.steps);
                    None
                }
                Step::Concurrent(lists) => {
                    waiting.extend(lists);
                    None
                }
                _ => None,
            };
            if let Some(what) = what {
                return Some(format!("the C ABI has nothing for {what}"));
            }
        }
    }
    None
}

/// A counter of the bus that the C ABI does not tell. Those of the storage, of transforms and of a simulated device are the world's own.
pub(crate) fn absent(counter: &str) -> Option<String> {
    const OF_THE_BUS: [&str; 14] = [
        "detour",
        "mapped_bytes",
        "peak_mapped_bytes",
        "resident_pages",
        "evicted_pages",
        "evictions",
        "evicted_bytes",
        "fetched_pages",
        "fetched_bytes",
        "mirrors",
        "mirror_bytes",
        "mirror_evictions",
        "mirror_uploads",
        "mirror_uploaded_bytes",
    ];
    let is_absent = counter
        .strip_prefix("device.")
        .is_some_and(|name| OF_THE_BUS.contains(&name));
    is_absent.then(|| format!("the counter `{counter}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse_str;

    fn why(step: &str) -> Option<String> {
        let text = format!(
            "version: 1\nabout: a test\npages: {{a: 8}}\nsteps:\n  - {step}\n  - expect: {{pages: 1}}\n"
        );
        lacks(&parse_str("test.yaml", &text).unwrap())
    }

    #[test]
    fn what_is_absent_is_named_wherever_it_stands() {
        assert_eq!(why("checkpoint"), None);
        assert_eq!(why("expect: {counter: commits, is: 1}"), None);
        assert_eq!(why("expect: {counter: storage.syncs, is: 1}"), None);
        let absent =
            why("repeat: {times: 2, steps: [{expect: {counter: device.evictions, is: 1}}]}");
        assert_eq!(
            absent.as_deref(),
            Some("the C ABI has nothing for the counter `device.evictions`")
        );
        assert_eq!(
            why("evict: [a]").as_deref(),
            Some("the C ABI has nothing for `evict`")
        );
    }
}
