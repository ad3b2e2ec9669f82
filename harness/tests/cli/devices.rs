//! What a machine without a GPU is told: `mmsb doctor`, and `MMSB_GPU`.
use std::process::Command;

use crate::workspace::{ON_CUDA, SKIPPED, Workspace};

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
