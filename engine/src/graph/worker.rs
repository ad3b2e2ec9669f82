//! Computing one node: the only place where a wave touches the bytes of pages.

use std::any::Any;

use super::{
    dag::{Graph, ParentRef, Vertex},
    diff::write_difference,
    dirty::{Span, Spans},
    observer::{PageBytes, REMOTE_START},
    remote,
    stale::StaleReason,
    transform::TransformError,
};

/// Kept between waves at most; a larger buffer was for a large page and is given back.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// What one thread needs to compute nodes one after another without allocating for each.
#[derive(Debug, Default)]
pub(super) struct Worker<'m> {
    /// Results, before they are compared with the page.
    out: Vec<u8>,
    /// The parents of the node being computed.
    inputs: Vec<&'m [u8]>,
}

impl<'m> Worker<'m> {
    pub(super) fn new(out: Vec<u8>) -> Self {
        Self {
            out,
            inputs: Vec::new(),
        }
    }

    /// The buffer, for the next wave.
    pub(super) fn into_buffer(mut self) -> Vec<u8> {
        if self.out.len() > MAX_KEPT_BYTES {
            self.out = Vec::new();
        }
        self.out
    }

    /// Computes one span of a node, writes what differs to the page and tells where that is. The
    /// span is rounded already.
    ///
    /// # Safety
    /// The extents of the node and its parents lie in `memory`, those of the parents apart from
    /// that of the node; nothing else accesses the node's bytes, and nothing writes the parents',
    /// until this returns.
    #[inline(always)]
    pub(super) unsafe fn compute_one<M: PageBytes>(
        &mut self,
        graph: &Graph,
        memory: &'m M,
        vertex: &Vertex,
        span: Span,
    ) -> Result<Option<Span>, TransformError> {
        if vertex.is_remote {
            let mut spans = Spans::default();
            spans.set(span);
            // SAFETY: the caller's promises are those that this asks for.
            let changed = unsafe { self.compute_many(graph, memory, vertex, &spans)? };
            return Ok(changed.as_slice().first().copied());
        }
        // SAFETY: the caller's promises are those that these ask for, in this order.
        unsafe {
            self.evaluate(graph, memory, vertex, 0, span)?;
            self.commit(memory, vertex, 0, span)
        }
    }

    /// Computes several spans of a node. After an error the page is as it was: nothing is written
    /// before all spans are computed.
    ///
    /// # Safety
    /// As [`Worker::compute_one`].
    pub(super) unsafe fn compute_many<M: PageBytes>(
        &mut self,
        graph: &Graph,
        memory: &'m M,
        vertex: &Vertex,
        dirty: &Spans,
    ) -> Result<Spans, TransformError> {
        let rounded = dirty
            .as_slice()
            .iter()
            .map(|s| s.round(vertex.granule_mask, vertex.extent.len));
        let mut changed = Spans::default();
        let mut offloaded = 0;
        if vertex.is_remote {
            for span in rounded.clone() {
                // SAFETY: the caller's promises are those that this asks for.
                match unsafe { remote::offload(graph, memory, vertex, span) } {
                    None => break,
                    Some(result) => {
                        if let Some(span) = result? {
                            changed.push(span);
                        }
                        offloaded += 1;
                    }
                }
            }
        }
        // A device that took one span need not take the next: its memory may have been given to somebody else in between.
        let rounded = rounded.skip(offloaded);
        let mut at = 0;
        for span in rounded.clone() {
            // SAFETY: the caller's promises are those that this asks for.
            unsafe { self.evaluate(graph, memory, vertex, at, span)? };
            at += span.len_bytes() as usize;
        }
        let mut at = 0;
        for span in rounded {
            // SAFETY: the caller's promises are those that this asks for.
            if let Some(span) = unsafe { self.commit(memory, vertex, at, span)? } {
                changed.push(span);
            }
            at += span.len_bytes() as usize;
        }
        Ok(changed)
    }

    /// Computes a span into the buffer at `at`.
    ///
    /// # Safety
    /// The extents of the node's parents lie in `memory`, and nothing writes to them until this
    /// returns.
    #[inline(always)]
    unsafe fn evaluate<M: PageBytes>(
        &mut self,
        graph: &Graph,
        memory: &'m M,
        vertex: &Vertex,
        at: usize,
        span: Span,
    ) -> Result<(), TransformError> {
        let Some(transform) = &vertex.transform else {
            return Ok(());
        };
        let end = at + span.len_bytes() as usize;
        if self.out.len() < end {
            self.out.resize(end, 0);
        }
        let Some(out) = self.out.get_mut(at..end) else {
            return Ok(());
        };
        if vertex.is_remote {
            // SAFETY: the caller's promises are those that this asks for.
            return unsafe { remote::evaluate(graph, memory, vertex, span, out) };
        }
        let bytes_of = |parent: &ParentRef| {
            let extent = graph
                .vertices
                .get(parent.node as usize)
                .map(|vertex| vertex.extent);
            extent.map_or(&[][..], |extent| {
                // SAFETY: the caller says that the parent lies in `memory` and is not written.
                unsafe { memory.bytes(extent.offset, extent.len as usize) }
            })
        };
        let (len, range) = (vertex.extent.len, span.range());
        // One or two parents, the usual case, stay on the stack.
        match vertex.parents.as_slice() {
            [a] => transform.compute(&[bytes_of(a)], len, range, out),
            [a, b] => transform.compute(&[bytes_of(a), bytes_of(b)], len, range, out),
            parents => {
                self.inputs.clear();
                self.inputs.extend(parents.iter().map(bytes_of));
                transform.compute(&self.inputs, len, range, out)
            }
        }
    }

    /// Writes to the page what differs from the buffer at `at`.
    ///
    /// # Safety
    /// The extent of the node lies in `memory`, and nothing else accesses it until this returns.
    #[inline(always)]
    unsafe fn commit<M: PageBytes>(
        &self,
        memory: &M,
        vertex: &Vertex,
        at: usize,
        span: Span,
    ) -> Result<Option<Span>, TransformError> {
        let len = span.len_bytes() as usize;
        let Some(new) = self.out.get(at..at + len) else {
            return Ok(None);
        };
        if vertex.extent.offset >= REMOTE_START {
            // SAFETY: the caller's promises are those that this asks for.
            return unsafe { remote::commit(memory, vertex, span, new) };
        }
        // SAFETY: the caller says that the node lies in `memory` and nothing else accesses it; a
        // span lies within its page.
        let old = unsafe { memory.bytes_mut(vertex.extent.offset + u64::from(span.first), len) };
        Ok(write_difference(old, new).map(|(first, last)| Span {
            first: span.first + first as u32,
            last: span.first + last as u32,
        }))
    }
}

/// What a panic said.
pub(super) fn panic_reason(payload: &(dyn Any + Send)) -> StaleReason {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    StaleReason::Panicked(text.unwrap_or_else(|| "with a payload that is no text".to_owned()))
}
