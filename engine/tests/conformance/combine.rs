//! Pages combined lane by lane, against what the engine itself computes.

use mmsb_engine::device::reference;
use mmsb_engine::device::{Combine, Device, Queue, Work};
use mmsb_engine::graph::{Form, Lane, Semiring};

use super::{Check, MEMORY_BYTES, Open, noise, read, refused, upload, zeroed};
use crate::device::{Pinned, finish};

pub const CHECKS: &[Check] = &[
    (
        "combine::gives_the_bits_of_the_engine",
        gives_the_bits_of_the_engine,
    ),
    (
        "combine::of_parts_and_many_parents",
        of_parts_and_many_parents,
    ),
    (
        "combine::that_does_not_exist_is_refused",
        that_does_not_exist_is_refused,
    ),
];

/// Pages lie this far from each other, not quite aligned.
const PAGE: u64 = 65_536 + 8;

fn possible() -> impl Iterator<Item = Combine> {
    let all = Semiring::ALL.into_iter().flat_map(|semiring| {
        Lane::ALL.into_iter().flat_map(move |lane| {
            Form::ALL.into_iter().map(move |form| Combine {
                semiring,
                lane,
                form,
            })
        })
    });
    all.filter(|combine| !(combine.semiring.is_bitwise() && combine.lane.is_float()))
}

/// Does it on the device and on `memory`, and compares the reports.
fn both(
    device: &dyn Device,
    memory: &mut [u8],
    combine: Combine,
    inputs: &[u64],
    output: u64,
    range: std::ops::Range<u64>,
) {
    let pinned = Pinned::new(device, 16);
    let work = Work::Combine {
        combine,
        inputs,
        output,
        range,
        changed: pinned.whole(),
    };
    device.submit(Queue::Compute, &work).unwrap();
    finish(device, Queue::Compute).unwrap();
    let mut expected = [0; 16];
    reference::execute(memory, &work, &[], &mut expected).unwrap();
    assert_eq!(pinned.all(), expected, "{work:?}");
}

/// Values at which operations differ: zeros of both signs, infinities, NaNs, the smallest and the largest.
fn special(lane: Lane, position: usize) -> u64 {
    let f32s = [
        0x0000_0000u64,
        0x8000_0000,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0001,
        0xffa0_0000,
        1,
        0x7f7f_ffff,
    ];
    let f64s = [
        0,
        1 << 63,
        0x7ff0 << 48,
        0xfff0 << 48,
        (0x7ff8 << 48) | 1,
        (0xfff4 << 48) | 7,
        1,
        0x7fef_ffff_ffff_ffff,
    ];
    let ints = [
        0,
        1,
        u64::MAX,
        1 << 63,
        (1 << 63) - 1,
        255,
        0x8000_0000,
        0x7fff_ffff,
    ];
    match lane {
        Lane::F32 => f32s[position % 8],
        Lane::F64 => f64s[position % 8],
        _ => ints[position % 8],
    }
}

fn gives_the_bits_of_the_engine(open: Open<'_>) {
    let device = zeroed(open);
    let mut memory = noise(3, MEMORY_BYTES as usize);
    for combine in possible() {
        let width = combine.lane.len_bytes() as usize;
        // Each special value with each other, in the first lanes of two parents.
        for pair in 0..64 {
            for (page, position) in [(1, pair / 8), (2, pair % 8)] {
                let at = page * PAGE as usize + pair * width;
                let value = special(combine.lane, position).to_le_bytes();
                memory[at..at + width].copy_from_slice(&value[..width]);
            }
        }
        upload(&*device, 0, &memory[..8 * PAGE as usize]);
        for inputs in [&[1u64, 2][..], &[1, 2, 3, 4], &[2, 2], &[1, 2, 5, 6, 3, 4]] {
            let inputs: Vec<u64> = inputs.iter().map(|page| page * PAGE).collect();
            let end = 20_000 / width as u64 * width as u64;
            both(&*device, &mut memory, combine, &inputs, 7 * PAGE, 0..end);
        }
        let end = 8 * PAGE;
        assert!(
            read(&*device, 0..end) == memory[..end as usize],
            "{combine:?}"
        );
    }
}

fn of_parts_and_many_parents(open: Open<'_>) {
    let device = zeroed(open);
    let mut memory = noise(4, MEMORY_BYTES as usize);
    upload(&*device, 0, &memory);
    let sum = |lane| Combine {
        semiring: Semiring::PlusTimes,
        lane,
        form: Form::Sum,
    };
    for (lane, ranges) in [
        (Lane::U8, [0..1, 5..6, 3..1000, 0..65_536]),
        (Lane::U32, [0..4, 4..8, 12..2000, 0..65_536]),
        (Lane::F64, [0..8, 8..16, 24..4000, 0..65_536]),
    ] {
        for range in ranges {
            both(
                &*device,
                &mut memory,
                sum(lane),
                &[0, PAGE, 0],
                9 * PAGE,
                range.clone(),
            );
            // Again: nothing changes.
            both(
                &*device,
                &mut memory,
                sum(lane),
                &[0, PAGE, 0],
                9 * PAGE,
                range,
            );
        }
    }
    // One parent, no bytes, and more parents than fit in registers.
    both(
        &*device,
        &mut memory,
        sum(Lane::I64),
        &[PAGE],
        9 * PAGE,
        0..64,
    );
    both(
        &*device,
        &mut memory,
        sum(Lane::I64),
        &[PAGE],
        9 * PAGE,
        16..16,
    );
    let many: Vec<u64> = (0..300).map(|i| i * 1000 & !7).collect();
    both(
        &*device,
        &mut memory,
        sum(Lane::F32),
        &many,
        20 * PAGE,
        0..8192,
    );
    assert!(read(&*device, 0..MEMORY_BYTES) == memory);
}

fn that_does_not_exist_is_refused(open: Open<'_>) {
    let device = zeroed(open);
    let pinned = Pinned::new(&*device, 16);
    let good = Combine {
        semiring: Semiring::PlusTimes,
        lane: Lane::U32,
        form: Form::Sum,
    };
    let bits = Combine {
        semiring: Semiring::XorAnd,
        lane: Lane::F32,
        ..good
    };
    let products = Combine {
        form: Form::Products,
        ..good
    };
    let refuse = |combine, inputs: &[u64], output, range| {
        let changed = pinned.whole();
        let work = Work::Combine {
            combine,
            inputs,
            output,
            range,
            changed,
        };
        refused(&*device, &work);
    };
    refuse(bits, &[0, 64], 128, 0..16);
    refuse(products, &[0, 64, 128], 256, 0..16);
    refuse(good, &[], 256, 0..16);
    refuse(good, &[0], 256, 0..15);
    refuse(good, &[0], 256, 2..16);
    refuse(good, &[0, MEMORY_BYTES - 8], 256, 0..16);
    refuse(good, &[0, u64::MAX], 256, 0..16);
    refuse(good, &[0], MEMORY_BYTES - 8, 0..16);
}
