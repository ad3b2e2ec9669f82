//! Checks of pages: that they are there, what may be done to them, and ranges in them.

use super::{Checker, Page};
use crate::scenario::ast::{Derive, Elementwise, Lane, NewPage, PageSpec, Semiring};
use crate::scenario::code::{Code, Fault};
use crate::scenario::data::{Data, Fill, MAX_LEN_BYTES, Random, Region};
use crate::scenario::num::Num;
use crate::scenario::value::{Name, Span};

use super::names::unknown;

/// What `pages:` and `allocate` say of a page.
#[derive(Clone, Copy)]
pub(super) struct PageParts<'a> {
    size: Option<&'a Num>,
    fill: Option<&'a Data>,
    derive: Option<&'a Derive>,
}

impl PageSpec {
    pub(super) fn as_parts(&self) -> PageParts<'_> {
        PageParts {
            size: self.size.as_ref(),
            fill: self.fill.as_ref(),
            derive: self.derive.as_ref(),
        }
    }
}

impl NewPage {
    pub(super) fn as_parts(&self) -> PageParts<'_> {
        PageParts {
            size: self.size.as_ref(),
            fill: self.fill.as_ref(),
            derive: self.derive.as_ref(),
        }
    }
}

impl Checker {
    /// Allocates a page.
    pub(super) fn define_page(&mut self, name: &Name, parts: PageParts<'_>) {
        let PageParts { size, fill, derive } = parts;
        let mut len =
            size.and_then(|size| self.num_within(size, "the size of a page", 1, MAX_LEN_BYTES));
        if let Some(derive) = derive {
            let natural = self.derive(name, derive);
            if size.is_none() {
                len = natural;
            }
        }
        if let Some(fill) = fill {
            self.data(fill);
            self.range(name, len, &Num::ZERO, self.data_len(fill), name.span());
        }
        if size.is_none() && derive.is_none() {
            let message = format!("the page `{name}` has neither a size nor a transform");
            self.report(name.span(), Code::MissingField, message);
        }
        if fill.is_some() && derive.is_some() {
            let message = format!("the page `{name}` is derived, so it cannot be filled");
            self.report(name.span(), Code::Conflict, message);
        }
        if self.unresolved(name) {
            return;
        }
        let page = Page {
            size: len,
            live: true,
            derived: Some(derive.is_some()),
        };
        let before = self.pages.insert(name.to_string(), page);
        if before.is_some_and(|page| page.live)
            && !self.lenient
            && !self.unknowable
            && !self.inside.repeat
        {
            let message = format!("a page `{name}` is there already");
            self.report(name.span(), Code::DuplicateName, message);
        }
    }

    /// Checks that a page can be used, and gives what is known of it.
    pub(super) fn page(&mut self, name: &Name) -> Option<Page> {
        if self.unresolved(name) {
            return None;
        }
        let page = self.pages.get(name.as_str()).copied();
        if page.is_some_and(|page| page.live) {
            return page;
        }
        if self.defined.pages.may_contain(name) {
            return None;
        }
        let certain = !self.lenient && !self.unknowable;
        let fault = match page {
            Some(_) if certain => Fault::new(
                Code::PageFreed,
                format!("the page `{name}` was freed before"),
            ),
            None if !self.defined.pages.contains(name) && !self.traces => {
                unknown(Code::UnknownPage, "page", name, &self.defined.pages.names())
            }
            None if certain => Fault::new(
                Code::PageTooEarly,
                format!("the page `{name}` is allocated only later"),
            ),
            _ => return None,
        };
        self.fault(fault.at(name.span()));
        None
    }

    /// Checks that a page can be written, and gives its length where that is known.
    pub(super) fn written(&mut self, name: &Name) -> Option<u64> {
        let page = self.page(name)?;
        if page.derived == Some(true) && !self.lenient {
            let fault = Fault::new(Code::DerivedPage, format!("`{name}` is a derived page"))
                .at(name.span())
                .expected("a plain page; disconnect it first, or write to what it derives from");
            self.fault(fault);
        }
        page.size
    }

    pub(super) fn region(&mut self, region: &Region) {
        let len = self.page(&region.page).and_then(|page| page.size);
        let want = self.opt_num(region.len.as_ref());
        self.range(&region.page, len, &region.at, want, region.page.span());
    }

    /// Checks that a range lies within its page, as far as both are known.
    pub(super) fn range(
        &mut self,
        name: &str,
        page_len: Option<u64>,
        at: &Num,
        len: Option<u64>,
        otherwise: Span,
    ) {
        let at_value = self.num(at);
        let (Some(page_len), Some(start)) = (page_len, at_value) else {
            return;
        };
        let end = start.checked_add(len.unwrap_or(0));
        if self.lenient || end.is_some_and(|end| end <= page_len) {
            return;
        }
        let span = if at.span().is_known() {
            at.span()
        } else {
            otherwise
        };
        let message = match len {
            Some(len) => format!("{len} bytes at {start} reach beyond `{name}`"),
            None => format!("{start} lies beyond `{name}`"),
        };
        let expected = format!("a range within the {page_len} bytes of the page");
        self.fault(
            Fault::new(Code::OutOfRange, message)
                .at(span)
                .expected(expected),
        );
    }

    /// Checks what data refers to.
    pub(super) fn data(&mut self, data: &Data) {
        match data {
            Data::Random(Random { seed, len }) => {
                self.num(seed);
                self.opt_num(len.as_ref());
            }
            Data::Fill(Fill { byte, len }) => {
                self.num_within(byte, "a byte", 0, 255);
                self.opt_num(len.as_ref());
            }
            Data::Zero(len) => {
                self.num(len);
            }
            Data::Copy(region) => self.region(region),
            _ => {}
        }
    }

    /// The length of data, where it is known.
    pub(super) fn data_len(&self, data: &Data) -> Option<u64> {
        match data {
            Data::Copy(Region {
                page,
                at,
                len: None,
            }) => {
                let size = self.pages.get(page.as_str())?.size?;
                size.checked_sub(at.eval(&self.constants).ok()?)
            }
            _ => data.known_len(|num| num.eval(&self.constants).ok()),
        }
    }

    /// Checks a transform, and gives the length that it gives the page of itself.
    pub(super) fn derive(&mut self, child: &Name, derive: &Derive) -> Option<u64> {
        let parents: &[Name] = match derive {
            Derive::Copy(of) | Derive::Concat(of) | Derive::Xor(of) => of,
            Derive::Slice(slice) => std::slice::from_ref(&slice.of),
            Derive::Elementwise(elementwise) => &elementwise.of,
            Derive::Custom(custom) => &custom.of,
        };
        if parents.is_empty() {
            let message = format!("`{child}` is derived from nothing");
            self.report(child.span(), Code::BadValue, message);
        }
        let mut sizes = Vec::with_capacity(parents.len());
        for parent in parents {
            if parent == child && !child.is_template() && !self.lenient {
                let message = format!("`{child}` cannot be derived from itself");
                self.report(parent.span(), Code::BadValue, message);
            }
            sizes.push(self.page(parent).and_then(|page| page.size));
        }
        let first = sizes.first().copied().flatten();
        match derive {
            Derive::Copy(of) if of.len() > 1 && !self.lenient => {
                self.report(child.span(), Code::BadValue, "`copy` has one parent");
                first
            }
            Derive::Copy(_) | Derive::Xor(_) => first,
            Derive::Concat(_) => sizes.iter().try_fold(0u64, |sum, size| {
                size.and_then(|size| sum.checked_add(size))
            }),
            Derive::Slice(slice) => {
                self.range(&slice.of, first, &slice.at, None, slice.of.span());
                first?.checked_sub(slice.at.eval(&self.constants).ok()?)
            }
            Derive::Elementwise(elementwise) => {
                self.elementwise(child, elementwise);
                first
            }
            Derive::Custom(_) => None,
        }
    }

    fn elementwise(&mut self, child: &Name, elementwise: &Elementwise) {
        let Elementwise {
            semiring,
            lane,
            of,
            pairs,
        } = elementwise;
        if self.lenient {
            return;
        }
        if *pairs && of.len() % 2 == 1 {
            let message = format!("`pairs` needs an even number of parents, not {}", of.len());
            self.report(child.span(), Code::BadValue, message);
        }
        let bitwise = matches!(semiring, Semiring::OrAnd | Semiring::XorAnd);
        if bitwise && matches!(lane, Lane::F32 | Lane::F64) {
            let fault = Fault::new(
                Code::BadValue,
                "a bitwise semiring does not go with float lanes",
            )
            .at(child.span())
            .expected("a lane of u8, u32 or i64");
            self.fault(fault);
        }
    }
}
