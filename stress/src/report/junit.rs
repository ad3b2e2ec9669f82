//! JUnit XML: a test case for each campaign, and one for each finding.

use std::fmt::Write as _;
use std::path::Path;

use super::html::escape;
use crate::run::State;

/// The report of a state that is kept in this directory.
#[must_use]
pub fn junit(state: &State, directory: &Path) -> String {
    let failures = state.findings.len() + state.silent.len();
    let tests = state.campaigns.len() + failures;
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
         <testsuite name=\"mmsb-stress\" tests=\"{tests}\" failures=\"{failures}\" time=\"{:.1}\">\n",
        state.elapsed_s
    );
    for (campaign, of) in &state.campaigns {
        let _ = writeln!(
            out,
            "<testcase classname=\"mmsb-stress\" name=\"{campaign}\" time=\"{:.1}\"/>",
            of.busy_s
        );
    }
    for finding in &state.findings {
        let _ = writeln!(
            out,
            "<testcase classname=\"mmsb-stress.findings\" name=\"{}\"><failure message=\"{}\">{}\n\nto see it again: {}\n\n{}</failure></testcase>",
            escape(&finding.signature.slug()),
            escape(&finding.signature.to_string()),
            characters(&finding.message),
            escape(&finding.command(directory)),
            characters(&finding.scenario),
        );
    }
    for (campaign, seed) in &state.silent {
        let _ = writeln!(
            out,
            "<testcase classname=\"mmsb-stress.canaries\" name=\"{campaign}-{seed}\"><failure message=\"this canary did not fail\"/></testcase>"
        );
    }
    out.push_str("</testsuite>\n</testsuites>\n");
    out
}

/// Text as XML 1.0 can hold it.
fn characters(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    escape(&printable)
}
