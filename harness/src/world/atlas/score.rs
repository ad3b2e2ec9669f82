//! The scorecard: every field of every file, damaged in every simple way, and what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mmsb_engine::inspect::{Field, Inspection};

use super::judge::{Judgement, judge};
use crate::scenario::parse_str;
use crate::world::SimulatedStorage;
use crate::world::failure::{Fault, Outcome};
use crate::world::open::Disk;
use crate::world::run::{Context, World};
use crate::world::storage::Image;

/// A run that leaves every kind of field: every operation, small and large writes, padding, several segments, images
/// that build on each other, a segment in reserve, and the mark of a close.
const RUN: &str = "\
version: 1
about: What the scorecard damages.
pages:
  a: {size: 64, meta: {owner: qa}}
  b: {size: 200, fill: {random: 1}}
  big: 3000
  large: 66000
  d: {derive: {copy: [a]}}
steps:
  - write: {page: a, text: one}
  - transfer: {page: b}
  - commit: sync
  - write: {page: large, at: 100, random: {seed: 2, len: 65536}}
  - commit: sync
  - disconnect: d
  - free: b
  - commit: memory
  - checkpoint
  - repeat:
      times: 4
      as: i
      steps:
        - write: {page: big, random: i}
        - commit: sync
        - delta: {page: a, runs: [{at: 1, random: {seed: i, len: 20}}, {at: 40, hex: \"01\"}]}
        - commit: buffered
  - checkpoint
  - write: {page: big, at: 100, random: {seed: 9, len: 100}}
  - commit: sync
  - checkpoint
  - maintain
  - write: {page: a, text: two}
  - commit: memory
  - write: {page: big, text: three}
  - commit: sync
  - expect: {page: big, text: three}
";
const SECTOR_BYTES: usize = 512;

/// One simple way to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// One bit is another.
    FlippedBit,
    /// A sector is zeros.
    ZeroedSector,
    /// Two neighbouring sectors have changed places.
    SwappedSectors,
    /// The file ends there.
    Truncation,
    /// The file is gone.
    Removal,
}

impl Damage {
    /// Every way, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::FlippedBit,
        Self::ZeroedSector,
        Self::SwappedSectors,
        Self::Truncation,
        Self::Removal,
    ];

    /// Its name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FlippedBit => "flipped bit",
            Self::ZeroedSector => "zeroed sector",
            Self::SwappedSectors => "swapped sectors",
            Self::Truncation => "truncation",
            Self::Removal => "removal of the file",
        }
    }
}

/// How often damage came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Score {
    /// The open was refused.
    pub detected: u64,
    /// Everything was there all the same.
    pub recovered: u64,
    /// Something else was there, without a word.
    pub silent: u64,
    /// The engine panicked.
    pub crashed: u64,
}

impl Score {
    fn count(&mut self, judgement: &Judgement) {
        *match judgement {
            Judgement::Detected(_) => &mut self.detected,
            Judgement::Recovered => &mut self.recovered,
            // After a close there is always a witness.
            Judgement::Silent(_) | Judgement::Cut(_) => &mut self.silent,
            Judgement::Crashed(_) => &mut self.crashed,
        } += 1;
    }

    fn add(&mut self, other: &Self) {
        self.detected += other.detected;
        self.recovered += other.recovered;
        self.silent += other.silent;
        self.crashed += other.crashed;
    }
}

/// What came of damage to each field.
#[derive(Clone, Debug, Default)]
pub struct Scorecard {
    /// By the name of the field.
    pub scores: BTreeMap<(&'static str, Damage), Score>,
    /// What must never happen, each with where it did.
    pub unsound: Vec<String>,
}

/// Damages every field of every file that a run leaves, one at a time, and opens what is left. Told the share
/// that is done now and then.
///
/// # Errors
/// Says what went wrong with the run itself, which is a defect of the harness or of the engine.
pub fn scorecard(mut progress: impl FnMut(u64, u64)) -> Result<Scorecard, String> {
    let mut card = Scorecard::default();
    let variants = ["all", "checkpoints"];
    for (number, retain) in (0u64..).zip(variants) {
        let text = format!("{RUN}options: {{segment: 8KiB, retain: {retain}}}\n");
        let scenario = parse_str("the run of the scorecard", &text)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
        let context = Context::default();
        let world = World::new(&scenario, &context)
            .and_then(|world| prepare(world, &scenario))
            .map_err(|fault| fault.message)?;
        let mut report = |done, total| {
            progress(
                number * 1000 + 1000 * done / total,
                1000 * variants.len() as u64,
            );
        };
        card.run(&world, &mut report)
            .map_err(|fault| fault.message)?;
    }
    Ok(card)
}

/// Runs the scenario to its end, and closes the bus.
fn prepare<'c>(mut world: World<'c>, scenario: &crate::scenario::Scenario) -> Outcome<World<'c>> {
    world.remembers_everything();
    world.create()?;
    world.begin_and_run(scenario)?;
    world.close()?;
    Ok(world)
}

impl Scorecard {
    /// All damage to all fields.
    #[must_use]
    pub fn total(&self) -> Score {
        let mut total = Score::default();
        self.scores.values().for_each(|score| total.add(score));
        total
    }

    fn run(&mut self, world: &World<'_>, progress: &mut impl FnMut(u64, u64)) -> Outcome {
        let Disk::Simulated(storage) = &world.disk else {
            return Err(Fault::new("the scorecard needs simulated storage"));
        };
        let image: Image = storage.files().into_iter().collect();
        let files = fields(storage)?;
        let total: usize = files.values().map(Vec::len).sum();
        let mut done = 0;
        for (name, fields) in &files {
            for field in fields {
                self.field(world, &image, name, field);
                done += 1;
                progress(done, total as u64);
            }
            self.sectors(world, &image, name, fields);
            if let Some(first) = fields.first() {
                self.judge(world, &image, name, first, Damage::Removal, 0, |_| {});
            }
        }
        Ok(())
    }

    /// Flips a bit at the beginning, in the middle and at the end of a field, and cuts the file where it begins.
    fn field(&mut self, world: &World<'_>, image: &Image, name: &str, field: &Field) {
        let start = usize::try_from(field.offset).unwrap_or(usize::MAX);
        let last = start + usize::try_from(field.len_bytes - 1).unwrap_or(0);
        for (at, bit) in [(start, 0), (start + (last - start) / 2, 3), (last, 7)] {
            self.judge(world, image, name, field, Damage::FlippedBit, at, |bytes| {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            });
        }
        self.judge(
            world,
            image,
            name,
            field,
            Damage::Truncation,
            start,
            |bytes| {
                bytes.truncate(start);
            },
        );
    }

    /// Zeroes each sector of a file, and swaps it with the next.
    fn sectors(&mut self, world: &World<'_>, image: &Image, name: &str, fields: &[Field]) {
        let len = image.get(name).map_or(0, Vec::len);
        for start in (0..len).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(len);
            let within = |field: &&Field| field.offset <= start as u64;
            let Some(field) = fields.iter().rev().find(within) else {
                continue;
            };
            self.judge(
                world,
                image,
                name,
                field,
                Damage::ZeroedSector,
                start,
                |bytes| {
                    if let Some(sector) = bytes.get_mut(start..end) {
                        sector.fill(0);
                    }
                },
            );
            self.judge(
                world,
                image,
                name,
                field,
                Damage::SwappedSectors,
                start,
                |bytes| {
                    if let Some(both) = bytes.get_mut(start..start + 2 * SECTOR_BYTES) {
                        both.rotate_left(SECTOR_BYTES);
                    }
                },
            );
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is damaged, how, and where, in one place"
    )]
    fn judge(
        &mut self,
        world: &World<'_>,
        image: &Image,
        name: &str,
        field: &Field,
        damage: Damage,
        at: usize,
        change: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut damaged = image.clone();
        if damage == Damage::Removal {
            damaged.remove(name);
        } else if let Some(bytes) = damaged.get_mut(name) {
            change(bytes);
        }
        if damaged == *image {
            return;
        }
        let mut world = world.twin();
        world.disk = Disk::Simulated(SimulatedStorage::of(damaged));
        let safe_lsn = world.model.lsn();
        let judgement = judge(&mut world, safe_lsn);
        self.scores
            .entry((field.name, damage))
            .or_default()
            .count(&judgement);
        if !judgement.is_sound() {
            self.unsound.push(format!(
                "{} at offset {at} of {name} ({}): {judgement}",
                damage.as_str(),
                field.name
            ));
        }
    }

    /// The table, and what it means.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::from(HEAD);
        let total = self.total();
        let _ = writeln!(
            out,
            "**{} detected, {} recovered, {} silent, {} crashed.**\n",
            total.detected, total.recovered, total.silent, total.crashed
        );
        out.push_str("| field |");
        for damage in Damage::ALL {
            let _ = write!(out, " {} |", damage.as_str());
        }
        out.push_str("\n| --- |");
        out.push_str(&" --- |".repeat(Damage::ALL.len()));
        out.push('\n');
        let mut names: Vec<&str> = self.scores.keys().map(|(name, _)| *name).collect();
        names.dedup();
        for name in names {
            let _ = write!(out, "| {name} |");
            for damage in Damage::ALL {
                let score = self.scores.get(&(name, damage));
                let _ = write!(out, " {} |", score.map(cell).unwrap_or_default());
            }
            out.push('\n');
        }
        out
    }
}

const HEAD: &str = "\
# Scorecard

Made by `mmsb scorecard`; do not edit. A run leaves every kind of file and field, once with the whole log and once with only
what its checkpoints need, and is closed. Then one thing is damaged at a time: a bit at the beginning, in the middle and at the end
of each field; each sector of 512 bytes set to zeros, and exchanged with the next; each file cut where a field begins, and removed
(which counts for its first field). What is left
is opened and compared with the model. *detected*: refused with an error. *recovered*: everything is there.
Damage that changes nothing is not counted; a sector counts for the field that it begins with.

";

fn cell(score: &Score) -> String {
    let parts = [
        (score.detected, "detected"),
        (score.recovered, "recovered"),
        (score.silent, "**silent**"),
        (score.crashed, "**crashed**"),
    ];
    let parts = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// The fields of all files.
fn fields(storage: &SimulatedStorage) -> Outcome<BTreeMap<String, Vec<Field>>> {
    let failed = |error: mmsb_engine::inspect::InspectError| Fault::new(error.to_string());
    let inspection = Inspection::new(storage).map_err(failed)?;
    let mut fields = BTreeMap::new();
    for file in inspection.files() {
        fields.insert(
            file.name.clone(),
            inspection.fields(&file.name).map_err(failed)?,
        );
    }
    Ok(fields)
}
