//! What one thread of a scenario stages, and how it is committed.
//!
//! Steps gather here and become an engine transaction at the commit, so that nothing borrows the bus
//! meanwhile; a `fails` step builds one on trial. Each operation is kept in the words of the scenario as well, so that
//! the model learns what was meant and not what the engine made of it.

use std::collections::{BTreeMap, BTreeSet};

use mmsb_engine::{Delta, Location, PageId};

use super::data;
use super::drive::Drive;
use super::failure::{Fault, Outcome};
use super::model::Function;
use super::path::Path;
use crate::scenario::ast::{self, Derive, Durability};
use crate::scenario::num::Scope;
use crate::scenario::value::{Name, Span};

/// A page as a scenario's name stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKey {
    /// A page that was committed, and may be gone by now.
    Existing(PageId),
    /// The n-th page that the open transaction allocates.
    New(u32),
}

/// One staged operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Allocate {
        len_bytes: u64,
        location: Location,
    },
    Write {
        page: PageKey,
        at: u64,
        bytes: Vec<u8>,
    },
    /// A delta that the engine's own code made, and the writes that it must amount to.
    Delta {
        page: PageKey,
        delta: Delta,
        meaning: Vec<(u64, Vec<u8>)>,
    },
    Free {
        page: PageId,
    },
    Transfer {
        page: PageId,
    },
    Connect {
        child: PageKey,
        function: Function,
        parents: Vec<PageKey>,
    },
    Disconnect {
        child: PageId,
    },
    Annotate {
        page: PageKey,
        key: String,
        value: Option<String>,
    },
}

/// Names to which a transaction gave another page, each with the page that it had stood for, in order.
pub(crate) type Renamed = Vec<(String, Option<PageId>)>;

/// A transaction that the engine has committed.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) lsn: u64,
    pub(crate) durability: Durability,
    pub(crate) ops: Vec<Op>,
    pub(crate) allocated: Vec<PageId>,
    pub(crate) transferred: Vec<(PageId, PageId)>,
    /// What its names had stood for.
    pub(crate) renamed: Renamed,
    /// Bytes that the operations wrote.
    pub(crate) written_bytes: u64,
    /// What failed, if the commit was made and it is not known whether it survives.
    pub(crate) doubt: Option<Box<Fault>>,
}

/// The operations of the open transaction.
#[derive(Clone, Debug, Default)]
struct Staged {
    ops: Vec<Op>,
    /// Where each operation was asked for.
    places: Vec<(Path, Span)>,
    new_lens: Vec<u64>,
    /// What names stood for before this transaction gave them another meaning, oldest first.
    rebound: Vec<(String, Option<PageKey>)>,
    freed: BTreeSet<PageId>,
    /// Names whose pages are transferred, with the id until then.
    transferred: Vec<(String, PageId)>,
    written_bytes: u64,
}

/// One thread of a scenario: what names and variables mean to it, and its open transaction.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) names: BTreeMap<String, PageKey>,
    pub(crate) scope: Scope,
    pub(crate) path: Path,
    pub(crate) span: Span,
    /// The durability of a plain commit.
    pub(crate) durability: Durability,
    /// Where pages lie that name no location.
    pub(crate) location: ast::Location,
    staged: Staged,
}

impl Stage {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            names: BTreeMap::new(),
            scope: Scope::new(),
            path: Path::default(),
            span: Span::default(),
            durability,
            location: ast::Location::Host,
            staged: Staged::default(),
        }
    }

    /// Whether nothing is staged.
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.ops.is_empty()
    }

    /// What a name stands for.
    pub(crate) fn key(&self, name: &Name) -> Outcome<PageKey> {
        let name = name.resolve(&self.scope)?;
        self.names.get(name.as_ref()).copied().ok_or_else(|| {
            let known = self.names.keys().map(String::as_str);
            let hint = nearest(&name, known)
                .map(|near| format!(", did you mean `{near}`?"))
                .unwrap_or_default();
            Fault::new(format!("no page was ever called `{name}`{hint}"))
        })
    }

    /// The id of a page that must have been committed.
    pub(crate) fn id(&self, name: &Name) -> Outcome<PageId> {
        match self.key(name)? {
            PageKey::Existing(id) => Ok(id),
            PageKey::New(_) => {
                let message =
                    format!("page `{name}` is allocated by the open transaction; commit it first");
                Err(Fault::new(message))
            }
        }
    }

    /// The length of a page.
    pub(crate) fn len_of(&self, bus: &Drive, key: PageKey) -> Outcome<u64> {
        match key {
            PageKey::Existing(id) => Ok(bus.info(id)?.len_bytes),
            PageKey::New(ordinal) => {
                let len = self.staged.new_lens.get(ordinal as usize);
                len.copied()
                    .ok_or_else(|| Fault::new("the page belongs to a transaction that was dropped"))
            }
        }
    }

    /// The bytes of a page with what is staged for it: what a commit now would make of it.
    pub(crate) fn present(&self, bus: &Drive, key: PageKey) -> Outcome<Vec<u8>> {
        let mut bytes = match key {
            PageKey::Existing(id) => bus.read(id)?.to_vec(),
            PageKey::New(_) => {
                let len = usize::try_from(self.len_of(bus, key)?);
                vec![0; len.map_err(|_| Fault::new("the page is too long for this machine"))?]
            }
        };
        let mut put = |at: u64, run: &[u8]| {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            for (to, from) in bytes.iter_mut().skip(start).zip(run) {
                *to = *from;
            }
        };
        for op in &self.staged.ops {
            match op {
                Op::Write { page, at, bytes } if *page == key => put(*at, bytes),
                Op::Delta { page, meaning, .. } if *page == key => {
                    meaning.iter().for_each(|(at, run)| put(*at, run));
                }
                _ => {}
            }
        }
        Ok(bytes)
    }

    /// Gives a name a meaning, which an abort takes back.
    fn bind(&mut self, name: &str, key: PageKey) {
        let old = self.names.insert(name.to_owned(), key);
        self.staged.rebound.push((name.to_owned(), old));
    }

    fn push(&mut self, op: Op) {
        self.staged.places.push((self.path.clone(), self.span));
        self.staged.ops.push(op);
    }

    pub(crate) fn write(&mut self, bus: &Drive, write: &ast::Write) -> Outcome {
        let page = self.key(&write.page)?;
        let at = write.at.eval(&self.scope)?;
        let bytes = data::bytes(self, bus, &write.data, page, at)?;
        self.staged.written_bytes += bytes.len() as u64;
        self.push(Op::Write { page, at, bytes });
        Ok(())
    }

    /// Stages a delta with the writes that it must amount to.
    pub(crate) fn delta(&mut self, page: PageKey, delta: Delta, meaning: Vec<(u64, Vec<u8>)>) {
        self.staged.written_bytes += meaning
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum::<u64>();
        self.push(Op::Delta {
            page,
            delta,
            meaning,
        });
    }

    /// Allocates one page with everything that it starts with.
    pub(crate) fn allocate(&mut self, bus: &Drive, page: &ast::NewPage) -> Outcome {
        let name = page.page.resolve(&self.scope)?.into_owned();
        if let Some(key) = self.names.get(&name)
            && self.is_in_use(bus, *key)
        {
            return Err(Fault::new(format!(
                "page `{name}` is there already; free it first"
            )));
        }
        let derivation = page
            .derive
            .as_ref()
            .map(|derive| self.derivation(derive))
            .transpose()?;
        let len_bytes = match (&page.size, &derivation) {
            (Some(size), _) => size.eval(&self.scope)?,
            (None, Some((function, parents))) => {
                let lens = parents
                    .iter()
                    .map(|parent| self.len_of(bus, *parent))
                    .collect::<Outcome<Vec<_>>>()?;
                function
                    .natural_len(&lens)
                    .ok_or_else(|| Fault::new("the parents give the page no length"))?
            }
            (None, None) => return Err(Fault::new(format!("page `{name}` needs a size"))),
        };
        let ordinal = u32::try_from(self.staged.new_lens.len())
            .map_err(|_| Fault::new("too many new pages"))?;
        let key = PageKey::New(ordinal);
        self.staged.new_lens.push(len_bytes);
        self.push(Op::Allocate {
            len_bytes,
            location: engine_location(page.location.unwrap_or(self.location)),
        });
        self.bind(&name, key);
        for (meta_key, value) in page.meta.iter() {
            self.push(Op::Annotate {
                page: key,
                key: meta_key.to_string(),
                value: Some(value.clone()),
            });
        }
        if let Some((function, parents)) = derivation {
            self.push(Op::Connect {
                child: key,
                function,
                parents,
            });
        }
        if let Some(fill) = &page.fill {
            let bytes = data::bytes(self, bus, fill, key, 0)?;
            self.staged.written_bytes += bytes.len() as u64;
            self.push(Op::Write {
                page: key,
                at: 0,
                bytes,
            });
        }
        Ok(())
    }

    fn is_in_use(&self, bus: &Drive, key: PageKey) -> bool {
        match key {
            PageKey::New(_) => true,
            PageKey::Existing(id) => !self.staged.freed.contains(&id) && bus.info(id).is_ok(),
        }
    }

    /// The id of a page that the engine takes only once it is committed.
    fn committed(&self, name: &Name, verb: &str) -> Outcome<PageId> {
        self.id(name).map_err(|mut fault| {
            fault.message.push_str(&format!(" before you {verb} it"));
            fault
        })
    }

    pub(crate) fn free(&mut self, name: &Name) -> Outcome {
        let page = self.committed(name, "free")?;
        self.staged.freed.insert(page);
        self.push(Op::Free { page });
        Ok(())
    }

    pub(crate) fn transfer(&mut self, transfer: &ast::Transfer) -> Outcome {
        let page = self.committed(&transfer.page, "transfer")?;
        let name = transfer.page.resolve(&self.scope)?.into_owned();
        if let Some(old) = &transfer.old {
            let old = old.resolve(&self.scope)?.into_owned();
            self.bind(&old, PageKey::Existing(page));
        }
        self.staged.transferred.push((name, page));
        self.push(Op::Transfer { page });
        Ok(())
    }

    pub(crate) fn connect(&mut self, connect: &ast::Connect) -> Outcome {
        let child = self.key(&connect.page)?;
        let (function, parents) = self.derivation(&connect.derive)?;
        self.push(Op::Connect {
            child,
            function,
            parents,
        });
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, name: &Name) -> Outcome {
        let child = self.committed(name, "disconnect")?;
        self.push(Op::Disconnect { child });
        Ok(())
    }

    pub(crate) fn annotate(&mut self, annotate: &ast::Annotate) -> Outcome {
        let page = self.key(&annotate.page)?;
        self.push(Op::Annotate {
            page,
            key: annotate.key.clone(),
            value: annotate.value.clone(),
        });
        Ok(())
    }

    fn derivation(&self, derive: &Derive) -> Outcome<(Function, Vec<PageKey>)> {
        let one;
        let (function, names) = match derive {
            Derive::Copy(of) => (Function::Copy, &of.0),
            Derive::Slice(slice) => {
                one = vec![slice.of.clone()];
                (
                    Function::Slice {
                        at: slice.at.eval(&self.scope)?,
                    },
                    &one,
                )
            }
            Derive::Concat(of) => (Function::Concat, &of.0),
            Derive::Xor(of) => (Function::Xor, &of.0),
            Derive::Elementwise(ast::Elementwise {
                semiring,
                lane,
                of,
                pairs,
            }) => (
                Function::Elementwise {
                    semiring: *semiring,
                    lane: *lane,
                    pairs: *pairs,
                },
                &of.0,
            ),
            Derive::Custom(ast::Custom {
                name,
                version,
                params,
                of,
            }) => {
                let params = params
                    .as_ref()
                    .map(|params| params.to_vec())
                    .unwrap_or_default();
                (
                    Function::Custom {
                        name: name.to_string(),
                        version: *version,
                        params,
                    },
                    &of.0,
                )
            }
        };
        let parents = names
            .iter()
            .map(|name| self.key(name))
            .collect::<Outcome<Vec<_>>>()?;
        Ok((function, parents))
    }

    /// Drops everything staged; names mean again what they meant before.
    pub(crate) fn abort(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        for (name, old) in staged.rebound.into_iter().rev() {
            match old {
                Some(old) => self.names.insert(name, old),
                None => self.names.remove(&name),
            };
        }
    }

    /// Has the engine check what is staged, as far as it does before a commit. On a refusal the last
    /// operation is dropped.
    pub(crate) fn try_build(&mut self, bus: &Drive) -> Outcome {
        bus.try_build(&self.staged.ops).map_err(|(index, fault)| {
            let fault = self.refused(index, fault);
            if let Some(index) = index {
                self.staged.ops.truncate(index);
                self.staged.places.truncate(index);
            }
            fault
        })
    }

    /// Says where the operation that was refused was asked for.
    fn refused(&self, index: Option<usize>, fault: Box<Fault>) -> Box<Fault> {
        let place = index.and_then(|index| self.staged.places.get(index));
        let place = place.map(|(path, span)| (path.to_string(), *span));
        match place {
            Some(place) => fault.at(|| place),
            None => fault,
        }
    }

    /// Commits what is staged. Whatever comes of it, nothing is staged afterwards.
    pub(crate) fn commit(
        &mut self,
        bus: &Drive,
        durability: Option<Durability>,
    ) -> Outcome<Committed> {
        let durability = durability.unwrap_or(self.durability);
        let result = bus.commit(&self.staged.ops, durability);
        let result = result.map_err(|(index, fault)| self.refused(index, fault));
        let commit = match result {
            Ok(commit) => commit,
            Err(fault) => {
                self.abort();
                return Err(fault);
            }
        };
        let staged = std::mem::take(&mut self.staged);
        let mut renamed = Renamed::new();
        for (name, old) in staged.rebound {
            if let Some(PageKey::New(ordinal)) = self.names.get(&name).copied() {
                let id = commit.allocated.get(ordinal as usize).copied();
                let id = id.ok_or_else(|| {
                    Fault::new(format!("the commit tells no id for the new page `{name}`"))
                })?;
                self.names.insert(name.clone(), PageKey::Existing(id));
            }
            // A name that got two meanings in one transaction had a new page in between, which never was.
            if let Some(PageKey::Existing(_)) | None = old {
                renamed.push((
                    name,
                    old.and_then(|old| {
                        if let PageKey::Existing(id) = old {
                            Some(id)
                        } else {
                            None
                        }
                    }),
                ));
            }
        }
        for (name, old) in staged.transferred {
            let transferred = &commit.transferred;
            let id = transferred
                .iter()
                .find_map(|(from, to)| (*from == old).then_some(*to));
            let id = id.ok_or_else(|| {
                Fault::new(format!("the commit tells no new id for page `{name}`"))
            })?;
            self.names.insert(name.clone(), PageKey::Existing(id));
            renamed.push((name, Some(old)));
        }
        Ok(Committed {
            lsn: commit.lsn,
            durability,
            ops: staged.ops,
            allocated: commit.allocated,
            transferred: commit.transferred,
            renamed,
            written_bytes: staged.written_bytes,
            doubt: commit.doubt,
        })
    }
}

fn engine_location(location: ast::Location) -> Location {
    match location {
        ast::Location::Host => Location::Host,
        ast::Location::Device => Location::Device,
        ast::Location::Unified => Location::Unified,
    }
}

/// The known word that is most like a wrong one.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}
