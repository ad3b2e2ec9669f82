//! What `expect` checks.

use mmsb_engine::device::SimulatedCounters;
use mmsb_engine::{DeviceStatistics, OpenReport, PageId};
use sha1::Digest as _;

use super::compare;
use super::data;
use super::drive::{Across, Drive, Refused, absent};
use super::failure::{Difference, Fault, Outcome};
use super::open::{Disk, closed};
use super::run::World;
use super::stage::{PageKey, Stage, nearest};
use crate::scenario::data::{Data, Region};
use crate::scenario::expect::{
    Bound, Content, Counter, DeviceState, Equal, Expect, PageCheck, UnchangedSince,
};
use crate::scenario::num::Num;
use crate::scenario::value::{Digest, DigestHex, Name, StateDigest};

const SIDES: [&str; 2] = ["expected", "found"];

/// The names of all counters.
pub const COUNTERS: &[&str] = &[
    "commits",
    "log.last_lsn",
    "log.durable_lsn",
    "log.appended_bytes",
    "log.writes",
    "log.syncs",
    "log.rotations",
    "log.recycled",
    "memory.live_pages",
    "memory.live_bytes",
    "memory.footprint_bytes",
    "memory.peak_footprint_bytes",
    "memory.reserved_bytes",
    "memory.waste_bytes",
    "memory.largest_free_range_bytes",
    "memory.capacity_bytes",
    "memory.allocations_total",
    "memory.releases_total",
    "pages.derived",
    "open.created",
    "open.last_lsn",
    "open.applied",
    "open.checkpoint",
    "open.torn",
    "open.torn_lsn",
    "open.dropped_segments",
    "open.warnings",
    "storage.bytes",
    "storage.writes",
    "storage.written_bytes",
    "storage.reads",
    "storage.syncs",
    "storage.name_syncs",
    "storage.creates",
    "storage.removes",
    "storage.renames",
    "transforms.computed",
    "device.maps",
    "device.unmaps",
    "device.pins",
    "device.uploads",
    "device.uploaded_bytes",
    "device.downloads",
    "device.downloaded_bytes",
    "device.launches",
    "device.waits",
    "device.resets",
    "device.faults",
    "device.detour",
    "device.mapped_bytes",
    "device.peak_mapped_bytes",
    "device.resident_pages",
    "device.evicted_pages",
    "device.evictions",
    "device.evicted_bytes",
    "device.fetched_pages",
    "device.fetched_bytes",
    "device.mirrors",
    "device.mirror_bytes",
    "device.mirror_evictions",
    "device.mirror_uploads",
    "device.mirror_uploaded_bytes",
];

impl World<'_> {
    pub(crate) fn expect(&mut self, expect: &Expect) -> Outcome {
        self.totals.checks += 1;
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        if let Some(result) = of_bytes(&self.stage, bus, expect) {
            result?;
            return self.agree(expect);
        }
        match expect {
            Expect::Page(check) => self.snapshot_page(check),
            Expect::State(StateDigest(expected)) => {
                let (expected, found) = (mmsb_engine::Digest::from(*expected), bus.digest()?);
                equal("the state digest", &expected, &found)?;
                compare::everything(bus, &mut self.model, &self.stage.names)
            }
            Expect::UnchangedSince(check) => self.unchanged(check),
            Expect::Counter(check) => self.counter(check),
            Expect::Epoch(epoch) => {
                let found = bus.info(self.stage.id(&epoch.page)?)?.epoch;
                equal(
                    &format!("the epoch of page `{}`", epoch.page),
                    &epoch.is.eval(&self.stage.scope)?,
                    &found,
                )
            }
            Expect::Residency(residency) => {
                let bus = bus.rust("`expect: residency`")?;
                let found = bus.residency(self.stage.id(&residency.page)?)?;
                equal(
                    &format!("the residency of page `{}`", residency.page),
                    &residency.is.as_str(),
                    &found.name(),
                )
            }
            Expect::OnDevice(names) => {
                let bus = bus.rust("`expect: on_device`")?;
                for name in names.iter() {
                    compare::on_device(
                        bus,
                        &mut self.model,
                        &self.stage.names,
                        self.stage.id(name)?,
                    )?;
                }
                Ok(())
            }
            Expect::Meta(meta) => {
                let found = bus.annotation(self.stage.id(&meta.page)?, &meta.key)?;
                let found = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                equal(
                    &format!("annotation `{}` of page `{}`", meta.key, meta.page),
                    &Text(&meta.value),
                    &Text(&found),
                )
            }
            Expect::Pages(count) => {
                let found = bus.pages().len() as u64;
                equal(
                    "the number of pages",
                    &count.eval(&self.stage.scope)?,
                    &found,
                )
            }
            Expect::Stale(name) => match self.stage.key(name)? {
                PageKey::Existing(id) => match bus.read(id) {
                    Err(refused) if refused.is_stale_page() || refused.is_stale_derived() => Ok(()),
                    Err(error) => Err(error.into()),
                    Ok(_) => Err(Fault::new(format!(
                        "page `{name}` can be read, but should be stale"
                    ))),
                },
                PageKey::New(_) => Err(Fault::new(format!("page `{name}` is not committed yet"))),
            },
            Expect::Lsn(lsn) => equal(
                "the last LSN",
                &lsn.eval(&self.stage.scope)?,
                &bus.last_lsn().0,
            ),
            Expect::Device(expected) => {
                let found = match bus.device_fault() {
                    None => DeviceState::Sound.as_str().to_owned(),
                    Some(_) if *expected == DeviceState::Unsound => expected.as_str().to_owned(),
                    Some(fault) => fault.kind().to_owned(),
                };
                equal("the device", &expected.as_str().to_owned(), &found)
            }
            // Handled above, as they need nothing but bytes.
            Expect::Same(_) | Expect::Equal(_) | Expect::Zero(_) => Ok(()),
        }
    }

    /// Compares the pages of a check with the model: a scenario and the engine may be wrong together.
    fn agree(&mut self, expect: &Expect) -> Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let names: Vec<&Name> = match expect {
            Expect::Page(check) => vec![&check.page],
            Expect::Same(names) => names.iter().collect(),
            Expect::Equal(equal) => vec![&equal.page, &equal.to.page],
            Expect::Zero(region) => vec![&region.page],
            _ => Vec::new(),
        };
        for name in names {
            compare::page(
                bus,
                &mut self.model,
                &self.stage.names,
                self.stage.id(name)?,
            )?;
        }
        Ok(())
    }

    fn snapshot_page(&self, check: &PageCheck) -> Outcome {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let name = check
            .snapshot
            .as_ref()
            .ok_or_else(|| Fault::new("the check names no snapshot"))?;
        let name = name.resolve(&self.stage.scope)?;
        let snapshot = self.snapshots.get(name.as_ref());
        let snapshot =
            snapshot.ok_or_else(|| Fault::new(format!("there is no snapshot `{name}`")))?;
        let page = check.page.resolve(&self.stage.scope)?;
        let bytes = snapshot.get(page.as_ref());
        let bytes = bytes
            .ok_or_else(|| Fault::new(format!("page `{page}` is not in snapshot `{name}`")))?;
        content(&self.stage, bus, check, bytes)
    }

    fn unchanged(&mut self, check: &UnchangedSince) -> Outcome {
        let mark = self.find_mark(&check.mark)?.clone();
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let Some(page) = &check.page else {
            let (expected, found) = (mmsb_engine::Digest::from(mark.digest), bus.digest()?);
            return equal(
                &format!("the state digest since mark `{}`", check.mark),
                &expected,
                &found,
            );
        };
        let name = page.resolve(&self.stage.scope)?;
        let then = match mark.names.get(name.as_ref()) {
            Some(PageKey::Existing(id)) => mark.pages.get(id),
            _ => None,
        };
        let then = then.ok_or_else(|| {
            Fault::new(format!(
                "page `{name}` was not there at mark `{}`",
                check.mark
            ))
        })?;
        let now = digest(bus, self.stage.id(page)?)?;
        if *then == now {
            Ok(())
        } else {
            Err(Fault::new(format!(
                "page `{name}` has changed since mark `{}`",
                check.mark
            )))
        }
    }

    fn counter(&self, check: &Counter) -> Outcome {
        let name = check.counter.resolve(&self.stage.scope)?;
        let found = self.count(&name)?;
        let (ok, wanted) = match &check.bound {
            Bound::Is(num) => bound(&self.stage, num, "", |wanted| found == wanted)?,
            Bound::AtLeast(num) => bound(&self.stage, num, "at least ", |wanted| found >= wanted)?,
            Bound::AtMost(num) => bound(&self.stage, num, "at most ", |wanted| found <= wanted)?,
        };
        if ok {
            Ok(())
        } else {
            Err(Fault::new(format!(
                "counter `{name}` is {found}, expected {wanted}"
            )))
        }
    }

    fn count(&self, name: &str) -> Outcome<u64> {
        let bus = self.bus.as_ref().ok_or_else(closed)?;
        let bus = match bus {
            Drive::Rust(bus) => bus,
            Drive::C(across) => return self.count_across(across, name),
        };
        let statistics = bus.statistics();
        let (log, memory, report) = (statistics.log, statistics.memory, bus.opened());
        let torn = report.torn.as_ref();
        let found = match name {
            "commits" => self.totals.commits,
            "log.last_lsn" => log.last_lsn.0,
            "log.durable_lsn" => log.durable_lsn.0,
            "log.appended_bytes" => log.appended_bytes,
            "log.writes" => log.writes,
            "log.syncs" => log.syncs,
            "log.rotations" => log.rotations,
            "log.recycled" => log.recycled,
            "memory.live_pages" => memory.live_pages,
            "memory.live_bytes" => memory.live_bytes,
            "memory.footprint_bytes" => memory.footprint_bytes,
            "memory.peak_footprint_bytes" => memory.peak_footprint_bytes,
            "memory.reserved_bytes" => memory.reserved_bytes,
            "memory.waste_bytes" => memory.waste_bytes,
            "memory.largest_free_range_bytes" => memory.largest_free_range_bytes,
            "memory.capacity_bytes" => memory.capacity_bytes,
            "memory.allocations_total" => memory.allocations_total,
            "memory.releases_total" => memory.releases_total,
            "pages.derived" => statistics.derived_pages,
            "device.detour" => u64::from(self.took_detour),
            "open.created" => u64::from(report.created),
            "open.last_lsn" => report.last_lsn.0,
            "open.applied" => report.applied,
            "open.checkpoint" => checkpoint(report),
            "open.torn" => u64::from(torn.is_some()),
            "open.torn_lsn" => torn.map_or(0, |torn| torn.lsn.0),
            "open.dropped_segments" => torn.map_or(0, |torn| torn.dropped_segments),
            "open.warnings" => report.warnings.len() as u64,
            "transforms.computed" => self.computed.load(std::sync::atomic::Ordering::Relaxed),
            _ => return self.storage_count(name),
        };
        Ok(found)
    }

    /// A counter by the figures of the C ABI, or one that is the world's own.
    fn count_across(&self, across: &Across, name: &str) -> Outcome<u64> {
        let (statistics, opened) = (across.statistics(), across.opened());
        Ok(match name {
            "commits" => self.totals.commits,
            "log.last_lsn" => statistics.last_lsn,
            "log.durable_lsn" => statistics.durable_lsn,
            "log.appended_bytes" => statistics.log_bytes,
            "log.writes" => statistics.log_writes,
            "log.syncs" => statistics.syncs,
            "log.rotations" => statistics.rotations,
            "log.recycled" => statistics.recycled,
            "memory.live_pages" => statistics.live_pages,
            "memory.live_bytes" => statistics.live_bytes,
            "memory.footprint_bytes" => statistics.footprint_bytes,
            "memory.peak_footprint_bytes" => statistics.peak_footprint_bytes,
            "memory.reserved_bytes" => statistics.reserved_bytes,
            "memory.waste_bytes" => statistics.waste_bytes,
            "memory.largest_free_range_bytes" => statistics.largest_free_range_bytes,
            "memory.capacity_bytes" => statistics.capacity_bytes,
            "memory.allocations_total" => statistics.allocations_total,
            "memory.releases_total" => statistics.releases_total,
            "pages.derived" => statistics.derived_pages,
            "open.created" => opened.created,
            "open.last_lsn" => opened.last_lsn,
            "open.applied" => opened.applied,
            "open.checkpoint" => opened.checkpoint_lsn,
            "open.torn" => opened.torn,
            "open.torn_lsn" => opened.torn_lsn,
            "open.dropped_segments" => opened.dropped_segments,
            "open.warnings" => opened.warnings,
            "transforms.computed" => self.computed.load(std::sync::atomic::Ordering::Relaxed),
            _ => match absent(name) {
                Some(what) => return Err(Refused::absent(&what).into()),
                None => return self.storage_count(name),
            },
        })
    }

    fn storage_count(&self, name: &str) -> Outcome<u64> {
        let unknown = || {
            let hint = nearest(name, COUNTERS.iter().copied());
            let hint = hint.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
            Fault::new(format!(
                "there is no counter `{name}`{hint}; known are {}",
                COUNTERS.join(", ")
            ))
        };
        if let Some(name) = name.strip_prefix("device.") {
            let device = match &self.bus {
                Some(Drive::Rust(bus)) => bus.statistics().device,
                _ => None,
            };
            if let Some(count) = residence_count(&device.unwrap_or_default(), name) {
                return Ok(count);
            }
            let counters = self.devices.counters().ok_or_else(|| {
                Fault::new(format!(
                    "counter `device.{name}` exists for a simulated device only"
                ))
            })?;
            return device_count(&counters, name).ok_or_else(unknown);
        }
        let operations = match &self.disk {
            Disk::Simulated(storage) if name == "storage.bytes" => return Ok(storage.len_bytes()),
            Disk::Simulated(storage) => storage.operations(),
            Disk::Directory(_) if COUNTERS.contains(&name) => {
                return Err(Fault::new(format!(
                    "counter `{name}` exists for simulated storage only"
                )));
            }
            Disk::Directory(_) => return Err(unknown()),
        };
        Ok(match name {
            "storage.writes" => operations.writes,
            "storage.written_bytes" => operations.written_bytes,
            "storage.reads" => operations.reads,
            "storage.syncs" => operations.syncs,
            "storage.name_syncs" => operations.name_syncs,
            "storage.creates" => operations.creates,
            "storage.removes" => operations.removes,
            "storage.renames" => operations.renames,
            _ => return Err(unknown()),
        })
    }
}

/// What the bus counts of its pages on any device.
fn residence_count(device: &DeviceStatistics, name: &str) -> Option<u64> {
    Some(match name {
        "mapped_bytes" => device.mapped_bytes,
        "peak_mapped_bytes" => device.peak_mapped_bytes,
        "resident_pages" => device.resident.pages,
        "evicted_pages" => device.resident.evicted_pages,
        "evictions" => device.evictions,
        "evicted_bytes" => device.evicted_bytes,
        "fetched_pages" => device.fetched_pages,
        "fetched_bytes" => device.fetched_bytes,
        "mirrors" => device.resident.mirrors,
        "mirror_bytes" => device.resident.mirror_bytes,
        "mirror_evictions" => device.mirror_evictions,
        "mirror_uploads" => device.mirror_uploads,
        "mirror_uploaded_bytes" => device.mirror_uploaded_bytes,
        _ => return None,
    })
}

fn device_count(counters: &SimulatedCounters, name: &str) -> Option<u64> {
    Some(match name {
        "maps" => counters.maps,
        "unmaps" => counters.unmaps,
        "pins" => counters.pins,
        "uploads" => counters.uploads,
        "uploaded_bytes" => counters.uploaded_bytes,
        "downloads" => counters.downloads,
        "downloaded_bytes" => counters.downloaded_bytes,
        "launches" => counters.launches,
        "waits" => counters.waits,
        "resets" => counters.resets,
        "faults" => counters.faults,
        _ => return None,
    })
}

/// The LSN of the checkpoint that opening started from; 0 for none.
fn checkpoint(report: &OpenReport) -> u64 {
    report.checkpoint.map_or(0, |lsn| lsn.0)
}

fn bound(
    stage: &Stage,
    num: &Num,
    words: &str,
    holds: impl Fn(u64) -> bool,
) -> Outcome<(bool, String)> {
    let wanted = num.eval(&stage.scope)?;
    Ok((holds(wanted), format!("{words}{wanted}")))
}

struct Text<'a>(&'a Option<String>);

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(text) => write!(f, "`{}`", text.escape_default()),
            None => f.write_str("absent"),
        }
    }
}

fn equal<T: PartialEq + std::fmt::Display>(what: &str, expected: &T, found: &T) -> Outcome {
    if expected == found {
        Ok(())
    } else {
        Err(Fault::new(format!(
            "{what} is {found}, expected {expected}"
        )))
    }
}

/// The digest of a page; `None` if it is stale.
fn digest(bus: &Drive, id: PageId) -> Outcome<Option<[u8; 32]>> {
    match bus.read(id) {
        Ok(bytes) => Ok(Some(blake3::hash(&bytes).into())),
        Err(refused) if refused.is_stale_derived() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The checks that need nothing but the bytes of pages; `None` for all others.
pub(crate) fn of_bytes(stage: &Stage, bus: &Drive, expect: &Expect) -> Option<Outcome> {
    match expect {
        Expect::Page(check) if check.snapshot.is_none() => Some(page(stage, bus, check)),
        Expect::Same(names) => Some(same(stage, bus, names)),
        Expect::Equal(equal) => Some(ranges(stage, bus, equal)),
        Expect::Zero(region) => Some(zero(stage, bus, region)),
        _ => None,
    }
}

fn page(stage: &Stage, bus: &Drive, check: &PageCheck) -> Outcome {
    // A copy, because a check that copies from another page must not hold on to this one.
    let bytes = bus.read(stage.id(&check.page)?)?.to_vec();
    content(stage, bus, check, &bytes)
}

fn content(stage: &Stage, bus: &Drive, check: &PageCheck, bytes: &[u8]) -> Outcome {
    let at = check.at.eval(&stage.scope)?;
    let len = check
        .len
        .as_ref()
        .map(|len| len.eval(&stage.scope))
        .transpose()?;
    match &check.content {
        Content::Digest(expected) => hash(&check.page, expected, data::range(bytes, at, len)?),
        Content::Data(wanted) => {
            let rest = len.unwrap_or((bytes.len() as u64).saturating_sub(at));
            let expected = match wanted {
                Data::Copy(_) => data::bytes(stage, bus, wanted, PageKey::New(u32::MAX), at)?,
                _ => wanted
                    .to_bytes(&stage.scope, Some(rest))?
                    .map(std::borrow::Cow::into_owned)
                    .unwrap_or_default(),
            };
            let found = data::range(bytes, at, Some(len.unwrap_or(expected.len() as u64)))?;
            differ(&check.page, at, &expected, found)
        }
    }
}

fn differ(page: &Name, at: u64, expected: &[u8], found: &[u8]) -> Outcome {
    let Some(difference) = Difference::between(&format!("`{page}`"), at, SIDES, expected, found)
    else {
        return Ok(());
    };
    let mut fault = Fault::new(format!("page `{page}` does not hold the expected bytes"));
    fault.difference = Some(difference);
    Err(fault)
}

fn hash(page: &Name, expected: &Digest, bytes: &[u8]) -> Outcome {
    let found = match expected {
        Digest::Blake3(_) => Digest::Blake3(DigestHex(blake3::hash(bytes).into())),
        Digest::Sha256(_) => Digest::Sha256(DigestHex(sha2::Sha256::digest(bytes).into())),
        Digest::Git(_) => {
            let mut hasher = sha1::Sha1::new();
            hasher.update(format!("blob {}\0", bytes.len()));
            hasher.update(bytes);
            Digest::Git(DigestHex(hasher.finalize().into()))
        }
    };
    if found == *expected {
        return Ok(());
    }
    let text = |digest: &Digest| match digest {
        Digest::Blake3(digest) => format!("blake3:{digest}"),
        Digest::Sha256(digest) => format!("sha256:{digest}"),
        Digest::Git(digest) => format!("git:{digest}"),
    };
    let (len, found, expected) = (bytes.len(), text(&found), text(expected));
    Err(Fault::new(format!(
        "the digest of {len} bytes of page `{page}` is {found}, expected {expected}"
    )))
}

/// Pages that hold the same bytes, as of one moment.
fn same(stage: &Stage, bus: &Drive, names: &[Name]) -> Outcome {
    let ids = names
        .iter()
        .map(|name| stage.id(name))
        .collect::<Outcome<Vec<_>>>()?;
    let view = bus.view(&ids)?;
    let mut pages = names.iter().zip(view.pages());
    let Some((first, (_, expected))) = pages.next() else {
        return Ok(());
    };
    for (name, (_, found)) in pages {
        let difference =
            Difference::between(&format!("`{name}`"), 0, ["first", "other"], expected, found);
        if difference.is_some() {
            let mut fault = Fault::new(format!(
                "pages `{first}` and `{name}` do not hold the same bytes"
            ));
            fault.difference = difference;
            return Err(fault);
        }
    }
    Ok(())
}

fn ranges(stage: &Stage, bus: &Drive, check: &Equal) -> Outcome {
    let (left, right) = (stage.id(&check.page)?, stage.id(&check.to.page)?);
    let view = bus.view(&[left, right])?;
    let (left, right) = (
        view.page(left).unwrap_or_default(),
        view.page(right).unwrap_or_default(),
    );
    let eval = |len: &Option<Num>| len.as_ref().map(|len| len.eval(&stage.scope)).transpose();
    let (at, to_at) = (
        check.at.eval(&stage.scope)?,
        check.to.at.eval(&stage.scope)?,
    );
    let expected = data::range(left, at, eval(&check.len)?)?;
    let found = data::range(
        right,
        to_at,
        Some(eval(&check.to.len)?.unwrap_or(expected.len() as u64)),
    )?;
    differ(&check.to.page, to_at, expected, found)
}

fn zero(stage: &Stage, bus: &Drive, region: &Region) -> Outcome {
    let bytes = bus.read(stage.id(&region.page)?)?;
    let at = region.at.eval(&stage.scope)?;
    let len = region
        .len
        .as_ref()
        .map(|len| len.eval(&stage.scope))
        .transpose()?;
    let found = data::range(&bytes, at, len)?;
    if found.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    differ(&region.page, at, &vec![0; found.len()], found)
}
