//! Writes every form of the report into the directory of the run.

use std::fs;
use std::path::Path;

use super::{Summary, html, junit, markdown};
use crate::run::{RunError, State};

/// Writes `report.html`, `report.md`, `report.json` and `junit.xml`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(state: &State, directory: &Path) -> Result<(), RunError> {
    let summary = serde_json::to_string_pretty(&Summary::of(state, directory));
    let summary = summary.map_err(|error| RunError::State {
        path: directory.join("report.json"),
        why: error.to_string(),
    })?;
    let files = [
        ("report.html", html(state, directory)),
        ("report.md", markdown(state, directory)),
        ("report.json", summary + "\n"),
        ("junit.xml", junit(state, directory)),
    ];
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|source| RunError::File {
            what: "write",
            path,
            source,
        })?;
    }
    Ok(())
}
