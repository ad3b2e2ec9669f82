//! One case each: what a wave and the graph do, as a reader would ask.

use std::{ops::Range, sync::Arc};

use super::{
    super::*, Event, First, Fragile, FragileCopy, Recorder, Reverse, World, all_derived,
    quiet_panics,
};
use crate::page::PageIndex;

#[test]
fn a_diamond_is_computed_once() {
    let mut world = World::new(&[64; 4]);
    world.connect(1, Copy, &[0]);
    world.connect(2, Reverse, &[0]);
    world.connect(3, First, &[1, 2]);
    let (summary, events) = world.update(0, 3, &[7]);
    assert_eq!(
        (summary.recomputed, summary.changed, summary.levels),
        (3, 3, 2)
    );
    let last = events.last().unwrap();
    assert_eq!(*last, Event::Changed(3, vec![3..4]));
    world.assert_consistent();
}

#[test]
fn an_unchanged_result_ends_the_wave() {
    let mut world = World::new(&[64; 3]);
    // A page that is its parent twice cancels out.
    world.connect(1, Xor, &[0, 0]);
    world.connect(2, Copy, &[1]);
    let (summary, events) = world.update(0, 0, &[1; 64]);
    assert_eq!(
        (summary.recomputed, summary.cut_off, summary.changed),
        (1, 1, 0)
    );
    assert!(events.is_empty());
}

#[test]
fn work_follows_the_change_and_not_the_page() {
    const LEN: u64 = 1 << 20;
    let mut world = World::new(&[LEN, LEN, LEN / 2, LEN / 2]);
    world.connect(1, Copy, &[0]);
    world.connect(2, Slice::new(0), &[1]);
    world.connect(3, Slice::new(LEN / 2), &[1]);
    let (summary, events) = world.update(0, LEN / 2 + 100, &[9; 16]);
    assert_eq!((summary.recomputed, summary.computed_bytes), (2, 32));
    assert_eq!(events[1], Event::Changed(3, vec![100..116]));
    // Eight ranges apart stay apart.
    let seeds: Vec<_> = (0..8).map(|i| (0, i * 1000..i * 1000 + 16)).collect();
    for (_, range) in &seeds {
        world.write(0, range.start, &[1; 16]);
    }
    let (summary, events) = world.run(&seeds);
    assert_eq!(summary.computed_bytes, 3 * 8 * 16 - 8 * 16);
    assert_eq!(
        events[0],
        Event::Changed(1, seeds.into_iter().map(|(_, r)| r).collect())
    );
    world.assert_consistent();
}

#[test]
fn lanes_are_computed_whole() {
    let mut world = World::new(&[128, 128]);
    let sum = Elementwise::new(Semiring::PlusTimes, Lane::I64, Form::Sum).unwrap();
    world.connect(1, sum, &[0, 0]);
    let (summary, events) = world.update(0, 7, &[1, 1]);
    assert_eq!(summary.computed_bytes, 16);
    assert_eq!(events, [Event::Changed(1, vec![7..9])]);
    world.assert_consistent();
}

#[test]
fn a_failure_makes_its_cone_stale_until_it_succeeds() {
    quiet_panics();
    for (byte, text) in [
        (0xfe, "transform failed: told to"),
        (0xff, "transform panicked: told to"),
    ] {
        let mut world = World::new(&[8; 6]);
        world.connect(1, Fragile, &[0]);
        world.connect(2, Copy, &[1]);
        world.connect(3, Xor, &[2, 4]);
        world.connect(5, Copy, &[0]);
        world.update(0, 0, &[1; 8]);
        let kept = world.page(1);

        let (summary, events) = world.update(0, 0, &[byte, 2, 2]);
        assert_eq!(
            (summary.failed, summary.changed, summary.held_stale),
            (1, 1, 2)
        );
        assert!(events.contains(&Event::Failed(1, text.to_owned())));
        assert!(events.contains(&Event::Staled(3, world.nodes[1])));
        assert_eq!(world.page(1), kept, "a failed page keeps its bytes");
        assert_eq!(
            world.page(5)[..3],
            [byte, 2, 2],
            "what does not depend on it goes on"
        );
        assert_eq!(world.stale.len(), 3);

        // Another parent changes while the page is held stale.
        let (summary, _) = world.update(4, 0, &[5; 8]);
        assert_eq!((summary.recomputed, summary.held_stale), (0, 1));

        let (summary, events) = world.update(0, 0, &[3]);
        assert_eq!((summary.failed, summary.restored), (0, 3));
        assert!(events.contains(&Event::Restored(3)));
        assert!(world.stale.is_empty());
        world.assert_consistent();
    }
}

#[test]
fn a_page_that_failed_is_computed_in_full_when_it_succeeds() {
    let mut world = World::new(&[256; 3]);
    world.connect(1, FragileCopy, &[0]);
    world.connect(2, Slice::new(0), &[1]);
    world.update(0, 0, &[0xfe]);
    // Missed by the page while it is stale, and not among what changes later.
    let (summary, _) = world.update(0, 200, &[7]);
    assert_eq!((summary.failed, summary.held_stale), (1, 0));
    let (summary, _) = world.update(0, 0, &[1]);
    assert_eq!((summary.restored, summary.computed_bytes), (2, 512));
    assert_eq!(world.page(2)[200], 7);
    world.assert_consistent();
}

#[test]
fn an_observer_that_panics_does_not_spoil_the_scratch() {
    struct Bomb;
    impl WaveObserver for Bomb {
        fn changed(&mut self, _: Node, _: PageIndex, _: &[Range<u64>]) {
            panic!("told to");
        }
    }
    quiet_panics();
    let mut world = World::new(&[8; 4]);
    world.connect(1, Copy, &[0]);
    world.connect(2, Copy, &[0]);
    world.connect(3, Copy, &[2]);
    world.write(0, 0, &[1; 8]);
    let seeds = [(world.nodes[0], 0..8)];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // SAFETY: pages lie side by side in the arena, and nothing else runs.
        unsafe {
            run(
                &world.graph,
                &world.arena,
                &mut world.scratch,
                &seeds,
                1,
                &mut world.stale,
                &mut Bomb,
            )
        }
    }));
    assert!(result.is_err());
    assert!(world.stale.is_empty(), "the transform is not to blame");
    let seeds = all_derived(&world);
    world.run(&seeds);
    world.assert_consistent();
}

#[test]
fn an_observer_that_panics_after_a_transform_did_is_told_apart() {
    struct Bomb;
    impl WaveObserver for Bomb {
        fn changed(&mut self, _: Node, _: PageIndex, _: &[Range<u64>]) {}
        fn staled(&mut self, _: Node, _: PageIndex, _: Node) {
            panic!("told to");
        }
    }
    quiet_panics();
    let mut world = World::new(&[8; 3]);
    world.connect(1, Fragile, &[0]);
    world.connect(2, Copy, &[1]);
    world.write(0, 0, &[0xff]);
    let seeds = [(world.nodes[0], 0..1)];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // SAFETY: pages lie side by side in the arena, and nothing else runs.
        unsafe {
            run(
                &world.graph,
                &world.arena,
                &mut world.scratch,
                &seeds,
                1,
                &mut world.stale,
                &mut Bomb,
            )
        }
    }));
    assert!(result.is_err(), "the transform was blamed for the observer");
}

#[test]
fn any_number_of_threads_gives_the_same() {
    quiet_panics();
    const LEN: u64 = 64 << 10;
    const WIDTH: usize = 24;
    let mut results = Vec::new();
    for threads in [1, 2, 8] {
        let mut world = World::new(&[LEN; 3 * WIDTH + 1]);
        world.threads = threads;
        for i in 0..WIDTH {
            match i % 6 {
                0 => world.connect(1 + i, Fragile, &[0]),
                1 => world.connect(1 + i, Reverse, &[0]),
                _ => world.connect(1 + i, Copy, &[0]),
            }
            world.connect(1 + WIDTH + i, Xor, &[1 + i, 1 + (i + 1) % WIDTH]);
            world.connect(1 + 2 * WIDTH + i, Copy, &[1 + WIDTH + (i * 7) % WIDTH]);
        }
        let mut told = Vec::new();
        for (round, first) in [1, 0xff, 3, 0xfe, 4].into_iter().enumerate() {
            let mut bytes: Vec<u8> = (0..LEN).map(|i| (i as usize * (round + 3)) as u8).collect();
            bytes[0] = first;
            told.push(world.update(0, 0, &bytes));
        }
        told.push(world.run(&[(0, 5..5)]));
        let pages: Vec<_> = (0..world.nodes.len()).map(|i| world.page(i)).collect();
        results.push((told, pages));
    }
    assert!(results[0].0.iter().any(|(summary, _)| summary.failed > 0));
    assert!(results[0].0.iter().any(|(summary, _)| summary.restored > 0));
    for (told, pages) in &results[1..] {
        for (round, (got, expected)) in told.iter().zip(&results[0].0).enumerate() {
            assert_eq!(got.0, expected.0, "summary of round {round}");
            assert_eq!(got.1, expected.1, "reports of round {round}");
        }
        assert!(*pages == results[0].1, "bytes differ");
    }
}

#[test]
fn depth_is_unlimited() {
    const DEPTH: usize = 1_000_000;
    let mut world = World::new(&vec![1; DEPTH + 1]);
    let copy: Arc<dyn Transform> = Arc::new(Copy);
    for i in 1..=DEPTH {
        world
            .graph
            .connect(world.nodes[i], copy.clone(), &[world.nodes[i - 1]])
            .unwrap();
    }
    assert_eq!(world.graph.level(world.nodes[DEPTH]), Some(DEPTH as u32));
    let (summary, _) = world.update(0, 0, &[1]);
    assert_eq!(
        (summary.changed, summary.levels),
        (DEPTH as u64, DEPTH as u64)
    );
    assert_eq!(world.page(DEPTH), [1]);
    let error = world
        .graph
        .connect(world.nodes[0], copy, &[world.nodes[DEPTH]])
        .unwrap_err();
    let GraphError::Cycle { path } = error else {
        panic!("{error}")
    };
    assert_eq!(path.len(), DEPTH + 2);
    // The middle goes, and everything below it comes nearer to the top.
    world.graph.disconnect(world.nodes[DEPTH / 2]).unwrap();
    assert_eq!(
        world.graph.level(world.nodes[DEPTH]),
        Some((DEPTH - DEPTH / 2) as u32)
    );
    drop(world);
}

#[test]
fn recompute_all_computes_each_once() {
    let mut world = World::new(&[64; 5]);
    world.connect(1, Copy, &[0]);
    world.connect(2, Xor, &[1, 3]);
    world.connect(4, Xor, &[2, 1, 0]);
    world.write(0, 0, &[7; 64]);
    world.write(3, 0, &[5; 64]);
    let mut recorder = Recorder::default();
    // SAFETY: pages lie side by side in the arena, and nothing else runs.
    let summary = unsafe {
        recompute_all(
            &world.graph,
            &world.arena,
            &mut world.scratch,
            1,
            &mut world.stale,
            &mut recorder,
        )
    };
    assert_eq!((summary.recomputed, summary.computed_bytes), (3, 192));
    world.assert_consistent();
}

#[test]
fn cycles_are_told_with_their_path() {
    let mut world = World::new(&[8; 4]);
    world.connect(1, Copy, &[0]);
    world.connect(2, Copy, &[1]);
    let nodes = world.nodes.clone();
    let error = world
        .graph
        .connect(nodes[0], Arc::new(Copy), &[nodes[2]])
        .unwrap_err();
    assert_eq!(
        error,
        GraphError::Cycle {
            path: vec![2, 0, 1, 2]
        }
    );
    assert_eq!(
        error.to_string(),
        "cycle: 2 → 0 → 1 → 2; leave out one of these edges"
    );
    let graph = &mut world.graph;
    let refused = |result: Result<Merged, GraphError>| result.unwrap_err();
    let copy = || -> Arc<dyn Transform> { Arc::new(Copy) };
    let error = refused(graph.connect(nodes[1], copy(), &[nodes[3]]));
    assert_eq!(error, GraphError::AlreadyDerived { page: 1 });
    let error = refused(graph.connect(nodes[3], copy(), &[nodes[3]]));
    assert_eq!(error, GraphError::SelfDependency { page: 3 });
    let error = refused(graph.connect(nodes[3], copy(), &[]));
    assert_eq!(error, GraphError::NoParents { page: 3 });
    let error = refused(graph.connect(nodes[3], copy(), &[Node(77)]));
    assert_eq!(error, GraphError::UnknownNode { node: 77 });
    let error = refused(graph.connect(nodes[3], Arc::new(Slice::new(1)), &[nodes[0]]));
    assert!(matches!(error, GraphError::Transform { page: 3, .. }));
}

#[test]
fn pages_come_and_go() {
    let mut world = World::new(&[8; 3]);
    world.connect(1, Copy, &[0]);
    world.connect(2, Xor, &[0, 1, 0]);
    let nodes = world.nodes.clone();
    let graph = &mut world.graph;
    let error = graph.remove(nodes[0]).unwrap_err();
    assert_eq!(
        error,
        GraphError::HasDependents {
            page: 0,
            dependents: vec![1, 2]
        }
    );
    graph.remove(nodes[2]).unwrap();
    graph.remove(nodes[1]).unwrap();
    assert_eq!(graph.children(nodes[0]).count(), 0);
    assert_eq!(
        (graph.len(), graph.derived_count(), graph.node_of(1)),
        (1, 0, None)
    );
    assert_eq!(graph.page(nodes[1]), None);
    let again = graph.add_page(9, Extent { offset: 0, len: 8 }).unwrap();
    assert_eq!(again, nodes[1]);
    assert_ne!(graph.component(again), graph.component(nodes[0]));
    let error = graph.add_page(9, Extent { offset: 0, len: 8 }).unwrap_err();
    assert_eq!(error, GraphError::PageExists { page: 9 });
    let error = graph
        .add_page(10, Extent { offset: 0, len: 0 })
        .unwrap_err();
    assert!(matches!(error, GraphError::BadExtent { page: 10, .. }));
}

#[test]
fn joined_components_name_the_pages_that_moved() {
    let mut world = World::new(&[8; 6]);
    let nodes = world.nodes.clone();
    let graph = &mut world.graph;
    let merged = graph
        .connect(nodes[1], Arc::new(Copy), &[nodes[0]])
        .unwrap();
    assert_eq!(merged.moved, [1]);
    let merged = graph
        .connect(nodes[3], Arc::new(Xor), &[nodes[2], nodes[1], nodes[2]])
        .unwrap();
    assert_eq!(merged.component, graph.component(nodes[0]).unwrap());
    assert_eq!(merged.moved, [2, 3]);
    let merged = graph
        .connect(nodes[2], Arc::new(Copy), &[nodes[0]])
        .unwrap();
    assert!(merged.moved.is_empty());
    assert_ne!(graph.component(nodes[5]), graph.component(nodes[0]));
}
