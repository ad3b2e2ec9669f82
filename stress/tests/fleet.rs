//! The job files of fleets: what they say fits together, and the very commands that they run do what they should.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn yaml<T: for<'de> Deserialize<'de>>(path: &str) -> T {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[derive(Deserialize)]
struct Workflow {
    permissions: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    jobs: BTreeMap<String, ActionsJob>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ActionsJob {
    timeout_minutes: u64,
    #[serde(default)]
    strategy: Option<Strategy>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    needs: Option<String>,
    steps: Vec<ActionsStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Strategy {
    fail_fast: bool,
    matrix: Matrix,
}

#[derive(Deserialize)]
struct Matrix {
    index: Vec<u64>,
}

#[derive(Deserialize)]
struct ActionsStep {
    #[serde(default)]
    uses: Option<String>,
    #[serde(default)]
    run: Option<String>,
}

#[derive(Deserialize)]
struct Job {
    spec: JobSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobSpec {
    #[serde(default)]
    completion_mode: Option<String>,
    #[serde(default)]
    completions: Option<u64>,
    #[serde(default)]
    parallelism: Option<u64>,
    active_deadline_seconds: u64,
    template: Template,
}

#[derive(Deserialize)]
struct Template {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    automount_service_account_token: bool,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

impl Container {
    fn value(&self, name: &str) -> &str {
        let found = self.env.iter().find(|variable| variable.name == name);
        &found.unwrap_or_else(|| panic!("no {name}")).value
    }
}

/// Runs a command of a job file as its scheduler would, from the root of the repository.
fn shell(line: &str, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", line])
        .current_dir(root());
    for name in [
        "MMSB_SHARD_INDEX",
        "JOB_COMPLETION_INDEX",
        "SLURM_ARRAY_TASK_ID",
    ] {
        command.env_remove(name);
    }
    command
        .env("MMSB_STRESS", env!("CARGO_BIN_EXE_mmsb-stress"))
        .envs(env.iter().copied());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn report(base: &Path, of: &str) -> Value {
    let path = base.join(of).join("report.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Three shards and their sum, by these commands; how a shard learns its index is the scheduler's.
fn fleet(shard_line: &str, merge_line: &str, index_variable: &str, base: &Path) {
    for index in ["0", "1", "2"] {
        let env = [
            ("MMSB_SHARDS", "3"),
            ("MMSB_COMMIT", "fleet"),
            (index_variable, index),
        ];
        let output = shell(shard_line, &env);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    let output = shell(merge_line, &[("MMSB_SHARDS", "3")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let parts = ["shard-1", "shard-2", "shard-3"].map(|of| report(base, of));
    let all = report(base, "all");
    for what in ["scenarios", "steps", "canaries"] {
        let sum: u64 = parts.iter().map(|part| part[what].as_u64().unwrap()).sum();
        assert_eq!(all[what].as_u64(), Some(sum), "{what}");
    }
    assert_eq!(parts[1]["shard"], "2/3");
    assert!(parts.iter().all(|part| part["seed_from"] == "fleet"));
    assert!(base.join("all/report.html").exists());
    // A shard that is missing is not passed over.
    fs::remove_dir_all(base.join("shard-2")).unwrap();
    let output = shell(merge_line, &[("MMSB_SHARDS", "3")]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("shard 2 of 3"), "{}", text(&output));
}

#[test]
fn the_workflow_runs_every_shard_and_joins_them() {
    let workflow: Workflow = yaml(".github/workflows/soak.yml");
    assert_eq!(
        workflow.permissions,
        [("contents".to_owned(), "read".to_owned())].into()
    );
    let (shard, merge) = (&workflow.jobs["shard"], &workflow.jobs["merge"]);
    let strategy = shard.strategy.as_ref().unwrap();
    let shards: u64 = workflow.env["MMSB_SHARDS"].parse().unwrap();
    assert_eq!(strategy.matrix.index, (0..shards).collect::<Vec<_>>());
    assert!(!strategy.fail_fast);
    assert_eq!(shard.env["MMSB_SHARD_INDEX"], "${{ matrix.index }}");
    assert_eq!(merge.needs.as_deref(), Some("shard"));
    for job in [shard, merge] {
        assert!((1..=360).contains(&job.timeout_minutes));
        for uses in job.steps.iter().filter_map(|step| step.uses.as_ref()) {
            let pin = uses.split_once('@').unwrap().1;
            assert!(
                pin.len() == 40 && pin.chars().all(|c| c.is_ascii_hexdigit()),
                "{uses}"
            );
        }
    }
    let line = |job: &ActionsJob, wanted: &str| {
        let mut lines = job.steps.iter().filter_map(|step| step.run.clone());
        lines.find(|line| line.starts_with(wanted)).unwrap()
    };
    let (shard_line, merge_line) = (line(shard, "ci/soak-shard"), line(merge, "ci/soak-merge"));
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("fleet");
    let at = |line: String| line.replace("target/fleet", base.to_str().unwrap());
    let shard_line = format!(
        "DURATION=60s; {} --scenarios 6 --campaign sim --jobs 1 --canary-every 3",
        at(shard_line)
    );
    fleet(&shard_line, &at(merge_line), "MMSB_SHARD_INDEX", &base);
}

#[test]
fn the_indexed_job_runs_every_shard_and_joins_them() {
    let job: Job = yaml("ci/fleet/kubernetes.yaml");
    let merge: Job = yaml("ci/fleet/kubernetes-merge.yaml");
    assert_eq!(job.spec.completion_mode.as_deref(), Some("Indexed"));
    let (shard, merge_container) = (
        &job.spec.template.spec.containers[0],
        &merge.spec.template.spec.containers[0],
    );
    let count = job.spec.completions.unwrap().to_string();
    assert_eq!(job.spec.parallelism, job.spec.completions);
    assert_eq!(shard.value("MMSB_SHARDS"), count);
    assert_eq!(merge_container.value("MMSB_SHARDS"), count);
    for spec in [&job.spec, &merge.spec] {
        assert!(!spec.template.spec.automount_service_account_token);
        assert!(spec.active_deadline_seconds > 0);
    }
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("soak");
    let line = |of: &Container| {
        let words: Vec<&str> = of
            .command
            .iter()
            .chain(&of.args)
            .map(String::as_str)
            .collect();
        words
            .join(" ")
            .replace("/soak", base.to_str().unwrap())
            .replace(&format!("ci{}", base.to_str().unwrap()), "ci/soak")
    };
    let shard_line = format!(
        "{} --scenarios 6 --campaign sim --canary-every 3",
        line(shard).replace("8h", "60s")
    );
    fleet(
        &shard_line,
        &line(merge_container),
        "JOB_COMPLETION_INDEX",
        &base,
    );
}

#[test]
fn a_shard_that_was_interrupted_goes_on_and_nonsense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().to_str().unwrap();
    let line = |scenarios: u32| {
        format!("ci/soak-shard 60s {base} --scenarios {scenarios} --campaign sim --jobs 1")
    };
    let env = [
        ("MMSB_SHARDS", "2"),
        ("MMSB_COMMIT", "fleet"),
        ("SLURM_ARRAY_TASK_ID", "1"),
    ];
    for scenarios in [3, 6] {
        let output = shell(&line(scenarios), &env);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    let report = report(directory.path(), "shard-2");
    assert_eq!(report["shard"], "2/2");
    assert!(report["scenarios"].as_u64().unwrap() >= 6);
    for env in [
        &[("MMSB_SHARDS", "2"), ("MMSB_SHARD_INDEX", "2")][..],
        &[("MMSB_SHARDS", "x"), ("MMSB_SHARD_INDEX", "0")],
        &[("MMSB_SHARD_INDEX", "0")],
    ] {
        let output = shell(&line(3), env);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("MMSB_SHARDS"));
    }
}
