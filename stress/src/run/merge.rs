//! Joins the shards of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::RunError;
use super::options::Shard;
use super::state::State;

/// Joins what the shards in these directories have come to, and copies what they found into `out`.
///
/// Throughput over time is that of the longest one; everything else is added up.
///
/// # Errors
/// When a directory holds no run, or the runs are no shards of one.
pub fn merge(directories: &[PathBuf], out: &Path) -> Result<State, RunError> {
    let mut all: Option<(PathBuf, State)> = None;
    let mut numbers: BTreeMap<u64, PathBuf> = BTreeMap::new();
    fs::create_dir_all(out).map_err(RunError::file("make", out))?;
    for directory in directories {
        let state = State::load(directory)?;
        if let Some(one) = numbers.insert(state.shard.number, directory.clone()) {
            return Err(RunError::Apart {
                one,
                other: directory.clone(),
                why: "they are the same shard",
            });
        }
        for finding in &state.findings {
            let to = out.join(&finding.file);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(RunError::file("make", folder))?;
            }
            fs::write(&to, &finding.scenario).map_err(RunError::file("write", &to))?;
        }
        all = Some(match all.take() {
            None => (directory.clone(), state),
            Some((first, sum)) => {
                let sum = add(sum, state).map_err(|why| RunError::Apart {
                    one: first.clone(),
                    other: directory.clone(),
                    why,
                })?;
                (first, sum)
            }
        });
    }
    let (_, mut state) = all.ok_or_else(|| RunError::State {
        path: out.to_owned(),
        why: "there are no shards".to_owned(),
    })?;
    state.shard = Shard::default();
    state.save(out)?;
    Ok(state)
}

fn add(mut sum: State, other: State) -> Result<State, &'static str> {
    if sum.seed_from != other.seed_from {
        return Err("their seeds are drawn from different texts");
    }
    if sum.shard.of != other.shard.of {
        return Err("they are of fleets of different sizes");
    }
    for (campaign, more) in other.campaigns {
        let of = sum.campaigns.entry(campaign).or_default();
        of.scenarios += more.scenarios;
        of.steps += more.steps;
        of.commits += more.commits;
        of.written_bytes += more.written_bytes;
        of.kills += more.kills;
        of.canaries += more.canaries;
        of.busy_s += more.busy_s;
        of.latency.add(&more.latency);
    }
    for (workload, more) in other.workloads {
        *sum.workloads.entry(workload).or_default() += more;
    }
    sum.coverage.add(&other.coverage);
    sum.silent.extend(other.silent);
    sum.replaced_workers += other.replaced_workers;
    for finding in other.findings {
        let known = sum.findings.iter_mut();
        match known
            .into_iter()
            .find(|known| known.signature == finding.signature)
        {
            Some(known) => known.count += finding.count,
            None => sum.findings.push(finding),
        }
    }
    if other.elapsed_s > sum.elapsed_s {
        (sum.series, sum.elapsed_s) = (other.series, other.elapsed_s);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::campaign::Campaign;

    fn shard(directory: &Path, number: u64, text: &str) -> PathBuf {
        let path = directory.join(number.to_string() + text);
        fs::create_dir_all(&path).unwrap();
        let mut state = State::new(text, Shard { number, of: 3 }, 50);
        let of = state.campaigns.entry(Campaign::Sim).or_default();
        (of.scenarios, of.steps) = (number * 10, 5);
        state.elapsed_s = 9.0;
        state.save(&path).unwrap();
        path
    }

    #[test]
    fn shards_add_up_and_what_is_no_shard_of_them_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let shards = [shard(at, 1, "a"), shard(at, 2, "a"), shard(at, 3, "a")];
        let state = merge(&shards, &at.join("all")).unwrap();
        assert_eq!((state.scenarios(), state.steps()), (60, 15));
        assert!(at.join("all/state.json").exists());
        let twice = [shards[0].clone(), shards[1].clone(), shards[0].clone()];
        let error = merge(&twice, &at.join("no")).unwrap_err().to_string();
        assert!(error.contains("same shard"), "{error}");
        let other = [shards[0].clone(), shard(at, 2, "b")];
        assert!(merge(&other, &at.join("no")).is_err());
    }
}
