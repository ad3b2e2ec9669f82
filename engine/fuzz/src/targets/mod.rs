//! One function a target. Each takes any bytes and panics where something is wrong.
//!
//! Raw bytes never get past a checksum. So most targets take the fields and the payload from the input and seal them with the right
//! checksums; `seal` does that from what `docs/FORMAT.md` says, and shares no code with the engine.

mod check;
mod checkpoint;
mod log;
mod operations;
mod seal;
mod text;
mod world;

pub use checkpoint::{images, manifest};
pub use log::{record, segment};
pub use text::{scenario_yaml, trace_line};
pub use world::world;

/// Runs the target of this name; `false` if there is none.
#[must_use]
pub fn run(target: &str, input: &[u8]) -> bool {
    let body = match target {
        "images" => images,
        "manifest" => manifest,
        "record" => record,
        "scenario_yaml" => scenario_yaml,
        "segment" => segment,
        "trace_line" => trace_line,
        "world" => world,
        _ => return false,
    };
    body(input);
    true
}
