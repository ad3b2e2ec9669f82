//! Moves, copies, fills and sums, at every alignment.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod common;

use common::{Memory, ORDERS, noise, run};
use mmsb_engine::device::kernels::Launch;
use mmsb_engine::device::layout::{Changed, sum64};
use mmsb_kernels_cpu::Order;
use proptest::prelude::*;

/// Lengths around the units, warps and blocks of the kernels.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        1_usize..80,
        (1_usize..40, 0_usize..33).prop_map(|(units, rest)| units * 512 + rest),
        (1_usize..6, 0_usize..33).prop_map(|(blocks, rest)| blocks * 16 * 1024 + rest - 16),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn copies(len_bytes in lengths(), from_skew in 0_usize..20, to_skew in 0_usize..20, multiprocessors in 0_u32..3, seed: u64) {
        let bytes = noise(from_skew + len_bytes, seed);
        let from = Memory::of(&bytes);
        for order in [Order::Ascending, Order::Shuffled(seed)] {
            let to = Memory::new(to_skew + len_bytes + 40);
            let mut expected = to.bytes().to_vec();
            expected[to_skew..to_skew + len_bytes].copy_from_slice(&bytes[from_skew..]);
            let launch = Launch::copy(
                from.address() + from_skew as u64, to.address() + to_skew as u64, len_bytes as u64, multiprocessors,
            );
            run(&launch, order);
            prop_assert_eq!(to.bytes(), &expected[..]);
        }
    }

    #[test]
    fn fills(len_bytes in lengths(), skew in 0_usize..20, byte: u8, multiprocessors in 0_u32..3) {
        let to = Memory::new(skew + len_bytes + 40);
        let mut expected = to.bytes().to_vec();
        expected[skew..skew + len_bytes].fill(byte);
        run(&Launch::fill(to.address() + skew as u64, len_bytes as u64, byte, multiprocessors), Order::Ascending);
        prop_assert_eq!(to.bytes(), &expected[..]);
    }

    #[test]
    fn moves_and_tells_what_changed(
        len_bytes in lengths(),
        from_skew in 0_usize..20,
        to_skew in 0_usize..20,
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        is_new: bool,
        multiprocessors in 0_u32..3,
        seed: u64,
    ) {
        let bytes = noise(from_skew + len_bytes, seed);
        let from = Memory::of(&bytes);
        let new = &bytes[from_skew..];
        let mut old = if is_new { noise(len_bytes, !seed) } else { new.to_vec() };
        for flip in flips {
            old[flip.index(len_bytes)] ^= 1;
        }
        for order in ORDERS {
            let mut to = Memory::new(to_skew + len_bytes + 40);
            let mut expected = to.bytes().to_vec();
            expected[to_skew..to_skew + len_bytes].copy_from_slice(new);
            to.bytes_mut()[to_skew..to_skew + len_bytes].copy_from_slice(&old);
            let changed = Memory::of(&Changed::NOTHING.to_bytes());
            let launch = Launch::move_bytes(
                from.address() + from_skew as u64,
                to.address() + to_skew as u64,
                len_bytes as u64,
                changed.address(),
                multiprocessors,
            );
            run(&launch, order);
            prop_assert_eq!(to.bytes(), &expected[..]);
            let differ = |i: &usize| old[*i] != new[*i];
            let naive = Changed {
                first: (0..len_bytes).find(differ).map_or(u64::MAX, |i| i as u64),
                last: (0..len_bytes).rfind(differ).map_or(0, |i| i as u64),
            };
            prop_assert_eq!(Changed::from_bytes(changed.bytes().try_into().unwrap()), naive);
        }
    }

    #[test]
    fn sums(len_bytes in lengths(), skew in 0_usize..20, multiprocessors in 0_u32..3, seed: u64) {
        let bytes = noise(skew + len_bytes, seed);
        let from = Memory::of(&bytes);
        for order in [Order::Ascending, Order::Shuffled(seed)] {
            let sum = Memory::of(&[0; 8]);
            run(&Launch::sum(from.address() + skew as u64, len_bytes as u64, sum.address(), multiprocessors), order);
            prop_assert_eq!(sum.word(), sum64(&bytes[skew..]));
        }
    }
}

#[test]
fn nothing_is_nothing() {
    let memory = Memory::new(64);
    let before = memory.bytes().to_vec();
    let words = Memory::of(&[0; 16]);
    let at = memory.address() + 3;
    run(
        &Launch::copy(memory.address() + 32, at, 0, 1),
        Order::Ascending,
    );
    run(&Launch::fill(at, 0, 1, 1), Order::Ascending);
    run(&Launch::sum(at, 0, words.address(), 1), Order::Ascending);
    run(
        &Launch::move_bytes(memory.address() + 32, at, 0, words.address(), 1),
        Order::Ascending,
    );
    assert_eq!(memory.bytes(), before);
    assert_eq!(words.bytes(), [0; 16]);
}
