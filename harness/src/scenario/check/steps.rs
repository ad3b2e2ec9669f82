//! Walks the steps.

use super::{Checker, Inside, Page};
use crate::scenario::ast::{Replay, ReplayTo, Step, Steps, Storm};
use crate::scenario::code::{Code, Fault};
use crate::scenario::crash::Crash;
use crate::scenario::expect::{Bound, Content, Expect, UnchangedSince};
use crate::scenario::fault::{FaultKind, Inject};
use crate::scenario::num::Num;
use crate::scenario::value::{Located, Name, Span};

/// What a step does to the bus, which decides where it may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stages a change for the next commit.
    Stage,
    /// Commits or aborts.
    Finish,
    /// Opens or closes the bus.
    Life,
    /// Changes files of the closed bus.
    File,
    /// Other use of the open bus.
    Use,
    /// Independent of the bus, or made of other steps.
    Free,
}

fn class(step: &Step) -> Class {
    match step {
        Step::Write(_)
        | Step::Delta(_)
        | Step::Masked(_)
        | Step::Diff(_)
        | Step::Scatter(_)
        | Step::Allocate(_)
        | Step::Free(_)
        | Step::Transfer(_)
        | Step::Connect(_)
        | Step::Disconnect(_)
        | Step::Annotate(_) => Class::Stage,
        Step::Commit(_) | Step::Abort | Step::Transaction(_) => Class::Finish,
        Step::Close | Step::Open(_) | Step::Reopen(_) | Step::Crash(_) | Step::Storm(_) => {
            Class::Life
        }
        Step::RemoveFile(_)
        | Step::OverwriteFile(_)
        | Step::TruncateFile(_)
        | Step::WriteFile(_) => Class::File,
        Step::Checkpoint
        | Step::Propagate
        | Step::Maintain
        | Step::RestoreDevice
        | Step::Evict(_)
        | Step::Prefetch(_)
        | Step::Mark(_)
        | Step::Snapshot(_)
        | Step::Subscribe(_)
        | Step::Drain(_)
        | Step::Expect(_) => Class::Use,
        // A replay reads the log of an open or of a closed bus alike.
        Step::Replay(_)
        | Step::Concurrent(_)
        | Step::Repeat(_)
        | Step::Let(_)
        | Step::Trace(_)
        | Step::Fault(_)
        | Step::Heal
        | Step::Fails(_) => Class::Free,
    }
}

/// Whether a step may be part of a transaction, which only stages.
fn stands_in_transaction(step: &Step) -> bool {
    class(step) == Class::Stage || matches!(step, Step::Repeat(_) | Step::Let(_) | Step::Fails(_))
}

/// Whether a step may run beside others, which excludes whatever ends the bus for all.
fn stands_on_a_thread(step: &Step) -> bool {
    !matches!(class(step), Class::Life | Class::File) && !matches!(step, Step::Concurrent(_))
}

impl Checker {
    pub(super) fn steps(&mut self, steps: &Steps) {
        for step in steps {
            self.step(step);
        }
    }

    /// Steps inside of another.
    fn nested(&mut self, inside: Inside, steps: &Steps, span: Span) {
        if steps.is_empty() {
            self.report(span, Code::NoSteps, "the list of steps is empty");
        }
        let outer = std::mem::replace(&mut self.inside, inside);
        self.steps(steps);
        self.inside = outer;
    }

    fn step(&mut self, step: &Located<Step>) {
        if !self.placement(step) {
            // What it would do is not known, and what follows from that is not worth a message.
            self.checks += usize::from(matches!(step.value, Step::Expect(_)));
            return;
        }
        if class(step) == Class::Stage && !self.lenient && !self.inside.transaction {
            self.staged.get_or_insert(step.span);
        }
        match &step.value {
            Step::Write(s) => {
                let size = self.written(&s.page);
                self.data(&s.data);
                self.range(&s.page, size, &s.at, self.data_len(&s.data), s.page.span());
            }
            Step::Delta(s) => {
                let size = self.written(&s.page);
                for run in &s.runs {
                    self.data(&run.data);
                    self.range(
                        &s.page,
                        size,
                        &run.at,
                        self.data_len(&run.data),
                        s.page.span(),
                    );
                }
                if s.runs.is_empty() {
                    self.report(
                        s.page.span(),
                        Code::BadValue,
                        "a delta needs at least one run",
                    );
                }
            }
            Step::Masked(s) => {
                let size = self.written(&s.page);
                self.data(&s.data);
                let len = self.data_len(&s.data);
                self.range(&s.page, size, &s.at, len, s.page.span());
                let mask = u64::try_from(s.mask.len()).unwrap_or(u64::MAX);
                if let Some(len) = len
                    && mask != len.div_ceil(8)
                    && !self.lenient
                {
                    let message = format!("the mask has {mask} bytes");
                    let expected = format!("{}, one bit for each of {len} bytes", len.div_ceil(8));
                    let fault = Fault::new(Code::BadValue, message).at(s.mask.span());
                    self.fault(fault.expected(expected));
                }
            }
            Step::Diff(s) => {
                let size = self.written(&s.page);
                self.data(&s.to);
                let len = self.data_len(&s.to);
                self.range(&s.page, size, &Num::ZERO, len, s.page.span());
            }
            Step::Scatter(s) => {
                let size = self.written(&s.page);
                self.num(&s.runs);
                self.num(&s.seed);
                self.num_within(&s.len, "the length of a run", 1, size.unwrap_or(u64::MAX));
            }
            Step::Allocate(s) => {
                if s.pages.is_empty() {
                    self.report(
                        step.span,
                        Code::BadValue,
                        "`allocate` needs at least one page",
                    );
                }
                s.pages
                    .iter()
                    .for_each(|page| self.define_page(&page.page, page.as_parts()));
            }
            Step::Free(s) => {
                self.page(&s.page);
                self.update(&s.page, |page| page.live = false);
            }
            Step::Transfer(s) => {
                let page = self.page(&s.page);
                if let Some(old) = &s.old
                    && !self.unresolved(old)
                {
                    let size = page.and_then(|page| page.size);
                    let stale = Page {
                        size,
                        live: false,
                        derived: None,
                    };
                    if self
                        .pages
                        .insert(old.to_string(), stale)
                        .is_some_and(|page| page.live)
                    {
                        let message = format!("a page `{old}` is there already");
                        self.report(old.span(), Code::DuplicateName, message);
                    }
                }
            }
            Step::Connect(s) => {
                self.page(&s.page);
                self.derive(&s.page, &s.derive);
                self.update(&s.page, |page| page.derived = Some(true));
            }
            Step::Disconnect(s) => {
                let page = self.page(&s.page);
                if page.is_some_and(|page| page.derived == Some(false)) && !self.lenient {
                    let message = format!("`{}` is not a derived page", s.page);
                    self.report(s.page.span(), Code::DerivedPage, message);
                }
                self.update(&s.page, |page| page.derived = Some(false));
            }
            Step::Annotate(s) => {
                self.page(&s.page);
            }
            Step::Commit(_) => self.committed(),
            Step::Abort => {
                self.staged = None;
                self.pages = self.committed.clone();
            }
            Step::Transaction(s) => {
                self.nested(
                    Inside {
                        transaction: true,
                        ..self.inside
                    },
                    &s.steps,
                    step.span,
                );
                self.committed();
            }
            Step::Checkpoint | Step::Propagate | Step::Maintain | Step::Heal => {}
            Step::Evict(pages) | Step::Prefetch(pages) => {
                pages.iter().for_each(|page| {
                    self.page(page);
                });
            }
            // All pages are compared with the model.
            Step::RestoreDevice => self.checks += 1,
            Step::Fault(inject) => self.fault_step(inject, step.span),
            Step::Close => {
                self.uncommitted("when the bus is closed");
                self.closed = true;
            }
            Step::Open(options) => {
                self.options(options);
                self.closed = false;
            }
            Step::Reopen(options) => {
                self.uncommitted("when the bus is closed");
                self.options(options);
            }
            Step::Crash(crash) => {
                self.crash(crash);
                // What was staged is lost on purpose, and what was committed may be.
                self.staged = None;
                self.closed = true;
                self.unknowable = true;
            }
            Step::Mark(mark) => self.set_mark(mark),
            Step::Replay(replay) => self.replay(replay),
            Step::Snapshot(s) => {
                s.pages.iter().for_each(|page| {
                    self.page(page);
                });
                self.set_handle(&s.name);
            }
            Step::Concurrent(lists) => self.concurrent(lists, step.span),
            Step::Repeat(s) => {
                self.num(&s.times);
                self.forget_set_in(&s.steps);
                let added = s.counter.as_ref().map(|counter| {
                    self.variable_name(counter);
                    let value = self.constants.unset(counter);
                    (counter, self.variables.insert(counter.to_string()), value)
                });
                self.nested(
                    Inside {
                        repeat: true,
                        ..self.inside
                    },
                    &s.steps,
                    step.span,
                );
                if let Some((counter, new, value)) = added {
                    if new {
                        self.variables.remove(counter.as_str());
                    } else {
                        let message = format!("the variable `{counter}` is set already");
                        self.report(counter.span(), Code::DuplicateName, message);
                    }
                    if let Some(value) = value {
                        self.constants.set(counter, value);
                    }
                }
            }
            Step::Let(lets) => self.lets(lets, false),
            Step::Trace(trace) => {
                let file = std::path::Path::new(trace.file.as_str());
                let inside = file
                    .components()
                    .all(|c| matches!(c, std::path::Component::Normal(_)));
                if trace.file.is_empty() || !inside {
                    let fault = Fault::new(Code::BadFile, "a trace lies beside its scenario")
                        .at(trace.file.span)
                        .expected("a relative path without `..`");
                    self.fault(fault);
                }
                self.checks += 1;
                self.unknowable = true;
                self.traces = true;
            }
            Step::Subscribe(s) => {
                self.num_within(&s.capacity, "the capacity of a subscription", 1, 1 << 24);
                self.set_handle(&s.name);
            }
            Step::Drain(s) => {
                self.handle("subscription", &s.name);
                self.opt_num(s.events.as_ref());
                self.opt_num(s.lost.as_ref());
                self.checks += usize::from(s.events.is_some() || s.lost.is_some());
            }
            Step::Fails(s) => self.fails(&s.steps, step.span),
            Step::Storm(s) => self.storm(s, step.span),
            Step::RemoveFile(_) => {}
            Step::OverwriteFile(s) => {
                self.num(&s.at);
                self.data(&s.data);
            }
            Step::TruncateFile(s) => {
                self.num(&s.len);
            }
            Step::WriteFile(s) => self.data(&s.data),
            Step::Expect(expect) => {
                self.checks += 1;
                self.expect(expect);
            }
        }
    }

    /// Checks that a step can stand where it stands.
    fn placement(&mut self, step: &Located<Step>) -> bool {
        let class = class(step);
        let verb = step.verb();
        let Inside {
            transaction,
            concurrent,
            ..
        } = self.inside;
        let misplaced = if transaction && !stands_in_transaction(&step.value) {
            Some("inside a transaction")
        } else if concurrent && !stands_on_a_thread(&step.value) {
            Some("while other threads run")
        } else {
            None
        };
        if let Some(place) = misplaced {
            self.report(
                step.span,
                Code::Misplaced,
                format!("`{verb}` cannot stand {place}"),
            );
            return false;
        }
        if self.lenient {
            return true;
        }
        let reopens = matches!(step.value, Step::Open(_));
        let fault = match (class, self.closed) {
            (Class::Stage | Class::Finish | Class::Use, true) => {
                Some(("the bus is closed here", "`open` before it"))
            }
            (Class::Life, true) if !reopens => {
                Some(("the bus is closed already", "`open` before it"))
            }
            (Class::Life, false) if reopens => {
                Some(("the bus is open already", "`close` or `crash` before it"))
            }
            (Class::File, false) => Some(("the bus is open here", "`close` or `crash` before it")),
            _ => None,
        };
        let Some((why, expected)) = fault else {
            return true;
        };
        let fault = Fault::new(
            Code::Misplaced,
            format!("`{verb}` cannot stand here: {why}"),
        );
        self.fault(fault.at(step.span).expected(expected));
        false
    }

    fn committed(&mut self) {
        self.staged = None;
        self.committed = self.pages.clone();
    }

    fn update(&mut self, name: &Name, change: impl FnOnce(&mut Page)) {
        if let Some(page) = self.pages.get_mut(name.as_str()) {
            change(page);
        }
    }

    fn replay(&mut self, replay: &Replay) {
        self.checks += 1;
        match &replay.to {
            ReplayTo::End => {}
            ReplayTo::Mark(mark) => self.mark(mark),
            ReplayTo::Lsn(lsn) => {
                self.num(lsn);
            }
        }
        if let Some(appliers) = &replay.appliers {
            self.num_within(appliers, "the number of appliers", 1, 1024);
        }
        if let Some(mark) = &replay.same_as {
            self.mark(mark);
        }
    }

    fn crash(&mut self, crash: &Crash) {
        match crash {
            Crash::Forgetful | Crash::Process => {}
            Crash::Drawn(seed) => {
                self.num(seed);
            }
            // The sweep compares every recovery with the model.
            Crash::Each { .. } => self.checks += 1,
            Crash::At(window) => {
                let mut next = Some(window);
                while let Some(window) = next {
                    self.opt_num(window.at.as_ref());
                    window.keep.iter().for_each(|num| {
                        self.num(num);
                    });
                    if let Some(tear) = &window.tear {
                        for num in [&tear.change, &tear.from, &tear.to] {
                            self.num(num);
                        }
                    }
                    next = window.again.as_deref();
                }
            }
        }
    }

    fn fault_step(&mut self, inject: &Inject, span: Span) {
        if let Some(nth) = &inject.nth {
            self.num_within(nth, "the count of a fault", 1, u64::MAX);
        }
        self.opt_num(inject.at.as_ref());
        self.opt_num(inject.seed.as_ref());
        if !inject.kind.strikes(inject.on) {
            let kind = inject.kind.as_str();
            let fits = FaultKind::ALL
                .into_iter()
                .filter(|kind| kind.strikes(inject.on))
                .map(FaultKind::as_str);
            let expected = format!("one of {}", fits.collect::<Vec<_>>().join(", "));
            let message = format!("`{}` cannot fail as `{kind}`", inject.on);
            self.fault(
                Fault::new(Code::BadValue, message)
                    .at(span)
                    .expected(expected),
            );
        }
    }

    /// Threads run in any order, so what one does may or may not have happened for another.
    fn concurrent(&mut self, lists: &[Steps], span: Span) {
        if lists.is_empty() {
            self.report(span, Code::NoSteps, "`concurrent` has no threads");
        }
        self.uncommitted("before threads start");
        let outer = std::mem::replace(&mut self.unknowable, true);
        for list in lists {
            self.forget_set_in(list);
            let variables = self.variables.clone();
            self.nested(
                Inside {
                    concurrent: true,
                    ..self.inside
                },
                list,
                span,
            );
            self.uncommitted("when its thread ends");
            self.variables = variables;
        }
        self.unknowable = outer;
        self.committed = self.pages.clone();
    }

    /// Any of its steps may be the last that is done, so what they make may be there or not.
    fn storm(&mut self, storm: &Storm, span: Span) {
        self.checks += 1;
        self.uncommitted("when the storm begins");
        for inject in &storm.faults {
            self.fault_step(inject, span);
        }
        if storm.faults.is_empty() {
            self.report(span, Code::NoSteps, "a storm needs at least one fault");
        }
        self.unknowable = true;
        let before = self.pages.clone();
        self.nested(self.inside, &storm.steps, span);
        self.staged = None;
        for (name, mut page) in before {
            let after = self.pages.get(&name);
            if after.is_some_and(|after| after.derived != page.derived) {
                page.derived = None;
            }
            self.pages.insert(name, page);
        }
        self.committed = self.pages.clone();
        // It ends with an open bus, whatever its steps were doing.
        self.closed = false;
    }

    /// All steps but the last succeed; the last may be wrong in any way, and changes nothing.
    fn fails(&mut self, steps: &Steps, span: Span) {
        self.checks += 1;
        let Some((last, before)) = steps.split_last() else {
            self.report(span, Code::NoSteps, "`fails` has no steps");
            return;
        };
        before.iter().for_each(|step| self.step(step));
        let kept = (
            self.pages.clone(),
            self.committed.clone(),
            self.staged,
            self.closed,
        );
        let outer = std::mem::replace(&mut self.lenient, true);
        self.step(last);
        self.lenient = outer;
        (self.pages, self.committed, self.staged, self.closed) = kept;
        // A refused commit drops what was staged for it, also by steps before the `fails`.
        if matches!(&**last, Step::Commit(_) | Step::Transaction(_)) {
            self.pages = self.committed.clone();
            self.staged = None;
        }
    }

    fn expect(&mut self, expect: &Expect) {
        match expect {
            Expect::Page(check) => {
                let size = self.page(&check.page).and_then(|page| page.size);
                if let Some(snapshot) = &check.snapshot {
                    self.handle("snapshot", snapshot);
                }
                let len = self.opt_num(check.len.as_ref());
                let len = match &check.content {
                    Content::Data(data) => {
                        self.data(data);
                        len.or_else(|| self.data_len(data))
                    }
                    Content::Digest(_) => len,
                };
                self.range(&check.page, size, &check.at, len, check.page.span());
            }
            Expect::Same(pages) => {
                if let [only] = &**pages {
                    let message = "one page alone is always the same as itself";
                    self.report(only.span(), Code::BadValue, message);
                }
                pages.iter().for_each(|page| {
                    self.page(page);
                });
            }
            Expect::Equal(equal) => {
                let size = self.page(&equal.page).and_then(|page| page.size);
                let len = self.opt_num(equal.len.as_ref());
                self.range(&equal.page, size, &equal.at, len, equal.page.span());
                self.region(&equal.to);
            }
            Expect::Zero(region) => self.region(region),
            Expect::UnchangedSince(UnchangedSince { page, mark }) => {
                if let Some(page) = page {
                    self.page(page);
                }
                self.mark(mark);
            }
            Expect::Counter(counter) => {
                let (Bound::Is(num) | Bound::AtLeast(num) | Bound::AtMost(num)) = &counter.bound;
                self.num(num);
                if matches!(counter.bound, Bound::AtLeast(_)) && num.is_zero() {
                    let message = "at least 0 is always true";
                    self.report(num.span(), Code::BadValue, message);
                }
            }
            Expect::Epoch(epoch) => {
                self.page(&epoch.page);
                self.num(&epoch.is);
            }
            Expect::Meta(meta) => {
                self.page(&meta.page);
            }
            Expect::Residency(residency) => {
                self.page(&residency.page);
            }
            Expect::OnDevice(pages) => {
                for page in pages.iter() {
                    self.page(page);
                }
            }
            Expect::Pages(num) | Expect::Lsn(num) => {
                self.num(num);
            }
            // The page may be gone on purpose; its name must have stood for one.
            Expect::Stale(page) => {
                let outer = std::mem::replace(&mut self.lenient, true);
                self.page(page);
                self.lenient = outer;
            }
            Expect::State(_) | Expect::Device(_) => {}
        }
    }
}
