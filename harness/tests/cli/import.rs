//! `mmsb import git`: a history becomes a trace that runs, and a changed one is caught.
use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::workspace::Workspace;

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
