//! What `mmsb run` and `mmsb list` print, and the exit codes by which the shell knows.
use std::fs;
use std::path::Path;

use crate::workspace::{BROKEN, Workspace, mixed, without_times};

#[test]
fn a_run_says_what_passed_failed_and_was_skipped() {
    let ran = mixed().mmsb(&["run"]).expect(1);
    let text = without_times(&ran.stdout);
    let (head, tail) = text.split_once("\n       at ").expect(&text);
    let head: Vec<&str> = head.lines().collect();
    assert_eq!(
        head[..2],
        [
            "skip a/skipped: no cuda device: this build has no CUDA support; build with --features cuda",
            "FAIL b/fails"
        ]
    );
    assert!(
        head[2].starts_with("     scenarios/b/fails.yaml:8:5: "),
        "{head:?}"
    );
    assert!(tail.starts_with("steps[2].expect\n"), "{tail}");
    let rest = tail.split_once("pass b/passes[threads=1]\n").expect(tail);
    assert!(
        rest.0.contains("01 02") && rest.0.contains("01 03") && rest.0.contains("^^"),
        "{}",
        rest.0
    );
    let expected = "\
pass b/passes[threads=2]

folder   passed  failed skipped
a             0       0       1
b             2       1       0

skipped because
        1  no cuda device: this build has no CUDA support; build with --features cuda


9 steps and 3 checks

failed
  b/fails  scenarios/b/fails.yaml:8:5

2 passed, 1 failed, 1 skipped
";
    assert_eq!(rest.1, expected);
}

#[test]
fn the_output_is_the_same_for_any_number_of_jobs() {
    let workspace = mixed();
    for more in [&[][..], &["--fail-fast"]] {
        let run = |jobs| {
            let args = [&["run", "--jobs", jobs][..], more].concat();
            without_times(&workspace.mmsb(&args).expect(1).stdout)
        };
        let one = run("1");
        for jobs in ["2", "7"] {
            assert_eq!(run(jobs), one);
        }
        let closing = if more.is_empty() {
            "2 passed, 1 failed, 1 skipped\n"
        } else {
            "0 passed, 1 failed, 3 skipped\n"
        };
        assert!(one.ends_with(closing), "{one}");
    }
}

#[test]
fn quiet_shows_failures_and_the_summary_only() {
    let ran = mixed().mmsb(&["run", "--quiet"]).expect(1);
    assert!(
        !ran.stdout.contains("pass b/") && !ran.stdout.contains("skip a/"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("FAIL b/fails"));
}

#[test]
fn the_exit_code_tells_what_happened() {
    let workspace = mixed();
    let ran = workspace
        .mmsb(&["run", "scenarios/b/passes.yaml"])
        .expect(0);
    assert_eq!(ran.closing_line(), "2 passed, 0 failed, 0 skipped");
    let ran = workspace
        .mmsb(&["run", "--filter", "no such test"])
        .expect(3);
    assert_eq!(ran.closing_line(), "0 passed, 0 failed, 0 skipped");
    assert!(
        ran.stderr.contains("no test matches `no such test`"),
        "{}",
        ran.stderr
    );
    let ran = workspace.mmsb(&["run", "scenarios/a"]).expect(3);
    assert!(
        ran.stderr.contains("every test was skipped"),
        "{}",
        ran.stderr
    );
    workspace.mmsb(&["run", "missing"]).expect(2);
    workspace.mmsb(&["run", "scenarios/schema.json"]).expect(2);
    workspace.mmsb(&["run", "--jobs", "0"]).expect(2);
    workspace.mmsb(&["frobnicate"]).expect(2);
    fs::write(workspace.path("scenarios/broken.yaml"), BROKEN).unwrap();
    let ran = workspace.mmsb(&["run"]).expect(2);
    assert_eq!(ran.closing_line(), "2 passed, 2 failed, 1 skipped");
    assert!(
        ran.stdout
            .contains("scenarios/broken.yaml:5:20: error[MMSB-"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_run_without_a_check_is_a_failure() {
    let lines = "{\"allocate\":{\"page\":\"a\",\"size\":8}}\n\n\"commit\"\n";
    let workspace = Workspace::new(&[("t.jsonl", lines)]);
    workspace.mmsb(&["check", "t.jsonl"]).expect(0);
    let ran = workspace.mmsb(&["run", "t.jsonl"]).expect(1);
    assert!(ran.stdout.contains("executed no check"), "{}", ran.stdout);
    fs::write(
        workspace.path("t.jsonl"),
        lines.replace("allocate", "alocate"),
    )
    .unwrap();
    let ran = workspace.mmsb(&["check", "t.jsonl"]).expect(2);
    assert!(ran.stdout.contains("t.jsonl:1:"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("did you mean `allocate`?"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_filter_selects_by_text_or_expression() {
    let workspace = mixed();
    let ran = workspace
        .mmsb(&["run", "--filter", "passes[threads=2]"])
        .expect(0);
    assert_eq!(ran.closing_line(), "1 passed, 0 failed, 0 skipped");
    let ran = workspace.mmsb(&["list", "--filter", "^b/.*s$"]).expect(0);
    assert_eq!(ran.stdout, "b/fails\n");
}

#[test]
fn tests_are_listed_by_the_names_that_runs_use() {
    let workspace = mixed();
    let listed = workspace.mmsb(&["list"]).expect(0).stdout;
    let expected = "\
a/skipped\tskipped: no cuda device: this build has no CUDA support; build with --features cuda
b/fails
b/passes[threads=1]
b/passes[threads=2]
";
    assert_eq!(listed, expected);
    let ran = workspace.mmsb(&["run", "--json", "-"]).expect(1).stdout;
    let report: serde_json::Value = serde_json::from_str(&ran).unwrap();
    let names: Vec<&str> = report["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| test["name"].as_str().unwrap())
        .collect();
    let listed: Vec<&str> = listed
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    assert_eq!(names, listed);
    let inside = workspace
        .mmsb(&["list", "scenarios/b/fails.yaml"])
        .expect(0)
        .stdout;
    assert_eq!(
        inside, "b/fails\n",
        "a file has one name, however it is named on the command line"
    );
}

#[test]
fn the_files_of_a_failed_run_are_kept_on_request_only() {
    let workspace = mixed();
    let temporary = workspace.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let left = || fs::read_dir(&temporary).unwrap().count();
    let run = |args: &[&str]| {
        let output = workspace
            .command(args)
            .env("TMPDIR", &temporary)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["run", "scenarios/b"]);
    assert_eq!(left(), 0);
    let text = run(&["run", "scenarios/b", "--keep"]);
    let kept = text
        .lines()
        .find_map(|line| line.split_once("files kept in "))
        .expect(&text)
        .1;
    assert!(Path::new(kept).read_dir().unwrap().count() > 0);
    assert_eq!(left(), 1);
}
