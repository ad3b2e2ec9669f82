//! Which steps met which conditions.

use std::collections::BTreeMap;

use mmsb_harness::scenario::crash::Crash;
use mmsb_harness::scenario::{Scenario, Step, Steps};
use serde::{Deserialize, Serialize};

/// How often each step stood under each condition: the verb, then `calm`, the kind of a fault that could strike it, or the
/// crash that followed it next.
///
/// It counts what scenarios say, not rounds of repetitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(pub BTreeMap<String, BTreeMap<String, u64>>);

impl Coverage {
    fn count(&mut self, verb: &str, condition: &str, times: u64) {
        let conditions = match self.0.get_mut(verb) {
            Some(conditions) => conditions,
            None => self.0.entry(verb.to_owned()).or_default(),
        };
        match conditions.get_mut(condition) {
            Some(count) => *count += times,
            None => {
                conditions.insert(condition.to_owned(), times);
            }
        }
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (verb, conditions) in &other.0 {
            for (condition, count) in conditions {
                self.count(verb, condition, *count);
            }
        }
    }

    /// Every condition that was met, in order.
    #[must_use]
    pub fn conditions(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.values().flat_map(BTreeMap::keys).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// What a scenario covers.
#[must_use]
pub fn coverage(scenario: &Scenario) -> Coverage {
    let mut found = Coverage::default();
    // Since the last crash.
    let mut since: Vec<&'static str> = Vec::new();
    walk(&scenario.steps, &["calm"], &mut since, &mut found);
    found
}

fn walk(steps: &Steps, conditions: &[&str], since: &mut Vec<&'static str>, found: &mut Coverage) {
    for step in steps {
        let verb = step.value.verb();
        for condition in conditions {
            found.count(verb, condition, 1);
        }
        match &step.value {
            Step::Crash(crash) => {
                let form = match crash {
                    Crash::Process => "crash: process",
                    Crash::Drawn(_) | Crash::At(_) => "crash: drawn",
                    Crash::Each { .. } => "crash: each",
                    Crash::Forgetful => "crash",
                };
                since.sort_unstable();
                since.dedup();
                for verb in since.drain(..) {
                    found.count(verb, form, 1);
                }
            }
            Step::Storm(storm) => {
                let kinds: Vec<&str> = storm
                    .faults
                    .iter()
                    .map(|fault| fault.kind.as_str())
                    .collect();
                walk(&storm.steps, &kinds, since, found);
                since.clear();
            }
            Step::Transaction(inner) => walk(&inner.steps, conditions, since, found),
            Step::Repeat(inner) => walk(&inner.steps, conditions, since, found),
            Step::Fails(inner) => walk(&inner.steps, conditions, since, found),
            Step::Concurrent(lists) => {
                for list in lists {
                    walk(list, &["threads"], since, found);
                }
            }
            _ => {}
        }
        since.push(verb);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use mmsb_harness::scenario::parse_str;

    #[test]
    fn steps_are_counted_by_what_they_meet() {
        let text = "
version: 1
pages: {a: 64}
steps:
  - write: {page: a, hex: \"00\"}
  - commit
  - crash
  - open
  - storm:
      faults: [{on: log.sync, kind: failed}, {on: log.write, kind: torn}]
      steps: [{write: {page: a, hex: \"01\"}}, commit]
  - expect: {pages: 1}
";
        let found = coverage(&parse_str("test", text).unwrap());
        let of = |verb: &str, condition: &str| {
            found.0.get(verb).and_then(|of| of.get(condition)).copied()
        };
        assert_eq!(of("write", "calm"), Some(1));
        assert_eq!(of("write", "crash"), Some(1));
        assert_eq!(of("write", "torn"), Some(1));
        assert_eq!(of("commit", "failed"), Some(1));
        assert_eq!(of("expect", "failed"), None);
        let mut twice = found.clone();
        twice.add(&found);
        assert_eq!(twice.0["write"]["torn"], 2);
        assert!(found.conditions().contains(&"torn".to_owned()));
    }
}
