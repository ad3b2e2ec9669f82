//! Steps that change which pages there are, and how they derive from each other.

use std::collections::BTreeSet;

use super::{Choice, Generator, Page, num, wrap};
use crate::scenario::ast::{
    Allocate, Annotate, Connect, Custom, Derive, Elementwise, Lane, Location, NewPage, PageArg,
    Semiring, Slice, Step, Transfer,
};
use crate::scenario::data::{Data, Random};
use crate::scenario::value::{Hex, Map, Name, Names};

impl Generator {
    pub(super) fn new_page(
        &mut self,
        len: u64,
        parents: Vec<usize>,
        fails: bool,
        location: Option<Location>,
    ) -> Option<Name> {
        let live = self
            .pages
            .iter()
            .filter(|page| page.live || page.limbo)
            .count();
        if live >= self.profile.max_pages {
            return None;
        }
        let name = Name::new(format!("p{}", self.pages.len()));
        self.touched.push(self.pages.len());
        self.pages.push(Page {
            name: name.clone(),
            len,
            location,
            derived: !parents.is_empty(),
            parents,
            fails,
            live: true,
            fresh: true,
            given_up: false,
            written: false,
            disconnected: false,
            unborn: false,
            limbo: false,
            unsettled: false,
            had_parents: Vec::new(),
        });
        Some(name)
    }

    pub(super) fn allocate(&mut self, choice: Choice) -> Option<()> {
        let lens = self.profile.lens;
        let len = lens
            .get(usize::try_from(choice.a).ok()? % lens.len().max(1))
            .copied()?;
        let location = self.location(choice, len);
        let page = self.new_page(len, Vec::new(), false, location)?;
        let fill = (choice.b % 2 == 1).then(|| {
            Data::Random(Random {
                seed: num(u64::from(choice.c)),
                len: None,
            })
        });
        if fill.is_some()
            && let Some(page) = self.pages.last_mut()
        {
            page.written = true;
        }
        let page = NewPage {
            page,
            size: Some(num(len)),
            fill,
            meta: Map::default(),
            derive: None,
            location,
        };
        self.stage(Step::Allocate(Allocate { pages: vec![page] }), true)
    }

    /// A function of one or two pages, with the length that it gives.
    pub(super) fn function(
        &self,
        choice: Choice,
        len: Option<u64>,
        child: Option<usize>,
    ) -> Option<(Derive, Vec<usize>, u64)> {
        let fits = |page: &Page| len.is_none_or(|len| page.len == len) && !page.given_up;
        let first = self.pick(choice.a, |page| {
            fits(page) && child.is_none_or(|child| !self.depends(page, child))
        })?;
        let page = self.pages.get(first)?;
        let second = self.pick(choice.b, |other| {
            other.len == page.len
                && fits(other)
                && child.is_none_or(|child| !self.depends(other, child))
        })?;
        let of = |all: &[usize]| {
            Some(Names(
                all.iter()
                    .map(|at| self.name(*at))
                    .collect::<Option<Vec<_>>>()?,
            ))
        };
        let custom = |name: &str, params: Option<Hex>| {
            let name = Name::new(name);
            Some(Derive::Custom(Custom {
                name,
                version: 1,
                params,
                of: of(&[first])?,
            }))
        };
        let one = |derive| Some((derive, vec![first], page.len));
        let two = |derive| Some((derive, vec![first, second], page.len));
        let semirings = [
            Semiring::PlusTimes,
            Semiring::MinPlus,
            Semiring::MaxPlus,
            Semiring::OrAnd,
            Semiring::XorAnd,
        ];
        let semiring = *semirings.get(usize::try_from(choice.c / 16).ok()? % 5)?;
        let lane =
            *[Lane::U8, Lane::U32, Lane::I64].get(usize::try_from(choice.c / 80).ok()? % 3)?;
        let lane = if page.len.is_multiple_of(8) {
            lane
        } else {
            Lane::U8
        };
        match choice.c % 9 {
            0 => one(Derive::Copy(of(&[first])?)),
            1 if len.is_none() => {
                let at = wrap(choice.b, page.len);
                Some((
                    Derive::Slice(Slice {
                        of: page.name.clone(),
                        at: num(at),
                    }),
                    vec![first],
                    page.len - at,
                ))
            }
            2 if len.is_none() => {
                let derive = Derive::Concat(of(&[first, second])?);
                Some((derive, vec![first, second], page.len * 2))
            }
            3 => one(custom("test.fails-on-ff", None)?),
            4 => one(custom("test.reverse", None)?),
            5 => one(custom(
                "test.add",
                Some(Hex::new(vec![choice.b.to_le_bytes()[0]])),
            )?),
            6 | 7 => {
                let pairs = choice.b % 2 == 1;
                two(Derive::Elementwise(Elementwise {
                    semiring,
                    lane,
                    of: of(&[first, second])?,
                    pairs,
                }))
            }
            _ => two(Derive::Xor(of(&[first, second])?)),
        }
    }

    /// Whether `page` is `other` or derives from it.
    pub(super) fn depends(&self, page: &Page, other: usize) -> bool {
        let wanted = self.pages.get(other).map(|page| &page.name);
        let mut waiting = vec![page];
        // What a storm left open has the parents of both ways, which together may go round in a circle.
        let mut seen = BTreeSet::new();
        while let Some(page) = waiting.pop() {
            if Some(&page.name) == wanted {
                return true;
            }
            if !page.limbo || seen.insert(&page.name) {
                waiting.extend(
                    page.parents
                        .iter()
                        .filter_map(|parent| self.pages.get(*parent)),
                );
            }
        }
        false
    }

    pub(super) fn derive(&mut self, choice: Choice) -> Option<()> {
        let (derive, parents, len) = self.function(choice, None, None)?;
        let fails = choice.c % 9 == 3;
        let location = self.location(choice, len);
        let page = self.new_page(len, parents, fails, location)?;
        let page = NewPage {
            page,
            size: None,
            fill: None,
            meta: Map::default(),
            derive: Some(derive),
            location,
        };
        let page = match &page.derive {
            // Lengths that follow from a slice are written out half of the time.
            Some(Derive::Slice(_)) if choice.a.is_multiple_of(2) => NewPage {
                size: Some(num(len)),
                ..page
            },
            _ => page,
        };
        self.stage(Step::Allocate(Allocate { pages: vec![page] }), true)
    }

    /// A page that derives from the newest one, so that chains grow long.
    pub(super) fn deepen(&mut self, choice: Choice) -> Option<()> {
        let parent = self.pages.iter().rposition(|page| {
            let fails = page.derived && page.fails;
            page.live && !page.limbo && !page.given_up && !fails
        })?;
        self.derive_from(parent, choice)
    }

    /// A page that derives from the first one, so that it has many children.
    pub(super) fn widen(&mut self, choice: Choice) -> Option<()> {
        self.derive_from(0, choice)
    }

    fn derive_from(&mut self, parent: usize, choice: Choice) -> Option<()> {
        let (name, len) = self
            .pages
            .get(parent)
            .map(|page| (page.name.clone(), page.len))?;
        let derive = if choice.c.is_multiple_of(2) {
            Derive::Copy(Names(vec![name]))
        } else {
            Derive::Custom(Custom {
                name: Name::new("test.add"),
                version: 1,
                params: Some(Hex::new(vec![choice.b.to_le_bytes()[0]])),
                of: Names(vec![name]),
            })
        };
        let location = self.location(choice, len);
        let page = self.new_page(len, vec![parent], false, location)?;
        let page = NewPage {
            location,
            page,
            size: None,
            fill: None,
            meta: Map::default(),
            derive: Some(derive),
        };
        self.stage(Step::Allocate(Allocate { pages: vec![page] }), true)
    }

    pub(super) fn connect(&mut self, choice: Choice) -> Option<()> {
        let child = self.pick(choice.b / 7, |page| {
            !page.derived && !page.written && !page.given_up
        })?;
        let (name, len, location) = self
            .pages
            .get(child)
            .map(|page| (page.name.clone(), page.len, page.location))?;
        if location == Some(Location::Device) && !self.has_room(len) {
            return None;
        }
        let (derive, parents, _) = self.function(choice, Some(len), Some(child))?;
        let fails = choice.c % 9 == 3;
        let in_storm = self.storm.is_some();
        self.update(child, |page| {
            page.unsettled |= in_storm;
            page.parents = parents;
            page.derived = true;
            page.fails = fails;
        });
        self.stage(Step::Connect(Connect { page: name, derive }), true)
    }

    /// Whether the bytes of a page may be missing, as its transform or one above it may fail.
    pub(super) fn may_be_stale(pages: &[Page], at: usize) -> bool {
        let mut waiting = vec![at];
        while let Some(page) = waiting.pop().and_then(|at| pages.get(at)) {
            if (page.derived && page.fails) || page.limbo {
                return true;
            }
            waiting.extend(&page.parents);
        }
        false
    }

    pub(super) fn disconnect(&mut self, choice: Choice) -> Option<()> {
        let at = self.pick(choice.a, |page| {
            page.derived && !page.fresh && !page.given_up
        })?;
        if Self::may_be_stale(&self.pages, at) || Self::may_be_stale(&self.committed, at) {
            return None;
        }
        let in_storm = self.storm.is_some();
        self.update(at, |page| {
            page.unsettled |= in_storm;
            if in_storm {
                page.had_parents.append(&mut page.parents);
            }
            page.parents.clear();
            page.derived = false;
            page.disconnected = true;
        });
        let page = self.name(at)?;
        self.stage(Step::Disconnect(PageArg { page }), true)
    }

    pub(super) fn free(&mut self, choice: Choice) -> Option<()> {
        let has_children = |at: usize| {
            self.pages
                .iter()
                .any(|page| (page.live || page.limbo) && page.derived && page.parents.contains(&at))
        };
        let at = self.pick(choice.a, |page| {
            !page.fresh && !page.given_up && page.name.as_str() != "p0"
        })?;
        if has_children(at) {
            return None;
        }
        let in_storm = self.storm.is_some();
        self.update(at, |page| {
            page.unsettled |= in_storm;
            page.live = false;
            page.given_up = true;
        });
        let page = self.name(at)?;
        self.stage(Step::Free(PageArg { page }), true)
    }

    pub(super) fn transfer(&mut self, choice: Choice) -> Option<()> {
        let at = self.pick(choice.a, |page| !page.fresh && !page.given_up)?;
        self.update(at, |page| page.given_up = true);
        let page = self.name(at)?;
        self.stage(Step::Transfer(Transfer { page, old: None }), true)
    }

    pub(super) fn annotate(&mut self, choice: Choice) -> Option<()> {
        let at = self.pick(choice.a, |page| !page.given_up)?;
        let page = self.name(at)?;
        let key = if choice.b.is_multiple_of(2) {
            "owner"
        } else {
            "unit"
        };
        let value = (!choice.c.is_multiple_of(4)).then(|| format!("v{}", choice.c % 100));
        self.stage(
            Step::Annotate(Annotate {
                page,
                key: key.to_owned(),
                value,
            }),
            true,
        )
    }
}
