//! The kernels that are compiled here are those that the engine describes, and what is no launch of them is refused.

use mmsb_engine::device::kernels::Kernel as Described;
use mmsb_kernels_cpu::{Kernel, LaunchError, Order, launch};

#[test]
fn kernels_are_those_described() {
    let described: Vec<_> = Described::ALL
        .iter()
        .map(|kernel| {
            (
                kernel.name(),
                kernel.block_threads(),
                kernel.argument_lens(),
            )
        })
        .collect();
    let compiled: Vec<_> = Kernel::all()
        .map(|kernel| {
            (
                kernel.name(),
                kernel.block_threads(),
                kernel.argument_lens(),
            )
        })
        .collect();
    assert_eq!(compiled, described);
}

#[test]
fn strange_launches_are_refused() {
    let zero = 0_u64;
    let word = std::ptr::from_ref(&zero).cast();
    let fill = |grid, block, arguments: &[_]| {
        // SAFETY: a fill of no bytes goes to no memory.
        unsafe { launch("mmsb_fill", grid, block, arguments, Order::Ascending) }
    };
    assert_eq!(fill([1; 3], [256, 1, 1], &[word; 3]), Ok(()));
    assert!(matches!(
        fill([1; 3], [256, 1, 1], &[word; 2]),
        Err(LaunchError::Arguments {
            takes: 3,
            got: 2,
            ..
        })
    ));
    for (grid, block) in [
        ([1; 3], [128, 1, 1]),
        ([1; 3], [256, 2, 1]),
        ([0, 1, 1], [256, 1, 1]),
        ([1, 65_536, 1], [256, 1, 1]),
    ] {
        let refused = fill(grid, block, &[word; 3]);
        assert!(
            matches!(refused, Err(LaunchError::Failed { .. })),
            "{grid:?} {block:?}"
        );
    }
    // SAFETY: there is no such kernel.
    let unknown = unsafe { launch("mmsb_none", [1; 3], [1; 3], &[], Order::Ascending) };
    assert_eq!(
        unknown,
        Err(LaunchError::Unknown {
            name: "mmsb_none".to_owned()
        })
    );
}
