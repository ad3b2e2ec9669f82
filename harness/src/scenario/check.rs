//! The semantic check: what can be known to be wrong without running the scenario.
//!
//! The steps are walked once in order, with what is known of every page. Where something can be
//! known only at run time (names with expressions, traces, threads, crashes, steps that are meant
//! to fail) the check stays silent rather than guess.

mod names;
mod numbers;
mod pages;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Capability, Scenario, VERSION};
use super::code::{Code, Fault};
use super::matrix;
use super::num::Scope;
use super::value::{Name, Span};
use names::Defined;

/// How many faults one check reports at most: after so many, they are mostly consequences.
const MAX_FAULTS: usize = 50;

/// Finds everything that is wrong, in the order of the file.
pub(crate) fn check(scenario: &Scenario) -> Vec<Fault> {
    let mut checker = Checker::new(scenario);
    checker.header(scenario);
    for (name, spec) in scenario.pages.iter() {
        checker.define_page(name, spec.as_parts());
    }
    // The pages at the top are committed before the first step.
    checker.staged = None;
    checker.committed = checker.pages.clone();
    checker.steps(&scenario.steps);
    checker.end(scenario);
    let mut faults = checker.faults;
    faults.sort_by_key(|fault| (fault.span.line, fault.span.column));
    faults.dedup();
    faults.truncate(MAX_FAULTS);
    faults
}

/// What is known of a page at one point of the scenario.
#[derive(Clone, Copy, Debug)]
struct Page {
    /// Its length, where that is a constant.
    size: Option<u64>,
    /// Whether it can be used, or was freed.
    live: bool,
    /// Whether it is derived, where that is known.
    derived: Option<bool>,
}

/// What steps are inside of.
#[derive(Clone, Copy, Debug, Default)]
struct Inside {
    transaction: bool,
    concurrent: bool,
    repeat: bool,
}

struct Checker {
    faults: Vec<Fault>,
    /// Every name that is defined anywhere in the file.
    defined: Defined,
    pages: BTreeMap<String, Page>,
    /// The pages as of the last commit, to which `abort` goes back.
    committed: BTreeMap<String, Page>,
    marks: BTreeSet<String>,
    handles: BTreeSet<String>,
    /// Variables that are set, and their values where those are constants.
    variables: BTreeSet<String>,
    constants: Scope,
    /// The first step that is staged and not yet committed.
    staged: Option<Span>,
    /// Where the bus was closed, if it is.
    closed: bool,
    /// Whether the step may fail, so that what it uses may be wrong on purpose.
    lenient: bool,
    /// Whether pages may exist of which the file says nothing, or be gone.
    unknowable: bool,
    /// Whether steps of a trace may have made pages of any name.
    traces: bool,
    /// What the steps are inside of, for steps that cannot stand everywhere.
    inside: Inside,
    checks: usize,
}

impl Checker {
    fn new(scenario: &Scenario) -> Self {
        Self {
            faults: Vec::new(),
            defined: Defined::of(scenario),
            pages: BTreeMap::new(),
            committed: BTreeMap::new(),
            marks: BTreeSet::new(),
            handles: BTreeSet::new(),
            variables: BTreeSet::new(),
            constants: Scope::new(),
            staged: None,
            closed: false,
            lenient: false,
            unknowable: false,
            traces: false,
            inside: Inside::default(),
            checks: 0,
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn report(&mut self, span: Span, code: Code, message: impl Into<String>) {
        self.faults.push(Fault::new(code, message).at(span));
    }

    /// Checks everything above the pages.
    fn header(&mut self, scenario: &Scenario) {
        if *scenario.version != VERSION {
            self.fault(unknown_version(&scenario.version.to_string()).at(scenario.version.span));
        }
        self.unique(&scenario.tags, "tag");
        let mut seen: Vec<Capability> = Vec::new();
        for capability in &scenario.requires {
            if seen.contains(capability) {
                let message = format!("{capability:?} is required twice");
                self.report(scenario.version.span, Code::DuplicateName, message);
            }
            seen.push(*capability);
        }
        match matrix::cells(scenario) {
            Ok(_) => {}
            Err(faults) => self.faults.extend(faults),
        }
        if let Some(matrix) = &scenario.matrix {
            // An axis is a variable whose value differs from cell to cell.
            for (axis, _) in matrix.axes.iter() {
                self.variable_name(axis);
                self.variables.insert(axis.to_string());
            }
        }
        self.options(&scenario.options);
        self.lets(&scenario.lets, true);
    }

    fn unique(&mut self, names: &[Name], what: &str) {
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                let message = format!("the {what} `{name}` stands twice");
                self.report(name.span(), Code::DuplicateName, message);
            }
        }
    }

    /// Checks what only the whole scenario shows.
    fn end(&mut self, scenario: &Scenario) {
        let Some(first) = scenario.steps.first() else {
            self.report(
                scenario.version.span,
                Code::NoSteps,
                "the scenario has no steps",
            );
            return;
        };
        self.uncommitted("at the end");
        if self.checks == 0 {
            let fault = Fault::new(Code::NoCheck, "the scenario executes no check")
                .at(first.span)
                .expected("at least one of expect, fails, replay, drain, trace");
            self.fault(fault);
        }
    }

    /// Refuses to lose what is staged.
    fn uncommitted(&mut self, when: &str) {
        if let Some(span) = self.staged.take() {
            let fault = Fault::new(Code::Uncommitted, format!("this is not committed {when}"))
                .at(span)
                .expected("commit or abort after it");
            self.fault(fault);
        }
    }
}

/// The fault of a version that this reader does not know.
pub(crate) fn unknown_version(version: &str) -> Fault {
    Fault::new(
        Code::UnknownVersion,
        format!("version {version} of the language is not known"),
    )
    .expected(format!("version {VERSION}"))
}
