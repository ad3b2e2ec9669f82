//! Steps that write to pages.

use super::{Choice, Generator, num, random, wrap};
use crate::scenario::ast::{Delta, Diff, Masked, Scatter, Step, Write};
use crate::scenario::data::{Data, Fill, Random, Region, Run};
use crate::scenario::num::Num;
use crate::scenario::value::Hex;

impl Generator {
    pub(super) fn stage(&mut self, step: Step, structural: bool) -> Option<()> {
        self.staged = true;
        self.structural |= structural;
        self.push(step);
        Some(())
    }

    pub(super) fn stage_write(&mut self, at: usize, step: Step) -> Option<()> {
        self.update(at, |page| page.written = true);
        self.stage(step, false)
    }

    pub(super) fn write(&mut self, choice: Choice) -> Option<()> {
        let (at, page, len) = self.base(choice.a)?;
        let start = wrap(choice.b, len);
        let longest = (len - start).min(self.profile.max_write_bytes.max(1));
        let data = random(choice.c, 1 + wrap(choice.c / 7, longest));
        self.stage_write(
            at,
            Step::Write(Write {
                page,
                at: num(start),
                data,
            }),
        )
    }

    pub(super) fn fill(&mut self, choice: Choice) -> Option<()> {
        let (at, page, _) = self.base(choice.a)?;
        let data = Data::Fill(Fill {
            byte: num(wrap(choice.c, 256)),
            len: None,
        });
        self.stage_write(
            at,
            Step::Write(Write {
                page,
                at: Num::ZERO,
                data,
            }),
        )
    }

    pub(super) fn delta(&mut self, choice: Choice) -> Option<()> {
        let (at, page, len) = self.base(choice.a)?;
        let runs = (0..1 + choice.c % 3).map(|number| {
            let start = wrap(choice.b.wrapping_mul(number * 2 + 1), len);
            let run_len = 1 + wrap(choice.c / 3, (len - start).min(20));
            Run {
                at: num(start),
                data: random(choice.c.wrapping_add(number), run_len),
            }
        });
        let runs = runs.collect();
        self.stage_write(at, Step::Delta(Delta { page, runs }))
    }

    pub(super) fn masked(&mut self, choice: Choice) -> Option<()> {
        let (at, page, len) = self.base(choice.a)?;
        let start = wrap(choice.b, len);
        let data_len = (1 + wrap(choice.c, 8)).min(len - start);
        // At least one bit, and none beyond the data.
        let mask = (choice.c.to_le_bytes()[1] | 1) & (0xff >> (8 - data_len.clamp(1, 8)));
        let step = Masked {
            page,
            at: num(start),
            mask: Hex::new(vec![mask]),
            data: random(choice.c, data_len),
        };
        self.stage_write(at, Step::Masked(step))
    }

    pub(super) fn diff(&mut self, choice: Choice) -> Option<()> {
        let (at, page, len) = self.base(choice.a)?;
        let to = match choice.b % 3 {
            0 => Data::Random(Random {
                seed: num(u64::from(choice.c)),
                len: None,
            }),
            1 => Data::Fill(Fill {
                byte: num(wrap(choice.c, 256)),
                len: None,
            }),
            _ => random(choice.c, 1 + wrap(choice.b, len)),
        };
        self.stage_write(at, Step::Diff(Diff { page, to }))
    }

    pub(super) fn scatter(&mut self, choice: Choice) -> Option<()> {
        let (at, page, len) = self.base(choice.a)?;
        let step = Scatter {
            page,
            runs: num(1 + wrap(choice.b, 8)),
            len: num(1 + wrap(choice.c, len.min(32))),
            seed: num(u64::from(choice.c)),
        };
        self.stage_write(at, Step::Scatter(step))
    }

    pub(super) fn copy(&mut self, choice: Choice) -> Option<()> {
        let (at, page, len) = self.base(choice.a)?;
        let (_, from, from_len) = self.base(choice.b)?;
        let start = wrap(choice.c, from_len);
        let copied = 1 + wrap(choice.c / 3, (from_len - start).min(len));
        let data = Data::Copy(Region {
            page: from,
            at: num(start),
            len: Some(num(copied)),
        });
        self.stage_write(
            at,
            Step::Write(Write {
                page,
                at: num(wrap(choice.b / 3, len - copied + 1)),
                data,
            }),
        )
    }
}
