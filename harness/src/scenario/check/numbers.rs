//! Checks of numbers, sizes, options and variables.

use super::Checker;
use crate::scenario::ast::{Options, Step, Steps};
use crate::scenario::code::{Code, Fault};
use crate::scenario::num::{EvalError, Num};
use crate::scenario::value::Map;

/// The most threads that an option may ask for.
const MAX_THREADS: u64 = 1024;

impl Checker {
    /// Checks the variables of a number, and that it can be computed; gives its value, if that is
    /// a constant.
    pub(super) fn num(&mut self, num: &Num) -> Option<u64> {
        let mut variables = Vec::new();
        num.expr()
            .variables(&mut |variable| variables.push(variable.to_owned()));
        for variable in &variables {
            self.variable(variable, num.span());
        }
        match num.eval(&self.constants) {
            Ok(value) => Some(value),
            Err(EvalError::UnknownVariable { .. }) => None,
            Err(error) => {
                self.report(num.span(), Code::BadExpression, error.to_string());
                None
            }
        }
    }

    pub(super) fn opt_num(&mut self, num: Option<&Num>) -> Option<u64> {
        num.and_then(|num| self.num(num))
    }

    /// Checks a number and its limits.
    pub(super) fn num_within(&mut self, num: &Num, what: &str, low: u64, high: u64) -> Option<u64> {
        let value = self.num(num)?;
        if !(low..=high).contains(&value) && !self.lenient {
            let fault = Fault::new(Code::BadValue, format!("{what} cannot be {value}"))
                .at(num.span())
                .expected(format!("{low} to {high}"));
            self.fault(fault);
        }
        Some(value)
    }

    pub(super) fn options(&mut self, options: &Options) {
        let Options {
            threads,
            appliers,
            segment,
            arena,
            device_memory,
            resident,
            ..
        } = options;
        let limits = [
            (threads, "the number of threads", MAX_THREADS),
            (appliers, "the number of appliers", MAX_THREADS),
            (segment, "the length of a segment", u64::MAX),
            (arena, "the length of the arena", u64::MAX),
            (device_memory, "the memory of the device", 1 << 40),
            (resident, "the device memory for pages", 1 << 40),
        ];
        for (num, what, high) in limits {
            if let Some(num) = num {
                self.num_within(num, what, 1, high);
            }
        }
    }

    /// Sets variables. Only those at the top are constants: one that a step sets may have another
    /// value the next time round.
    pub(super) fn lets(&mut self, lets: &Map<Num>, at_top: bool) {
        for (name, num) in lets.iter() {
            let value = self.num(num);
            self.variable_name(name);
            if at_top && self.variables.contains(name.as_str()) {
                let message = format!("`{name}` is a variable or an axis already");
                self.report(name.span(), Code::DuplicateName, message);
            }
            self.variables.insert(name.to_string());
            match value {
                Some(value) if at_top => {
                    self.constants.set(name, value);
                }
                _ => {
                    self.constants.unset(name);
                }
            }
        }
    }

    /// Forgets the values of variables that the steps set, before a body that runs repeatedly.
    pub(super) fn forget_set_in(&mut self, steps: &Steps) {
        for step in steps {
            match &step.value {
                Step::Let(lets) => lets.iter().for_each(|(name, _)| {
                    self.constants.unset(name);
                }),
                Step::Repeat(repeat) => self.forget_set_in(&repeat.steps),
                Step::Transaction(transaction) => self.forget_set_in(&transaction.steps),
                Step::Fails(fails) => self.forget_set_in(&fails.steps),
                Step::Storm(storm) => self.forget_set_in(&storm.steps),
                Step::Concurrent(lists) => lists.iter().for_each(|list| self.forget_set_in(list)),
                _ => {}
            }
        }
    }
}
