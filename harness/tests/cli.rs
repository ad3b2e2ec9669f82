//! The `mmsb` command as a user meets it: what it prints, and what it tells the shell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail like the test itself"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A scenario that passes in each of two cells.
const PASSES: &str = "\
version: 1
about: Writes and reads.
matrix: { axes: { threads: [1, 2] } }
pages: { a: 64 }
steps:
  - write: { page: a, at: 8, hex: \"01 02\" }
  - commit
  - expect: { page: a, at: 8, hex: \"01 02\" }
";

/// A scenario whose last check does not hold.
const FAILS: &str = "\
version: 1
about: Expects what was not written.
options: { storage: fs }
pages: { a: 64 }
steps:
  - write: { page: a, at: 8, hex: \"01 02\" }
  - commit
  - expect: { page: a, at: 8, hex: \"01 03\" }
";

/// A scenario that does not run where no GPU is wanted.
const SKIPPED: &str = "\
version: 1
about: Needs a GPU.
requires: [gpu]
pages: { a: 64 }
steps:
  - expect: { zero: a }
";

/// A scenario with a cell that needs a GPU.
const ON_CUDA: &str = "\
version: 1
about: On two devices.
matrix: { axes: { device: [simulated, cuda] } }
pages: { a: { size: 64, location: device } }
steps:
  - expect: { zero: a }
";

/// A file with a typo in it.
const BROKEN: &str = "\
version: 1
about: Names a page that is not there.
pages: { state: 64 }
steps:
  - write: { page: statee, hex: \"00\" }
  - commit
  - expect: { zero: state }
";

struct Workspace {
    directory: tempfile::TempDir,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Workspace {
    fn new(files: &[(&str, &str)]) -> Self {
        let workspace = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            let path = workspace.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        workspace
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmsb"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_remove("MMSB_SCENARIOS")
            .env_remove("CLICOLOR_FORCE");
        command
    }

    fn mmsb(&self, args: &[&str]) -> Ran {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().unwrap();
        Ran {
            code: status.code().expect("ended by itself"),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    fn closing_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}

/// Takes the times out of a text, as they differ from run to run.
fn without_times(text: &str) -> String {
    let mut lines = Vec::new();
    let mut slowest = false;
    for line in text.lines() {
        slowest = (slowest || line == "slowest") && !line.is_empty();
        let line = match line.split_once(" in ") {
            Some((counts, _)) if counts.ends_with("checks") => counts.to_owned(),
            _ if line.ends_with(" ms") || line.ends_with(" µs") || line.ends_with(" s") => {
                line.rsplitn(3, ' ').nth(2).unwrap_or_default().to_owned()
            }
            _ => line.to_owned(),
        };
        if !slowest {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

fn mixed() -> Workspace {
    Workspace::new(&[
        ("scenarios/b/passes.yaml", PASSES),
        ("scenarios/b/fails.yaml", FAILS),
        ("scenarios/a/skipped.yaml", SKIPPED),
        ("scenarios/schema.json", "{}"),
    ])
}

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

#[test]
fn an_imported_history_runs_and_a_changed_trace_is_caught() {
    let workspace = Workspace::new(&[]);
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command
            .current_dir(workspace.path("repository"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(args);
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "A")
                .env(format!("GIT_{role}_EMAIL"), "a@example.org");
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    fs::create_dir(workspace.path("repository")).unwrap();
    git(&["init", "--quiet"]);
    let mut file = vec![b'.'; 10_000];
    for (version, place) in [(1u8, 0usize), (2, 5000), (3, 9999)] {
        file[place] = version;
        fs::write(workspace.path("repository/a.bin"), &file).unwrap();
        fs::write(
            workspace.path("repository/b.txt"),
            "x".repeat(version.into()),
        )
        .unwrap();
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message=x"]);
    }
    fs::remove_file(workspace.path("repository/b.txt")).unwrap();
    git(&["commit", "--quiet", "--all", "--message=x"]);

    let ran = workspace
        .mmsb(&[
            "import",
            "git",
            "repository",
            "--path",
            ".",
            "-o",
            "out/t.jsonl",
        ])
        .expect(0);
    assert!(
        ran.stdout.contains("           4 commits\n"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("           6 versions of files\n"),
        "{}",
        ran.stdout
    );
    let ran = workspace.mmsb(&["list", "out/t.jsonl"]).expect(0);
    assert_eq!(ran.stdout, "t\n");
    let ran = workspace.mmsb(&["run", "out/t.jsonl"]).expect(0);
    assert_eq!(ran.closing_line(), "1 passed, 0 failed, 0 skipped");
    workspace.mmsb(&["check", "out/t.jsonl"]).expect(0);

    // One byte of one version is another one: git's id tells.
    let trace = workspace.read("out/t.jsonl");
    let line = trace
        .lines()
        .position(|line| line.starts_with("{\"allocate\"") && line.contains("b.txt"))
        .unwrap();
    let wrong: Vec<String> = trace
        .lines()
        .enumerate()
        .map(|(at, text)| {
            if at == line {
                text.replace("\"x\"", "\"y\"")
            } else {
                text.to_owned()
            }
        })
        .collect();
    let mut out = fs::File::create(workspace.path("out/t.jsonl")).unwrap();
    out.write_all((wrong.join("\n") + "\n").as_bytes()).unwrap();
    let ran = workspace.mmsb(&["run", "out/t.jsonl"]).expect(1);
    assert!(ran.stdout.contains("git:"), "{}", ran.stdout);

    let ran = workspace
        .mmsb(&["import", "git", ".", "--path", ".", "-o", "out/none.jsonl"])
        .expect(2);
    assert!(
        ran.stderr.contains("not a readable git repository"),
        "{}",
        ran.stderr
    );
    assert!(
        !workspace.path("out/none.jsonl").exists(),
        "no half-written trace"
    );
}

#[test]
fn the_doctor_says_which_devices_there_are_and_fails_where_one_is_required() {
    let doctor = |gpu: &str, args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mmsb"))
            .arg("doctor")
            .args(args)
            .env("MMSB_GPU", gpu)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, stdout, stderr) = doctor("off", &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.contains("yes host") && stdout.contains("yes simulated"),
        "{stdout}"
    );
    assert!(
        stdout.contains("MMSB_GPU=off: tests that need a GPU are skipped"),
        "{stdout}"
    );
    let (code, stdout, _) = doctor("auto", &["--json"]);
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, found["gpu"].as_str()), (0, Some("auto")));
    let cuda = &found["devices"][2];
    assert_eq!(cuda["kind"], "cuda");
    let is_there = cuda["available"].as_bool().unwrap();
    assert_eq!(cuda["reason"].is_null(), is_there);
    assert_eq!(found["gpu_skips"].is_null(), is_there);
    assert_eq!(found["devices"][1]["available"], true);
    for word in ["require", "yes"] {
        let (code, _, stderr) = doctor(word, &[]);
        assert_eq!(code, i32::from(!is_there), "{stderr}");
        assert_eq!(stderr.contains("a GPU is required"), !is_there, "{stderr}");
        assert_eq!(stderr.contains("is not known"), word == "yes", "{stderr}");
    }
}

#[test]
fn a_required_gpu_makes_failures_of_skips() {
    let workspace = Workspace::new(&[
        ("scenarios/gpu.yaml", SKIPPED),
        ("scenarios/cell.yaml", ON_CUDA),
    ]);
    let run = |gpu: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_mmsb"))
            .args(["run", "scenarios"])
            .current_dir(workspace.path(""))
            .env("MMSB_GPU", gpu)
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code().unwrap(),
            stdout.lines().last().unwrap().to_owned(),
        )
    };
    assert_eq!(run("off"), (0, "1 passed, 0 failed, 2 skipped".to_owned()));
    let (_, last) = run("require");
    assert!(last.ends_with(" 0 skipped"), "{last}");
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
