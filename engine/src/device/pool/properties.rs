//! [`Pool`] against a model that keeps nothing but the list of live pages.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;

use super::{Mapping, Pool};
use crate::memory::{History, Placement, PlacementError, footprint_bytes};

const KIB: u64 = 1024;
const UNIT: u64 = 4 * KIB;
const SLAB: u64 = 64 * KIB;
const GRANULE: u64 = 256 * KIB;

/// The allocator, naively: where a page goes is worked out afresh from the live pages each time.
#[derive(Clone, Default)]
struct Model {
    capacity_bytes: u64,
    live: BTreeMap<u64, u64>,
}

/// The lower end of the size class of a free range: 32 a doubling, exact below 64 units.
fn class(len: u64) -> u64 {
    let units = len / UNIT;
    let mut width = 1;
    while units >= 64 * width {
        width *= 2;
    }
    units / width * width * UNIT
}

impl Model {
    fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            live: BTreeMap::new(),
        }
    }

    /// The slot length of a small page: the smallest of the list that fits. `None` for a large one.
    fn slot_bytes(len: u64) -> Option<u64> {
        let fine = (64..=1024).step_by(64);
        let middle = (1152..=2048).step_by(128);
        let coarse = (2304..4096).step_by(256).chain([4032]);
        fine.chain(middle).chain(coarse).find(|&slot| slot >= len)
    }

    /// Start and slot length of every slab.
    fn slabs(&self) -> BTreeSet<(u64, u64)> {
        let small = self.live.iter();
        small
            .filter_map(|(offset, &len)| Some((offset - offset % SLAB, Self::slot_bytes(len)?)))
            .collect()
    }

    fn used(&self) -> BTreeSet<(u64, u64)> {
        let large = self.live.iter();
        let large = large.filter(|(_, len)| Self::slot_bytes(**len).is_none());
        let large = large.map(|(&offset, len)| (offset, offset + len.next_multiple_of(UNIT)));
        let slabs = self.slabs().into_iter();
        large
            .chain(slabs.map(|(start, _)| (start, start + SLAB)))
            .collect()
    }

    fn top(&self) -> u64 {
        self.used().last().map_or(0, |(_, end)| *end)
    }

    /// The free ranges below the last page, in order.
    fn holes(&self) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut position = 0;
        for (start, end) in self.used() {
            if position < start {
                holes.push((position, start));
            }
            position = end;
        }
        holes
    }

    fn place(&self, len: u64) -> Option<u64> {
        let Some(slot_bytes) = Self::slot_bytes(len) else {
            return self.place_large(len.next_multiple_of(UNIT));
        };
        for (start, class) in self.slabs() {
            let slots = (0..SLAB / slot_bytes).map(|slot| start + slot * slot_bytes);
            let mut free_slots = slots.filter(|offset| !self.live.contains_key(offset));
            if let (true, Some(offset)) = (class == slot_bytes, free_slots.next()) {
                return Some(offset);
            }
        }
        let holes = self.holes().into_iter();
        let sites = holes
            .chain([(self.top(), self.capacity_bytes)])
            .map(|(start, end)| (start, end, start.next_multiple_of(SLAB)))
            .filter(|(_, end, site)| site + SLAB <= *end);
        let best = sites.min_by_key(|(start, end, site)| match end - start {
            _ if *start == self.top() => (2, 0, *site),
            len if len < 31 * UNIT => (0, 0, *site),
            len => (1, class(len), *site),
        });
        best.map(|(_, _, site)| site)
    }

    fn place_large(&self, len: u64) -> Option<u64> {
        let holes = self.holes();
        let own = holes.iter().filter(|(a, b)| class(b - a) == class(len));
        let fits = |(a, b): &&(u64, u64)| b - a >= len;
        if let Some((start, _)) = own.clone().take(4).find(fits) {
            return Some(*start);
        }
        let higher = holes.iter().filter(|(a, b)| class(b - a) > class(len));
        if let Some((start, _)) = higher.min_by_key(|(a, b)| (class(b - a), *a)) {
            return Some(*start);
        }
        if self.capacity_bytes - self.top() >= len {
            return Some(self.top());
        }
        own.clone().find(fits).map(|(start, _)| *start)
    }

    /// The granules that any page needs.
    fn granules(&self) -> BTreeSet<u64> {
        let used = self.used().into_iter();
        used.flat_map(|(start, end)| start / GRANULE..end.div_ceil(GRANULE))
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Allocate(u64),
    /// Releases the n-th live page, modulo their number.
    Release(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![
        3 => 1..=4096_u64,
        2 => prop_oneof![Just(64_u64), Just(4032), Just(4033), Just(4096), Just(3841)],
        3 => 4033..=40_000_u64,
        // 15 to 33 units: around what contains a slab.
        2 => 60_000..=135_000_u64,
        // Above 64 units, where lengths share classes.
        2 => 260_000..=700_000_u64,
    ];
    prop_oneof![
        3 => len.prop_map(Operation::Allocate),
        2 => any::<usize>().prop_map(Operation::Release),
    ]
}

/// A pool, its model, and the granules that the pool says are needed.
#[derive(Clone)]
struct Pair {
    pool: Pool,
    model: Model,
    granules: BTreeSet<u64>,
}

fn numbers(range: &Range<u64>) -> Range<u64> {
    assert!(range.start.is_multiple_of(GRANULE) && range.end.is_multiple_of(GRANULE));
    range.start / GRANULE..range.end / GRANULE
}

impl Pair {
    fn new(capacity_bytes: u64) -> Self {
        Self {
            pool: Pool::with_granule(capacity_bytes, GRANULE),
            model: Model::new(capacity_bytes),
            granules: BTreeSet::new(),
        }
    }

    fn run(capacity_bytes: u64, operations: &[Operation]) -> Self {
        let mut pair = Self::new(capacity_bytes);
        for operation in operations {
            pair.step(operation);
        }
        pair
    }

    /// Does it on both and compares.
    fn step(&mut self, operation: &Operation) {
        match *operation {
            Operation::Allocate(len) => self.allocate(len),
            Operation::Release(choice) => {
                let Some(choice) = choice.checked_rem(self.model.live.len()) else {
                    return;
                };
                let (&offset, &len) = self.model.live.iter().nth(choice).unwrap();
                self.release(offset, len);
            }
        }
    }

    fn allocate(&mut self, len: u64) {
        let expected = self.model.place(len);
        let placed = self.pool.place(len);
        let offset = placed.as_ref().ok().map(|placed| placed.offset);
        assert_eq!(offset, expected, "page of {len} B");
        let Ok(placed) = placed else { return };
        self.model.live.insert(placed.offset, len);
        for granule in numbers(&placed.needed) {
            assert!(self.granules.insert(granule), "granule {granule} again");
        }
    }

    fn release(&mut self, offset: u64, len: u64) {
        assert!(matches!(
            self.pool.release(offset, len + 1),
            Err(PlacementError::WrongLength { allocated_bytes, .. }) if allocated_bytes == len
        ));
        // Far outside, where 32 bits of units begin anew.
        let beyond = (1 << 44) + offset;
        for nowhere in [offset + 1, beyond, beyond << 4] {
            assert_eq!(
                self.pool.release(nowhere, len),
                Err(PlacementError::NotAllocated { offset: nowhere })
            );
        }
        if Model::slot_bytes(len).is_none() {
            for inside in (offset..offset + len).step_by(UNIT as usize).skip(1) {
                assert_eq!(
                    self.pool.release(inside, len),
                    Err(PlacementError::NotAllocated { offset: inside })
                );
            }
        }
        let unneeded = self.pool.remove(offset, len).unwrap();
        assert_eq!(
            self.pool.release(offset, len),
            Err(PlacementError::NotAllocated { offset })
        );
        self.model.live.remove(&offset);
        for granule in numbers(&unneeded) {
            assert!(self.granules.remove(&granule), "granule {granule} again");
        }
    }

    fn check(&self) {
        let mut end_of_previous = 0;
        for (&offset, &len) in &self.model.live {
            assert!(end_of_previous <= offset, "page at {offset} overlaps");
            end_of_previous = offset + footprint_bytes(len);
            assert!(end_of_previous <= self.model.capacity_bytes);
        }
        let live = self.model.live.iter();
        assert!(self.pool.live().eq(live.map(|(&at, &len)| (at, len))));
        assert_eq!(self.granules, self.model.granules());
        self.check_figures();
    }

    fn check_figures(&self) {
        let (model, figures) = (&self.model, self.pool.figures());
        let holes = model.holes().into_iter().map(|(start, end)| end - start);
        let held: u64 = model.used().iter().map(|(start, end)| end - start).sum();
        let requested: u64 = model.live.values().sum();
        let allocated = model.live.values();
        let allocated: u64 = allocated
            .map(|&len| Model::slot_bytes(len).unwrap_or(len.next_multiple_of(UNIT)))
            .sum();
        assert_eq!(figures.requested.current_bytes, requested);
        assert_eq!(figures.allocated.current_bytes, allocated);
        assert_eq!(figures.held.current_bytes, held);
        assert_eq!(figures.reserved.current_bytes, model.top());
        assert_eq!(figures.hole_bytes, holes.clone().sum::<u64>());
        let largest_hole = holes.max().unwrap_or(0);
        assert_eq!(figures.largest_hole_bytes, largest_hole);
        assert_eq!(figures.slabs, model.slabs().len() as u64);
        assert_eq!(figures.live_pages, model.live.len() as u64);
        let counted: u64 = figures.classes.iter().map(|class| class.live_pages).sum();
        assert_eq!(counted, figures.live_pages);
        for gauge in [figures.requested, figures.allocated, figures.held] {
            assert!(
                gauge.current_bytes <= gauge.peak_bytes && gauge.peak_bytes <= gauge.total_bytes
            );
        }
        let common = self.pool.statistics();
        let wilderness = model.capacity_bytes - model.top();
        assert_eq!(
            common.largest_free_range_bytes,
            largest_hole.max(wilderness)
        );
        assert_eq!(common.live_bytes, requested);
        assert_eq!(common.reserved_bytes, held);
        assert_eq!(common.waste_bytes, held - requested);
        let footprint = model.live.values().map(|&len| footprint_bytes(len));
        assert_eq!(common.footprint_bytes, footprint.sum::<u64>());
        assert_eq!(
            common.allocations_total - common.releases_total,
            common.live_pages
        );
    }
}

/// Any order must do: shuffled by a multiplicative hash.
fn shuffled(live: impl Iterator<Item = (u64, u64)>, seed: u64) -> Vec<(u64, u64)> {
    let mut live: Vec<_> = live.collect();
    live.sort_by_key(|(offset, _)| (offset ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    live
}

#[test]
fn only_a_walk_finds_the_fifth_hole_of_a_class_and_it_is_found() {
    // Holes of 128 units but for the fifth, which has 129: one class. A page of 129 fits nowhere else.
    let (hole, wall) = (128 * UNIT, UNIT);
    let mut pair = Pair::new(5 * (hole + wall) + UNIT);
    let mut starts = Vec::new();
    for number in 0..5 {
        let len = hole + if number == 4 { UNIT } else { 0 };
        starts.push((pair.pool.place(len).unwrap().offset, len));
        pair.model.live.insert(starts[number].0, len);
        pair.allocate(wall);
    }
    for (start, len) in &starts {
        pair.pool.release(*start, *len).unwrap();
        pair.model.live.remove(start);
    }
    assert_eq!(pair.pool.allocate(hole + UNIT), Ok(starts[4].0));
    pair.pool.release(starts[4].0, hole + UNIT).unwrap();
    assert_eq!(pair.model.place(hole + UNIT), Some(starts[4].0));
}

#[test]
fn the_fourth_hole_of_a_class_is_tried_and_the_fifth_is_not() {
    for (fitting, expected) in [(3, Some(3)), (4, None)] {
        let mut pool = Pool::new(1 << 30);
        let mut holes = Vec::new();
        for number in 0..5 {
            let len = (128 + u64::from(number == fitting)) * UNIT;
            holes.push((pool.allocate(len).unwrap(), len));
            pool.allocate(UNIT).unwrap();
        }
        let behind = pool.figures().reserved.current_bytes;
        for (offset, len) in &holes {
            pool.release(*offset, *len).unwrap();
        }
        let expected = expected.map_or(behind, |hole: usize| holes[hole].0);
        assert_eq!(pool.allocate(129 * UNIT), Ok(expected), "hole {fitting}");
    }
}

#[test]
fn a_slab_fills_from_its_lowest_slot_and_is_used_again_when_it_was_full() {
    for (len, slots) in [(4032, 16), (64, 1024), (700, 93)] {
        let slot = Model::slot_bytes(len).unwrap();
        let mut pool = Pool::new(1 << 20);
        for number in 0..slots {
            assert_eq!(pool.allocate(len), Ok(number * slot), "slot {number}");
        }
        assert_eq!(pool.allocate(len), Ok(SLAB), "the first slab is full");
        for number in [slots - 1, slots / 2, 0] {
            pool.release(number * slot, len).unwrap();
        }
        for number in [0, slots / 2, slots - 1] {
            assert_eq!(pool.allocate(len), Ok(number * slot), "slot {number}");
        }
        assert_eq!(pool.allocate(len), Ok(SLAB + slot), "it is full again");
    }
}

#[test]
fn pages_of_four_gib_are_placed_and_longer_ones_refused() {
    let mut pool = Pool::new(1 << 40);
    assert_eq!(pool.allocate(1 << 32), Ok(0));
    assert_eq!(pool.allocate((1 << 32) - 1), Ok(1 << 32));
    assert!(matches!(
        pool.allocate((1 << 32) + 1),
        Err(PlacementError::TooLong { .. })
    ));
    assert_eq!(pool.allocate(0), Err(PlacementError::ZeroLength));
    assert!(pool.live().eq([(0, 1 << 32), (1 << 32, (1 << 32) - 1)]));
    assert_eq!(pool.release(0, 1 << 32), Ok(()));
    assert_eq!(pool.allocate(5000), Ok(0));
    assert_eq!(Pool::new(u64::MAX).capacity_bytes(), 8 << 40);
    assert_eq!(
        Pool::new(0).allocate(1),
        Err(PlacementError::OutOfSpace {
            requested_bytes: 1,
            needed_bytes: SLAB,
            largest_free_range_bytes: 0
        })
    );
}

proptest! {
    #[test]
    fn places_as_the_model_does(
        capacity in 0..=1024_u64,
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let mut pair = Pair::new(capacity * UNIT);
        for operation in &operations {
            pair.step(operation);
            pair.check();
        }
    }

    #[test]
    fn restored_from_its_live_pages_it_goes_on_the_same(
        before in prop::collection::vec(operation(), 0..200),
        after in prop::collection::vec(operation(), 0..100),
        seed in any::<u64>(),
    ) {
        let capacity = 3072 * KIB;
        let mut pair = Pair::run(capacity, &before);
        let live = shuffled(pair.pool.live(), seed);
        let mut restored = pair.clone();
        restored.pool = Pool::restore(capacity, live, pair.pool.history()).unwrap();
        prop_assert_eq!(&restored.pool, &pair.pool);
        for operation in &after {
            // It has granules of 2 MiB, so only offsets are compared.
            if let Operation::Allocate(len) = *operation {
                prop_assert_eq!(pair.pool.allocate(len), restored.pool.allocate(len));
            } else if let Operation::Release(choice) = *operation {
                let count = pair.pool.live().count();
                let Some(choice) = choice.checked_rem(count) else { continue };
                let (offset, len) = pair.pool.live().nth(choice).unwrap();
                prop_assert_eq!(pair.pool.release(offset, len), Ok(()));
                prop_assert_eq!(restored.pool.release(offset, len), Ok(()));
            }
            prop_assert_eq!(&restored.pool, &pair.pool);
        }
        let (ours, theirs) = (pair.pool.figures(), restored.pool.figures());
        prop_assert_eq!(ours.hole_bytes, theirs.hole_bytes);
        prop_assert_eq!(ours.largest_hole_bytes, theirs.largest_hole_bytes);
        prop_assert_eq!(ours.allocated.current_bytes, theirs.allocated.current_bytes);
        prop_assert_eq!(ours.held.current_bytes, theirs.held.current_bytes);
        prop_assert_eq!(ours.reserved.current_bytes, theirs.reserved.current_bytes);
        prop_assert_eq!(ours.slabs, theirs.slabs);
    }

    #[test]
    fn operations_taken_back_leave_no_trace(
        before in prop::collection::vec(operation(), 0..100),
        lens in prop::collection::vec(1..300_000_u64, 1..20),
        after in prop::collection::vec(operation(), 0..50),
    ) {
        let mut pair = Pair::run(4096 * KIB, &before);
        let history = pair.pool.history();
        let mut taken = Vec::new();
        for len in lens {
            taken.extend(pair.pool.allocate(len).map(|offset| (offset, len)));
        }
        while let Some((offset, len)) = taken.pop() {
            pair.pool.release(offset, len).unwrap();
        }
        pair.pool.rewind(history);
        for operation in &after {
            pair.step(operation);
        }
        pair.check();
    }

    #[test]
    fn a_larger_capacity_changes_no_offset(
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let mut small = Pair::new(4096 * KIB);
        let mut large = Pool::new(1 << 40);
        for operation in &operations {
            if let Operation::Allocate(len) = *operation
                && small.model.place(len).is_none()
            {
                break;
            }
            let before: BTreeMap<_, _> = small.pool.live().collect();
            small.step(operation);
            let after: BTreeMap<_, _> = small.pool.live().collect();
            for (offset, len) in before.iter().filter(|(offset, _)| !after.contains_key(offset)) {
                prop_assert_eq!(large.release(*offset, *len), Ok(()));
            }
            for (offset, len) in after.iter().filter(|(offset, _)| !before.contains_key(offset)) {
                prop_assert_eq!(large.allocate(*len), Ok(*offset));
            }
        }
    }

    #[test]
    fn restores_what_the_placement_of_host_pages_lists_and_the_other_way_round(
        operations in prop::collection::vec(operation(), 0..150),
    ) {
        let capacity = 4096 * KIB;
        let mut placement = Placement::new(capacity);
        for operation in &operations {
            match *operation {
                Operation::Allocate(len) => drop(placement.allocate(len)),
                Operation::Release(choice) => {
                    let live: Vec<_> = placement.live().collect();
                    if let Some((offset, len)) = choice.checked_rem(live.len()).map(|at| live[at]) {
                        prop_assert_eq!(placement.release(offset, len), Ok(()));
                    }
                }
            }
        }
        let pool = Pool::restore(capacity, placement.live(), placement.history()).unwrap();
        prop_assert!(pool.live().eq(placement.live()));
        let back = Placement::restore(capacity, pool.live(), pool.history());
        prop_assert_eq!(back, Ok(placement));
    }

    #[test]
    fn releasing_everything_leaves_one_free_range(
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let capacity = 2048 * KIB;
        let mut pair = Pair::run(capacity, &operations);
        for (offset, len) in pair.model.live.clone() {
            pair.release(offset, len);
        }
        pair.check();
        prop_assert_eq!(pair.pool.statistics().largest_free_range_bytes, capacity);
        let history = pair.pool.history();
        prop_assert_eq!(pair.pool, Pool::restore(capacity, [], history).unwrap());
    }

    #[test]
    fn restore_never_accepts_what_it_does_not_list(
        live in prop::collection::vec((0..400_u64, 1..9000_u64), 0..8),
    ) {
        let capacity = 256 * KIB;
        let live: Vec<_> = live.into_iter().map(|(step, len)| (step * 1024, len)).collect();
        let restored = Pool::restore(capacity, live.clone(), History::default());
        let reference = Placement::restore(capacity, live.clone(), History::default());
        prop_assert_eq!(restored.is_ok(), reference.is_ok());
        if let Ok(pool) = restored {
            let mut sorted = live;
            sorted.sort_unstable();
            prop_assert!(pool.live().eq(sorted.iter().copied()));
        }
    }

    #[test]
    fn a_mapping_has_memory_where_it_is_needed_and_a_bounded_reserve(
        operations in prop::collection::vec(operation(), 0..200),
        reserve in 0..6_u64,
        memory in 1..16_u64,
    ) {
        let mut pair = Pair::new(4096 * KIB);
        let mut mapping = Mapping::new(GRANULE);
        // What a device would have, and how much it can have.
        let mut mapped = BTreeSet::new();
        for operation in &operations {
            let before = pair.granules.clone();
            pair.step(operation);
            let needed: Vec<u64> = pair.granules.difference(&before).copied().collect();
            let unneeded: Vec<u64> = before.difference(&pair.granules).copied().collect();
            if let (Some(first), Some(last)) = (unneeded.first(), unneeded.last()) {
                mapping.unneed(first * GRANULE..(last + 1) * GRANULE);
                mapping.trim(reserve * GRANULE, |range| {
                    for granule in numbers(&range) {
                        assert!(mapped.remove(&granule), "granule {granule} is unmapped twice");
                    }
                });
                prop_assert!(mapping.statistics().idle_bytes <= reserve * GRANULE);
            }
            if let (Some(first), Some(last)) = (needed.first(), needed.last()) {
                let result = mapping.need(first * GRANULE..(last + 1) * GRANULE, |range| {
                    let range = numbers(&range);
                    if mapped.len() as u64 + (range.end - range.start) > memory {
                        return Err(());
                    }
                    for granule in range {
                        assert!(mapped.insert(granule), "granule {granule} is mapped twice");
                    }
                    Ok(())
                });
                if result.is_err() {
                    // Nothing is placed there: it is as if it had not been, but for what was mapped before the error.
                    let idle = mapped.difference(&before).count() as u64;
                    prop_assert_eq!(mapping.statistics().idle_bytes, idle * GRANULE);
                    break;
                }
                prop_assert!(pair.granules.is_subset(&mapped));
            }
            let figures = mapping.statistics();
            prop_assert_eq!(figures.mapped_bytes, mapped.len() as u64 * GRANULE);
            let idle = mapped.difference(&pair.granules).count() as u64;
            prop_assert_eq!(figures.idle_bytes, idle * GRANULE);
            let listed = mapping.mapped().flat_map(|range| numbers(&range));
            prop_assert!(listed.eq(mapped.iter().copied()));
            for granule in 0..16 {
                prop_assert_eq!(mapping.is_mapped(granule * GRANULE), mapped.contains(&granule));
            }
        }
    }
}
