//! Computing the nodes of one level on several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    dag::Graph,
    dirty::Spans,
    observer::PageBytes,
    stale::StaleReason,
    worker::{Worker, panic_reason},
};
use crate::sync::{self, Mutex};

/// Work that repays starting a thread, about 50 µs.
const BYTES_PER_WORKER: u64 = if cfg!(shuttle) {
    // Where schedules are explored threads cost nothing, and pages are short.
    512
} else {
    512 << 10
};

/// What computing a node costs beside its bytes, as bytes.
const NODE_OVERHEAD_BYTES: u64 = 256;

/// Chunks of work for each thread: more even out nodes of unequal cost, fewer share cache lines
/// less.
const CHUNKS_PER_WORKER: usize = 4;

/// What is to be done with a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// Compute these spans.
    Compute(Spans),
    /// Nothing; a parent is stale, with this mark.
    Hold(u32),
}

/// One node, and what came of computing it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) node: u32,
    pub(super) admission: Admission,
    /// Where the page changed.
    pub(super) result: Result<Spans, StaleReason>,
}

impl Task {
    pub(super) fn new(node: u32, admission: Admission) -> Self {
        Self {
            node,
            admission,
            result: Ok(Spans::default()),
        }
    }
}

/// How many threads are worth their start for nodes with so many dirty bytes each.
pub(super) fn workers(dirty_bytes: impl Iterator<Item = u64>, threads: usize) -> usize {
    let work = dirty_bytes.map(|bytes| bytes.saturating_add(NODE_OVERHEAD_BYTES));
    let work = work.fold(0_u64, u64::saturating_add);
    usize::try_from(work / BYTES_PER_WORKER).map_or(threads, |worth| worth.min(threads))
}

/// Computes all tasks on up to `workers` threads, of which this one is the first.
///
/// Which thread takes which task is left to chance; no result depends on it.
///
/// # Safety
/// As [`Worker::compute_one`], for all tasks at once; they are distinct nodes of one level.
pub(super) unsafe fn compute<'m, M: PageBytes>(
    graph: &Graph,
    memory: &'m M,
    leader: &mut Worker<'m>,
    tasks: &mut [Task],
    workers: usize,
) {
    let chunk_len = tasks
        .len()
        .div_ceil(workers.saturating_mul(CHUNKS_PER_WORKER))
        .max(1);
    let chunks = Mutex::new(tasks.chunks_mut(chunk_len));
    let next = || chunks.lock().next();
    let work = |worker: &mut Worker<'m>| {
        while let Some(chunk) = next() {
            for task in chunk {
                // SAFETY: the caller's promises are those that it asks for.
                unsafe { compute_task(graph, memory, worker, task) };
            }
        }
    };
    sync::scope(|scope| {
        for _ in 1..workers {
            // Where no thread can be had the others take its share.
            let started = sync::spawn_scoped(scope, "mmsb-wave", || work(&mut Worker::default()));
            if started.is_err() {
                break;
            }
        }
        work(leader);
    });
}

/// # Safety
/// As [`Worker::compute_one`].
unsafe fn compute_task<'m, M: PageBytes>(
    graph: &Graph,
    memory: &'m M,
    worker: &mut Worker<'m>,
    task: &mut Task,
) {
    let (Some(vertex), Admission::Compute(dirty)) = (graph.vertex(task.node), &task.admission)
    else {
        return;
    };
    let computed = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's promises are those that it asks for.
        unsafe { worker.compute_many(graph, memory, vertex, dirty) }
    }));
    task.result = match computed {
        Ok(result) => result.map_err(StaleReason::Failed),
        Err(payload) => Err(panic_reason(&*payload)),
    };
}
