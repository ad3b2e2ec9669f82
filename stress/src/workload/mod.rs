//! Workloads: seeded, weighted generators of scenarios.
//!
//! A seed draws which workload it is, how its weights and options differ from the usual (swarm testing, Groce and others 2012:
//! what is left out altogether lets rare combinations of the rest happen), and then the verbs. The generator of the harness
//! turns verbs into steps, and knows what is possible.
//!
//! **Invariant:** a seed never changes its meaning. Whoever changes what a workload makes raises its version, which
//! is part of every draw; golden hashes of a few streams pin it.

mod kind;
mod make;
mod rng;

pub use kind::Kind;
pub use make::{CANARY_PAGE, Flavour, Made, make};
pub use rng::Rng;
