//! Short histories: what was called when and what came of it, and whether one order of the calls explains it.
//!
//! Two checks. The search of Wing and Gong looks for *any* order that fits the results and the times of the calls. The witness is
//! the order of LSNs, which the engine promises to be one: it must fit by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use mmsb_engine::{Bus, Durability, PageId, ReadError, TransactionError};

use crate::world::{fill, free, value_of};

/// An operation, with what came of it.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// Pages were filled with a value; the LSN, or none if it was refused because a page is gone.
    Fill(Vec<usize>, u8, Option<u64>),
    /// A page was freed; as above.
    Free(usize, Option<u64>),
    /// The values of pages at one moment, and the highest LSN among them; none if one of them is gone.
    View(Vec<usize>, Option<(Vec<u8>, u64)>),
}

#[derive(Clone, Debug)]
struct Call {
    invoked: usize,
    returned: usize,
    done: Done,
}

/// Records calls of all threads. Its clock is none of the explorer's business: it changes no schedule.
#[derive(Default)]
pub(crate) struct History {
    calls: Mutex<(usize, Vec<Call>)>,
}

/// The pages by number, and of those derived how.
pub(crate) struct Cast {
    pub(crate) pages: Vec<PageId>,
    /// A page whose value is the exclusive or of two others.
    pub(crate) derived: Option<(usize, [usize; 2])>,
}

/// What the operations mean: a value for each page that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    values: BTreeMap<usize, u8>,
}

impl Model {
    fn new(cast: &Cast) -> Self {
        Self {
            values: (0..cast.pages.len()).map(|page| (page, 0)).collect(),
        }
    }

    fn value(&self, cast: &Cast, page: usize) -> Option<u8> {
        match cast.derived {
            Some((derived, [a, b])) if page == derived => {
                Some(self.values.get(&a)? ^ self.values.get(&b)?)
            }
            _ => self.values.get(&page).copied(),
        }
    }

    fn view(&self, cast: &Cast, pages: &[usize]) -> Option<Vec<u8>> {
        pages.iter().map(|page| self.value(cast, *page)).collect()
    }

    /// Does the operation, if the model comes to the same result.
    fn step(&self, cast: &Cast, done: &Done) -> Option<Self> {
        let mut next = self.clone();
        let is_explained = match done {
            Done::Fill(pages, value, lsn) => {
                let can = pages.iter().all(|page| self.values.contains_key(page));
                if can {
                    next.values.extend(pages.iter().map(|page| (*page, *value)));
                }
                can == lsn.is_some()
            }
            Done::Free(page, lsn) => next.values.remove(page).is_some() == lsn.is_some(),
            Done::View(pages, seen) => {
                self.view(cast, pages) == seen.as_ref().map(|(values, _)| values.clone())
            }
        };
        is_explained.then_some(next)
    }
}

impl History {
    fn tick(&self) -> usize {
        let mut calls = self.calls.lock().unwrap();
        calls.0 += 1;
        calls.0
    }

    fn record(&self, call: impl FnOnce() -> Done) {
        let invoked = self.tick();
        let done = call();
        let returned = self.tick();
        self.calls.lock().unwrap().1.push(Call {
            invoked,
            returned,
            done,
        });
    }

    pub(crate) fn fill(&self, bus: &Bus, cast: &Cast, pages: &[usize], value: u8) {
        self.record(|| {
            let ids: Vec<PageId> = pages.iter().map(|page| cast.pages[*page]).collect();
            let lsn = match fill(bus, &ids, value, Durability::Memory) {
                Ok(commit) => Some(commit.lsn.0),
                Err(TransactionError::StalePage { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            Done::Fill(pages.to_vec(), value, lsn)
        });
    }

    pub(crate) fn free(&self, bus: &Bus, cast: &Cast, page: usize) {
        self.record(|| {
            let lsn = match free(bus, cast.pages[page]) {
                Ok(commit) => Some(commit.lsn.0),
                Err(TransactionError::StalePage { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            Done::Free(page, lsn)
        });
    }

    pub(crate) fn view(&self, bus: &Bus, cast: &Cast, pages: &[usize]) {
        self.record(|| {
            let ids: Vec<PageId> = pages.iter().map(|page| cast.pages[*page]).collect();
            let seen = match bus.view(&ids) {
                Ok(view) => {
                    let values = view.pages().map(|(_, bytes)| value_of(bytes));
                    Some((values.collect(), view.lsn().0))
                }
                Err(ReadError::StalePage { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            Done::View(pages.to_vec(), seen)
        });
    }

    pub(crate) fn read(&self, bus: &Bus, cast: &Cast, page: usize) {
        self.record(|| {
            let seen = match bus.read(cast.pages[page]) {
                Ok(guard) => Some((vec![value_of(&guard)], guard.lsn().0)),
                Err(ReadError::StalePage { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            Done::View(vec![page], seen)
        });
    }

    /// Panics unless the history is linearisable, and in the order of LSNs too.
    pub(crate) fn check(&self, cast: &Cast) {
        let calls = self.calls.lock().unwrap().1.clone();
        assert!(calls.len() <= 16, "too long a history to search");
        let found = linearise(cast, &calls, 0, &Model::new(cast), &mut BTreeSet::new());
        assert!(found, "no order explains {calls:#?}");
        check_lsn_order(cast, &calls);
    }
}

/// Looks for an order: the next call is one that was made before every other of those left returned.
fn linearise(
    cast: &Cast,
    calls: &[Call],
    done: u32,
    model: &Model,
    failed: &mut BTreeSet<(u32, Model)>,
) -> bool {
    if done.count_ones() as usize == calls.len() {
        return true;
    }
    if !failed.insert((done, model.clone())) {
        return false;
    }
    let left = || (0..calls.len()).filter(|call| done & (1 << call) == 0);
    let first_return = left().map(|call| calls[call].returned).min();
    left()
        .filter(|call| Some(calls[*call].invoked) < first_return)
        .any(|call| {
            model
                .step(cast, &calls[call].done)
                .is_some_and(|next| linearise(cast, calls, done | (1 << call), &next, failed))
        })
}

/// Does the commits in the order of their LSNs, and finds for each view a moment at which it saw what it saw.
fn check_lsn_order(cast: &Cast, calls: &[Call]) {
    let mut commits: Vec<(u64, &Call)> = Vec::new();
    for call in calls {
        if let Done::Fill(_, _, Some(lsn)) | Done::Free(_, Some(lsn)) = call.done {
            commits.push((lsn, call));
        }
    }
    commits.sort_by_key(|(lsn, _)| *lsn);
    let mut models = vec![(0, Model::new(cast))];
    for (lsn, call) in &commits {
        let next = models[models.len() - 1].1.step(cast, &call.done);
        let next = next.unwrap_or_else(|| panic!("LSN {lsn} could not be done: {calls:#?}"));
        models.push((*lsn, next));
    }
    for pair in commits.windows(2) {
        // The later one in the order must not have returned before the other was called.
        assert!(
            pair[1].1.returned > pair[0].1.invoked,
            "LSN {} was over before LSN {} began: {calls:#?}",
            pair[1].0,
            pair[0].0
        );
    }
    for call in calls {
        // What is not in the order must fit into it somewhere, in a gap that its time allows.
        let (Done::View(..) | Done::Fill(_, _, None) | Done::Free(_, None)) = &call.done else {
            continue;
        };
        let fits = (0..models.len()).any(|at| {
            let is_late_enough = commits[at..]
                .iter()
                .all(|(_, later)| later.returned > call.invoked);
            let is_early_enough = commits[..at]
                .iter()
                .all(|(_, earlier)| earlier.invoked < call.returned);
            let (_, model) = &models[at];
            is_late_enough && is_early_enough && model.step(cast, &call.done).is_some()
        });
        assert!(
            fits,
            "the order of LSNs does not explain {call:?}: {calls:#?}"
        );
        if let Done::View(pages, Some((values, lsn))) = &call.done
            && cast.derived.is_none_or(|(page, _)| !pages.contains(&page))
        {
            // It says itself up to where it has seen these pages; what is before the program is its beginning.
            let at = models.iter().rposition(|(model_lsn, _)| model_lsn <= lsn);
            let model = &models[at.unwrap_or(0)].1;
            assert_eq!(
                model.view(cast, pages).as_ref(),
                Some(values),
                "as of LSN {lsn}: {calls:#?}"
            );
        }
    }
}
