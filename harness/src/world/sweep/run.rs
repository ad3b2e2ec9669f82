//! Tries every window of a journal.

use std::collections::HashSet;

use super::coverage::Coverage;
use super::damage::{self, Damage, Grain};
use super::ledger::Ledger;
use super::window::{Bounds, as_step, recover};
use crate::scenario::ast::Step;
use crate::scenario::crash::{Crash, Window};
use crate::scenario::print_trace_line;
use crate::world::failure::{Fault, Outcome};
use crate::world::run::{Progress, World};
use crate::world::storage::{Image, Journal};

impl World<'_> {
    /// Crashes at every moment of the journal, in every way. The world itself stays as it is.
    pub(crate) fn sweep(&mut self, journal: &Journal, again: bool, grain: Grain) -> Outcome {
        if let Some(why) = journal.unfit {
            return Err(Fault::new(format!("nothing can be swept here: {why}")));
        }
        let mut sweep = Sweep {
            world: self,
            again,
            grain,
            coverage: Coverage::default(),
            seen: HashSet::new(),
        };
        let total = journal.io_count();
        let mut ledger = Ledger::new(journal);
        let result = loop {
            if let Err(fault) = sweep.moment(&ledger, total) {
                break Err(fault);
            }
            if !ledger.advance() {
                break Ok(());
            }
        };
        let coverage = sweep.coverage;
        self.totals.coverage.add(&coverage);
        result
    }
}

struct Sweep<'w, 'c> {
    world: &'w World<'c>,
    again: bool,
    grain: Grain,
    coverage: Coverage,
    /// Keys of the disks that were recovered from. Only asked whether it holds one, so its order is of no account.
    seen: HashSet<([u8; 32], bool)>,
}

impl Sweep<'_, '_> {
    fn moment(&mut self, ledger: &Ledger<'_>, total: usize) -> Outcome {
        self.coverage.moments += 1;
        let damages = damage::all(&ledger.pending, self.grain);
        self.coverage.windows += damages.len() as u64;
        let bounds = Bounds::of(ledger);
        for damage in damages {
            let (image, key) = ledger.image(&damage);
            self.coverage.covered += 1;
            // Cuts at bytes leave what cuts at sectors leave, as far as a second crash can tell.
            let again = self.again && damage.tear.is_none_or(is_coarse);
            // Who was recovered from without a second crash may have to be once more with one.
            let is_new = self.seen.insert((key, again));
            if !is_new || (!again && self.seen.contains(&(key, true))) {
                continue;
            }
            self.coverage.recoveries += 1;
            let recovered = recover(self.world, image, bounds, again, true)
                .map_err(|fault| at(fault, ledger.done, total, &damage, None))?;
            if let Some(journal) = &recovered.journal {
                self.inside(journal, recovered.lsn, ledger.done, total, &damage)?;
            }
        }
        self.world.report(Progress {
            steps: self.world.steps(),
            done_bytes: ledger.done as u64,
            total_bytes: total as u64,
        });
        Ok(())
    }

    /// Crashes at every moment of a recovery.
    fn inside(
        &mut self,
        journal: &Journal,
        lsn: u64,
        first: usize,
        total: usize,
        damage: &Damage,
    ) -> Outcome {
        let last = journal.io_count();
        let mut ledger = Ledger::new(journal);
        loop {
            let mut bounds = Bounds::of(&ledger);
            if ledger.done == last {
                // The recovery came to an end, so what it found was made durable by it.
                bounds.safe_lsn = lsn;
            }
            let damages = damage::all(&ledger.pending, Grain::Sector);
            self.coverage.again += damages.len() as u64;
            for second in damages {
                // The recoveries of two disks are two journals, with versions of their own: only bytes can be compared.
                let (image, _) = ledger.image(&second);
                let key = key_of_bytes(&image, bounds);
                self.coverage.again_covered += 1;
                if !self.seen.insert((key, false)) {
                    continue;
                }
                self.coverage.recoveries += 1;
                recover(self.world, image, bounds, false, false).map_err(|fault| {
                    let again = as_step(ledger.done, &second, None);
                    at(fault, first, total, damage, Some(again))
                })?;
            }
            if !ledger.advance() {
                return Ok(());
            }
        }
    }
}

fn is_coarse(tear: damage::Tear) -> bool {
    tear.from.is_multiple_of(512) && tear.to.is_multiple_of(512)
}

fn key_of_bytes(image: &Image, bounds: Bounds) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in image {
        hasher.update(name.as_bytes());
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    hasher.update(&bounds.safe_lsn.to_le_bytes());
    hasher.update(&bounds.issued_lsn.to_le_bytes());
    hasher.finalize().into()
}

/// Says which window a fault was found in, and the step that leads straight to it.
fn at(
    mut fault: Box<Fault>,
    done: usize,
    total: usize,
    damage: &Damage,
    again: Option<Window>,
) -> Box<Fault> {
    let inside = if again.is_some() {
        " and once more inside its recovery"
    } else {
        ""
    };
    let step = Step::Crash(Crash::At(as_step(done, damage, again)));
    fault.message = format!(
        "after a crash at operation {done} of {total}{inside}: {}; this step alone shows it: {}",
        fault.message,
        print_trace_line(&step)
    );
    fault.place = None;
    fault
}
