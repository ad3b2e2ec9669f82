//! Removes steps that only go together: delta debugging takes away stretches, and a page that many steps use, a transaction or a
//! crash with its open is none.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::scenario::ast::{NewPage, Scenario, Step, Steps, Write};
use crate::scenario::data::{Data, Fill};
use crate::scenario::expr_num;
use crate::scenario::value::{Located, Name};
use crate::scenario::{Num, PageSpec};

/// The scenario without all steps of one verb, for every verb that it can do without.
pub(super) fn without_verbs(
    scenario: &Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let verbs: BTreeSet<&'static str> = scenario.steps.iter().map(|step| step.value.verb()).collect();
    for verb in verbs {
        keep_if_fails(&mut best, fails, |step| step.value.verb() != verb);
    }
    best
}
