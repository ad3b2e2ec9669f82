//! Compares what the engine holds with the model: single pages after a step, everything at the end.

use std::collections::BTreeMap;

use mmsb_engine::device::DeviceError;
use mmsb_engine::{Bus, Digest, Location, Lsn, PageId, ReadError};

use super::drive::{Bytes, Drive, Info, Past, Refused};
use super::failure::{Difference, Fault, Outcome};
use super::model::{Effect, Model};
use super::stage::PageKey;

/// Something of the engine's that has pages.
pub(crate) trait Subject {
    /// What it is called beside the model.
    const SIDE: &'static str;
    fn read(&self, page: PageId) -> Result<Bytes<'_>, Refused>;
    /// What is known of a page besides its bytes, where that is told.
    fn info(&self, page: PageId) -> Result<Option<Info>, Refused>;
    fn annotation(&self, page: PageId, key: &str) -> Result<Option<Vec<u8>>, Refused>;
    fn pages(&self) -> Vec<PageId>;
    fn digest(&self) -> Result<Digest, Refused>;
    fn lsn(&self) -> Lsn;
    /// Why what is on its device cannot be read.
    fn device_fault(&self) -> Option<DeviceError>;
}

impl Subject for Drive {
    const SIDE: &'static str = "engine";

    fn read(&self, page: PageId) -> Result<Bytes<'_>, Refused> {
        Self::read(self, page)
    }

    fn info(&self, page: PageId) -> Result<Option<Info>, Refused> {
        Self::info(self, page).map(Some)
    }

    fn annotation(&self, page: PageId, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        Self::annotation(self, page, key)
    }

    fn pages(&self) -> Vec<PageId> {
        Self::pages(self)
    }

    fn digest(&self) -> Result<Digest, Refused> {
        Self::digest(self)
    }

    fn lsn(&self) -> Lsn {
        self.last_lsn()
    }

    fn device_fault(&self) -> Option<DeviceError> {
        Self::device_fault(self)
    }
}

impl Subject for Past {
    const SIDE: &'static str = "replay";

    fn read(&self, page: PageId) -> Result<Bytes<'_>, Refused> {
        Self::read(self, page)
    }

    fn info(&self, page: PageId) -> Result<Option<Info>, Refused> {
        Self::info(self, page)
    }

    fn annotation(&self, _: PageId, _: &str) -> Result<Option<Vec<u8>>, Refused> {
        Err(Refused::absent("metadata of states of the past"))
    }

    fn pages(&self) -> Vec<PageId> {
        Self::pages(self)
    }

    fn digest(&self) -> Result<Digest, Refused> {
        Self::digest(self)
    }

    fn lsn(&self) -> Lsn {
        Self::lsn(self)
    }

    fn device_fault(&self) -> Option<DeviceError> {
        None
    }
}

/// The names of a scenario.
pub(crate) type Names = BTreeMap<String, PageKey>;

/// A page by name and id, for messages.
pub(crate) fn label(names: &Names, id: PageId) -> String {
    let name = names
        .iter()
        .find_map(|(name, key)| (*key == PageKey::Existing(id)).then_some(name));
    name.map_or_else(|| id.to_string(), |name| format!("`{name}` ({id})"))
}

/// Pages up to this length are compared whole after each step; of longer ones what was written, with
/// [`MARGIN_BYTES`] on either side.
const WHOLE_BYTES: usize = 16 * 1024;
const MARGIN_BYTES: u64 = 64;
/// So many derived pages, and so many of their bytes, are compared after each step. What is left out is compared
/// at the next step that compares everything, at the latest at the end.
const STEP_PAGES: usize = 256;
const STEP_BYTES: usize = 256 * 1024;

/// Compares what a transaction touched, with the derived pages that follow from it if waves are eager.
pub(crate) fn effect(
    bus: &Drive,
    model: &mut Model,
    names: &Names,
    effect: &Effect,
    eager: bool,
) -> Outcome {
    if bus.last_lsn().0 != model.lsn() {
        let message = format!(
            "the last LSN is {}, but should be {}",
            bus.last_lsn(),
            model.lsn()
        );
        return Err(Fault::new(message));
    }
    for index in &effect.changed {
        if let Some(found) = model.at(*index) {
            let (id, derived) = (found.id, found.derivation.is_some());
            info(bus, model, names, id)?;
            // Reading a derived page runs the wave that was deferred.
            if eager || !derived {
                page(bus, model, names, id)?;
            }
        }
    }
    for (index, (at, end)) in &spans(effect) {
        let Some(found) = model.at(*index) else {
            continue;
        };
        let len_bytes = end - at;
        let id = found.id;
        // A read from a device copies the page, so one has to do for all that was written.
        if found.bytes.len() > WHOLE_BYTES && found.location != Location::Device {
            range(
                bus,
                model,
                names,
                id,
                at.saturating_sub(MARGIN_BYTES),
                len_bytes + 2 * MARGIN_BYTES,
            )?;
        } else {
            page(bus, model, names, id)?;
        }
    }
    if eager {
        descendants(bus, model, names, effect)?;
    }
    Ok(())
}

/// From where to where each base page was written that is not compared whole anyway. One comparison of everything between
/// the first run and the last costs less than one for each of them, and sees more.
fn spans(effect: &Effect) -> BTreeMap<u32, (u64, u64)> {
    let mut spans: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (index, at, len_bytes) in &effect.written {
        if effect.changed.contains(index) {
            continue;
        }
        let (start, end) = spans.entry(*index).or_insert((*at, *at));
        *start = (*start).min(*at);
        *end = (*end).max(at + len_bytes);
    }
    spans
}

fn descendants(bus: &Drive, model: &mut Model, names: &Names, effect: &Effect) -> Outcome {
    let roots = effect
        .written
        .iter()
        .map(|(index, ..)| *index)
        .chain(effect.changed.iter().copied());
    let found = model.descendants(roots, STEP_PAGES);
    let mut budget_bytes = STEP_BYTES;
    for index in found {
        let Some((id, len)) = model.at(index).map(|page| (page.id, page.bytes.len())) else {
            continue;
        };
        match budget_bytes.checked_sub(len) {
            Some(rest) => budget_bytes = rest,
            None => return Ok(()),
        }
        page(bus, model, names, id)?;
    }
    Ok(())
}

/// Compares all bytes of a page.
pub(crate) fn page<S: Subject>(
    subject: &S,
    model: &mut Model,
    names: &Names,
    id: PageId,
) -> Outcome {
    range(subject, model, names, id, 0, u64::MAX)
}

/// Compares a range of a page, as far as the page reaches.
fn range<S: Subject>(
    subject: &S,
    model: &mut Model,
    names: &Names,
    id: PageId,
    at: u64,
    len_bytes: u64,
) -> Outcome {
    let found = subject.read(id);
    // Asked for only where it matters: this is done for every page after every step.
    let is_excused = found.is_err() && subject.device_fault().is_some() && model.needs_device(id);
    let lsn = model
        .page(id)
        .filter(|page| page.derivation.is_none())
        .map(|page| page.lsn);
    let expected = model.bytes(id);
    match (expected, found) {
        (None, Err(refused)) if refused.is_stale_derived() => Ok(()),
        (None, Ok(_)) => {
            let message = format!("page {} should be stale, but can be read", label(names, id));
            Err(Fault::new(message))
        }
        // What is on a device that failed cannot be read, nor what derives from it; but it must not read as something else.
        (_, Err(refused))
            if is_excused && (refused.is_of_device() || refused.is_stale_derived()) =>
        {
            Ok(())
        }
        (_, Err(error)) => {
            let mut fault: Box<Fault> = error.into();
            fault.message = format!(
                "page {} should have bytes: {}",
                label(names, id),
                fault.message
            );
            Err(fault)
        }
        (Some(expected), Ok(found)) => {
            let expected = cut(expected, at, len_bytes);
            let bytes = cut(&found, at, len_bytes);
            if expected == bytes {
                return Ok(());
            }
            let sides = ["model", S::SIDE];
            let mut difference = Difference::between(&label(names, id), at, sides, expected, bytes);
            if let Some(difference) = &mut difference {
                difference.lsn = lsn.filter(|lsn| *lsn > 0);
            }
            let mut fault = Fault::new(format!(
                "the {} does not hold the bytes that it should",
                S::SIDE
            ));
            fault.difference = difference;
            Err(fault)
        }
    }
}

/// Compares what the device has of a page, or of its mirror, with the model, by their digests. A page in host memory is passed over.
pub(crate) fn on_device(bus: &Bus, model: &mut Model, names: &Names, id: PageId) -> Outcome {
    let expected = model.page_digest(id).map(Digest::from);
    match (expected, bus.device_digest(id)) {
        (_, Err(ReadError::NotOnDevice { .. })) => Ok(()),
        (None, Err(ReadError::StaleDerived { .. })) => Ok(()),
        (Some(expected), Ok(found)) if expected == found => Ok(()),
        (_, Err(error)) => Err(error.into()),
        (_, Ok(_)) => Err(Fault::new(format!(
            "the device has other bytes of page {} than it should",
            label(names, id)
        ))),
    }
}

/// Compares bytes that a view showed of a page.
pub(crate) fn seen(model: &mut Model, names: &Names, id: PageId, bytes: &[u8]) -> Outcome {
    let Some(expected) = model.bytes(id) else {
        let message = format!("page {} should be stale, but was seen", label(names, id));
        return Err(Fault::new(message));
    };
    let difference = Difference::between(&label(names, id), 0, ["model", "view"], expected, bytes);
    if difference.is_none() {
        return Ok(());
    }
    let mut fault = Fault::new("the view does not show the bytes that it should");
    fault.difference = difference;
    Err(fault)
}

fn cut(bytes: &[u8], at: u64, len_bytes: u64) -> &[u8] {
    let clamp = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    bytes
        .get(clamp(at)..clamp(at.saturating_add(len_bytes)))
        .unwrap_or_default()
}

/// Compares what is known of a page besides its bytes.
fn info<S: Subject>(subject: &S, model: &Model, names: &Names, id: PageId) -> Outcome {
    let Some(found) = subject.info(id)? else {
        return Ok(());
    };
    let Some(page) = model.page(id) else {
        return Err(Fault::new(format!(
            "page {} is not there any more",
            label(names, id)
        )));
    };
    let mismatch = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        let page = label(names, id);
        Err(Fault::new(format!(
            "the {what} of page {page} is {found:?}, but should be {expected:?}"
        )))
    };
    if found.len_bytes != page.bytes.len() as u64 {
        return mismatch("length", &page.bytes.len(), &found.len_bytes);
    }
    if found.location != page.location {
        return mismatch("location", &page.location, &found.location);
    }
    if found.is_derived != page.derivation.is_some() {
        return mismatch("derivedness", &page.derivation.is_some(), &found.is_derived);
    }
    if page.epoch_known && found.epoch != page.epoch {
        return mismatch("epoch", &page.epoch, &found.epoch);
    }
    let metadata: Vec<(String, Vec<u8>)> = page
        .meta
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    match &found.metadata {
        Some(found) if *found != metadata => return mismatch("metadata", &metadata, found),
        Some(_) => {}
        // It cannot be listed, so it is asked for.
        None => {
            for (key, expected) in &metadata {
                let found = subject.annotation(id, key)?;
                if found.as_ref() != Some(expected) {
                    return mismatch(&format!("annotation `{key}`"), expected, &found);
                }
            }
        }
    }
    let parents = page
        .derivation
        .iter()
        .flat_map(|derivation| &derivation.parents);
    let parents: Vec<PageId> = parents
        .filter_map(|index| Some(model.at(*index)?.id))
        .collect();
    if found.parents != parents {
        return mismatch("list of parents", &parents, &found.parents);
    }
    Ok(())
}

/// Compares everything: which pages there are, all bytes, all else that is known of them, and the state digest.
pub(crate) fn everything<S: Subject>(subject: &S, model: &mut Model, names: &Names) -> Outcome {
    if subject.lsn().0 != model.lsn() {
        let message = format!(
            "the {} is at LSN {}, but should be at {}",
            S::SIDE,
            subject.lsn(),
            model.lsn()
        );
        return Err(Fault::new(message));
    }
    let ids: Vec<PageId> = model.ids().collect();
    let found = subject.pages();
    if ids != found {
        let missing = ids
            .iter()
            .find(|id| !found.contains(id))
            .map(|id| format!("{} is missing", label(names, *id)));
        let extra = found
            .iter()
            .find(|id| !ids.contains(id))
            .map(|id| format!("{} is too many", label(names, *id)));
        let detail = missing
            .or(extra)
            .unwrap_or_else(|| "their order differs".to_owned());
        let message = format!(
            "the {} has {} pages, but should have {}: {detail}",
            S::SIDE,
            found.len(),
            ids.len()
        );
        return Err(Fault::new(message));
    }
    for id in ids {
        info(subject, model, names, id)?;
        page(subject, model, names, id)?;
    }
    if subject.device_fault().is_some() && model.on_device().0 > 0 {
        return match subject.digest() {
            Err(refused) if refused.is_of_device() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Fault::new("pages on a device that failed have a digest")),
        };
    }
    let (expected, found) = (Digest::from(model.digest()), subject.digest()?);
    if expected != found {
        let message = format!(
            "the state digest of the {} is {found}, but should be {expected}",
            S::SIDE
        );
        return Err(Fault::new(message));
    }
    Ok(())
}

/// Compares what a bus says of itself with what its pages say, besides [`everything`].
pub(crate) fn figures(bus: &Drive, model: &Model) -> Outcome {
    let figures = bus.figures();
    let bytes: u64 = model
        .ids()
        .filter_map(|id| Some(model.page(id)?.bytes.len() as u64))
        .sum();
    // The arena's figures are of what lies there.
    let (device_pages, device_bytes) = model.on_device();
    let live_bytes = bytes - device_bytes;
    for (what, expected, found) in [
        (
            "live pages",
            model.len() as u64 - device_pages,
            figures.live_pages,
        ),
        ("live bytes", live_bytes, figures.live_bytes),
        (
            "derived pages",
            model.derived_count() as u64,
            figures.derived_pages,
        ),
    ] {
        if expected != found {
            return Err(Fault::new(format!(
                "the engine counts {found} {what}, but there should be {expected}"
            )));
        }
    }
    Ok(())
}
