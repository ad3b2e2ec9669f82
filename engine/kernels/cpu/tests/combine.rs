//! Derived pages come out bit for bit as the engine's own code computes them, and so does what changed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use common::{Memory, noise, run};
use mmsb_engine::device::Combine;
use mmsb_engine::device::kernels::{Launch, combine_code};
use mmsb_engine::device::layout::Changed;
use mmsb_engine::graph::{Elementwise, Form, Lane, Semiring, Transform};
use mmsb_kernels_cpu::Order;
use proptest::prelude::*;

fn combinations() -> Vec<Combine> {
    let mut all = Vec::new();
    for semiring in Semiring::ALL {
        for lane in Lane::ALL {
            for form in Form::ALL {
                if Elementwise::new(semiring, lane, form).is_ok() {
                    all.push(Combine {
                        semiring,
                        lane,
                        form,
                    });
                }
            }
        }
    }
    all
}

/// Lanes with values where operations differ: signs, zeros, infinities, denormals, the ends of ranges, and NaNs of all kinds.
fn special(lane: Lane, draw: u64) -> Vec<u8> {
    let f32s = [
        0,
        0x8000_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0xffc0_0001,
        0x7f80_0001,
        0xff81_2345,
        1,
        0x8000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x3f80_0000,
        0xbf80_0001,
        0x3f80_0001,
        0x4b80_0000,
        0x3380_0000,
        0x1f80_0000,
        0x2000_0001,
    ];
    let f64s = [
        0,
        1 << 63,
        0x7ff0 << 48,
        0xfff0 << 48,
        0x7ff8 << 48,
        (0xfff8 << 48) | 1,
        (0x7ff0 << 48) | 1,
        (0xfff1 << 48) | 77,
        1,
        (1 << 63) | 1,
        (1 << 52) - 1,
        1 << 52,
        (0x7ff0 << 48) - 1,
        (0xfff0 << 48) - 1,
        0x3ff0 << 48,
        (0xbff0 << 48) | 1,
        (0x3ff0 << 48) | 1,
        0x4340 << 48,
        0x3ca0 << 48,
        0x1ff8 << 48,
        (0x2000 << 48) | 1,
    ];
    let integers = [
        0,
        1,
        2,
        3,
        u64::MAX,
        u64::MAX - 1,
        1 << 63,
        (1 << 63) - 1,
        0x80,
        0x7f,
        0xffff_ffff,
        0x8000_0000,
        1 << 32,
    ];
    let at = |count: usize| (draw >> 8) as usize % count;
    match lane {
        Lane::F32 => u32::to_le_bytes(f32s[at(f32s.len())]).to_vec(),
        Lane::F64 => u64::to_le_bytes(f64s[at(f64s.len())]).to_vec(),
        _ => integers[at(integers.len())].to_le_bytes()[..lane.len_bytes() as usize].to_vec(),
    }
}

/// A page of `len_bytes` bytes of that lane: half of the lanes special, half of them anything.
fn page(lane: Lane, len_bytes: usize, seed: u64) -> Vec<u8> {
    let draws = noise(len_bytes * 8 + 16, seed);
    let lane_bytes = lane.len_bytes() as usize;
    (0..len_bytes / lane_bytes)
        .flat_map(|i| {
            let draw = u64::from_le_bytes(draws[i * 8..i * 8 + 8].try_into().unwrap());
            if draw % 2 == 0 {
                special(lane, draw)
            } else {
                draw.rotate_right(20).to_le_bytes()[..lane_bytes].to_vec()
            }
        })
        .collect()
}

/// The page at a distance from a multiple of 4096, between bytes that must stay.
fn placed(page: &[u8], skew: usize) -> Memory {
    let mut memory = Memory::new(skew + page.len() + 24);
    memory.bytes_mut()[skew..skew + page.len()].copy_from_slice(page);
    memory
}

fn difference(old: &[u8], new: &[u8]) -> Changed {
    let differ = |i: &usize| old[*i] != new[*i];
    Changed {
        first: (0..old.len()).find(differ).map_or(u64::MAX, |i| i as u64),
        last: (0..old.len()).rfind(differ).map_or(0, |i| i as u64),
    }
}

struct Case {
    combine: Combine,
    lanes: usize,
    inputs: usize,
    /// Which lanes of the page.
    range: std::ops::Range<usize>,
    /// Distance of each page from a multiple of 4096.
    skews: Vec<usize>,
    /// Which lanes of the output are not up to date; all of them if there are none.
    stale: Vec<usize>,
    seed: u64,
    order: Order,
}

fn check(case: &Case) {
    let Combine {
        semiring,
        lane,
        form,
    } = case.combine;
    let lane_bytes = lane.len_bytes() as usize;
    let len_bytes = case.lanes * lane_bytes;
    let range = case.range.start * lane_bytes..case.range.end * lane_bytes;
    let skew = |page: usize| case.skews[page % case.skews.len()];
    let pages: Vec<_> = (0..case.inputs)
        .map(|input| page(lane, len_bytes, case.seed + input as u64))
        .collect();
    let slices: Vec<_> = pages.iter().map(Vec::as_slice).collect();

    let mut new = noise(len_bytes, case.seed + 99);
    let range_u64 = range.start as u64..range.end as u64;
    let elementwise = Elementwise::new(semiring, lane, form).unwrap();
    elementwise
        .compute(
            &slices,
            len_bytes as u64,
            range_u64.clone(),
            &mut new[range.clone()],
        )
        .unwrap();
    let mut old = noise(len_bytes, case.seed + 99);
    if !case.stale.is_empty() {
        old.copy_from_slice(&new);
        for lane in &case.stale {
            let byte =
                (case.range.start + lane % case.range.len()) * lane_bytes + lane / 7 % lane_bytes;
            old[byte] ^= 0x40;
        }
    }

    let memories: Vec<_> = pages
        .iter()
        .enumerate()
        .map(|(input, page)| placed(page, skew(input)))
        .collect();
    let addresses: Vec<_> = memories
        .iter()
        .enumerate()
        .flat_map(|(input, memory)| (memory.address() + skew(input) as u64).to_le_bytes())
        .collect();
    let inputs = Memory::of(&addresses);
    let output = placed(&old, skew(case.inputs));
    let changed = Memory::of(&Changed::NOTHING.to_bytes());
    let launch = Launch::combine(
        &case.combine,
        inputs.address(),
        case.inputs as u32,
        output.address() + skew(case.inputs) as u64,
        (range_u64.start, range_u64.end - range_u64.start),
        changed.address(),
        1,
    );
    run(&launch, case.order);
    let expected = placed(&new, skew(case.inputs));
    assert_eq!(
        output.bytes(),
        expected.bytes(),
        "{:?} {:?}",
        case.combine,
        case.skews
    );
    let found = Changed::from_bytes(changed.bytes().try_into().unwrap());
    assert_eq!(
        found,
        difference(&old, &new),
        "{:?} {:?}",
        case.combine,
        case.skews
    );
}

#[test]
fn every_combination_of_special_values() {
    for (number, combine) in combinations().into_iter().enumerate() {
        for inputs in [1, 2, 3, 4, 6] {
            if combine.form == Form::Products && inputs % 2 != 0 {
                continue;
            }
            // 21 special values: every pair of them comes up among so many lanes.
            let lanes = 12_000;
            check(&Case {
                combine,
                lanes,
                inputs,
                range: 0..lanes,
                skews: vec![0],
                stale: Vec::new(),
                seed: number as u64 * 10 + inputs as u64,
                order: Order::Ascending,
            });
        }
    }
}

#[test]
fn every_combination_on_pages_askew() {
    for combine in combinations() {
        let lane = combine.lane.len_bytes() as usize;
        for skews in [vec![8], vec![lane, 0, 2 * lane], vec![1], vec![3, 0, 8]] {
            check(&Case {
                combine,
                lanes: 700,
                inputs: 4,
                range: 3..611,
                skews,
                stale: Vec::new(),
                seed: 5,
                order: Order::Descending,
            });
        }
    }
}

#[test]
fn codes_without_meaning_change_nothing() {
    let pages = noise(256, 1);
    let input = Memory::of(&pages);
    for (code, inputs) in [
        (5, 2),
        (0x05_00, 2),
        (0x02_00_00, 2),
        (0x03_03, 2),
        (0x04_04, 2),
        (0x01_00_00, 1),
        (0, 0),
        (0x01_00_00_00, 2),
    ] {
        let output = Memory::of(&noise(256, 2));
        let changed = Memory::of(&Changed::NOTHING.to_bytes());
        let addresses =
            Memory::of(&[input.address().to_le_bytes(), input.address().to_le_bytes()].concat());
        let words = [
            code,
            addresses.address(),
            inputs,
            output.address(),
            0,
            256,
            changed.address(),
        ];
        let arguments: Vec<_> = words
            .iter()
            .map(|word| std::ptr::from_ref(word).cast())
            .collect();
        // SAFETY: seven words as the kernel takes them, with addresses of memory that is held here.
        unsafe {
            mmsb_kernels_cpu::launch(
                "mmsb_combine",
                [1; 3],
                [256, 1, 1],
                &arguments,
                Order::Ascending,
            )
        }
        .unwrap();
        assert_eq!(output.bytes(), noise(256, 2), "{code:#x} {inputs}");
        assert_eq!(changed.bytes(), Changed::NOTHING.to_bytes());
    }
    let plus = Combine {
        semiring: Semiring::PlusTimes,
        lane: Lane::U8,
        form: Form::Sum,
    };
    assert_eq!(combine_code(&plus), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn ranges_and_changes(
        which in any::<prop::sample::Index>(),
        lanes in 1_usize..3000,
        pairs in 1_usize..4,
        ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        skews in prop_oneof![Just(vec![0]), prop::collection::vec(0_usize..32, 1..4), (0_usize..16).prop_map(|skew| vec![skew])],
        stale in prop::collection::vec(0_usize..100_000, 0..4),
        seed: u64,
    ) {
        let all = combinations();
        let combine = all[which.index(all.len())];
        let (a, b) = (ends.0.index(lanes + 1), ends.1.index(lanes + 1));
        let range = if a == b { 0..lanes } else { a.min(b)..a.max(b) };
        check(&Case {
            combine,
            lanes,
            inputs: pairs * 2,
            range,
            skews,
            stale,
            seed: seed >> 8,
            order: Order::Shuffled(seed),
        });
    }
}
