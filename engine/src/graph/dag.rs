//! The acyclic graph of pages: nodes, edges, and the rules that an edge must obey.

use std::sync::Arc;

use super::{
    component::{ComponentId, Components, Merged},
    diff::LINE_BYTES,
    error::GraphError,
    observer::REMOTE_START,
    transform::{Mapping, Transform},
};
use crate::page::{MAX_PAGE_LEN_BYTES, PageIndex};
use smallvec::SmallVec;

/// No node: the two highest numbers are kept for the links of the work queue.
const NO_NODE: u32 = u32::MAX;
const MAX_NODES: usize = (u32::MAX - 1) as usize;

/// A page in a [`Graph`]: a dense number, given again after [`Graph::remove`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Node(pub(super) u32);

impl Node {
    /// The number, small enough to index a table by.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Where the bytes of a page lie in the arena.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Extent {
    /// Distance from the start of the arena, in bytes.
    pub offset: u64,
    /// Length of the page, in bytes; 1 to 4 GiB.
    pub len: u64,
}

/// One dependency, by pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Edge {
    /// The derived page.
    pub child: PageIndex,
    /// Which of its parents this is, from 0.
    pub position: u32,
    /// The page that it is computed from.
    pub parent: PageIndex,
}

/// A parent, and where in the parent's children the edge back is, so that an edge goes in O(1).
#[derive(Clone, Copy, Debug)]
pub(super) struct ParentRef {
    pub(super) node: u32,
    slot: u32,
}

/// Set in [`ChildRef`] where a change reaches the same bytes of the child, all of both pages.
const IDENTITY: u32 = 1 << 31;

/// A child, at which of its positions this node is, and whether bytes reach the same bytes of it.
/// The common mapping is a bit here, so that the others need room only where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChildRef {
    pub(super) node: u32,
    position: u32,
}

impl ChildRef {
    fn new(node: u32, position: u32, reach: Reach) -> Self {
        let flag = if reach == Reach::Identity {
            IDENTITY
        } else {
            0
        };
        Self {
            node,
            position: position | flag,
        }
    }

    #[inline]
    pub(super) fn is_identity(self) -> bool {
        self.position & IDENTITY != 0
    }

    #[inline]
    pub(super) fn position(self) -> usize {
        (self.position & !IDENTITY) as usize
    }
}

/// [`Mapping`] in the form that a wave uses: checked, and narrow because there is one an edge.
/// Positions fit in 32 bits because a page has at most 2^32 bytes; `last` is inclusive for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    Identity,
    Whole,
    Nothing,
    Custom,
    Window {
        parent_start: u32,
        output_start: u32,
        last: u32,
    },
}

/// One node; two edges each way are inline. What a wave reads of it lies together at the start.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Vertex {
    pub(super) extent: Extent,
    pub(super) level: u32,
    /// What is computed of the page is rounded to this many bytes and one: a power of two.
    pub(super) granule_mask: u32,
    pub(super) transform: Option<Arc<dyn Transform>>,
    pub(super) parents: SmallVec<[ParentRef; 2]>,
    pub(super) children: SmallVec<[ChildRef; 2]>,
    pub(super) page: PageIndex,
    is_alive: bool,
    /// Whether its page or a parent's is at [`REMOTE_START`] or beyond. False for a node that is not derived.
    pub(super) is_remote: bool,
    /// How each parent reaches this node; absent if all do as [`Reach::Identity`].
    reaches: Option<Box<SmallVec<[Reach; 1]>>>,
}

impl Vertex {
    /// How the parent at that position reaches this node.
    pub(super) fn reach(&self, position: usize) -> Reach {
        let reaches = self.reaches.as_ref();
        reaches.map_or(Reach::Identity, |reaches| {
            reaches.get(position).copied().unwrap_or(Reach::Whole)
        })
    }
}

impl std::fmt::Debug for dyn Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name(), self.version())
    }
}

/// How a page is derived.
#[derive(Clone, Debug)]
pub struct Derivation {
    /// What computes it.
    pub transform: Arc<dyn Transform>,
    /// What it is computed from, in order.
    pub parents: Vec<Node>,
}

/// Pages and the acyclic dependencies between them.
///
/// Every node has a *level*: 0 for a page that is not derived, else one more than the highest level
/// of its parents. Levels are exact, so they are a function of the graph and not of its history.
/// No operation recurses, so depth is bounded by memory alone.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) vertices: Vec<Vertex>,
    /// Node of each page, [`NO_NODE`] where it has none. Page indices are dense in the page table.
    by_page: Vec<u32>,
    free: Vec<u32>,
    components: Components,
    derived_count: usize,
}

impl Graph {
    /// A graph without pages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page that depends on nothing, in a component of its own. O(1).
    ///
    /// # Errors
    /// [`GraphError::PageExists`], and [`GraphError::BadExtent`] for a length that no page has.
    pub fn add_page(&mut self, page: PageIndex, extent: Extent) -> Result<Node, GraphError> {
        if self.node_of(page).is_some() {
            return Err(GraphError::PageExists { page });
        }
        let fits = (1..=MAX_PAGE_LEN_BYTES).contains(&extent.len)
            && extent.offset.checked_add(extent.len).is_some();
        if !fits {
            return Err(GraphError::BadExtent { page, extent });
        }
        let vertex = Vertex {
            extent,
            transform: None,
            parents: SmallVec::new(),
            children: SmallVec::new(),
            page,
            level: 0,
            granule_mask: 0,
            is_alive: true,
            is_remote: false,
            reaches: None,
        };
        let node = self.place(vertex)?;
        let index = page as usize;
        if index >= self.by_page.len() {
            self.by_page.resize(index + 1, NO_NODE);
        }
        if let Some(slot) = self.by_page.get_mut(index) {
            *slot = node;
        }
        self.components.insert(node);
        Ok(Node(node))
    }

    fn place(&mut self, vertex: Vertex) -> Result<u32, GraphError> {
        if let Some(node) = self.free.pop() {
            if let Some(slot) = self.vertices.get_mut(node as usize) {
                *slot = vertex;
            }
            return Ok(node);
        }
        if self.vertices.len() >= MAX_NODES {
            return Err(GraphError::TooManyNodes);
        }
        self.vertices.push(vertex);
        Ok((self.vertices.len() - 1) as u32)
    }

    /// The node of a page, if it was added. O(1).
    #[must_use]
    pub fn node_of(&self, page: PageIndex) -> Option<Node> {
        self.by_page
            .get(page as usize)
            .filter(|node| **node != NO_NODE)
            .map(|node| Node(*node))
    }

    /// The page of a node. O(1).
    #[must_use]
    pub fn page(&self, node: Node) -> Option<PageIndex> {
        self.vertex(node.0).map(|vertex| vertex.page)
    }

    /// Where the bytes of a node lie. O(1).
    #[must_use]
    pub fn extent(&self, node: Node) -> Option<Extent> {
        self.vertex(node.0).map(|vertex| vertex.extent)
    }

    /// The level of a node. O(1).
    #[must_use]
    pub fn level(&self, node: Node) -> Option<u32> {
        self.vertex(node.0).map(|vertex| vertex.level)
    }

    /// Whether the node is computed from others. O(1).
    #[must_use]
    pub fn is_derived(&self, node: Node) -> bool {
        self.vertex(node.0)
            .is_some_and(|vertex| vertex.transform.is_some())
    }

    /// How a derived node is computed; `None` for one that is not. O(parents).
    #[must_use]
    pub fn derivation(&self, node: Node) -> Option<Derivation> {
        let vertex = self.vertex(node.0)?;
        Some(Derivation {
            transform: Arc::clone(vertex.transform.as_ref()?),
            parents: vertex
                .parents
                .iter()
                .map(|parent| Node(parent.node))
                .collect(),
        })
    }

    /// The nodes computed from `node`; one that takes it twice comes twice. The order follows from
    /// the sequence of calls that made the graph.
    pub fn children(&self, node: Node) -> impl Iterator<Item = Node> {
        self.vertex(node.0)
            .map_or(&[][..], |vertex| &vertex.children)
            .iter()
            .map(|child| Node(child.node))
    }

    /// The component of a node. O(1).
    ///
    /// Nodes that are connected are in one component. Nodes that were once may still be: a
    /// component is not split when an edge goes, only left by nodes that are removed.
    #[must_use]
    pub fn component(&self, node: Node) -> Option<ComponentId> {
        self.vertex(node.0).and_then(|_| self.components.of(node.0))
    }

    /// Number of pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vertices.len() - self.free.len()
    }

    /// Whether there are no pages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of derived pages.
    #[must_use]
    pub fn derived_count(&self) -> usize {
        self.derived_count
    }

    /// Makes `child` derived from `parents` by `transform`.
    ///
    /// The bytes of `child` are not computed: seed a wave with the whole of it. A page may be its
    /// child's parent at several positions.
    ///
    /// O(parents) for a child on which nothing depends. Otherwise the descendants of the child are
    /// searched up to the highest level of the parents, and those whose level changes are visited
    /// once, in O(log) each; so build large graphs parents first, as [`Graph::derived`] lists them.
    ///
    /// # Errors
    /// See [`GraphError`]; the graph is then as it was.
    pub fn connect(
        &mut self,
        child: Node,
        transform: Arc<dyn Transform>,
        parents: &[Node],
    ) -> Result<Merged, GraphError> {
        let (reaches, granule_mask) = self.check_connect(child, &*transform, parents)?;
        let mut extents = parents.iter().chain([&child]);
        let is_remote = extents.any(|node| {
            self.extent(*node)
                .is_some_and(|extent| extent.offset >= REMOTE_START)
        });
        for (position, (parent, reach)) in (0_u32..).zip(parents.iter().zip(&reaches)) {
            let Some(from) = self.vertices.get_mut(parent.0 as usize) else {
                continue;
            };
            let slot = from.children.len() as u32;
            from.children.push(ChildRef::new(child.0, position, *reach));
            if let Some(to) = self.vertices.get_mut(child.0 as usize) {
                to.parents.push(ParentRef {
                    node: parent.0,
                    slot,
                });
            }
        }
        if let Some(vertex) = self.vertices.get_mut(child.0 as usize) {
            vertex.transform = Some(transform);
            vertex.granule_mask = granule_mask;
            vertex.is_remote = is_remote;
            let is_plain = reaches.iter().all(|reach| *reach == Reach::Identity);
            vertex.reaches = (!is_plain).then(|| Box::new(reaches));
        }
        self.derived_count += 1;
        self.relevel(child.0);
        Ok(self.merge(child, parents))
    }

    /// Everything that [`Graph::connect`] can refuse, before it changes anything.
    fn check_connect(
        &self,
        child: Node,
        transform: &dyn Transform,
        parents: &[Node],
    ) -> Result<(SmallVec<[Reach; 1]>, u32), GraphError> {
        let vertex = self.known(child)?;
        let page = vertex.page;
        if vertex.transform.is_some() {
            return Err(GraphError::AlreadyDerived { page });
        }
        if parents.is_empty() {
            return Err(GraphError::NoParents { page });
        }
        if parents.len() >= IDENTITY as usize {
            return Err(GraphError::TooManyParents { page });
        }
        if parents.contains(&child) {
            return Err(GraphError::SelfDependency { page });
        }
        let lens = parents
            .iter()
            .map(|parent| self.known(*parent).map(|vertex| vertex.extent.len))
            .collect::<Result<SmallVec<[u64; 8]>, _>>()?;
        let output_len = vertex.extent.len;
        transform
            .check(output_len, &lens)
            .map_err(|source| GraphError::Transform { page, source })?;
        let granule = transform.granule_bytes();
        if !granule.is_power_of_two() {
            return Err(GraphError::BadGranule {
                page,
                granule_bytes: granule,
            });
        }
        let mut reaches = SmallVec::new();
        for (position, len) in lens.iter().enumerate() {
            let mapping = transform.mapping(position, &lens, output_len);
            let reach = reach(mapping, *len, output_len).ok_or(GraphError::BadMapping {
                page,
                position,
                mapping,
            })?;
            reaches.push(reach);
        }
        match self.find_cycle(child.0, parents) {
            Some(path) => Err(GraphError::Cycle { path }),
            None => {
                // A page of one cache line is always computed whole: that costs as little as a part
                // of it, and a fixed length costs less than any other.
                let line_mask = if output_len <= LINE_BYTES as u64 {
                    LINE_BYTES as u32 - 1
                } else {
                    0
                };
                Ok((reaches, (granule - 1) | line_mask))
            }
        }
    }

    fn merge(&mut self, child: Node, parents: &[Node]) -> Merged {
        let mut nodes = Vec::new();
        for parent in parents {
            self.components
                .join(child.0, parent.0, |node| nodes.push(node));
        }
        // A node can move more than once where there are several parents.
        nodes.sort_unstable();
        nodes.dedup();
        let moved = nodes
            .into_iter()
            .filter_map(|node| self.page(Node(node)))
            .collect();
        let component = self.components.of(child.0).unwrap_or(ComponentId(NO_NODE));
        Merged { component, moved }
    }

    /// Makes a derived page one that depends on nothing again; its bytes stay, and its component
    /// does too. O(parents), and the descendants whose level changes.
    ///
    /// A stale page must also leave the [`StaleSet`](super::StaleSet).
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`] and [`GraphError::NotDerived`].
    pub fn disconnect(&mut self, child: Node) -> Result<Derivation, GraphError> {
        let page = self.known(child)?.page;
        let derivation = self
            .derivation(child)
            .ok_or(GraphError::NotDerived { page })?;
        // From the last to the first, so that the slots of equal parents stay right.
        while let Some(parent) = self
            .vertices
            .get_mut(child.0 as usize)
            .and_then(|vertex| vertex.parents.pop())
        {
            self.unlink(parent);
        }
        if let Some(vertex) = self.vertices.get_mut(child.0 as usize) {
            vertex.transform = None;
            vertex.granule_mask = 0;
            vertex.is_remote = false;
            vertex.reaches = None;
        }
        self.derived_count -= 1;
        self.relevel(child.0);
        Ok(derivation)
    }

    /// Removes one edge from the side of the parent; the last edge takes its place.
    fn unlink(&mut self, parent: ParentRef) {
        let slot = parent.slot as usize;
        let Some(from) = self.vertices.get_mut(parent.node as usize) else {
            return;
        };
        if slot >= from.children.len() {
            return;
        }
        from.children.swap_remove(slot);
        let Some(moved) = from.children.get(slot).copied() else {
            return;
        };
        if let Some(back) = self
            .vertices
            .get_mut(moved.node as usize)
            .and_then(|vertex| vertex.parents.get_mut(moved.position()))
        {
            back.slot = parent.slot;
        }
    }

    /// Removes a page, disconnecting it first if it is derived. Its node may be given again, so a
    /// stale page must also leave the [`StaleSet`](super::StaleSet).
    ///
    /// # Errors
    /// [`GraphError::UnknownNode`], and [`GraphError::HasDependents`] with the pages that would
    /// lose a parent.
    pub fn remove(&mut self, node: Node) -> Result<(), GraphError> {
        let vertex = self.known(node)?;
        let page = vertex.page;
        if !vertex.children.is_empty() {
            let mut dependents: Vec<_> = self
                .children(node)
                .filter_map(|child| self.page(child))
                .collect();
            dependents.sort_unstable();
            dependents.dedup();
            return Err(GraphError::HasDependents { page, dependents });
        }
        if vertex.transform.is_some() {
            self.disconnect(node)?;
        }
        if let Some(vertex) = self.vertices.get_mut(node.0 as usize) {
            vertex.is_alive = false;
        }
        if let Some(slot) = self.by_page.get_mut(page as usize) {
            *slot = NO_NODE;
        }
        self.components.remove(node.0);
        self.free.push(node.0);
        Ok(())
    }

    /// All edges, by child page and then by position: the order for snapshots. O(pages + edges).
    pub fn edges(&self) -> impl Iterator<Item = Edge> {
        let vertices = self.by_page.iter().filter_map(|node| self.vertex(*node));
        vertices.flat_map(|child| {
            (0_u32..)
                .zip(&child.parents)
                .filter_map(|(position, parent)| {
                    let parent = self.vertex(parent.node)?.page;
                    Some(Edge {
                        child: child.page,
                        position,
                        parent,
                    })
                })
        })
    }

    /// All derived nodes, parents before children: by level and then by page. A function of the
    /// graph alone. O(pages · log pages).
    pub fn derived(&self) -> impl Iterator<Item = Node> {
        let mut order: Vec<(u32, PageIndex, u32)> = (0_u32..)
            .zip(&self.vertices)
            .filter(|(_, vertex)| vertex.is_alive && vertex.transform.is_some())
            .map(|(node, vertex)| (vertex.level, vertex.page, node))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, node)| Node(node))
    }

    #[inline]
    pub(super) fn vertex(&self, node: u32) -> Option<&Vertex> {
        self.vertices
            .get(node as usize)
            .filter(|vertex| vertex.is_alive)
    }

    fn known(&self, node: Node) -> Result<&Vertex, GraphError> {
        self.vertex(node.0)
            .ok_or(GraphError::UnknownNode { node: node.0 })
    }
}

/// Checks a mapping against the lengths it is for.
fn reach(mapping: Mapping, parent_len: u64, output_len: u64) -> Option<Reach> {
    let window = match mapping {
        Mapping::Whole => return Some(Reach::Whole),
        Mapping::Custom => return Some(Reach::Custom),
        Mapping::Window(window) => window,
    };
    let fits = window.parent_start.checked_add(window.len_bytes)? <= parent_len
        && window.output_start.checked_add(window.len_bytes)? <= output_len;
    let Some(last) = window.len_bytes.checked_sub(1) else {
        return fits.then_some(Reach::Nothing);
    };
    if window.len_bytes == parent_len && parent_len == output_len && fits {
        return Some(Reach::Identity);
    }
    Some(Reach::Window {
        parent_start: u32::try_from(window.parent_start).ok().filter(|_| fits)?,
        output_start: u32::try_from(window.output_start).ok()?,
        last: u32::try_from(last).ok()?,
    })
}
