//! A small world to try graphs and waves in, and transforms that misbehave when told to.

mod cases;
mod properties;

use std::{cell::UnsafeCell, ops::Range, sync::Arc};

use super::*;
use crate::page::PageIndex;

/// Memory for tests: one vector that is never resized.
struct Arena(Vec<UnsafeCell<u8>>);

// SAFETY: tests access it only between waves, and a wave keeps its threads apart.
unsafe impl Sync for Arena {}

// SAFETY: ranges of one vector at their offsets.
unsafe impl PageBytes for Arena {
    unsafe fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        // SAFETY: the caller says that the range is inside and not written.
        unsafe { std::slice::from_raw_parts(self.at(offset, len), len) }
    }

    unsafe fn bytes_mut(&self, offset: u64, len: usize) -> &mut [u8] {
        // SAFETY: the caller says that the range is inside and accessed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset, len), len) }
    }
}

impl Arena {
    fn new(len: usize) -> Self {
        Self((0..len).map(|_| UnsafeCell::new(0)).collect())
    }

    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        assert!(
            offset as usize + len <= self.0.len(),
            "access beyond the arena"
        );
        UnsafeCell::raw_get(self.0.as_ptr()).wrapping_add(offset as usize)
    }
}

/// What an observer was told, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Changed(PageIndex, Vec<Range<u64>>),
    Failed(PageIndex, String),
    Staled(PageIndex, Node),
    Restored(PageIndex),
}

#[derive(Default)]
struct Recorder(Vec<Event>);

impl WaveObserver for Recorder {
    fn changed(&mut self, _: Node, page: PageIndex, ranges: &[Range<u64>]) {
        self.0.push(Event::Changed(page, ranges.to_vec()));
    }
    fn failed(&mut self, _: Node, page: PageIndex, reason: &StaleReason) {
        self.0.push(Event::Failed(page, reason.to_string()));
    }
    fn staled(&mut self, _: Node, page: PageIndex, origin: Node) {
        self.0.push(Event::Staled(page, origin));
    }
    fn restored(&mut self, _: Node, page: PageIndex) {
        self.0.push(Event::Restored(page));
    }
}

/// A graph with its memory.
struct World {
    graph: Graph,
    arena: Arena,
    scratch: WaveScratch,
    stale: StaleSet,
    nodes: Vec<Node>,
    threads: usize,
}

impl World {
    fn new(lens: &[u64]) -> Self {
        let (mut graph, mut nodes, mut offset) = (Graph::new(), Vec::new(), 0);
        for (page, len) in (0..).zip(lens) {
            nodes.push(graph.add_page(page, Extent { offset, len: *len }).unwrap());
            offset += len;
        }
        Self {
            graph,
            arena: Arena::new(offset as usize),
            scratch: WaveScratch::new(),
            stale: StaleSet::new(),
            nodes,
            threads: 1,
        }
    }

    fn connect(&mut self, child: usize, transform: impl Transform, parents: &[usize]) {
        let parents: Vec<Node> = parents.iter().map(|i| self.nodes[*i]).collect();
        self.graph
            .connect(self.nodes[child], Arc::new(transform), &parents)
            .unwrap();
    }

    fn page(&self, page: usize) -> Vec<u8> {
        let Extent { offset, len } = self.graph.extent(self.nodes[page]).unwrap();
        // SAFETY: inside, and no wave runs.
        unsafe { self.arena.bytes(offset, len as usize) }.to_vec()
    }

    fn write(&self, page: usize, at: u64, bytes: &[u8]) {
        let extent = self.graph.extent(self.nodes[page]).unwrap();
        assert!(at + bytes.len() as u64 <= extent.len);
        // SAFETY: inside, and no wave runs.
        unsafe { self.arena.bytes_mut(extent.offset + at, bytes.len()) }.copy_from_slice(bytes);
    }

    fn run(&mut self, seeds: &[(usize, Range<u64>)]) -> (WaveSummary, Vec<Event>) {
        let seeds: Vec<_> = seeds
            .iter()
            .map(|(i, r)| (self.nodes[*i], r.clone()))
            .collect();
        let mut recorder = Recorder::default();
        // SAFETY: pages lie side by side in the arena, and nothing else runs.
        let summary = unsafe {
            run(
                &self.graph,
                &self.arena,
                &mut self.scratch,
                &seeds,
                self.threads,
                &mut self.stale,
                &mut recorder,
            )
        };
        (summary, recorder.0)
    }

    fn update(&mut self, page: usize, at: u64, bytes: &[u8]) -> (WaveSummary, Vec<Event>) {
        self.write(page, at, bytes);
        self.run(&[(page, at..at + bytes.len() as u64)])
    }

    /// Every derived page computed from scratch, the naive way, and compared.
    fn assert_consistent(&self) {
        for node in self.graph.derived() {
            let derivation = self.graph.derivation(node).unwrap();
            let inputs: Vec<Vec<u8>> = derivation
                .parents
                .iter()
                .map(|p| self.page(p.index() as usize))
                .collect();
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let len = self.graph.extent(node).unwrap().len;
            let mut out = vec![0; len as usize];
            derivation
                .transform
                .compute(&inputs, len, 0..len, &mut out)
                .unwrap();
            let got = self.page(node.index() as usize);
            assert!(
                got == out,
                "page {} is not what its parents give",
                node.index()
            );
        }
    }
}

/// Copies its parent, reversed; maps ranges by `affected`.
struct Reverse;

impl Transform for Reverse {
    fn name(&self) -> &str {
        "reverse"
    }
    fn version(&self) -> u32 {
        1
    }
    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        Copy.check(output_len, parent_lens)
    }
    fn mapping(&self, _: usize, _: &[u64], _: u64) -> Mapping {
        Mapping::Custom
    }
    fn affected(&self, _: usize, changed: Range<u64>, _: &[u64], len: u64) -> Range<u64> {
        len - changed.end..len - changed.start
    }
    fn compute(
        &self,
        inputs: &[&[u8]],
        len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        for (to, at) in out.iter_mut().zip(range) {
            *to = inputs[0][(len - 1 - at) as usize];
        }
        Ok(())
    }
}

/// Xor of all bytes of all parents with the position; every byte depends on every byte. Fails or
/// panics while the first byte of the first parent says so.
struct Fragile;

impl Transform for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }
    fn version(&self) -> u32 {
        1
    }
    fn check(&self, _: u64, _: &[u64]) -> Result<(), TransformError> {
        Ok(())
    }
    fn compute(
        &self,
        inputs: &[&[u8]],
        _: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        match inputs[0][0] {
            0xfe => return Err(TransformError::failed("told to")),
            0xff => panic!("told to"),
            _ => {}
        }
        let sum = inputs.iter().flat_map(|i| i.iter()).fold(0, |a, b| a ^ b);
        for (to, at) in out.iter_mut().zip(range) {
            *to = sum ^ at as u8;
        }
        Ok(())
    }
}

/// A copy that maps ranges exactly and fails while the first byte of its parent is 0xfe.
struct FragileCopy;

impl Transform for FragileCopy {
    fn name(&self) -> &str {
        "fragile-copy"
    }
    fn version(&self) -> u32 {
        1
    }
    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        Copy.check(output_len, parent_lens)
    }
    fn mapping(&self, parent: usize, parent_lens: &[u64], output_len: u64) -> Mapping {
        Copy.mapping(parent, parent_lens, output_len)
    }
    fn compute(
        &self,
        inputs: &[&[u8]],
        len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        match inputs[0][0] {
            0xfe => Err(TransformError::failed("told to")),
            _ => Copy.compute(inputs, len, range, out),
        }
    }
}

/// Keeps planned panics out of the output. Other tests may run beside, so the hook only leaves out
/// the message that is planned.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"told to") {
                default(info);
            }
        }));
    });
}

/// Its first parent, and nothing of the second: for edges that exist and carry nothing.
struct First;

impl Transform for First {
    fn name(&self) -> &str {
        "first"
    }
    fn version(&self) -> u32 {
        1
    }
    fn check(&self, _: u64, _: &[u64]) -> Result<(), TransformError> {
        Ok(())
    }
    fn mapping(&self, parent: usize, _: &[u64], len: u64) -> Mapping {
        let len_bytes = if parent == 0 { len } else { 0 };
        Mapping::Window(Window {
            parent_start: 0,
            output_start: 0,
            len_bytes,
        })
    }
    fn compute(
        &self,
        inputs: &[&[u8]],
        len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        Copy.compute(&inputs[..1], len, range, out)
    }
}

/// Seeds that compute every derived page in full.
fn all_derived(world: &World) -> Vec<(usize, Range<u64>)> {
    world
        .graph
        .derived()
        .map(|node| (node.index() as usize, 0..u64::MAX))
        .collect()
}
