//! A run as JUnit XML, which CI services show.
//!
//! There is no standard. This follows what Jenkins, GitLab and the GitHub actions read in common:
//! a suite for each folder, `failure` for a test that failed, `error` for a file that is no scenario,
//! `skipped` with its reason. Written by hand: the format is five elements, and escaping is the only
//! part that can go wrong.

use std::fmt::Write as _;
use std::time::Duration;

use super::results::{Run, TestResult, Totals, Verdict};

/// Writes a run as JUnit XML.
#[must_use]
pub fn to_junit(run: &Run) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = counts(&run.totals(), run.duration);
    let _ = writeln!(out, "<testsuites name=\"mmsb\"{counts}>");
    for (folder, results) in run.folders() {
        suite(&mut out, folder, &results);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, folder: &str, results: &[&TestResult]) {
    let totals = Totals::of(results.iter().copied());
    let counts = counts(&totals, totals.duration);
    let _ = writeln!(out, "  <testsuite name=\"{}\"{counts}>", escape(folder));
    for result in results {
        case(out, result);
    }
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, result: &TestResult) {
    let _ = write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" time=\"{}\"",
        escape(result.folder()),
        escape(result.short_name()),
        escape(&result.file),
        seconds(result.duration),
    );
    let element = match &result.verdict {
        Verdict::Passed => {
            out.push_str("/>\n");
            return;
        }
        Verdict::Skipped(reason) => {
            let _ = writeln!(
                out,
                ">\n      <skipped message=\"{}\"/>\n    </testcase>",
                escape(reason)
            );
            return;
        }
        Verdict::Failed(_) => "failure",
        Verdict::Invalid(_) => "error",
    };
    out.push_str(">\n");
    // Readers show one element a test, so what is wrong with a file is listed in one.
    let message = result
        .problems()
        .first()
        .map(|problem| problem.message.as_str())
        .unwrap_or_default();
    let text: Vec<String> = result
        .problems()
        .iter()
        .map(|problem| result.describe(problem))
        .collect();
    let _ = writeln!(
        out,
        "      <{element} message=\"{}\" type=\"{element}\">{}</{element}>\n    </testcase>",
        escape(message),
        escape_text(&text.join("\n\n")),
    );
}

fn counts(totals: &Totals, duration: Duration) -> String {
    format!(
        " tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\"",
        totals.tests(),
        totals.failed - totals.invalid,
        totals.invalid,
        totals.skipped,
        seconds(duration),
    )
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

/// Escapes an attribute, in which a line break would be read as a space.
fn escape(text: &str) -> String {
    escape_text(text)
        .replace('\n', "&#10;")
        .replace('\t', "&#9;")
}

/// Escapes text. Characters that XML cannot hold, even escaped, are shown as `\u{1b}`.
fn escape_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::results::examples;
    use super::*;

    #[test]
    fn the_xml_is_well_formed_and_says_everything() {
        let text = to_junit(&examples::run());
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let root = document.root_element();
        assert_eq!(root.attribute("tests"), Some("5"));
        assert_eq!(root.attribute("failures"), Some("1"));
        assert_eq!(root.attribute("errors"), Some("1"));
        assert_eq!(root.attribute("time"), Some("0.045000"));
        let suites: Vec<_> = root
            .children()
            .filter_map(|node| node.attribute("name"))
            .collect();
        assert_eq!(suites, ["a", "a/sub", "."]);
        let find = |tag| {
            document
                .descendants()
                .find(|node| node.has_tag_name(tag))
                .unwrap()
        };
        let message = find("failure").attribute("message").unwrap();
        assert_eq!(
            message,
            "page `a` is \"<not>\" what & 'it' should be \\u{1b}\\u{0}"
        );
        assert!(
            find("failure")
                .text()
                .unwrap()
                .contains("\n  found    00000000  02")
        );
        assert_eq!(find("skipped").attribute("message"), Some("needs a GPU"));
        assert_eq!(
            find("error")
                .text()
                .unwrap()
                .matches("`version` is missing")
                .count(),
            2
        );
    }

    #[test]
    fn attributes_keep_line_breaks() {
        let text = format!("<a b=\"{}\"/>", escape("x\n\ty\u{ffff}\r"));
        let document = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(
            document.root_element().attribute("b"),
            Some("x\n\ty\\u{ffff}\\u{d}")
        );
    }
}
