//! Turns the data of a step into bytes, and the sparse steps into deltas.

use mmsb_engine::{Delta, DiffOptions};

use super::drive::Drive;
use super::failure::{Fault, Outcome};
use super::stage::{PageKey, Stage};
use crate::scenario::ErrorKind;
use crate::scenario::ast;
use crate::scenario::data::{Data, Region, scatter_runs};

/// The bytes that `data` stands for at `at` of `page`.
pub(crate) fn bytes(
    stage: &Stage,
    bus: &Drive,
    data: &Data,
    page: PageKey,
    at: u64,
) -> Outcome<Vec<u8>> {
    if let Data::Copy(region) = data {
        return copied(stage, bus, region);
    }
    // The length of the page is asked for only where the data needs it: the page may be gone, which the
    // engine shall say.
    let open_ended = match data {
        Data::Random(random) => random.len.is_none(),
        Data::Fill(fill) => fill.len.is_none(),
        _ => false,
    };
    let rest = if open_ended {
        Some(stage.len_of(bus, page)?.saturating_sub(at))
    } else {
        None
    };
    let bytes = data.to_bytes(&stage.scope, rest)?;
    Ok(bytes.map(std::borrow::Cow::into_owned).unwrap_or_default())
}

fn copied(stage: &Stage, bus: &Drive, region: &Region) -> Outcome<Vec<u8>> {
    let bytes = stage.present(bus, stage.key(&region.page)?)?;
    let at = region.at.eval(&stage.scope)?;
    let len = region
        .len
        .as_ref()
        .map(|len| len.eval(&stage.scope))
        .transpose()?;
    Ok(range(&bytes, at, len)?.to_vec())
}

/// A range of a page; up to its end without a length.
pub(crate) fn range(bytes: &[u8], at: u64, len: Option<u64>) -> Outcome<&[u8]> {
    let end = len.map_or(Some(bytes.len() as u64), |len| at.checked_add(len));
    let found = || bytes.get(usize::try_from(at).ok()?..usize::try_from(end?).ok()?);
    found().ok_or_else(|| {
        let end = end.map_or("beyond".to_owned(), |end| end.to_string());
        let message = format!(
            "the range {at}..{end} does not lie in the page, which has {} bytes",
            bytes.len()
        );
        Fault::of(ErrorKind::PageOutOfRange, message)
    })
}

pub(crate) fn delta(stage: &mut Stage, bus: &Drive, step: &ast::Delta) -> Outcome {
    let page = stage.key(&step.page)?;
    let mut meaning = Vec::with_capacity(step.runs.len());
    for run in &step.runs {
        let at = run.at.eval(&stage.scope)?;
        meaning.push((at, bytes(stage, bus, &run.data, page, at)?));
    }
    let delta = sparse(&meaning)?;
    stage.delta(page, delta, meaning);
    Ok(())
}

/// One delta of runs of which a later one wins where two overlap.
fn sparse(runs: &[(u64, Vec<u8>)]) -> Outcome<Delta> {
    match Delta::sparse(runs.iter().map(|(at, bytes)| (*at, bytes))) {
        Ok(delta) => Ok(delta),
        Err(mmsb_engine::DeltaError::Overlap { .. }) => {
            let deltas = runs
                .iter()
                .map(|(at, bytes)| Delta::dense(*at, bytes.clone()));
            Ok(Delta::compact(deltas.collect::<Result<Vec<_>, _>>()?))
        }
        Err(error) => Err(error.into()),
    }
}

/// Single bytes in ascending order as the runs that they make up.
fn joined(bytes: impl Iterator<Item = (u64, u8)>) -> Vec<(u64, Vec<u8>)> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (at, byte) in bytes {
        match runs.last_mut() {
            Some((start, run)) if *start + run.len() as u64 == at => run.push(byte),
            _ => runs.push((at, vec![byte])),
        }
    }
    runs
}

pub(crate) fn masked(stage: &mut Stage, bus: &Drive, step: &ast::Masked) -> Outcome {
    let page = stage.key(&step.page)?;
    let at = step.at.eval(&stage.scope)?;
    let bytes = bytes(stage, bus, &step.data, page, at)?;
    if step.mask.len() != bytes.len().div_ceil(8) {
        let (mask_len, needed) = (step.mask.len(), bytes.len().div_ceil(8));
        let message = format!(
            "the mask has {mask_len} bytes, but {} bytes of data need {needed}",
            bytes.len()
        );
        return Err(Fault::of(ErrorKind::DeltaBadMask, message));
    }
    let selected = |position: &usize| {
        step.mask
            .get(position / 8)
            .is_some_and(|bits| bits >> (position % 8) & 1 == 1)
    };
    let meaning =
        joined((0..bytes.len()).filter(selected).filter_map(|position| {
            Some((at.saturating_add(position as u64), *bytes.get(position)?))
        }));
    let payload: Vec<u8> = meaning
        .iter()
        .flat_map(|(_, bytes)| bytes)
        .copied()
        .collect();
    let delta = Delta::masked(at, &step.mask, payload)?;
    stage.delta(page, delta, meaning);
    Ok(())
}

pub(crate) fn diff(stage: &mut Stage, bus: &Drive, step: &ast::Diff) -> Outcome {
    let page = stage.key(&step.page)?;
    let present = stage.present(bus, page)?;
    let wanted = bytes(stage, bus, &step.to, page, 0)?;
    let old = range(&present, 0, Some(wanted.len() as u64))?;
    let delta = Delta::diff(old, &wanted, DiffOptions::default())?;
    let changed = old
        .iter()
        .zip(&wanted)
        .zip(0u64..)
        .filter(|((old, new), _)| old != new);
    let meaning = joined(changed.map(|((_, new), at)| (at, *new)));
    stage.delta(page, delta, meaning);
    Ok(())
}

pub(crate) fn scatter(stage: &mut Stage, bus: &Drive, step: &ast::Scatter) -> Outcome {
    let page = stage.key(&step.page)?;
    let page_len_bytes = stage.len_of(bus, page)?;
    let (seed, runs, len) = (
        step.seed.eval(&stage.scope)?,
        step.runs.eval(&stage.scope)?,
        step.len.eval(&stage.scope)?,
    );
    let meaning = scatter_runs(seed, runs, len, page_len_bytes)?;
    let delta = sparse(&meaning)?;
    stage.delta(page, delta, meaning);
    Ok(())
}
