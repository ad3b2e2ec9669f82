//! One propagation pass: every affected derived page computed at most once, parents first.

use crate::planted::planted;
use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use smallvec::SmallVec;

use super::{
    dag::{ChildRef, Graph, Node, Reach, Vertex},
    dirty::{MAX_SPANS, Span, Spans},
    observer::{PageBytes, WaveObserver, WaveSummary},
    parallel::{self, Admission, Task},
    queue::{Dirty, END, WorkQueue},
    stale::{StaleReason, StaleSet},
    worker::{Worker, panic_reason},
};
/// Working memory of waves, to be used again; 16 bytes a node and 4 a level.
#[derive(Debug, Default)]
pub struct WaveScratch {
    queue: WorkQueue,
    out: Vec<u8>,
    /// Whether a wave is under way, or was when an observer panicked.
    is_used: bool,
}

impl WaveScratch {
    /// Working memory for any graph; it grows when it is used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Carries changes through the graph.
///
/// A seed that is not derived says which bytes of it changed. A seed that is derived says which of
/// its bytes are to be computed: the whole of it after it was connected, or to try a stale page
/// again. Ranges are cut at the end of the page, and unknown nodes are skipped.
///
/// Each page that a change can reach is computed at most once and only where the change can reach,
/// up to 8 ranges apart; where the result is the same the wave ends. A transform that returns an
/// error or panics leaves its page as it was and makes it and what depends on it stale. With
/// `threads` above 1 the pages of a level are computed in parallel if they are worth it, by threads
/// that end with the call; bytes, order of reports and summary are the same for any number. A
/// panic in `observer` goes on to the caller, who must then take every page below the seeds for
/// not computed.
///
/// Work is in proportion to the pages computed, their edges and the bytes computed; nothing is
/// allocated for a page.
///
/// # Safety
/// The extents of all nodes lie in `memory` and none overlaps another. Until the call returns,
/// nothing else accesses the bytes of derived pages that can be reached from the seeds, and nothing
/// writes the bytes of their parents.
pub unsafe fn run<M: PageBytes, O: WaveObserver>(
    graph: &Graph,
    memory: &M,
    scratch: &mut WaveScratch,
    seeds: &[(Node, Range<u64>)],
    threads: usize,
    stale: &mut StaleSet,
    observer: &mut O,
) -> WaveSummary {
    let mut wave = Wave::begin(graph, memory, scratch, threads, stale, observer);
    for (node, range) in seeds {
        let Some(vertex) = graph.vertex(node.0) else {
            continue;
        };
        let Some(span) = Span::clip(range, vertex.extent.len) else {
            continue;
        };
        if vertex.transform.is_some() {
            wave.scratch.queue.push(node.0, vertex.level, span);
        } else {
            wave.push_children(vertex, span);
        }
    }
    // SAFETY: the caller's promises are those that `finish` asks for.
    unsafe { wave.finish() }
}

/// Computes every derived page once in full, parents first: for recovery, where derived pages are
/// not stored. Everything else is as in [`run`].
///
/// # Safety
/// As [`run`], for all pages of the graph.
pub unsafe fn recompute_all<M: PageBytes, O: WaveObserver>(
    graph: &Graph,
    memory: &M,
    scratch: &mut WaveScratch,
    threads: usize,
    stale: &mut StaleSet,
    observer: &mut O,
) -> WaveSummary {
    let wave = Wave::begin(graph, memory, scratch, threads, stale, observer);
    for node in graph.derived() {
        if let Some(vertex) = graph.vertex(node.0) {
            wave.scratch
                .queue
                .push(node.0, vertex.level, Span::whole(vertex.extent.len));
        }
    }
    // SAFETY: the caller's promises are those that `finish` asks for.
    unsafe { wave.finish() }
}

/// A wave under way. What a panic in a transform must not lose lives here and not on the stack.
struct Wave<'a, 'm, M, O> {
    graph: &'a Graph,
    memory: &'m M,
    scratch: &'a mut WaveScratch,
    threads: usize,
    stale: &'a mut StaleSet,
    observer: &'a mut O,
    worker: Worker<'m>,
    summary: WaveSummary,
    /// What is left of the current level's list.
    list: u32,
    /// The node whose transform is running, or [`END`].
    running: u32,
}

impl<'a, 'm, M: PageBytes, O: WaveObserver> Wave<'a, 'm, M, O> {
    fn begin(
        graph: &'a Graph,
        memory: &'m M,
        scratch: &'a mut WaveScratch,
        threads: usize,
        stale: &'a mut StaleSet,
        observer: &'a mut O,
    ) -> Self {
        if scratch.is_used {
            scratch.queue.reset();
        }
        scratch.is_used = true;
        scratch.queue.begin(graph.vertices.len());
        let worker = Worker::new(std::mem::take(&mut scratch.out));
        Self {
            graph,
            memory,
            scratch,
            threads,
            stale,
            observer,
            worker,
            summary: WaveSummary::default(),
            list: END,
            running: END,
        }
    }

    /// # Safety
    /// As [`run`], for the pages queued and all that depend on them.
    unsafe fn finish(mut self) -> WaveSummary {
        // One guard around the whole wave instead of one a page, which would cost as much as a
        // short transform. A panic comes back here, is charged to the node that was running, and
        // the wave goes on.
        loop {
            // SAFETY: the caller's promises are those that `drain` asks for.
            match catch_unwind(AssertUnwindSafe(|| unsafe { self.drain() })) {
                Ok(()) => break,
                Err(payload) => {
                    let node = std::mem::replace(&mut self.running, END);
                    let Some(vertex) = self.graph.vertex(node) else {
                        resume_unwind(payload)
                    };
                    self.fail(node, vertex, panic_reason(&*payload));
                }
            }
        }
        self.scratch.out = self.worker.into_buffer();
        self.scratch.is_used = false;
        let WaveSummary {
            changed,
            cut_off,
            failed,
            ..
        } = self.summary;
        self.summary.recomputed = changed + cut_off + failed;
        self.summary
    }

    /// # Safety
    /// As [`Wave::finish`].
    unsafe fn drain(&mut self) {
        loop {
            if self.list == END {
                let Some(list) = self.scratch.queue.next_level() else {
                    return;
                };
                self.list = list;
                self.summary.levels += 1;
                // SAFETY: the caller's promises are those that it asks for.
                if self.threads > 1 && unsafe { self.try_parallel() } {
                    continue;
                }
            }
            // SAFETY: the caller's promises are those that it asks for.
            unsafe { self.drain_list() };
        }
    }

    /// # Safety
    /// As [`Wave::finish`].
    #[inline(always)]
    unsafe fn drain_list(&mut self) {
        while self.list != END {
            let node = self.list;
            let (next, dirty) = self.scratch.queue.pop(node);
            self.list = next;
            let Some(vertex) = self.graph.vertices.get(node as usize) else {
                continue;
            };
            if let Some(next) = self.graph.vertices.get(next as usize) {
                // SAFETY: the caller says that extents lie in `memory`, and this thread, which alone
                // may write to them, writes to no page at the moment.
                unsafe { prefetch(self.memory, next) };
            }
            let Dirty::One(span) = dirty else {
                // SAFETY: the caller's promises are those that it asks for.
                unsafe { self.step(node, vertex, dirty) };
                continue;
            };
            if !self.stale.is_empty() {
                // SAFETY: the caller's promises are those that it asks for.
                unsafe { self.step(node, vertex, dirty) };
                continue;
            }
            let span = span.round(vertex.granule_mask, vertex.extent.len);
            self.running = node;
            // SAFETY: the caller says that extents lie in `memory` and apart, and that the node and
            // its parents are not accessed by others; this thread computes one node at a time.
            let result = unsafe {
                self.worker
                    .compute_one(self.graph, self.memory, vertex, span)
            };
            self.running = END;
            match result {
                Ok(Some(changed)) => {
                    self.summary.computed_bytes += span.len_bytes();
                    self.summary.changed += 1;
                    self.observer
                        .changed(Node(node), vertex.page, &[changed.range()]);
                    if !(planted!(CutOffTooEarly) && changed.len_bytes() == 1) {
                        self.push_children(vertex, changed);
                    }
                }
                Ok(None) => {
                    self.summary.computed_bytes += span.len_bytes();
                    self.summary.cut_off += 1;
                }
                Err(error) => self.fail(node, vertex, StaleReason::Failed(error)),
            }
        }
    }

    /// One node that has several dirty spans, or while some nodes are stale.
    ///
    /// # Safety
    /// As [`Wave::finish`].
    #[cold]
    unsafe fn step(&mut self, node: u32, vertex: &Vertex, dirty: Dirty) {
        let dirty = match self.admit(node, vertex, dirty) {
            Admission::Compute(spans) => spans,
            Admission::Hold(mark) => return self.hold(node, vertex, mark),
        };
        self.running = node;
        // SAFETY: as in `drain_list`.
        let result = unsafe {
            self.worker
                .compute_many(self.graph, self.memory, vertex, &dirty)
        };
        self.running = END;
        self.settle(node, vertex, &dirty, result.map_err(StaleReason::Failed));
    }

    /// Computes the current list in parallel and says so, or leaves it if it is not worth it.
    ///
    /// # Safety
    /// As [`Wave::finish`].
    #[cold]
    unsafe fn try_parallel(&mut self) -> bool {
        let lists = std::iter::successors(Some((self.list, 0)), |(node, _)| {
            Some(self.scratch.queue.peek(*node)).filter(|_| *node != END)
        });
        let workers = parallel::workers(lists.map(|(_, bytes)| bytes), self.threads);
        if workers < 2 {
            return false;
        }
        let mut tasks = Vec::new();
        while self.list != END {
            let node = self.list;
            let (next, dirty) = self.scratch.queue.pop(node);
            self.list = next;
            let Some(vertex) = self.graph.vertex(node) else {
                continue;
            };
            tasks.push(Task::new(node, self.admit(node, vertex, dirty)));
        }
        // SAFETY: the caller says that extents lie in `memory` and apart, and that nobody else
        // accesses these nodes and their parents. The tasks are distinct nodes of one level, so
        // none is a parent of another.
        unsafe {
            parallel::compute(
                self.graph,
                self.memory,
                &mut self.worker,
                &mut tasks,
                workers,
            );
        }
        // In the order of the list, as one thread would have settled them.
        for task in tasks {
            let Some(vertex) = self.graph.vertex(task.node) else {
                continue;
            };
            match task.admission {
                Admission::Compute(dirty) => {
                    self.settle(task.node, vertex, &dirty, task.result);
                }
                Admission::Hold(mark) => self.hold(task.node, vertex, mark),
            }
        }
        true
    }

    /// Decides what is to be done with a node, and does nothing yet: in a parallel level all nodes
    /// are decided before the first is reported, and the order of reports must not show it.
    fn admit(&self, node: u32, vertex: &Vertex, dirty: Dirty) -> Admission {
        let mut spans = Spans::default();
        match dirty {
            Dirty::One(span) => spans.set(span),
            Dirty::Many(at) => spans = self.scratch.queue.many(at),
        }
        if self.stale.is_empty() {
            return Admission::Compute(spans);
        }
        let mut parents = vertex.parents.iter();
        if let Some(mark) = parents.find_map(|parent| self.stale.mark(parent.node)) {
            return Admission::Hold(mark);
        }
        if self.stale.mark(node).is_some() {
            spans.set(Span::whole(vertex.extent.len));
        }
        Admission::Compute(spans)
    }

    /// Makes a node stale because a parent is, with the parent's cause.
    fn hold(&mut self, node: u32, vertex: &Vertex, mark: u32) {
        self.summary.held_stale += 1;
        if self.stale.mark(node) == Some(mark) {
            return;
        }
        self.stale.set(node, mark);
        if let Some(origin) = self.stale.origin(mark) {
            self.observer.staled(Node(node), vertex.page, origin);
        }
        self.push_all(vertex);
    }

    /// Reports what became of a node, and queues what depends on it.
    fn settle(
        &mut self,
        node: u32,
        vertex: &Vertex,
        dirty: &Spans,
        result: Result<Spans, StaleReason>,
    ) {
        let changed = match result {
            Ok(changed) => changed,
            Err(reason) => return self.fail(node, vertex, reason),
        };
        for span in dirty.as_slice() {
            self.summary.computed_bytes += span
                .round(vertex.granule_mask, vertex.extent.len)
                .len_bytes();
        }
        let was_stale = self.stale.mark(node).is_some();
        if was_stale {
            self.stale.clear(Node(node));
            self.summary.restored += 1;
            self.observer.restored(Node(node), vertex.page);
            self.push_all(vertex);
        }
        let spans = changed.as_slice();
        if spans.is_empty() {
            self.summary.cut_off += 1;
            return;
        }
        self.summary.changed += 1;
        let ranges: SmallVec<[_; MAX_SPANS]> = spans.iter().map(|span| span.range()).collect();
        self.observer.changed(Node(node), vertex.page, &ranges);
        if !was_stale {
            for span in spans {
                self.push_children(vertex, *span);
            }
        }
    }

    #[cold]
    fn fail(&mut self, node: u32, vertex: &Vertex, reason: StaleReason) {
        self.summary.failed += 1;
        self.observer.failed(Node(node), vertex.page, &reason);
        if planted!(FailureForgotten) {
            return;
        }
        let old = self.stale.mark(node);
        self.stale.fail(node, reason);
        if self.stale.mark(node) != old {
            self.push_all(vertex);
        }
    }

    /// Queues all of every child: they become stale with this node, or fresh again.
    fn push_all(&mut self, vertex: &Vertex) {
        for child in &vertex.children {
            if let Some(to) = self.graph.vertices.get(child.node as usize) {
                self.scratch
                    .queue
                    .push(child.node, to.level, Span::whole(to.extent.len));
            }
        }
    }

    /// Queues of each child what a change of `span` can reach.
    #[inline(always)]
    fn push_children(&mut self, vertex: &Vertex, span: Span) {
        for child in &vertex.children {
            let Some(to) = self.graph.vertices.get(child.node as usize) else {
                continue;
            };
            let reached = if child.is_identity() {
                Some(span)
            } else {
                reached(self.graph, to, *child, span)
            };
            if let Some(reached) = reached {
                self.scratch.queue.push(child.node, to.level, reached);
            }
        }
    }
}

/// Has the processor fetch the start of a page while the one before it is computed. In a graph that
/// is larger than the caches this hides most of the time for which a short page is waited for.
///
/// # Safety
/// The extent of the node lies in `memory`, and nothing writes to it during the call.
#[inline(always)]
unsafe fn prefetch<M: PageBytes>(memory: &M, vertex: &Vertex) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        if vertex.extent.offset < super::observer::REMOTE_START {
            // SAFETY: the caller says that the extent lies in `memory` and is not written; a prefetch
            // accesses nothing that the program can observe.
            unsafe {
                let bytes = memory.bytes(vertex.extent.offset, vertex.extent.len as usize);
                _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast());
            }
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (memory, vertex);
}

/// What of `to` a change of `span` can reach over that edge.
fn reached(graph: &Graph, to: &Vertex, child: ChildRef, span: Span) -> Option<Span> {
    match to.reach(child.position()) {
        Reach::Identity => Some(span),
        Reach::Whole => Some(Span::whole(to.extent.len)),
        Reach::Nothing => None,
        Reach::Custom => reached_custom(graph, to, child.position(), span),
        Reach::Window {
            parent_start,
            output_start,
            last,
        } => {
            // Within a page, so at most the highest position; `connect` checked that.
            let first = span.first.max(parent_start);
            let end = span.last.min(parent_start.saturating_add(last));
            (first <= end).then(|| Span {
                first: first - parent_start + output_start,
                last: (end - parent_start + output_start)
                    .saturating_sub(u32::from(planted!(WindowOffByOne) && end > first)),
            })
        }
    }
}

#[cold]
fn reached_custom(graph: &Graph, to: &Vertex, position: usize, span: Span) -> Option<Span> {
    let transform = to.transform.as_ref()?;
    let lens: SmallVec<[u64; 8]> = to
        .parents
        .iter()
        .filter_map(|parent| graph.vertices.get(parent.node as usize))
        .map(|parent| parent.extent.len)
        .collect();
    let len = to.extent.len;
    // A mapping that panics is taken to reach everything: computing too much is never wrong.
    let affected = catch_unwind(AssertUnwindSafe(|| {
        transform.affected(position, span.range(), &lens, len)
    }));
    Span::clip(&affected.unwrap_or(0..len), len)
}
