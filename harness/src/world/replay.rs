//! Rebuilding states from the log, and the marks that they are compared with.

use std::collections::BTreeMap;

use mmsb_engine::{Lsn, PageId, replay_from};

use super::compare;
use super::drive::Past;
use super::failure::{Fault, Outcome};
use super::open;
use super::run::World;
use crate::scenario::ast::{Replay, ReplayTo};
use crate::scenario::value::Name;

/// What a mark remembers.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) lsn: u64,
    pub(crate) digest: [u8; 32],
    /// Of each page; `None` for a stale one.
    pub(crate) pages: BTreeMap<PageId, Option<[u8; 32]>>,
    pub(crate) names: compare::Names,
}

impl World<'_> {
    pub(crate) fn mark(&mut self, name: &Name) -> Outcome {
        self.compare_everything()?;
        let name = name.resolve(&self.stage.scope)?.into_owned();
        let ids: Vec<PageId> = self.model.ids().collect();
        let mark = Mark {
            lsn: self.model.lsn(),
            digest: self.model.digest(),
            pages: ids
                .into_iter()
                .map(|id| (id, self.model.page_digest(id)))
                .collect(),
            names: self.stage.names.clone(),
        };
        self.marks.insert(name, mark);
        Ok(())
    }

    pub(crate) fn find_mark(&self, name: &Name) -> Outcome<&Mark> {
        let name = name.resolve(&self.stage.scope)?;
        self.marks.get(name.as_ref()).ok_or_else(|| {
            Fault::new(format!(
                "there is no mark `{name}`, or a crash went back to before it"
            ))
        })
    }

    pub(crate) fn replay(&mut self, step: &Replay) -> Outcome {
        let until = match &step.to {
            ReplayTo::End => None,
            ReplayTo::Mark(name) => Some(self.find_mark(name)?.lsn),
            ReplayTo::Lsn(lsn) => Some(lsn.eval(&self.stage.scope)?),
        };
        let same_as = match (&step.same_as, &step.to) {
            (Some(name), _) | (None, ReplayTo::Mark(name)) => Some(self.find_mark(name)?.clone()),
            _ => None,
        };
        let mut settings = self.settings.clone();
        if let Some(appliers) = &step.appliers {
            settings.appliers = open::threads("appliers", appliers.eval(&self.stage.scope)?)?;
        }
        if let Some(bus) = &self.bus {
            // A replay reads the files, and so sees only what has been handed to them.
            let synced = bus.sync()?.0;
            self.safe(synced);
        }
        let storage = self.disk.storage()?;
        let rebuilt = replay_from(
            &*storage,
            until.map(Lsn),
            &settings.engine(&self.computed, self.devices.another()?)?,
        )?;
        let rebuilt = Past::new(rebuilt, self.settings.via)?;
        self.totals.checks += 1;
        if let Some(mark) = &same_as {
            same_as_mark(&rebuilt, mark)?;
        }
        self.same_as_model(&rebuilt, until)
    }

    /// Compares a rebuilt state with the model's past, as far as the model remembers it.
    fn same_as_model(&mut self, rebuilt: &Past, until: Option<u64>) -> Outcome {
        let lsn = until.unwrap_or(self.model.lsn());
        if rebuilt.lsn().0 != lsn {
            let message = format!(
                "the replay came to LSN {}, but should have come to {lsn}",
                rebuilt.lsn()
            );
            return Err(Fault::new(message));
        }
        if lsn == self.model.lsn() {
            return compare::everything(rebuilt, &mut self.model, &self.stage.names);
        }
        if lsn > self.model.lsn() {
            let message = format!("the replay found LSN {lsn}, which was never committed");
            return Err(Fault::new(message));
        }
        if let Some(mut past) = self.model.as_of(lsn) {
            return compare::everything(rebuilt, &mut past, &self.stage.names);
        }
        let message = format!(
            "the state at LSN {lsn} is not remembered: `replay` must stand in the scenario itself"
        );
        if self.marks.values().any(|mark| mark.lsn == lsn) {
            Ok(())
        } else {
            Err(Fault::new(message))
        }
    }
}

fn same_as_mark(rebuilt: &Past, mark: &Mark) -> Outcome {
    for (page, expected) in &mark.pages {
        let found = rebuilt
            .read(*page)
            .ok()
            .map(|bytes| <[u8; 32]>::from(blake3::hash(&bytes)));
        if found != *expected {
            let page = compare::label(&mark.names, *page);
            return Err(Fault::new(format!(
                "page {page} of the replay is not what it was at the mark"
            )));
        }
    }
    let (expected, found) = (mmsb_engine::Digest::from(mark.digest), rebuilt.digest()?);
    if expected != found {
        return Err(Fault::new(format!(
            "the state digest of the replay is {found}, but was {expected} at the mark"
        )));
    }
    Ok(())
}
