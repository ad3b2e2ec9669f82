//! What names are defined anywhere in a scenario, and faults of names that are not.

use std::collections::BTreeSet;

use super::Checker;
use crate::scenario::ast::{Scenario, Step, Steps};
use crate::scenario::code::{Code, Fault};
use crate::scenario::value::{Name, Span};

/// Every name that is defined anywhere in the file, whatever the order.
#[derive(Default)]
pub(super) struct Defined {
    pub(super) pages: Kind,
    pub(super) marks: Kind,
    pub(super) handles: Kind,
}

/// The defined names of one kind.
#[derive(Default)]
pub(super) struct Kind {
    names: BTreeSet<String>,
    /// Names with expressions, which stand for more than one name.
    templates: Vec<String>,
}

impl Kind {
    fn add(&mut self, name: &Name) {
        if name.is_template() {
            self.templates.push(name.to_string());
        } else {
            self.names.insert(name.to_string());
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether a name may be one of those that a template stands for.
    pub(super) fn may_contain(&self, name: &str) -> bool {
        self.templates.iter().any(|template| {
            let prefix = template.split('{').next().unwrap_or_default();
            let suffix = template.rsplit('}').next().unwrap_or_default();
            name.len() > prefix.len() + suffix.len()
                && name.starts_with(prefix)
                && name.ends_with(suffix)
        })
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}

impl Defined {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut defined = Self::default();
        for (name, _) in scenario.pages.iter() {
            defined.pages.add(name);
        }
        defined.steps(&scenario.steps);
        defined
    }

    fn steps(&mut self, steps: &Steps) {
        for step in steps {
            match &step.value {
                Step::Allocate(allocate) => {
                    allocate
                        .pages
                        .iter()
                        .for_each(|page| self.pages.add(&page.page));
                }
                Step::Transfer(transfer) => {
                    transfer.old.iter().for_each(|old| self.pages.add(old));
                }
                Step::Mark(mark) => self.marks.add(mark),
                Step::Subscribe(subscribe) => self.handles.add(&subscribe.name),
                Step::Snapshot(snapshot) => self.handles.add(&snapshot.name),
                Step::Transaction(transaction) => self.steps(&transaction.steps),
                Step::Repeat(repeat) => self.steps(&repeat.steps),
                Step::Fails(fails) => self.steps(&fails.steps),
                Step::Storm(storm) => self.steps(&storm.steps),
                Step::Concurrent(lists) => lists.iter().for_each(|steps| self.steps(steps)),
                _ => {}
            }
        }
    }
}

impl Checker {
    /// Checks that a mark is set by now.
    pub(super) fn mark(&mut self, mark: &Name) {
        if self.unresolved(mark) || self.marks.contains(mark.as_str()) {
            return;
        }
        let known = &self.defined.marks;
        if known.may_contain(mark) || self.unknowable && known.contains(mark) {
            return;
        }
        let fault = if known.contains(mark) {
            Fault::new(
                Code::UnknownMark,
                format!("the mark `{mark}` is set only later"),
            )
        } else {
            unknown(Code::UnknownMark, "mark", mark, &known.names())
        };
        self.fault(fault.at(mark.span()));
    }

    /// Checks that a subscription or snapshot exists by now.
    pub(super) fn handle(&mut self, kind: &str, name: &Name) {
        if self.unresolved(name) || self.handles.contains(name.as_str()) {
            return;
        }
        let known = &self.defined.handles;
        if known.may_contain(name) || self.unknowable && known.contains(name) {
            return;
        }
        let fault = if known.contains(name) {
            Fault::new(
                Code::UnknownHandle,
                format!("the {kind} `{name}` is made only later"),
            )
        } else {
            unknown(Code::UnknownHandle, kind, name, &known.names())
        };
        self.fault(fault.at(name.span()));
    }

    /// Sets a mark, or makes a subscription or snapshot.
    pub(super) fn set_mark(&mut self, mark: &Name) {
        if !self.unresolved(mark) && !self.marks.insert(mark.to_string()) && !self.inside.repeat {
            let message = format!("the mark `{mark}` is set twice");
            self.report(mark.span(), Code::DuplicateName, message);
        }
        if mark.as_str() == "end" {
            let message = "`end` is the end of the log and cannot be a mark";
            self.report(mark.span(), Code::BadName, message);
        }
    }

    pub(super) fn set_handle(&mut self, name: &Name) {
        if !self.unresolved(name) && !self.handles.insert(name.to_string()) && !self.inside.repeat {
            let message = format!("`{name}` is the name of a subscription or snapshot already");
            self.report(name.span(), Code::DuplicateName, message);
        }
    }

    /// Whether a name is known only at run time. Its variables are checked.
    pub(super) fn unresolved(&mut self, name: &Name) -> bool {
        if !name.is_template() {
            return false;
        }
        let mut variables = BTreeSet::new();
        name.each_variable(&mut |variable| {
            variables.insert(variable.to_owned());
        });
        for variable in &variables {
            self.variable(variable, name.span());
        }
        true
    }

    /// Checks that a variable is set.
    pub(super) fn variable(&mut self, variable: &str, span: Span) {
        if self.variables.contains(variable) {
            return;
        }
        let known: Vec<&str> = self.variables.iter().map(String::as_str).collect();
        let fault = unknown(Code::UnknownVariable, "variable", variable, &known).at(span);
        self.fault(fault);
    }

    /// Checks that a name can be a variable: it has to be a word of an expression.
    pub(super) fn variable_name(&mut self, name: &Name) {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fine = name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit());
        if !fine {
            let message = format!("`{name}` cannot be a variable");
            let expected = "letters, digits and `_`, not starting with a digit";
            self.fault(
                Fault::new(Code::BadName, message)
                    .at(name.span())
                    .expected(expected),
            );
        } else if matches!(name.as_str(), "min" | "max") {
            let message = format!("`{name}` is a function and cannot be a variable");
            self.report(name.span(), Code::BadName, message);
        }
    }
}

/// As [`Fault::unknown`], for a list of names that may be empty.
pub(super) fn unknown(code: Code, kind: &str, name: &str, known: &[&str]) -> Fault {
    if known.is_empty() {
        Fault::new(
            code,
            format!("unknown {kind} `{name}`; the scenario defines none"),
        )
    } else {
        Fault::unknown(code, kind, name, known)
    }
}
