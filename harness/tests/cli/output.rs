//! Where it goes: reports for programs, pipes whose reader goes away, colours.
use std::process::Stdio;

use crate::workspace::mixed;

#[test]
fn reports_are_written_for_programs() {
    let workspace = mixed();
    let ran = workspace
        .mmsb(&["run", "--json", "out/r.json", "--junit", "out/r.xml"])
        .expect(1);
    assert_eq!(ran.closing_line(), "2 passed, 1 failed, 1 skipped");
    let report: serde_json::Value = serde_json::from_str(&workspace.read("out/r.json")).unwrap();
    assert_eq!(
        (&report["format"], &report["version"]),
        (&"mmsb-run".into(), &1.into())
    );
    assert_eq!(report["summary"]["passed"], 2);
    assert_eq!(report["summary"]["checks"], 3);
    let failed = report["tests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|test| test["verdict"] == "failed")
        .unwrap();
    assert_eq!(failed["problems"][0]["line"], 8);
    let xml = workspace.read("out/r.xml");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let count = |tag| {
        document
            .descendants()
            .filter(|node| node.has_tag_name(tag))
            .count()
    };
    assert_eq!(
        (count("testcase"), count("failure"), count("skipped")),
        (4, 1, 1)
    );
    assert_eq!(document.root_element().attribute("tests"), Some("4"));
    let ran = workspace.mmsb(&["run", "--json", "-"]).expect(1);
    assert!(
        ran.stderr.ends_with("2 passed, 1 failed, 1 skipped\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let workspace = mixed();
    for args in [
        &["schema"][..],
        &["list"],
        &["run", "scenarios/b/passes.yaml"],
    ] {
        let mut child = workspace
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn colours_are_for_terminals_or_on_request() {
    let workspace = mixed();
    assert!(!workspace.mmsb(&["run"]).stdout.contains('\u{1b}'));
    assert!(
        workspace
            .mmsb(&["run", "--color", "always"])
            .stdout
            .contains("\u{1b}[")
    );
}
