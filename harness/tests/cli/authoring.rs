//! What helps to write a scenario: `check`, `new`, `expand`, `schema`, `shrink` and the help.
use std::fs;

use crate::workspace::{BROKEN, FAILS, PASSES, Workspace, mixed};

#[test]
fn check_points_at_every_mistake_and_suggests() {
    let workspace = mixed();
    let ran = workspace.mmsb(&["check"]).expect(0);
    assert_eq!(ran.stdout, "3 files, no mistakes\n");
    fs::write(workspace.path("scenarios/broken.yaml"), BROKEN).unwrap();
    fs::write(
        workspace.path("scenarios/unknown.yaml"),
        "version: 1\nsteps:\n  - wriite: {page: a}\n",
    )
    .unwrap();
    let ran = workspace.mmsb(&["check"]).expect(2);
    assert!(
        ran.stdout
            .contains("scenarios/broken.yaml:5:20: error[MMSB-"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("did you mean `state`?"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains("scenarios/unknown.yaml:3:5: error[MMSB-"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("did you mean `write`?"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.ends_with("in 2 of 5 files\n"), "{}", ran.stdout);
}

#[test]
fn a_new_scenario_passes_and_is_never_overwritten() {
    let workspace = Workspace::new(&[("scenarios/schema.json", "{}")]);
    workspace
        .mmsb(&["new", "scenarios/demo/first.yaml"])
        .expect(0);
    let text = workspace.read("scenarios/demo/first.yaml");
    assert!(
        text.starts_with("# yaml-language-server: $schema=../schema.json\n"),
        "{text}"
    );
    let ran = workspace.mmsb(&["run"]).expect(0);
    assert_eq!(ran.closing_line(), "4 passed, 0 failed, 0 skipped");
    let ran = workspace
        .mmsb(&["new", "scenarios/demo/first.yaml"])
        .expect(2);
    assert!(ran.stderr.contains("is there already"), "{}", ran.stderr);
    assert_eq!(workspace.read("scenarios/demo/first.yaml"), text);
    workspace
        .mmsb(&["new", "scenarios/demo/first.txt"])
        .expect(2);
}

#[test]
fn a_matrix_is_expanded() {
    let workspace = mixed();
    let ran = workspace
        .mmsb(&["expand", "scenarios/b/passes.yaml"])
        .expect(0);
    assert_eq!(ran.stdout, "threads=1\nthreads=2\n");
    let ran = workspace
        .mmsb(&["expand", "scenarios/b/passes.yaml", "--cell", "threads=2"])
        .expect(0);
    assert!(
        ran.stdout.contains("threads: 2") && !ran.stdout.contains("matrix"),
        "{}",
        ran.stdout
    );
    fs::write(workspace.path("scenarios/b/cell.yaml"), ran.stdout).unwrap();
    workspace.mmsb(&["run", "scenarios/b/cell.yaml"]).expect(0);
    workspace
        .mmsb(&["expand", "scenarios/b/passes.yaml", "--cell", "threads=3"])
        .expect(2);
}

#[test]
fn the_schema_is_printed_and_compared() {
    let workspace = Workspace::new(&[]);
    let schema = workspace.mmsb(&["schema"]).expect(0).stdout;
    serde_json::from_str::<serde_json::Value>(&schema).unwrap();
    fs::write(workspace.path("schema.json"), &schema).unwrap();
    workspace
        .mmsb(&["schema", "--check", "schema.json"])
        .expect(0);
    fs::write(
        workspace.path("schema.json"),
        schema.replacen("MMSB", "mmsb", 1),
    )
    .unwrap();
    let ran = workspace
        .mmsb(&["schema", "--check", "schema.json"])
        .expect(1);
    assert!(
        ran.stderr.contains("mmsb schema > schema.json"),
        "{}",
        ran.stderr
    );
}

#[test]
fn help_names_every_command_and_shows_how() {
    let workspace = Workspace::new(&[]);
    let help = workspace.mmsb(&["--help"]).expect(0).stdout;
    for command in ["run", "list", "check", "expand", "schema", "new", "import"] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} is missing: {help}"
        );
        assert!(
            help.contains(&format!("  mmsb {command}")),
            "no example of {command}: {help}"
        );
        let args: &[&str] = if command == "import" {
            &["import", "git", "--help"]
        } else {
            &[command, "--help"]
        };
        let own = workspace.mmsb(args).expect(0).stdout;
        assert!(
            own.contains(&format!("  mmsb {command}")),
            "no example: {own}"
        );
    }
}

#[test]
fn shrinking_leaves_what_fails_and_refuses_what_passes() {
    let long = FAILS.replace(
        "steps:\n",
        "steps:\n  - write: {page: a, at: 20, random: {seed: 77, len: 30}}\n  - commit: buffered\n  - checkpoint\n",
    );
    let workspace = Workspace::new(&[("long.yaml", &long), ("passes.yaml", PASSES)]);
    let ran = workspace.mmsb(&["shrink", "long.yaml"]).expect(0);
    assert!(!ran.stdout.contains("checkpoint"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("difference at expect"),
        "{}",
        ran.stderr
    );
    fs::write(workspace.path("small.yaml"), &ran.stdout).unwrap();
    workspace.mmsb(&["run", "small.yaml"]).expect(1);
    workspace
        .mmsb(&["shrink", "long.yaml", "--output", "other.yaml"])
        .expect(0);
    assert_eq!(workspace.read("other.yaml"), ran.stdout);
    let refused = workspace.mmsb(&["shrink", "passes.yaml"]).expect(2);
    assert!(
        refused.stderr.contains("does not fail"),
        "{}",
        refused.stderr
    );
}
