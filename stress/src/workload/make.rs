//! Makes the scenario of a seed.

use mmsb_harness::scenario::ast::{
    Allocate, Compress, Durability, NewPage, Options, Propagation, Replay, Retain, Scenario, Step,
    StorageKind,
};
use mmsb_harness::scenario::data::Data;
use mmsb_harness::scenario::expect::{Content, Expect, PageCheck};
use mmsb_harness::scenario::num::Num;
use mmsb_harness::scenario::value::{Hex, Map, Name};
use mmsb_harness::world::generate::{Choice, Generator, Profile, Verb};

use super::{Kind, Rng};

/// What a scenario is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// Simulated storage, with faults and crashes.
    Simulated,
    /// As [`Flavour::Simulated`], and the log is replayed again and again with 1, 2 and 8 appliers.
    Replayed,
    /// Real files, in a process that is killed: nothing that could not be resumed.
    Killed,
    /// Real files and several threads.
    Threads,
}

/// A scenario, and what it was drawn as.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The workload.
    pub kind: Kind,
    /// The scenario.
    pub scenario: Scenario,
}

/// The page of a canary, which expects what cannot be.
pub const CANARY_PAGE: &str = "canary";

/// Verbs a scenario at least, and how often that number may be doubled.
const MIN_VERBS: u64 = 16;
const MAX_DOUBLINGS: u64 = 5;
/// How much rarer than usual the ends of a bus are in a seed: one seed in two keeps to the usual.
const LIVES: &[u64] = &[1, 1, 1, 8, 16, 32];
/// Scenarios in which a bus lives longer are longer themselves, up to so many times.
const MAX_LONGER: u64 = 8;
/// Fewer where a step writes so much that the log, which is kept in memory, would come to a hundred MB.
const MAX_LONGER_LARGE: u64 = 2;
/// Fewer where the log is replayed again and again, each time from its beginning.
const MAX_LONGER_REPLAYED: u64 = 2;
/// What the memory of a simulated device comes in.
const DEVICE_GRANULE_BYTES: u64 = 64 << 10;
/// A storm lasts for so many verbs at most.
const MAX_STORM: u64 = 24;

/// The scenario of a seed. With `canary` it has an expectation that must fail.
#[must_use]
pub fn make(flavour: Flavour, seed: u64, canary: bool) -> Made {
    make_as(Kind::of_seed(seed), flavour, seed, canary)
}

/// The scenario of a seed, as if the seed were one of this workload.
fn make_as(kind: Kind, flavour: Flavour, seed: u64, canary: bool) -> Made {
    // A new version draws anew.
    let mut rng = Rng::new(seed, &format!("{} {}", kind.as_str(), kind.version()));
    let (profile, options) = swarm(kind, flavour, &mut rng);
    // How long a bus lives before it is closed, or dies: a state that has aged is not one that was just recovered.
    let life = rng.pick(LIVES).unwrap_or(1);
    let weights = weights(kind, flavour, life, &mut rng);
    let mut verbs = {
        let doublings = rng.below(MAX_DOUBLINGS + 1);
        let base = MIN_VERBS << doublings;
        let longer = match flavour {
            Flavour::Simulated if kind == Kind::LargePages => MAX_LONGER_LARGE,
            Flavour::Simulated => MAX_LONGER,
            Flavour::Replayed => MAX_LONGER_REPLAYED,
            // Every sync of a real disk takes its time, and a scenario that takes too long is a finding.
            Flavour::Threads | Flavour::Killed => 1,
        };
        (base + rng.below(base)) * life.min(longer)
    };
    if flavour == Flavour::Killed {
        // It is killed long before the end.
        verbs += 400;
    }
    let canary_at = canary.then(|| {
        if flavour == Flavour::Killed {
            0
        } else {
            rng.below(verbs)
        }
    });
    let mut generator = Generator::new(profile);
    let mut storm_left = 0;
    let mut canary_waits = canary;
    for number in 0..verbs {
        if storm_left > 0 {
            storm_left -= 1;
            if storm_left == 0 {
                generator.apply(Verb::EndStorm, Choice::default());
            }
        }
        if canary_waits && storm_left == 0 && canary_at.is_some_and(|at| number >= at) {
            generator.insert(canary_steps());
            canary_waits = false;
        }
        let verb = draw_verb(&weights, &mut rng);
        let choice = choice(&mut rng);
        let length = 2 + rng.below(MAX_STORM);
        if generator.apply(verb, choice) && verb == Verb::BeginStorm {
            storm_left = length;
        }
        if flavour == Flavour::Replayed && storm_left == 0 && rng.one_in(20 * life.min(4)) {
            generator.insert(replays());
        }
    }
    if canary_waits {
        generator.apply(Verb::EndStorm, Choice::default());
        generator.insert(canary_steps());
    }
    let mut scenario = generator.finish(options);
    scenario.about = format!("Made by {} {}, seed {seed}.", kind.as_str(), kind.version());
    Made { kind, scenario }
}

/// Draws how this seed differs from the usual.
fn swarm(kind: Kind, flavour: Flavour, rng: &mut Rng) -> (Profile, Options) {
    let mut profile = kind.profile();
    let num = |value: u64| Some(Num::from(value));
    let mut options = Options {
        segment: rng
            .pick(&[
                None,
                num_of(8192),
                num_of(8192),
                num_of(16_384),
                num_of(40_960),
            ])
            .flatten()
            .map(Num::from),
        compress: rng.one_in(3).then_some(Compress::Zstd),
        propagation: rng.one_in(3).then_some(Propagation::Deferred),
        ..Options::default()
    };
    // Threads that start and end cost twenty times what they do here, so few of the seeds that live of speed have them.
    profile.parallel = match flavour {
        Flavour::Simulated => rng.one_in(32),
        Flavour::Replayed | Flavour::Killed | Flavour::Threads => rng.one_in(3),
    };
    if profile.parallel {
        options.threads = rng.one_in(2).then(|| Num::from(1 + rng.below(3)));
        options.appliers = rng.one_in(2).then(|| Num::from(1 + rng.below(4)));
    }
    if rng.one_in(4) {
        options.durability = rng.pick(&[Durability::Memory, Durability::Buffered]);
        profile.says_sync = true;
    }
    let trims = rng.one_in(3);
    if trims && flavour != Flavour::Replayed {
        options.retain = Some(Retain::Checkpoints);
        profile.replays = false;
        if rng.one_in(3) {
            options.history = num(1024 << rng.below(6));
        }
    }
    if kind == Kind::DevicePressure {
        // Between what one long page and its copy need, and what all pages do.
        let resident_bytes = (10 + rng.below(20)) * DEVICE_GRANULE_BYTES;
        profile.resident_bytes = Some(resident_bytes);
        options.resident = num(resident_bytes);
        options.device_seed = num(rng.below(1000));
    }
    match flavour {
        Flavour::Threads => {
            options.storage = Some(StorageKind::Fs);
            profile.storage = StorageKind::Fs;
        }
        Flavour::Killed => {
            profile.crashes = false;
            profile.replays = false;
        }
        Flavour::Simulated | Flavour::Replayed => {}
    }
    (profile, options)
}

const fn num_of(value: u64) -> Option<u64> {
    Some(value)
}

/// The weights of this seed: most as usual, some several times as much, some nothing.
fn weights(kind: Kind, flavour: Flavour, life: u64, rng: &mut Rng) -> Vec<(Verb, u64)> {
    let mut weights = kind.weights();
    for (verb, weight) in &mut weights {
        let factor = rng.pick(&[0, 1, 1, 1, 2, 4]).unwrap_or(1);
        let needed = matches!(verb, Verb::Commit);
        *weight *= if needed { factor.max(1) } else { factor };
        // Weights are in proportion: what keeps its weight while others grow is rarer.
        if !ends_a_life(*verb) {
            *weight *= life;
        }
        if !suits(flavour, *verb) {
            *weight = 0;
        }
    }
    weights.retain(|(_, weight)| *weight > 0);
    weights
}

/// Whether a verb ends the life of a bus, or rebuilds its state from the log, which costs as much.
fn ends_a_life(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Reopen
            | Verb::Reconfigure
            | Verb::Crash
            | Verb::CrashProcess
            | Verb::CrashDrawn
            | Verb::BeginStorm
            | Verb::Replay
    )
}

/// Whether a verb makes sense in a scenario of this flavour.
fn suits(flavour: Flavour, verb: Verb) -> bool {
    use Verb as V;
    let faults = matches!(verb, V::BeginStorm | V::CrashDrawn);
    match flavour {
        // Faults of a device are steps, and strike what comes next.
        Flavour::Threads if matches!(verb, V::LoseDevice | V::ExhaustDevice) => false,
        // Threads leave the order of commits open, and all else here is the same every time.
        Flavour::Simulated | Flavour::Replayed => verb != V::Concurrent,
        Flavour::Threads => !faults,
        Flavour::Killed => {
            !faults
                && !matches!(
                    verb,
                    V::Crash
                        | V::CrashProcess
                        | V::Mark
                        | V::Replay
                        | V::Listen
                        | V::Concurrent
                        | V::LoseDevice
                        | V::ExhaustDevice
                )
        }
    }
}

fn draw_verb(weights: &[(Verb, u64)], rng: &mut Rng) -> Verb {
    let total = weights.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.below(total);
    for (verb, weight) in weights {
        if left < *weight {
            return *verb;
        }
        left -= weight;
    }
    Verb::Commit
}

fn choice(rng: &mut Rng) -> Choice {
    let (first, second) = (rng.draw(), rng.draw());
    let low = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or_default();
    Choice {
        verb: 0,
        a: low(first),
        b: low(first >> 32),
        c: low(second),
    }
}

/// The log replayed from zero, by one applier and by several.
fn replays() -> impl Iterator<Item = Step> {
    [1, 2, 8].into_iter().map(|appliers| {
        Step::Replay(Replay {
            appliers: Some(Num::from(appliers)),
            ..Replay::default()
        })
    })
}

/// Steps of which the last must fail.
fn canary_steps() -> [Step; 3] {
    let page = || Name::new(CANARY_PAGE);
    let hex = |byte: u8| Data::Hex(Hex::new(vec![byte; 4]));
    [
        Step::Allocate(Allocate {
            pages: vec![NewPage {
                location: None,
                page: page(),
                size: Some(Num::from(8)),
                fill: Some(hex(0x5a)),
                meta: Map::default(),
                derive: None,
            }],
        }),
        Step::Commit(Some(Durability::Sync)),
        Step::Expect(Expect::Page(PageCheck {
            page: page(),
            snapshot: None,
            at: Num::ZERO,
            len: None,
            content: Content::Data(hex(0xa5)),
        })),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use mmsb_harness::kill;
    use mmsb_harness::scenario::{parse_str, print};
    use std::collections::BTreeSet;

    const FLAVOURS: [Flavour; 4] = [
        Flavour::Simulated,
        Flavour::Replayed,
        Flavour::Killed,
        Flavour::Threads,
    ];

    #[test]
    fn what_is_made_is_a_scenario_that_reads_back() {
        for flavour in FLAVOURS {
            for seed in 0..60 {
                let made = make(flavour, seed, seed % 5 == 0).scenario;
                let text = print(&made);
                let read = parse_str("made", &text)
                    .unwrap_or_else(|errors| panic!("{flavour:?} {seed}: {}\n{text}", errors[0]));
                assert_eq!(read, made, "{flavour:?} {seed}");
            }
        }
    }

    #[test]
    fn seeds_draw_every_workload_and_the_flavours_keep_their_limits() {
        let kinds: BTreeSet<Kind> = (0..300)
            .map(|seed| make(Flavour::Simulated, seed, false).kind)
            .collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        for seed in 0..60 {
            kill::check(&make(Flavour::Killed, seed, seed == 0).scenario).unwrap();
            let threads = print(&make(Flavour::Threads, seed, false).scenario);
            assert!(!threads.contains("storm:") && !threads.contains("fault:"));
        }
        let storms = (0..60).filter(|seed| {
            print(&make(Flavour::Simulated, *seed, false).scenario).contains("- storm:")
        });
        assert!(storms.count() > 15);
    }

    fn hashes(flavours: &[Flavour], make: impl Fn(Flavour, u64) -> Made) -> String {
        let mut found = String::new();
        for flavour in flavours.iter().copied() {
            for seed in [1, 2, 3, 4, 5] {
                let made = make(flavour, seed);
                let text = mmsb_harness::scenario::print(&made.scenario);
                let hash = blake3::hash(text.as_bytes()).to_hex();
                found.push_str(&format!(
                    "{flavour:?} {seed} {} {}\n",
                    made.kind.as_str(),
                    &hash[..16]
                ));
            }
        }
        found
    }

    /// If this fails, seeds have changed their meaning: raise the version of the workload, and put in what is printed.
    #[test]
    fn seeds_keep_their_meaning() {
        let found = hashes(&FLAVOURS, |flavour, seed| make(flavour, seed, false));
        assert_eq!(found, include_str!("golden.txt"), "{found}");
        let found = hashes(&FLAVOURS[..3], |flavour, seed| {
            make_as(Kind::DevicePressure, flavour, seed, false)
        });
        assert_eq!(found, include_str!("golden-device.txt"), "{found}");
    }

    #[test]
    fn one_seed_in_eleven_presses_a_device_and_no_other_draws_it() {
        let pressing = (0..1100).filter(|seed| Kind::of_seed(*seed) == Kind::DevicePressure);
        let count = pressing.count();
        assert!((60..140).contains(&count), "{count}");
    }

    #[test]
    fn a_device_under_pressure_is_what_the_model_is() {
        let seeds = std::env::var("PRESSURE_SEEDS").ok();
        let seeds = seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
        let mut seen = String::new();
        for seed in 0..seeds {
            let made = make_as(Kind::DevicePressure, Flavour::Simulated, seed, false);
            let text = print(&made.scenario);
            let outcome = mmsb_harness::world::run(
                &made.scenario,
                &mmsb_harness::scenario::Cell::default(),
                &mmsb_harness::world::Context::default(),
            );
            assert_eq!(outcome.failure(), None, "seed {seed}\n{text}");
            seen.push_str(&text);
        }
        for word in [
            "- evict:",
            "- prefetch:",
            "on_device:",
            "device.upload, kind:",
            "device.map, kind:",
            "page: huge",
            "- restore_device",
            "location: unified",
            "location: device",
        ] {
            assert!(seen.contains(word), "{word}");
        }
    }
}
