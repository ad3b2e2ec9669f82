//! What a child does: it runs a scenario on a real directory, and tells its parent of every step that matters.

use std::io::Write;
use std::path::Path;
use std::process;
use std::sync::Arc;

use super::round::Message;
use crate::scenario::{Cell, Scenario};
use crate::world::{self, Context, Milestone, Resume};

/// Runs a scenario where an earlier child was killed, and tells the parent, over the standard output, what it comes to.
/// With `verify` the process ends as soon as the directory was compared with the model.
///
/// `false` says that something was found wrong, which the parent has been told. Without a parent that reads, the
/// process ends.
pub fn child(
    scenario: &Scenario,
    cell: &Cell,
    directory: &Path,
    resume: Resume,
    verify: bool,
) -> bool {
    let context = Context {
        directory: directory.to_owned(),
        resume: Some(resume),
        on_milestone: Some(Arc::new(move |milestone| {
            tell(&Message::Milestone(milestone));
            if verify && matches!(milestone, Milestone::Resumed { .. }) {
                tell(&Message::Passed);
                // The directory stays as it was opened: the bus is not closed.
                process::exit(0);
            }
        })),
        ..Context::default()
    };
    let outcome = world::run(scenario, cell, &context);
    match outcome.failure() {
        None => tell(&Message::Passed),
        Some(failure) => tell(&Message::Failed(failure.to_string())),
    }
    outcome.failure().is_none()
}

/// Writes one message to the parent, at once. Without a parent there is nothing left to do.
fn tell(message: &Message) {
    let written = serde_json::to_string(message)
        .map_err(std::io::Error::from)
        .and_then(|line| std::io::stdout().lock().write_all((line + "\n").as_bytes()));
    if written.is_err() {
        process::exit(1);
    }
}
