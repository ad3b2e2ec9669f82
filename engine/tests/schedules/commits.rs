//! Commits, views and frees of several threads, against the model.

use std::sync::Arc;

use mmsb_engine::{Bus, Options, Propagation};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::explore::explore;
use crate::history::{Cast, History};
use crate::memory::Memory;
use crate::world::{connect, open, options, pages};

type Program = fn(&Bus, &Cast, &History);

fn run(count: usize, options: Options, programs: &[Program]) {
    let storage = Memory::default();
    let bus = open(&storage, options);
    let cast = Cast {
        pages: pages(&bus, count),
        derived: None,
    };
    play(bus, cast, programs);
}

fn play(bus: Bus, cast: Cast, programs: &[Program]) {
    let shared = Arc::new((bus, cast, History::default()));
    let threads: Vec<_> = programs
        .iter()
        .map(|program| {
            let (shared, program) = (Arc::clone(&shared), *program);
            thread::spawn(move || program(&shared.0, &shared.1, &shared.2))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let (bus, cast, history) = &*shared;
    let all: Vec<usize> = (0..cast.pages.len()).collect();
    for page in all {
        history.read(bus, cast, page);
    }
    history.check(cast);
}

#[test]
fn disjoint_and_overlapping_commits() {
    explore(|| {
        run(
            3,
            options(),
            &[
                |bus, cast, history| {
                    history.fill(bus, cast, &[0], 1);
                    history.fill(bus, cast, &[0, 1], 2);
                },
                |bus, cast, history| {
                    history.fill(bus, cast, &[1, 2], 3);
                    history.fill(bus, cast, &[0, 2], 4);
                },
                |bus, cast, history| {
                    history.read(bus, cast, 1);
                    history.read(bus, cast, 0);
                    history.fill(bus, cast, &[2], 5);
                },
            ],
        );
    });
}

#[test]
fn views_are_cuts() {
    explore(|| {
        run(
            3,
            options(),
            &[
                |bus, cast, history| {
                    history.fill(bus, cast, &[0, 1, 2], 1);
                    history.fill(bus, cast, &[2, 1], 2);
                },
                |bus, cast, history| {
                    history.fill(bus, cast, &[0], 3);
                    history.view(bus, cast, &[2, 0]);
                },
                |bus, cast, history| {
                    history.view(bus, cast, &[0, 1, 2]);
                    history.view(bus, cast, &[1, 0]);
                },
            ],
        );
    });
}

#[test]
fn frees_between_reads_and_writes() {
    explore(|| {
        run(
            2,
            options(),
            &[
                |bus, cast, history| {
                    history.fill(bus, cast, &[0], 1);
                    history.free(bus, cast, 0);
                },
                |bus, cast, history| {
                    history.read(bus, cast, 0);
                    history.fill(bus, cast, &[1, 0], 2);
                    history.free(bus, cast, 0);
                },
                |bus, cast, history| {
                    history.view(bus, cast, &[1, 0]);
                    history.read(bus, cast, 0);
                },
            ],
        );
    });
}

fn derived(propagation: Propagation) {
    let storage = Memory::default();
    let options = Options {
        propagation,
        ..options()
    };
    let bus = open(&storage, options);
    let pages = pages(&bus, 3);
    connect(&bus, pages[2], "xor", &[pages[0], pages[1]]).unwrap();
    let cast = Cast {
        pages,
        derived: Some((2, [0, 1])),
    };
    play(
        bus,
        cast,
        &[
            |bus, cast, history| {
                history.fill(bus, cast, &[0], 1);
                history.fill(bus, cast, &[0, 1], 2);
            },
            |bus, cast, history| {
                history.fill(bus, cast, &[1], 4);
                history.read(bus, cast, 2);
                bus.propagate().unwrap();
            },
            |bus, cast, history| {
                history.view(bus, cast, &[2, 1, 0]);
                history.view(bus, cast, &[0, 2]);
            },
        ],
    );
}

#[test]
fn derived_pages_with_eager_waves() {
    explore(|| derived(Propagation::Eager));
}

#[test]
fn derived_pages_with_deferred_waves() {
    explore(|| derived(Propagation::Deferred));
}

/// Programs that the explorer draws: what they do is part of the schedule, and is replayed with it.
#[test]
fn any_short_history() {
    fn program(bus: &Bus, cast: &Cast, history: &History) {
        for _ in 0..3 {
            let mut numbers = thread_rng();
            let (a, b) = (numbers.gen_range(0..3usize), numbers.gen_range(0..3usize));
            let value = numbers.r#gen::<u8>();
            match numbers.gen_range(0..7) {
                0..3 => {
                    let both: &[usize] = if a == b { &[a] } else { &[a, b] };
                    history.fill(bus, cast, both, value);
                }
                3 => history.read(bus, cast, a),
                4 | 5 => history.view(bus, cast, &[a, (a + 1) % 3]),
                _ => history.free(bus, cast, a),
            }
        }
    }
    explore(|| run(3, options(), &[program, program, program]));
}
