//! Removes steps that only go together. Delta debugging takes away stretches; the steps of one verb, a page with all that uses it
//! or derives from it, and a crash with its open are none, or none that it meets.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::scenario::ast::{PageSpec, Scenario, Step, Steps, Write};
use crate::scenario::data::{Data, Fill};
use crate::scenario::num::Num;
use crate::scenario::value::{Located, Name};

/// Tries a scenario with only the steps that `keeps` says, at any depth, and takes it if it fails.
fn keep(
    best: &mut Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
    keeps: &impl Fn(&Step) -> bool,
) -> bool {
    let mut candidate = best.clone();
    retain(&mut candidate.steps, keeps);
    if candidate.steps == best.steps || candidate.steps.is_empty() || !fails(&candidate) {
        return false;
    }
    *best = candidate;
    true
}

fn retain(steps: &mut Steps, keeps: &impl Fn(&Step) -> bool) {
    steps.retain_mut(|step| {
        if !keeps(&step.value) {
            return false;
        }
        let inner = match &mut step.value {
            Step::Transaction(inner) => &mut inner.steps,
            Step::Repeat(inner) => &mut inner.steps,
            Step::Storm(inner) => &mut inner.steps,
            Step::Concurrent(lists) => {
                lists.iter_mut().for_each(|list| retain(list, keeps));
                lists.retain(|list| !list.is_empty());
                return !lists.is_empty();
            }
            _ => return true,
        };
        retain(inner, keeps);
        !inner.is_empty()
    });
}

/// The scenario without all steps of one verb, for every verb that it can do without.
pub(super) fn without_verbs(
    scenario: &Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let mut verbs: BTreeSet<&'static str> = BTreeSet::new();
    each(&scenario.steps, &mut |step| {
        verbs.insert(step.verb());
    });
    for verb in verbs {
        keep(&mut best, fails, &|step| step.verb() != verb);
    }
    best
}

/// The scenario without pages that it can do without, with the steps that name one of them or a page that derives from it: first
/// many at once, then fewer, then each, as a scenario may have hundreds.
pub(super) fn without_pages(
    scenario: &Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let mut names = page_names(scenario);
    let mut stretch = names.len().div_ceil(2);
    while stretch > 0 {
        let mut at = 0;
        while at < names.len() {
            let some = names.iter().skip(at).take(stretch).cloned().collect();
            let gone = with_descendants(&best, some);
            let mut candidate = best.clone();
            retain(&mut candidate.steps, &|step| !names_any(step, &gone));
            candidate
                .pages
                .0
                .retain(|(name, _)| !gone.contains(name.as_str()));
            if candidate != best && !candidate.steps.is_empty() && fails(&candidate) {
                best = candidate;
                names.retain(|name| !gone.contains(name));
            } else {
                at += stretch;
            }
        }
        stretch /= 2;
    }
    best
}

/// The scenario without pairs and threes of steps that stand together, wherever they begin, and without whole transactions.
pub(super) fn without_groups(
    scenario: &Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let mut at = best.steps.len();
    while at > 0 {
        at -= 1;
        let until_commit = best
            .steps
            .iter()
            .skip(at)
            .position(|step| matches!(step.value, Step::Commit(_)))
            .map(|len| len + 1);
        for len in [until_commit.filter(|len| *len > 3), Some(3), Some(2)]
            .into_iter()
            .flatten()
        {
            if at + len > best.steps.len() {
                continue;
            }
            let mut candidate = best.clone();
            candidate.steps.drain(at..at + len);
            if !candidate.steps.is_empty() && fails(&candidate) {
                best = candidate;
                break;
            }
        }
    }
    best
}

/// Lengths of one write that stands for many: together they fill a part of a segment, or one or several.
const FILLER_BYTES: [u64; 3] = [9000, 5000, 2500];

/// The scenario with stretches of steps replaced by one long write to a page of its own: what fails only once enough was
/// logged cannot be made smaller by removing anything.
pub(super) fn filled(scenario: &Scenario, fails: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut best = scenario.clone();
    let mut stretch = best.steps.len() / 2;
    while stretch >= 3 {
        let mut end = best.steps.len();
        while end >= stretch {
            let start = end - stretch;
            let replaced = FILLER_BYTES.into_iter().find_map(|len| {
                let candidate = with_filler(&best, start, end, len)?;
                fails(&candidate).then_some(candidate)
            });
            if let Some(candidate) = replaced {
                best = candidate;
            }
            end = start;
        }
        stretch /= 2;
    }
    best
}

fn with_filler(best: &Scenario, start: usize, end: usize, len: u64) -> Option<Scenario> {
    let mut candidate = best.clone();
    let filler = Name::new(FILLER);
    if !candidate
        .pages
        .0
        .iter()
        .any(|(name, _)| name.as_str() == FILLER)
    {
        let spec = PageSpec {
            size: Some(Num::from(FILLER_BYTES.into_iter().max()?)),
            ..PageSpec::default()
        };
        candidate.pages.0.push((filler.clone(), spec));
    }
    let write = Step::Write(Write {
        page: filler,
        at: Num::ZERO,
        data: Data::Fill(Fill {
            byte: Num::from(1),
            len: Some(Num::from(len)),
        }),
    });
    let steps = [write, Step::Commit(None)].map(Located::new);
    if end > candidate.steps.len() {
        return None;
    }
    candidate.steps.splice(start..end, steps);
    Some(candidate)
}

/// The page that long writes go to; short names are given to it later as to any other.
const FILLER: &str = "p999999";

fn each(steps: &Steps, visit: &mut impl FnMut(&Step)) {
    for step in steps {
        visit(&step.value);
        match &step.value {
            Step::Transaction(inner) => each(&inner.steps, visit),
            Step::Repeat(inner) => each(&inner.steps, visit),
            Step::Fails(inner) => each(&inner.steps, visit),
            Step::Storm(inner) => each(&inner.steps, visit),
            Step::Concurrent(lists) => lists.iter().for_each(|list| each(list, visit)),
            _ => {}
        }
    }
}

/// Every page, oldest first: the first page takes most along.
fn page_names(scenario: &Scenario) -> Vec<String> {
    let mut names: Vec<String> = scenario
        .pages
        .iter()
        .map(|(name, _)| name.as_str().to_owned())
        .collect();
    each(&scenario.steps, &mut |step| {
        if let Step::Allocate(allocate) = step {
            names.extend(
                allocate
                    .pages
                    .iter()
                    .map(|page| page.page.as_str().to_owned()),
            );
        }
    });
    names
}

/// Pages and all that derive from them, as far as the steps that make them say.
fn with_descendants(scenario: &Scenario, names: BTreeSet<String>) -> BTreeSet<String> {
    let mut found = names;
    for (name, spec) in scenario.pages.iter() {
        if spec
            .derive
            .as_ref()
            .is_some_and(|derive| names_any(derive, &found))
        {
            found.insert(name.as_str().to_owned());
        }
    }
    each(&scenario.steps, &mut |step| {
        if let Step::Allocate(allocate) = step {
            for page in &allocate.pages {
                if page
                    .derive
                    .as_ref()
                    .is_some_and(|derive| names_any(derive, &found))
                {
                    found.insert(page.page.as_str().to_owned());
                }
            }
        }
    });
    found
}

/// Whether any text in a value is one of these names. Lists of steps inside of it are asked themselves.
fn names_any(value: &impl serde::Serialize, names: &BTreeSet<String>) -> bool {
    fn any(value: &Value, names: &BTreeSet<String>) -> bool {
        match value {
            Value::String(text) => names.contains(text),
            Value::Array(items) => items.iter().any(|item| any(item, names)),
            Value::Object(entries) => entries
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "steps" | "concurrent"))
                .any(|(_, value)| any(value, names)),
            _ => false,
        }
    }
    serde_json::to_value(value).is_ok_and(|value| any(&value, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{parse_str, print};

    fn scenario(text: &str) -> Scenario {
        parse_str("joint", text).unwrap_or_else(|errors| panic!("{}", errors[0]))
    }

    #[test]
    fn a_page_goes_with_all_that_uses_it() {
        let before = scenario(
            "
version: 1
pages: {p0: 64, p1: 64}
steps:
  - allocate: {page: p2, derive: {copy: p1}}
  - allocate: {page: p3, derive: {xor: [p2, p0]}}
  - write: {page: p1, hex: \"00\"}
  - write: {page: p0, hex: \"01\"}
  - commit
  - storm: {faults: [{on: log.sync, kind: failed}], steps: [{write: {page: p1, hex: \"02\"}}, commit]}
  - free: p3
  - commit
  - expect: {page: p0, hex: \"01\"}
",
        );
        // As a real failure, it needs what is used to be there.
        let mut tries = 0;
        let after = without_pages(&before, &mut |candidate| {
            tries += 1;
            let text = print(candidate);
            let dangles = ["p1", "p2", "p3"].iter().any(|name| {
                text.contains(name)
                    && !text.contains(&format!("{name}: 64"))
                    && !text.contains(&format!("page: {name}"))
            });
            !dangles && text.contains("page: p0")
        });
        let text = print(&after);
        assert!(
            !text.contains("p1") && !text.contains("p2") && !text.contains("p3"),
            "{text}"
        );
        assert!(text.contains("storm") && text.contains("expect"), "{text}");
        assert!(tries <= 4, "{tries}");
    }

    #[test]
    fn steps_that_need_each_other_go_together() {
        let before = scenario(
            "
version: 1
pages: {p0: 64}
steps:
  - commit
  - crash
  - open
  - write: {page: p0, hex: \"01\"}
  - crash
  - open
  - expect: {page: p0, hex: \"01\"}
",
        );
        let balanced = |candidate: &Scenario| {
            let verbs: Vec<&str> = candidate
                .steps
                .iter()
                .map(|step| step.value.verb())
                .collect();
            let crashes = verbs.iter().filter(|verb| **verb == "crash").count();
            let opens = verbs.iter().filter(|verb| **verb == "open").count();
            crashes == opens && verbs.contains(&"write")
        };
        let after = without_groups(&before, &mut |candidate| balanced(candidate));
        let verbs: Vec<&str> = after.steps.iter().map(|step| step.value.verb()).collect();
        assert!(
            !verbs.contains(&"crash") && !verbs.contains(&"open"),
            "{verbs:?}"
        );
        let after = without_verbs(&before, &mut |candidate| {
            candidate
                .steps
                .iter()
                .any(|step| step.value.verb() == "write")
        });
        assert_eq!(after.steps.len(), 1);
    }

    #[test]
    fn one_long_write_stands_for_many_short_ones() {
        let writes =
            "  - write: {page: p0, hex: \"00112233445566778899\"}\n  - commit\n".repeat(60);
        let before = scenario(&format!(
            "version: 1\npages: {{p0: 64}}\nsteps:\n{writes}  - replay\n"
        ));
        let logged = |candidate: &Scenario| -> u64 {
            candidate
                .steps
                .iter()
                .map(|step| match &step.value {
                    Step::Write(write) => match &write.data {
                        Data::Fill(fill) => fill.len.as_ref().and_then(Num::constant).unwrap_or(0),
                        _ => 60,
                    },
                    _ => 0,
                })
                .sum()
        };
        let after = filled(&before, &mut |candidate| {
            logged(candidate) >= 3000 && parse_str("candidate", &print(candidate)).is_ok()
        });
        assert!(after.steps.len() < 12, "{}", print(&after));
        assert!(parse_str("filled", &print(&after)).is_ok());
    }
}
