//! Computing one node whose page, or a parent of it, lies in memory that the processor cannot address.
//!
//! A device that knows the transform and has all the bytes computes it where they are. Otherwise they are copied here, computed as
//! any others, and what differs is copied back: slower, and right for every transform.

use smallvec::SmallVec;

use super::{
    dag::{Extent, Graph, Vertex},
    diff::write_difference,
    dirty::Span,
    observer::{PageBytes, REMOTE_START},
    transform::TransformError,
};
use crate::page::PageIndex;

/// The parents of a node, in order.
fn inputs(graph: &Graph, vertex: &Vertex) -> SmallVec<[(PageIndex, Extent); 4]> {
    let parents = vertex.parents.iter();
    parents
        .filter_map(|parent| graph.vertices.get(parent.node as usize))
        .map(|vertex| (vertex.page, vertex.extent))
        .collect()
}

/// Has the device compute a span of a node; `None` where it cannot.
///
/// # Safety
/// As [`PageBytes::offload`], for the node and its parents.
pub(super) unsafe fn offload<M: PageBytes>(
    graph: &Graph,
    memory: &M,
    vertex: &Vertex,
    span: Span,
) -> Option<Result<Option<Span>, TransformError>> {
    let transform = vertex.transform.as_deref()?;
    let inputs = inputs(graph, vertex);
    let output = (vertex.page, vertex.extent);
    // SAFETY: the caller's promises are those that this asks for.
    let result = unsafe { memory.offload(transform, &inputs, output, span.range()) }?;
    Some(result.map(|changed| Span::clip(&changed?, vertex.extent.len)))
}

/// Computes a span of a node to `out`, which is as long.
///
/// # Safety
/// The extents of the node's parents lie in `memory`, and nothing writes to them until this returns.
pub(super) unsafe fn evaluate<M: PageBytes>(
    graph: &Graph,
    memory: &M,
    vertex: &Vertex,
    span: Span,
    out: &mut [u8],
) -> Result<(), TransformError> {
    let Some(transform) = &vertex.transform else {
        return Ok(());
    };
    let inputs = inputs(graph, vertex);
    let mut fetched = Vec::with_capacity(inputs.len());
    for (_, extent) in &inputs {
        let mut bytes = Vec::new();
        if extent.offset >= REMOTE_START {
            bytes.resize(extent.len as usize, 0);
            // SAFETY: the caller says that the parent lies in `memory` and is not written.
            unsafe { memory.fetch(extent.offset, &mut bytes)? };
        }
        fetched.push(bytes);
    }
    let bytes: SmallVec<[&[u8]; 4]> = inputs
        .iter()
        .zip(&fetched)
        .map(|((_, extent), fetched)| {
            if extent.offset >= REMOTE_START {
                return fetched.as_slice();
            }
            // SAFETY: as above; the extent is in memory that can be referred to.
            unsafe { memory.bytes(extent.offset, extent.len as usize) }
        })
        .collect();
    transform.compute(&bytes, vertex.extent.len, span.range(), out)
}

/// Writes what differs of `new`, a span of the node, to its page, which is remote.
///
/// # Safety
/// The extent of the node lies in `memory`, and nothing else accesses it until this returns.
pub(super) unsafe fn commit<M: PageBytes>(
    memory: &M,
    vertex: &Vertex,
    span: Span,
    new: &[u8],
) -> Result<Option<Span>, TransformError> {
    let start = vertex.extent.offset + u64::from(span.first);
    let mut old = vec![0; new.len()];
    // SAFETY: the caller says that the node lies in `memory` and nothing else accesses it; a span lies within its page.
    unsafe { memory.fetch(start, &mut old)? };
    let Some((first, last)) = write_difference(&mut old, new) else {
        return Ok(None);
    };
    let changed = new.get(first..=last).unwrap_or_default();
    // SAFETY: as above.
    unsafe { memory.store(start + first as u64, changed)? };
    Ok(Some(Span {
        first: span.first + first as u32,
        last: span.first + last as u32,
    }))
}
