//! Steps that property tests do to a bus, in terms of the pages that there are.

use mmsb_engine::{Bus, Durability, Location, NewPage, Options, PageId, Transaction, replay};
use proptest::prelude::*;
use tempfile::tempdir;

use super::{open, transform};

/// What is done to a bus.
#[derive(Clone, Debug)]
pub enum Step {
    /// A page of so many bytes; the number says where, to whoever runs it.
    Allocate(u32, u8),
    Write(usize, u32, u32, u8),
    Free(usize),
    Transfer(usize),
    Connect(usize, Vec<usize>, bool),
    Disconnect(usize),
    Checkpoint,
    Reopen,
    RestoreDevice,
    Read(usize),
    Evict(Vec<usize>),
    Prefetch(Vec<usize>),
}

/// Up to `count` steps with pages of up to `len_bytes`.
pub fn steps(len_bytes: u32, count: usize) -> impl Strategy<Value = Vec<Step>> {
    let page = 0..12usize;
    let some = || prop::collection::vec(0..12usize, 1..6);
    let step = prop_oneof![
        6 => (1..len_bytes, any::<u8>()).prop_map(|(len, at)| Step::Allocate(len, at)),
        10 => (page.clone(), any::<u32>(), any::<u32>(), any::<u8>())
            .prop_map(|(page, at, len, seed)| Step::Write(page, at, len, seed)),
        1 => page.clone().prop_map(Step::Free),
        1 => page.clone().prop_map(Step::Transfer),
        2 => (page.clone(), prop::collection::vec(page.clone(), 1..4), any::<bool>())
            .prop_map(|(child, parents, is)| Step::Connect(child, parents, is)),
        1 => page.clone().prop_map(Step::Disconnect),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::RestoreDevice),
        3 => page.prop_map(Step::Read),
        2 => some().prop_map(Step::Evict),
        2 => some().prop_map(Step::Prefetch),
    ];
    prop::collection::vec(step, 1..count)
}

/// How steps are run.
pub struct How {
    pub options: Options,
    /// Where a page is allocated, by the number that its step has.
    pub place: fn(u8) -> Location,
    /// Whether hints are given to the bus, or left out.
    pub hints: bool,
    /// After how many results the bus is looked at.
    pub every: usize,
}

/// What steps came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course<T> {
    /// Refusals, by their kinds.
    pub results: Vec<Result<(), &'static str>>,
    pub seen: Vec<T>,
}

/// Bytes that are told from their neighbours.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
}

/// Adds a step to a transaction, if it is one for transactions and there is the page for it.
fn stage(
    step: &Step,
    bus: &Bus,
    transaction: &mut Transaction<'_>,
    pages: &[PageId],
    place: fn(u8) -> Location,
) -> Option<Result<Option<NewPage>, mmsb_engine::TransactionError>> {
    let pick = |at: &usize| pages.get(*at % pages.len().max(1)).copied();
    let staged = match step {
        Step::Allocate(len, at) => {
            let page = transaction.allocate_at(u64::from(*len), place(*at));
            return Some(page.map(Some));
        }
        Step::Write(page, at, len, seed) => {
            let page = pick(page)?;
            let len_bytes = bus.info(page).map_or(1, |info| info.len_bytes);
            let at = u64::from(*at) % len_bytes;
            let len = 1 + u64::from(*len) % (len_bytes - at);
            transaction.write(page, at, &pattern(len as usize, *seed))
        }
        Step::Free(page) => transaction.free(pick(page)?),
        Step::Transfer(page) => transaction.transfer(pick(page)?),
        Step::Connect(child, parents, is_concat) => {
            let parents: Vec<_> = parents.iter().filter_map(pick).map(Into::into).collect();
            let name = if *is_concat { "concat" } else { "xor" };
            transaction.connect(pick(child)?, transform(name, &[]), &parents)
        }
        Step::Disconnect(page) => transaction.disconnect(pick(page)?),
        _ => return None,
    };
    Some(staged.map(|()| None))
}

/// Runs the steps, and looks at the bus with `observe` now and then, whenever its device was restored, and in the end; with `close`
/// whenever it is closed. The log must replay to what was there, on whatever device.
pub fn run<T>(
    steps: &[Step],
    how: &How,
    observe: impl Fn(&Bus) -> T,
    mut close: impl FnMut(&Bus),
) -> Course<T> {
    let directory = tempdir().unwrap();
    let mut bus = open(directory.path(), how.options.clone());
    let mut pages: Vec<PageId> = Vec::new();
    let (mut results, mut seen) = (Vec::new(), Vec::new());
    for step in steps {
        let some = |some: &[usize]| -> Vec<PageId> {
            let picked = some.iter().map(|at| pages.get(at % pages.len().max(1)));
            picked.flatten().copied().collect()
        };
        let mut transaction = bus.begin();
        let Some(staged) = stage(step, &bus, &mut transaction, &pages, how.place) else {
            drop(transaction);
            match step {
                Step::Checkpoint => drop(bus.checkpoint().unwrap()),
                Step::RestoreDevice => {
                    bus.restore_device().unwrap();
                    seen.push(observe(&bus));
                }
                Step::Read(page) => {
                    results.extend(some(&[*page]).first().map(|page| {
                        let read = bus.read(*page);
                        read.map(drop).map_err(|error| error.kind())
                    }));
                }
                Step::Evict(pages) if how.hints => drop(bus.evict(&some(pages)).unwrap()),
                Step::Prefetch(pages) if how.hints => bus.prefetch(&some(pages)).unwrap(),
                Step::Reopen => {
                    let digest = bus.digest().unwrap();
                    close(&bus);
                    bus.close().unwrap();
                    replays_to(directory.path(), &how.options, digest);
                    bus = open(directory.path(), how.options.clone());
                    assert_eq!(bus.digest().unwrap(), digest);
                }
                _ => {}
            }
            continue;
        };
        let result = staged.and_then(|new| Ok((new, transaction.commit(Durability::Memory)?)));
        if let Ok((new, commit)) = &result {
            pages.extend(new.and_then(|new| commit.page(new)));
            for (old, new) in &commit.transferred {
                let at = pages.iter().position(|page| page == old).unwrap();
                pages[at] = *new;
            }
            if let Step::Free(at) = step {
                let at = *at % pages.len();
                pages.remove(at);
            }
        }
        results.push(result.map(|_| ()).map_err(|error| error.kind()));
        // Not always after every step: it may bring all pages back.
        if results.len().is_multiple_of(how.every) {
            seen.push(observe(&bus));
        }
    }
    seen.push(observe(&bus));
    let digest = bus.digest().unwrap();
    close(&bus);
    bus.close().unwrap();
    // On the host: nobody can tell.
    replays_to(directory.path(), &super::options(), digest);
    Course { results, seen }
}

fn replays_to(directory: &std::path::Path, options: &Options, digest: mmsb_engine::Digest) {
    // The device of the bus serves no other state at the same time.
    let options = Options {
        device: None,
        ..options.clone()
    };
    let replayed = replay(directory, None, options).unwrap();
    assert_eq!(replayed.digest().unwrap(), digest);
}
