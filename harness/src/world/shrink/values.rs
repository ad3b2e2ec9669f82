//! Lowers numbers, shortens payloads, and drops faults, options and pages.
//!
//! It works on the file that the scenario is: whatever can be left out or lowered there is tried, and what is no scenario
//! any more is not. So a new step or option needs no code here.

use serde_json::{Map, Value};

use crate::scenario::ast::Step;
use crate::scenario::{Scenario, parse_str};

/// Where a value is: keys and positions from the outside in.
type Pointer = Vec<Part>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Key(String),
    At(usize),
}

/// The scenario with every number, list and mapping as small as it can be, until `is_over` says that the budget is used up: reading
/// candidates takes time too.
pub(super) fn lowered(
    scenario: &Scenario,
    is_over: &dyn Fn() -> bool,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let Ok(mut tree) = serde_json::to_value(scenario) else {
        return best;
    };
    let mut pending = pointers(&tree);
    while let Some(pointer) = pending.pop().filter(|_| !is_over()) {
        loop {
            let smaller = find(&tree, &pointer)
                .map(|value| smaller(value, &pointer))
                .unwrap_or_default();
            let found = smaller.into_iter().find_map(|change| {
                if is_over() {
                    return None;
                }
                let mut candidate = tree.clone();
                apply(&mut candidate, &pointer, change)?;
                let read = read(&candidate)?;
                // What reads as the same would be tried for ever.
                (read != best && fails(&read)).then_some((candidate, read))
            });
            let Some((candidate, read)) = found else {
                break;
            };
            (tree, best) = (candidate, read);
        }
    }
    best
}

/// The scenario without steps around other steps, as far as those alone will do.
pub(super) fn unwrapped(
    scenario: &Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let mut at = 0;
    while let Some(step) = best.steps.get(at) {
        let inner = match &step.value {
            Step::Repeat(step) => step.steps.clone(),
            Step::Storm(step) => step.steps.clone(),
            Step::Concurrent(lists) => lists.iter().flatten().cloned().collect(),
            Step::Transaction(step) => {
                let mut steps = step.steps.clone();
                steps.push(Step::Commit(step.durability).into());
                steps
            }
            _ => Vec::new(),
        };
        if !inner.is_empty() {
            let mut candidate = best.clone();
            candidate.steps.splice(at..=at, inner);
            if fails(&candidate) {
                best = candidate;
                continue;
            }
        }
        at += 1;
    }
    best
}

/// What can be done to one value.
enum Change {
    Remove,
    Set(Value),
}

/// Every value below the root, outer ones last, so that they are tried first.
fn pointers(tree: &Value) -> Vec<Pointer> {
    let mut found: Vec<Pointer> = Vec::new();
    let mut level: Vec<(Pointer, &Value)> = vec![(Pointer::new(), tree)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (pointer, value) in level {
            let child = |part: Part| {
                let mut pointer = pointer.clone();
                pointer.push(part);
                pointer
            };
            match value {
                Value::Object(entries) => {
                    next.extend(
                        entries
                            .iter()
                            .map(|(key, value)| (child(Part::Key(key.clone())), value)),
                    );
                }
                Value::Array(items) => {
                    next.extend(
                        items
                            .iter()
                            .enumerate()
                            .map(|(at, value)| (child(Part::At(at)), value)),
                    );
                }
                _ => {}
            }
        }
        found.extend(next.iter().map(|(pointer, _)| pointer.clone()));
        level = next;
    }
    found.reverse();
    found
}

/// What may be tried with a value, the boldest first.
fn smaller(value: &Value, pointer: &[Part]) -> Vec<Change> {
    let top = match pointer.first() {
        Some(Part::Key(key)) => key.as_str(),
        _ => return Vec::new(),
    };
    // Steps themselves are removed elsewhere, and the version is what it is.
    let is_step =
        top == "steps" && matches!(pointer.last(), Some(Part::At(_))) && is_list_of_steps(pointer);
    let mut changes = Vec::new();
    if top == "version" {
        return changes;
    }
    if !is_step && !matches!(pointer.last(), Some(Part::Key(key)) if key == "steps") {
        changes.push(Change::Remove);
    }
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                let mut lower: Vec<u64> = vec![0, 1, number / 2, number.saturating_sub(1)];
                lower.retain(|other| *other < number);
                lower.dedup();
                changes.extend(lower.into_iter().map(|number| Change::Set(number.into())));
            }
        }
        Value::String(text) => changes.extend(shorter(text)),
        _ => {}
    }
    changes
}

/// Whether the last list on the way is one of steps.
fn is_list_of_steps(pointer: &[Part]) -> bool {
    let before = pointer.len().checked_sub(2).and_then(|at| pointer.get(at));
    match before {
        Some(Part::Key(key)) => key == "steps" || key == "concurrent",
        Some(Part::At(_)) => true,
        None => false,
    }
}

/// Shorter texts of hexadecimal digits, and smaller sizes.
fn shorter(text: &str) -> Vec<Change> {
    if let Some((count, unit)) = text
        .find(|c: char| !c.is_ascii_digit())
        .and_then(|end| Some((text.get(..end)?.parse::<u64>().ok()?, text.get(end..)?)))
        && matches!(unit, "KiB" | "MiB" | "GiB")
    {
        let mut changes = vec![Change::Set(64.into())];
        if count > 1 {
            changes.push(Change::Set(format!("{}{unit}", count / 2).into()));
        }
        return changes;
    }
    let is_hex = text.len() > 2
        && text.len().is_multiple_of(2)
        && text.chars().all(|c| c.is_ascii_hexdigit());
    let half = (text.len() / 4) * 2;
    match text.get(..half) {
        Some(beginning) if is_hex && half > 0 => vec![Change::Set(beginning.into())],
        _ => Vec::new(),
    }
}

fn find<'a>(tree: &'a Value, pointer: &[Part]) -> Option<&'a Value> {
    pointer.iter().try_fold(tree, |value, part| match part {
        Part::Key(key) => value.get(key),
        Part::At(at) => value.get(*at),
    })
}

fn apply(tree: &mut Value, pointer: &[Part], change: Change) -> Option<()> {
    let (last, way) = pointer.split_last()?;
    let parent = way.iter().try_fold(tree, |value, part| match part {
        Part::Key(key) => value.get_mut(key),
        Part::At(at) => value.get_mut(*at),
    })?;
    match (parent, last, change) {
        (Value::Object(entries), Part::Key(key), Change::Remove) => {
            *entries = remove(entries, key);
        }
        (Value::Object(entries), Part::Key(key), Change::Set(value)) => {
            *entries.get_mut(key)? = value;
        }
        (Value::Array(items), Part::At(at), Change::Remove) => {
            (*at < items.len()).then(|| items.remove(*at))?;
        }
        (Value::Array(items), Part::At(at), Change::Set(value)) => *items.get_mut(*at)? = value,
        _ => return None,
    }
    Some(())
}

fn remove(entries: &Map<String, Value>, key: &str) -> Map<String, Value> {
    entries
        .iter()
        .filter(|(other, _)| *other != key)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The scenario of a tree: JSON is YAML, so it is read as a file is, with all checks.
fn read(tree: &Value) -> Option<Scenario> {
    parse_str("candidate", &tree.to_string()).ok()
}
