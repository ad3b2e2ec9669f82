//! Traces that are made up: the same for the same seed, on every machine.

use super::trace::{Trace, TraceBuilder};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What kind of trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Training a transformer: weights and optimizer state that stay, activations that a forward pass allocates and the backward pass
    /// frees in opposite order, gradients, short-lived workspaces, and sequences whose length differs from step to step.
    Training,
    /// Many pages of all lengths from 64 B to 64 MiB, one of which is replaced at random at a time.
    Churn,
    /// A buffer that is outgrown again and again: the next one, half as long again, is allocated before the old one is freed; with
    /// small pages in between that stay.
    Growing,
    /// What tears a range apart: pages of a length, every other one freed, and then longer ones that do not fit into the holes.
    Fragmenting,
}

/// Splitmix64: every seed is good.
struct Draw(u64);

impl Draw {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is at least 1.
    const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Every doubling is as likely.
    const fn length(&mut self, from_log: u64, to_log: u64) -> u64 {
        let log = from_log + self.below(to_log - from_log);
        (1 << log) + self.below(1 << log)
    }
}

/// A trace under construction, with ids that are never used twice.
struct Build {
    builder: TraceBuilder,
    next: u64,
    /// Events that are still wanted.
    left: u64,
}

impl Build {
    fn allocate(&mut self, len_bytes: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        self.left = self.left.saturating_sub(1);
        // The id is new and the length is not zero; there may be no more than 2³² of them.
        let _ = self.builder.allocate(id, len_bytes);
        id
    }

    fn free(&mut self, id: u64) {
        self.left = self.left.saturating_sub(1);
        let _ = self.builder.free(id);
    }
}

/// Makes up a trace of about `events` events, a few more so that it ends where it makes sense; `seed` decides on the rest.
///
/// ```
/// use mmsb_harness::gpu::generate::{Kind, generate};
/// let trace = generate(Kind::Churn, 1000, 7);
/// assert_eq!(trace, generate(Kind::Churn, 1000, 7));
/// assert_ne!(trace, generate(Kind::Churn, 1000, 8));
/// ```
#[must_use]
pub fn generate(kind: Kind, events: u32, seed: u64) -> Trace {
    let mut draw = Draw(seed);
    let mut build = Build {
        builder: TraceBuilder::default(),
        next: 0,
        left: events.into(),
    };
    match kind {
        Kind::Training => training(&mut build, &mut draw),
        Kind::Churn => churn(&mut build, &mut draw),
        Kind::Growing => growing(&mut build, &mut draw),
        Kind::Fragmenting => fragmenting(&mut build, &mut draw),
    }
    build.builder.finish()
}

/// A model of the shape of a small language model: 24 layers of width 2048, in 16 bits, with an optimizer of two moments in 32.
fn training(build: &mut Build, draw: &mut Draw) {
    const LAYERS: usize = 24;
    const WIDTH: u64 = 2048;
    let weights = [
        3 * WIDTH * WIDTH,
        WIDTH * WIDTH,
        4 * WIDTH * WIDTH,
        4 * WIDTH * WIDTH,
        2 * WIDTH,
    ];
    for _ in 0..LAYERS {
        for weight in weights {
            build.allocate(2 * weight);
            build.allocate(4 * weight);
            build.allocate(4 * weight);
        }
    }
    while build.left > 0 {
        let tokens = 512 + 64 * draw.below(56);
        let batch = 1 + draw.below(4);
        let rows = batch * tokens;
        let mut activations = Vec::new();
        let inputs = build.allocate(8 * rows);
        for _ in 0..LAYERS {
            for columns in [WIDTH, 3 * WIDTH, WIDTH, 4 * WIDTH, 4 * WIDTH, WIDTH] {
                activations.push(build.allocate(2 * rows * columns));
                let workspace = build.allocate(64 * KIB + draw.below(8 * MIB));
                activations.push(build.allocate(4 * rows));
                build.free(workspace);
            }
        }
        let mut gradients = Vec::new();
        let mut flowing = build.allocate(2 * rows * WIDTH);
        for (number, activation) in activations.into_iter().rev().enumerate() {
            let workspace = build.allocate(64 * KIB + draw.below(8 * MIB));
            build.free(activation);
            build.free(workspace);
            if number % 12 == 11 {
                gradients.extend(weights.map(|weight| build.allocate(2 * weight)));
                let next = build.allocate(2 * rows * WIDTH);
                build.free(flowing);
                flowing = next;
            }
        }
        build.free(flowing);
        build.free(inputs);
        for gradient in gradients {
            let workspace = build.allocate(1 + draw.below(512));
            build.free(gradient);
            build.free(workspace);
        }
    }
}

fn churn(build: &mut Build, draw: &mut Draw) {
    let live_count = (build.left / 8).clamp(1, 4096);
    let mut live: Vec<u64> = (0..live_count)
        .map(|_| build.allocate(draw.length(6, 26)))
        .collect();
    while build.left > 0 {
        let victim = draw.below(live_count) as usize;
        if let Some(id) = live.get_mut(victim) {
            build.free(*id);
            *id = build.allocate(draw.length(6, 26));
        }
    }
}

fn growing(build: &mut Build, draw: &mut Draw) {
    while build.left > 0 {
        let mut len_bytes = draw.length(12, 16);
        let mut buffer = build.allocate(len_bytes);
        while len_bytes < 512 * MIB {
            len_bytes += len_bytes / 2;
            let next = build.allocate(len_bytes);
            build.free(buffer);
            buffer = next;
            if draw.below(8) == 0 {
                build.allocate(draw.length(6, 14));
            }
        }
        build.free(buffer);
    }
}

fn fragmenting(build: &mut Build, draw: &mut Draw) {
    while build.left > 0 {
        let len_bytes = draw.length(16, 22);
        let count = 64 + draw.below(64);
        let pages: Vec<u64> = (0..count).map(|_| build.allocate(len_bytes)).collect();
        let (freed, kept): (Vec<_>, Vec<_>) = pages.into_iter().partition(|id| id % 2 == 0);
        for id in freed {
            build.free(id);
        }
        let longer: Vec<u64> = (0..count / 4)
            .map(|_| build.allocate(len_bytes + len_bytes / 4 + draw.below(len_bytes)))
            .collect();
        for id in kept.into_iter().chain(longer) {
            build.free(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Event;

    #[test]
    fn every_kind_has_about_as_many_events_as_asked_for_and_depends_on_the_seed() {
        for kind in [
            Kind::Training,
            Kind::Churn,
            Kind::Growing,
            Kind::Fragmenting,
        ] {
            let trace = generate(kind, 10_000, 1);
            let count = trace.events().len();
            assert!((10_000..13_000).contains(&count), "{kind:?}: {count}");
            assert_eq!(trace, generate(kind, 10_000, 1), "{kind:?}");
            assert_ne!(trace, generate(kind, 10_000, 2), "{kind:?}");
            let frees = trace.events().iter();
            let frees = frees.filter(|event| matches!(event, Event::Free { .. }));
            assert!(frees.count() * 3 > count, "{kind:?} hardly frees");
            assert!(trace.peak_bytes() < 80 << 30, "{kind:?}");
        }
    }
}
