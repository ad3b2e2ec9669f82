//! Everything that makes a scenario smaller, one after another, until nothing helps.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{joint, names, steps, values};
use crate::scenario::{Scenario, parse_str, print};

/// How much may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Candidates that are run at most.
    pub tries: usize,
    /// How long it may take; a candidate that runs then is waited for.
    pub duration: Duration,
}

/// A scenario made smaller.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// The smallest that was found to fail. That of the beginning, if nothing smaller does.
    pub scenario: Scenario,
    /// Candidates that were run.
    pub tries: usize,
    /// Steps at the beginning, those inside of others counted.
    pub steps_before: usize,
    /// Steps at the end.
    pub steps_after: usize,
}

/// Makes a failing scenario as small as the budget allows, and half its time more if what it came to is still to be cut off behind the failure: fewer steps, fewer faults, shorter payloads, lower numbers, short
/// names.
///
/// `fails` says whether a candidate still shows the failure that matters; what it is asked about need make no sense.
/// Candidates that no file could hold (such as one without a check) are not taken. The result is what `mmsb run` reads.
#[must_use]
pub fn minimise(
    scenario: &Scenario,
    budget: Budget,
    mut fails: impl FnMut(&Scenario) -> bool,
) -> Shrunk {
    let start = Instant::now();
    let tries = Cell::new(0);
    let is_over = || tries.get() >= budget.tries || start.elapsed() >= budget.duration;
    let mut try_it = |candidate: &Scenario| {
        if is_over() {
            return false;
        }
        tries.set(tries.get() + 1);
        // Reading costs as much as running, and most candidates do not fail.
        fails(candidate) && parse_str("candidate", &print(candidate)).is_ok()
    };
    let mut best = steps::cut(scenario, &mut try_it);
    // The boldest first: each candidate that fails makes all that follow cheaper. What is left fails earlier, mostly.
    best = joint::without_verbs(&best, &mut try_it);
    best = steps::cut(&best, &mut try_it);
    best = joint::without_pages(&best, &mut try_it);
    best = steps::cut(&best, &mut try_it);
    loop {
        let before = weight(&best);
        best = removed(best, &mut try_it);
        if steps::count(&best.steps) > FEW_STEPS {
            let filled = joint::filled(&best, &mut try_it);
            if filled != best {
                best = removed(filled, &mut try_it);
            }
        }
        best = values::lowered(&best, &is_over, &mut try_it);
        if weight(&best) >= before {
            break;
        }
    }
    best = names::shortened(&best, &mut try_it);
    // Beyond the time, if need be: steps that are never come to are no part of what was found, and may make no sense.
    let is_late =
        || tries.get() >= budget.tries || start.elapsed() >= budget.duration + budget.duration / 2;
    best = steps::cut(&best, &mut |candidate: &Scenario| {
        if is_late() {
            return false;
        }
        tries.set(tries.get() + 1);
        fails(candidate) && parse_str("candidate", &print(candidate)).is_ok()
    });
    Shrunk {
        steps_before: steps::count(&scenario.steps),
        steps_after: steps::count(&best.steps),
        scenario: best,
        tries: tries.get(),
    }
}

/// With no more steps than these it is not asked whether a long write can stand for many short ones.
const FEW_STEPS: usize = 8;

/// What becomes smaller: first the steps, then the text of the file.
fn weight(scenario: &Scenario) -> (usize, usize) {
    (steps::count(&scenario.steps), print(scenario).len())
}

/// Removes steps in every way, until none can go.
fn removed(mut best: Scenario, fails: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    loop {
        let before = steps::count(&best.steps);
        best = steps::shrink(&best, usize::MAX, &mut *fails);
        best = joint::without_pages(&best, fails);
        best = joint::without_groups(&best, fails);
        best = values::unwrapped(&best, fails);
        if steps::count(&best.steps) >= before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Cell;
    use crate::world::{Context, Signature, run};

    fn signature(scenario: &Scenario) -> Option<Signature> {
        let outcome = run(scenario, &Cell::default(), &Context::default());
        outcome.failure().map(Signature::of)
    }

    #[test]
    fn a_scenario_shrinks_to_what_its_failure_needs() {
        let text = "
version: 1
options: {segment: 8KiB, appliers: 2, propagation: deferred}
pages: {p17: 4KiB, p3: {size: 200, fill: {random: 9}}, p5: {derive: {copy: p3}}}
steps:
  - write: {page: p17, at: 12, random: {seed: 991, len: 100}}
  - commit
  - repeat: {times: 3, steps: [{write: {page: p3, at: 40, hex: \"aabbccdd\"}}, commit: buffered]}
  - checkpoint
  - storm:
      faults: [{on: log.sync, nth: 7, kind: failed}, {on: names.sync, nth: 3, kind: failed}]
      steps: [{write: {page: p17, text: abc}}, commit, maintain]
  - expect: {page: p3, at: 41, hex: \"bb\"}
  - expect: {page: p3, at: 42, hex: \"00\"}
  - replay
";
        let scenario = parse_str("long", text).unwrap();
        let wanted = signature(&scenario).unwrap();
        let budget = Budget {
            tries: 2000,
            duration: Duration::from_secs(60),
        };
        let shrunk = minimise(&scenario, budget, |candidate| {
            signature(candidate).as_ref() == Some(&wanted)
        });
        let printed = print(&shrunk.scenario);
        assert_eq!(signature(&shrunk.scenario), Some(wanted), "{printed}");
        assert_eq!(shrunk.steps_after, 1, "{printed}");
        assert!(shrunk.tries < 1000, "{}", shrunk.tries);
        assert!(!printed.contains("options"), "{printed}");
        assert!(
            !printed.contains("p17") && !printed.contains("p5"),
            "{printed}"
        );
    }

    #[test]
    fn a_budget_is_kept_and_what_cannot_be_read_is_not_taken() {
        let text = "version: 1\npages: {a: 64}\nsteps: [{write: {page: a, hex: \"00\"}}, commit, {expect: {pages: 1}}]\n";
        let scenario = parse_str("short", text).unwrap();
        let budget = Budget {
            tries: 3,
            duration: Duration::from_secs(60),
        };
        let mut asked = 0;
        let shrunk = minimise(&scenario, budget, |_| {
            asked += 1;
            false
        });
        assert_eq!((asked, shrunk.tries), (3, 3));
        assert_eq!(shrunk.scenario, scenario);
        // Even where everything fails, what is left is a scenario.
        let budget = Budget {
            tries: 1000,
            ..budget
        };
        let shrunk = minimise(&scenario, budget, |_| true);
        assert!(parse_str("shrunk", &print(&shrunk.scenario)).is_ok());
        assert_eq!(shrunk.steps_after, 1);
    }

    #[test]
    fn a_used_up_budget_ends_also_what_only_reads() {
        let steps =
            "  - write: {page: a, at: 7, random: {seed: 11, len: 30}}\n  - commit\n".repeat(1000);
        let text = format!("version: 1\npages: {{a: 64}}\nsteps:\n{steps}  - replay\n");
        let scenario = parse_str("long", &text).unwrap();
        let budget = Budget {
            tries: 0,
            duration: Duration::from_secs(60),
        };
        let start = Instant::now();
        let shrunk = minimise(&scenario, budget, |_| true);
        assert_eq!((shrunk.tries, shrunk.steps_after), (0, 2001));
        // Each candidate takes milliseconds to read, and there are tens of thousands.
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
