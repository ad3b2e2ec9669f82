//! Cost of propagation, in time a node: a chain, a fan and a grid of 64-byte pages, beside a bare
//! array of levels that knows nothing of ranges, failures or page tables, and beside the
//! `incremental` crate; and a change of 16 bytes under a derived page of 64 MiB.
//!
//! `cargo bench --bench propagation`; the throughput column counts nodes.

#![allow(
    missing_docs,
    reason = "the macros of criterion expand to undocumented items"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot be set up must stop"
)]

use std::{cell::UnsafeCell, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use incremental::{Incr, IncrState};
use mmsb_engine::graph::{
    Copy, Elementwise, Extent, Form, Graph, Lane, Node, PageBytes, Semiring, StaleSet, Transform,
    WaveScratch, WaveSummary, run,
};

const PAGE_BYTES: u64 = 64;
const NODES: u32 = 16_384;
const GRID_SIDE: u32 = 128;

/// What a page holds, as lanes.
type Value = [u32; 16];

/// A page of the bare array, aligned as the engine's are.
#[derive(Clone, Copy, PartialEq)]
#[repr(align(64))]
struct BarePage(Value);

/// Aligned to cache lines, as mapped memory is.
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through pointers")] [u8; 64]);

struct Arena(Vec<UnsafeCell<Line>>);

// SAFETY: the benchmark is the only user, and a wave keeps its threads apart.
unsafe impl Sync for Arena {}

// SAFETY: ranges of one vector, which is not resized, at their offsets.
unsafe impl PageBytes for Arena {
    unsafe fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        // SAFETY: the caller says that the range is inside and not written.
        unsafe { std::slice::from_raw_parts(self.at(offset), len) }
    }

    unsafe fn bytes_mut(&self, offset: u64, len: usize) -> &mut [u8] {
        // SAFETY: the caller says that the range is inside and accessed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), len) }
    }
}

impl Arena {
    fn new(len: u64) -> Self {
        let lines = len.div_ceil(64);
        Self((0..lines).map(|_| UnsafeCell::new(Line([0; 64]))).collect())
    }

    fn at(&self, offset: u64) -> *mut u8 {
        UnsafeCell::raw_get(self.0.as_ptr())
            .cast::<u8>()
            .wrapping_add(offset as usize)
    }
}

/// For each node its parents, all with lower numbers; node 0 is the source.
type Shape = Vec<Vec<u32>>;

fn chain() -> Shape {
    (0..NODES)
        .map(|i| if i == 0 { vec![] } else { vec![i - 1] })
        .collect()
}

fn fan() -> Shape {
    (0..NODES)
        .map(|i| if i == 0 { vec![] } else { vec![0] })
        .collect()
}

fn grid() -> Shape {
    (0..NODES)
        .map(|i| match (i / GRID_SIDE, i % GRID_SIDE) {
            (0, 0) => vec![],
            (0, _) => vec![i - 1],
            (_, 0) => vec![i - GRID_SIDE],
            _ => vec![i - GRID_SIDE, i - 1],
        })
        .collect()
}

/// The engine on one shape.
struct Engine {
    graph: Graph,
    arena: Arena,
    scratch: WaveScratch,
    stale: StaleSet,
    source: Node,
}

impl Engine {
    fn new(shape: &Shape, page_bytes: u64) -> Self {
        let copy: Arc<dyn Transform> = Arc::new(Copy);
        let sum = Elementwise::new(Semiring::PlusTimes, Lane::U32, Form::Sum).unwrap();
        let sum: Arc<dyn Transform> = Arc::new(sum);
        let mut graph = Graph::new();
        let nodes: Vec<Node> = (0_u32..)
            .zip(shape)
            .map(|(i, _)| {
                let extent = Extent {
                    offset: u64::from(i) * page_bytes,
                    len: page_bytes,
                };
                graph.add_page(i, extent).unwrap()
            })
            .collect();
        for (child, parents) in nodes.iter().zip(shape) {
            let parents: Vec<Node> = parents.iter().map(|i| nodes[*i as usize]).collect();
            let transform = if parents.len() > 1 { &sum } else { &copy };
            if !parents.is_empty() {
                graph
                    .connect(*child, Arc::clone(transform), &parents)
                    .unwrap();
            }
        }
        Self {
            arena: Arena::new(page_bytes * shape.len() as u64),
            graph,
            scratch: WaveScratch::new(),
            stale: StaleSet::new(),
            source: nodes[0],
        }
    }

    /// Writes `bytes` to the source and runs the wave.
    fn update(&mut self, offset: u64, bytes: &[u8]) -> WaveSummary {
        // SAFETY: nothing else runs, and the range is inside the source.
        unsafe { self.arena.bytes_mut(offset, bytes.len()) }.copy_from_slice(bytes);
        let seed = [(self.source, offset..offset + bytes.len() as u64)];
        // SAFETY: the extents were laid out side by side in the arena, and nothing else runs.
        unsafe {
            run(
                &self.graph,
                &self.arena,
                &mut self.scratch,
                &seed,
                1,
                &mut self.stale,
                &mut (),
            )
        }
    }
}

/// The least that could do the same on whole pages: levels, flags and parents in flat arrays.
struct Bare {
    values: Vec<BarePage>,
    levels: Vec<Vec<u32>>,
    parent_starts: Vec<u32>,
    parents: Vec<u32>,
    child_starts: Vec<u32>,
    children: Vec<u32>,
    is_dirty: Vec<bool>,
}

impl Bare {
    fn new(shape: &Shape) -> Self {
        let mut level_of = vec![0_usize; shape.len()];
        let mut levels: Vec<Vec<u32>> = vec![Vec::new(); shape.len()];
        let mut child_lists = vec![Vec::new(); shape.len()];
        let (mut parent_starts, mut parents) = (vec![0], Vec::new());
        for (i, of) in shape.iter().enumerate() {
            level_of[i] = of
                .iter()
                .map(|p| level_of[*p as usize] + 1)
                .max()
                .unwrap_or(0);
            levels[level_of[i]].push(i as u32);
            of.iter()
                .for_each(|p| child_lists[*p as usize].push(i as u32));
            parents.extend(of);
            parent_starts.push(parents.len() as u32);
        }
        let (mut child_starts, mut children) = (vec![0], Vec::new());
        for list in child_lists {
            children.extend(list);
            child_starts.push(children.len() as u32);
        }
        levels.retain(|level| !level.is_empty());
        Self {
            values: vec![BarePage([0; 16]); shape.len()],
            levels,
            parent_starts,
            parents,
            child_starts,
            children,
            is_dirty: vec![false; shape.len()],
        }
    }

    fn update(&mut self, value: Value) -> u64 {
        self.values[0] = BarePage(value);
        self.mark_children(0);
        let mut computed = 0;
        for level in 1..self.levels.len() {
            for at in 0..self.levels[level].len() {
                let node = self.levels[level][at] as usize;
                if !std::mem::take(&mut self.is_dirty[node]) {
                    continue;
                }
                computed += 1;
                let range =
                    self.parent_starts[node] as usize..self.parent_starts[node + 1] as usize;
                let mut new = BarePage([0; 16]);
                for parent in &self.parents[range] {
                    add(&mut new.0, &self.values[*parent as usize].0);
                }
                if new != self.values[node] {
                    self.values[node] = new;
                    self.mark_children(node);
                }
            }
        }
        computed
    }

    fn mark_children(&mut self, node: usize) {
        let range = self.child_starts[node] as usize..self.child_starts[node + 1] as usize;
        for child in &self.children[range] {
            self.is_dirty[*child as usize] = true;
        }
    }
}

fn add(to: &mut Value, from: &Value) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = to.wrapping_add(*from);
    }
}

fn value(tick: u32) -> Value {
    std::array::from_fn(|i| {
        tick.wrapping_mul(2)
            .wrapping_add(1)
            .wrapping_mul(i as u32 * 2 + 1)
    })
}

fn value_bytes(tick: u32) -> [u8; PAGE_BYTES as usize] {
    let mut bytes = [0; PAGE_BYTES as usize];
    for (to, lane) in bytes.chunks_exact_mut(4).zip(value(tick)) {
        to.copy_from_slice(&lane.to_le_bytes());
    }
    bytes
}

fn shapes(c: &mut Criterion) {
    for (name, shape) in [("chain", chain()), ("fan", fan()), ("grid", grid())] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(u64::from(NODES - 1)));
        let mut tick = 0_u32;

        let mut engine = Engine::new(&shape, PAGE_BYTES);
        let summary = engine.update(0, &value_bytes(1));
        assert_eq!(
            summary.changed,
            u64::from(NODES - 1),
            "the whole shape is recomputed"
        );
        group.bench_function("mmsb", |b| {
            b.iter(|| {
                tick += 1;
                engine.update(0, black_box(&value_bytes(tick)))
            });
        });

        let mut bare = Bare::new(&shape);
        assert_eq!(bare.update(value(1)), u64::from(NODES - 1));
        group.bench_function("bare-levels", |b| {
            b.iter(|| {
                tick += 1;
                bare.update(black_box(value(tick)))
            });
        });

        let state = IncrState::new_with_height(NODES as usize + 2);
        let source = state.var(value(0));
        let mut nodes: Vec<Incr<Value>> = vec![source.watch()];
        for parents in shape.iter().skip(1) {
            let node = match parents.as_slice() {
                [one] => nodes[*one as usize].map(|value| *value),
                [one, two, ..] => nodes[*one as usize].map2(&nodes[*two as usize], |a, b| {
                    let mut sum = *a;
                    add(&mut sum, b);
                    sum
                }),
                [] => continue,
            };
            nodes.push(node);
        }
        // What nobody observes is not computed. The crate recurses when a node gets its first
        // observer, so the nodes get theirs from the source on; where the last node keeps the
        // others alive, only its own is kept, because observers cost time.
        let mut observers: Vec<_> = nodes.iter().map(Incr::observe).collect();
        state.stabilise();
        if name != "fan" {
            observers.drain(..observers.len() - 1);
        }
        state.stabilise();
        group.bench_function("incremental", |b| {
            b.iter(|| {
                tick += 1;
                source.set(black_box(value(tick)));
                state.stabilise();
            });
        });
        drop(observers);
        group.finish();
    }
}

fn large_page(c: &mut Criterion) {
    const LARGE_BYTES: u64 = 64 << 20;
    let shape = vec![vec![], vec![0]];
    let mut engine = Engine::new(&shape, LARGE_BYTES);
    let mut tick = 0_u128;
    c.bench_function("64MiB/16B-change", |b| {
        b.iter(|| {
            tick += 1;
            let summary = engine.update(LARGE_BYTES / 2, black_box(&tick.to_le_bytes()));
            assert_eq!((summary.changed, summary.computed_bytes), (1, 16));
        });
    });
    let bytes = vec![0x5a; LARGE_BYTES as usize];
    c.bench_function("64MiB/full", |b| {
        b.iter(|| engine.update(0, black_box(&bytes)))
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = shapes, large_page
}
criterion_main!(benches);
