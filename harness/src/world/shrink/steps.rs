//! Removes steps from a failing scenario, for as long as it fails.
//!
//! What is removed is decided by trying: first long stretches, then shorter ones, then single steps, over and over until no
//! step can go (delta debugging, Zeller and Hildebrandt 2002, without its complements, which steps that build on
//! each other rarely need). Lists inside of steps are treated the same way once their own step has to stay.

use crate::scenario::ast::{Scenario, Step, Steps};

/// The shortest scenario that was found to fail as this one does.
///
/// `fails` says whether a candidate still shows the failure that matters; it should look at more than that
/// something failed, as a candidate may well make no sense. It is asked at most `max_tries` times.
#[must_use]
pub fn shrink(
    scenario: &Scenario,
    max_tries: usize,
    mut fails: impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let mut tries = 0;
    let mut try_it = |candidate: &Scenario| {
        tries += 1;
        tries <= max_tries && fails(candidate)
    };
    loop {
        let before = count(&best.steps);
        for path in lists(&best.steps) {
            shorten(&mut best, &path, &mut try_it);
        }
        if count(&best.steps) == before {
            return best;
        }
    }
}

/// The scenario without the steps behind the one that fails, found by halving. Its last step stays: it may be the
/// only check, without which it would be no scenario.
pub(super) fn cut(scenario: &Scenario, fails: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    let Some((last, before)) = scenario.steps.split_last() else {
        return scenario.clone();
    };
    let of = |len: usize| {
        let mut candidate = scenario.clone();
        candidate.steps = before.iter().take(len).cloned().collect();
        candidate.steps.push(last.clone());
        candidate
    };
    // With so many it does not fail, and with so many it does.
    let (mut low, mut high) = (0, before.len());
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fails(&of(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    of(high)
}

/// Where a list of steps is: the position of a step, and which of its lists, from the outside in.
type Path = Vec<(usize, usize)>;

/// Removes stretches of one list while the scenario fails without them.
fn shorten(best: &mut Scenario, path: &Path, fails: &mut impl FnMut(&Scenario) -> bool) {
    let Some(mut len) = list(&mut best.steps, path).map(|steps| steps.len()) else {
        return;
    };
    let mut stretch = len.div_ceil(2);
    while stretch > 0 {
        // From the end, where steps that nothing builds on are.
        let mut end = len;
        while end > 0 {
            let start = end.saturating_sub(stretch);
            let mut candidate = best.clone();
            if let Some(steps) = list(&mut candidate.steps, path)
                && end <= steps.len()
            {
                steps.drain(start..end);
                if fails(&candidate) {
                    *best = candidate;
                    len -= end - start;
                }
            }
            end = start;
        }
        stretch /= 2;
    }
}

/// Every list of steps, outer ones before inner ones.
fn lists(steps: &Steps) -> Vec<Path> {
    let mut found = vec![Path::new()];
    let mut waiting: Vec<(Path, &Steps)> = vec![(Path::new(), steps)];
    while let Some((path, steps)) = waiting.pop() {
        for (at, step) in steps.iter().enumerate() {
            for (number, inner) in inner(&step.value).into_iter().enumerate() {
                let mut path = path.clone();
                path.push((at, number));
                found.push(path.clone());
                waiting.push((path, inner));
            }
        }
    }
    found
}

/// How many steps there are, those inside of others counted.
#[must_use]
pub fn count(steps: &Steps) -> usize {
    let mut waiting = vec![steps];
    let mut count = 0;
    while let Some(steps) = waiting.pop() {
        count += steps.len();
        waiting.extend(steps.iter().flat_map(|step| inner(&step.value)));
    }
    count
}

/// The lists of steps inside of a step.
fn inner(step: &Step) -> Vec<&Steps> {
    match step {
        Step::Transaction(step) => vec![&step.steps],
        Step::Repeat(step) => vec![&step.steps],
        Step::Fails(step) => vec![&step.steps],
        Step::Storm(step) => vec![&step.steps],
        Step::Concurrent(lists) => lists.iter().collect(),
        _ => Vec::new(),
    }
}

/// The list at a path, if the steps on the way are still there.
fn list<'a>(steps: &'a mut Steps, path: &[(usize, usize)]) -> Option<&'a mut Steps> {
    let Some(((at, number), rest)) = path.split_first() else {
        return Some(steps);
    };
    let inner = match &mut steps.get_mut(*at)?.value {
        Step::Transaction(step) => &mut step.steps,
        Step::Repeat(step) => &mut step.steps,
        Step::Fails(step) => &mut step.steps,
        Step::Storm(step) => &mut step.steps,
        Step::Concurrent(lists) => lists.get_mut(*number)?,
        _ => return None,
    };
    list(inner, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::ast::{Repeat, Transaction};
    use crate::scenario::num::Num;
    use crate::scenario::value::{Located, Name};

    fn mark(number: usize) -> Located<Step> {
        Located::new(Step::Mark(Name::new(format!("m{number}"))))
    }

    fn marks(steps: &Steps, found: &mut Vec<String>) {
        for step in steps {
            if let Step::Mark(name) = &step.value {
                found.push(name.to_string());
            }
            inner(&step.value)
                .into_iter()
                .for_each(|steps| marks(steps, found));
        }
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let inner = Step::Transaction(Transaction {
            durability: None,
            steps: (20..40).map(mark).collect(),
        });
        let repeat = Repeat {
            times: Num::from(2),
            counter: None,
            steps: vec![mark(50), Located::new(inner), mark(51)],
        };
        let mut steps: Steps = (0..20).map(mark).collect();
        steps.insert(11, Located::new(Step::Repeat(repeat)));
        let scenario = Scenario {
            steps,
            ..Scenario::default()
        };
        let mut tries = 0;
        let shrunk = shrink(&scenario, 1000, |candidate| {
            tries += 1;
            let mut found = Vec::new();
            marks(&candidate.steps, &mut found);
            ["m3", "m17", "m33"]
                .iter()
                .all(|wanted| found.iter().any(|name| name == wanted))
        });
        let mut found = Vec::new();
        marks(&shrunk.steps, &mut found);
        assert_eq!(found, ["m3", "m33", "m17"]);
        assert!(tries < 200, "{tries}");
    }

    #[test]
    fn a_budget_is_kept() {
        let scenario = Scenario {
            steps: (0..100).map(mark).collect(),
            ..Scenario::default()
        };
        let mut tries = 0;
        let shrunk = shrink(&scenario, 3, |candidate| {
            tries += 1;
            candidate.steps.len() >= 50
        });
        assert_eq!(tries, 3);
        assert_eq!(shrunk.steps.len(), 50);
    }
}
