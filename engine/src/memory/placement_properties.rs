//! [`Placement`] against a model that keeps nothing but the list of live pages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::placement::{History, Placement, PlacementError, footprint_bytes};

const KIB: u64 = 1024;
const SLAB_BYTES: u64 = 64 * KIB;

/// The allocator, naively: where a page goes is worked out afresh from the live pages each time.
#[derive(Default)]
struct Model {
    capacity_bytes: u64,
    live: BTreeMap<u64, u64>,
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
            .filter_map(|(offset, &len)| {
                Some((offset - offset % SLAB_BYTES, Self::slot_bytes(len)?))
            })
            .collect()
    }

    /// The free ranges, in order.
    fn free(&self) -> Vec<(u64, u64)> {
        let large = self
            .live
            .iter()
            .filter(|(_, len)| Self::slot_bytes(**len).is_none());
        let large = large.map(|(&offset, len)| (offset, offset + len.next_multiple_of(4 * KIB)));
        let slabs = self
            .slabs()
            .into_iter()
            .map(|(start, _)| (start, start + SLAB_BYTES));
        let used: BTreeSet<_> = large.chain(slabs).collect();
        let mut free = Vec::new();
        let mut position = 0;
        for (start, end) in used
            .into_iter()
            .chain([(self.capacity_bytes, self.capacity_bytes)])
        {
            if position < start {
                free.push((position, start));
            }
            position = end;
        }
        free
    }

    fn place(&self, len: u64) -> Option<u64> {
        let Some(slot_bytes) = Self::slot_bytes(len) else {
            let fitting = self
                .free()
                .into_iter()
                .filter(|(start, end)| end - start >= len);
            return fitting
                .min_by_key(|(start, end)| (end - start, *start))
                .map(|(start, _)| start);
        };
        for (start, class) in self.slabs() {
            let slots = (0..SLAB_BYTES / slot_bytes).map(|slot| start + slot * slot_bytes);
            let mut free_slots = slots.filter(|offset| !self.live.contains_key(offset));
            if let (true, Some(offset)) = (class == slot_bytes, free_slots.next()) {
                return Some(offset);
            }
        }
        let aligned = self.free().into_iter();
        aligned
            .map(|(start, end)| (start.next_multiple_of(SLAB_BYTES), end))
            .find(|(start, end)| start + SLAB_BYTES <= *end)
            .map(|(start, _)| start)
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
        4 => 1..=4096_u64,
        2 => prop_oneof![Just(64_u64), Just(4032), Just(4033), Just(4096), Just(3841)],
        2 => 4033..=40_000_u64,
        1 => 40_000..=300_000_u64,
    ];
    prop_oneof![
        3 => len.prop_map(Operation::Allocate),
        2 => any::<usize>().prop_map(Operation::Release),
    ]
}

/// Runs the operations on both and compares every answer.
fn run_beside_model(capacity_bytes: u64, operations: &[Operation]) -> (Placement, Model) {
    let mut placement = Placement::new(capacity_bytes);
    let mut model = Model::new(capacity_bytes);
    for operation in operations {
        step(&mut placement, &mut model, operation);
    }
    (placement, model)
}

fn step(placement: &mut Placement, model: &mut Model, operation: &Operation) {
    match *operation {
        Operation::Allocate(len) => {
            let expected = model.place(len);
            assert_eq!(placement.allocate(len).ok(), expected, "page of {len} B");
            if let Some(offset) = expected {
                model.live.insert(offset, len);
            }
        }
        Operation::Release(choice) => {
            let Some(choice) = choice.checked_rem(model.live.len()) else {
                return;
            };
            let (&offset, &len) = model.live.iter().nth(choice).unwrap();
            assert!(matches!(
                placement.release(offset, len + 1),
                Err(PlacementError::WrongLength { allocated_bytes, .. }) if allocated_bytes == len
            ));
            assert_eq!(placement.release(offset, len), Ok(()));
            assert_eq!(
                placement.release(offset, len),
                Err(PlacementError::NotAllocated { offset })
            );
            model.live.remove(&offset);
        }
    }
}

fn check_invariants(placement: &Placement, model: &Model) {
    let mut end_of_previous = 0;
    for (&offset, &len) in &model.live {
        let footprint = footprint_bytes(len);
        assert!(end_of_previous <= offset, "page at {offset} overlaps");
        end_of_previous = offset + footprint;
        assert!(end_of_previous <= model.capacity_bytes);
        let alignment = if footprint < 4 * KIB { 64 } else { 4 * KIB };
        assert_eq!(footprint, len.next_multiple_of(alignment));
        assert_eq!(offset % alignment, 0, "page of {len} B at {offset}");
    }
    assert!(
        placement
            .live()
            .eq(model.live.iter().map(|(&offset, &len)| (offset, len)))
    );
    let figures = placement.statistics();
    let free = model.free();
    let free_bytes: u64 = free.iter().map(|(start, end)| end - start).sum();
    assert_eq!(figures.live_pages, model.live.len() as u64);
    assert_eq!(figures.live_bytes, model.live.values().sum::<u64>());
    let footprint: u64 = model.live.values().map(|&len| footprint_bytes(len)).sum();
    assert_eq!(figures.footprint_bytes, footprint);
    assert!(figures.peak_footprint_bytes >= footprint);
    assert_eq!(figures.reserved_bytes, figures.capacity_bytes - free_bytes);
    assert_eq!(
        figures.waste_bytes,
        figures.reserved_bytes - figures.live_bytes
    );
    let largest = free.iter().map(|(start, end)| end - start).max();
    assert_eq!(figures.largest_free_range_bytes, largest.unwrap_or(0));
    assert_eq!(
        figures.allocations_total - figures.releases_total,
        figures.live_pages
    );
}

proptest! {
    #[test]
    fn places_as_the_model_does(
        capacity in 0..=512_u64,
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let (placement, model) = run_beside_model(capacity * 4 * KIB, &operations);
        check_invariants(&placement, &model);
    }

    #[test]
    fn restored_from_its_live_pages_it_goes_on_the_same(
        before in prop::collection::vec(operation(), 0..200),
        after in prop::collection::vec(operation(), 0..100),
        seed in any::<u64>(),
    ) {
        let capacity = 1024 * KIB;
        let (mut placement, mut model) = run_beside_model(capacity, &before);
        let mut live: Vec<_> = placement.live().collect();
        // Any order must do: shuffle by a multiplicative hash.
        live.sort_by_key(|(offset, _)| (offset ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let history = placement.statistics().history();
        let mut restored = Placement::restore(capacity, live, history).unwrap();
        prop_assert_eq!(&restored, &placement);
        let mut restored_model = Model { live: model.live.clone(), ..Model::new(capacity) };
        for operation in &after {
            step(&mut placement, &mut model, operation);
            step(&mut restored, &mut restored_model, operation);
            prop_assert_eq!(&restored, &placement);
        }
    }

    #[test]
    fn releasing_everything_leaves_the_fresh_state(
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let capacity = 2048 * KIB;
        let (mut placement, model) = run_beside_model(capacity, &operations);
        for (&offset, &len) in &model.live {
            prop_assert_eq!(placement.release(offset, len), Ok(()));
        }
        let history = placement.statistics().history();
        prop_assert_eq!(placement, Placement::restore(capacity, [], history).unwrap());
    }

    #[test]
    fn restore_never_accepts_what_it_does_not_list(
        live in prop::collection::vec((0..400_u64, 1..9000_u64), 0..8),
    ) {
        let capacity = 256 * KIB;
        let live: Vec<_> = live.into_iter().map(|(step, len)| (step * 1024, len)).collect();
        if let Ok(placement) = Placement::restore(capacity, live.clone(), History::default()) {
            let mut sorted = live;
            sorted.sort_unstable();
            let model = Model { live: sorted.iter().copied().collect(), ..Model::new(capacity) };
            prop_assert_eq!(model.live.len(), sorted.len(), "accepted two pages at one offset");
            let mut ends = sorted.iter().map(|(offset, len)| offset + footprint_bytes(*len));
            let mut starts = sorted.iter().map(|(offset, _)| *offset).skip(1);
            prop_assert!(ends.by_ref().zip(starts.by_ref()).all(|(end, start)| end <= start));
            prop_assert!(placement.live().eq(sorted.iter().copied()));
        }
    }
}
