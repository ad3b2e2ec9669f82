//! `mmsb-stress prove`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mmsb_stress::prove::{self, CONTROL, Proof};
use mmsb_stress::run::Options;

use super::args::ProveArgs;
use super::exit::Exit;
use super::output::{BAD, CommandError, GOOD, Output, styled};

/// Plants each bug, and waits until it is found.
pub(super) fn prove(args: &ProveArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let bugs = prove::bugs();
    if bugs.is_empty() {
        return Err(CommandError(
            "this build has no planted bugs; `ci/prove` makes one that has".to_owned(),
        ));
    }
    if args.list {
        for (name, about) in bugs {
            out.line(format_args!("{name}\t{about}"));
        }
        return Ok(Exit::Passed);
    }
    let control = [(CONTROL, "no bug is live, and nothing may be found")];
    let mut wanted: Vec<(&str, &str)> = control.iter().chain(bugs).copied().collect();
    if !args.only.is_empty() {
        for name in &args.only {
            if !wanted.iter().any(|(known, _)| known == name) {
                return Err(CommandError(format!(
                    "there is no planted bug `{name}`; --list shows them"
                )));
            }
        }
        wanted.retain(|(name, _)| args.only.iter().any(|only| only == name));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(CommandError::of)?;
    }
    let mut proofs: Vec<Proof> = Vec::new();
    for (name, about) in wanted {
        let proof = one(args, name, about, &stop)?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        out.line(line(&proof));
        proofs.push(proof);
    }
    let write = |name: &str, text: String| {
        let path = args.out.join(name);
        fs::write(&path, text)
            .map_err(|error| CommandError(format!("cannot write {}: {error}", path.display())))
    };
    write("prove.md", prove::markdown(&proofs))?;
    write(
        "prove.json",
        serde_json::to_string_pretty(&proofs).map_err(CommandError::of)?,
    )?;
    let bad = proofs.iter().filter(|proof| !proof.is_good()).count();
    out.line(format_args!(
        "{} of {} came as they must; figures in {}",
        proofs.len() - bad,
        proofs.len(),
        args.out.join("prove.md").display()
    ));
    Ok(match (proofs.is_empty(), bad) {
        (true, _) => Exit::NothingRan,
        (false, 0) => Exit::Passed,
        _ => Exit::Failed,
    })
}

fn one(
    args: &ProveArgs,
    name: &str,
    about: &str,
    stop: &AtomicBool,
) -> Result<Proof, CommandError> {
    let directory = args.out.join(name);
    // What an earlier proof has left there is of another build.
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(CommandError::of)?;
    }
    let program = std::env::current_exe().map_err(CommandError::of)?;
    let mut options = Options::new(directory, program);
    options.seed_from.clone_from(&args.seed_from);
    options.duration = args.budget;
    if name == CONTROL {
        options.duration = args.budget.min(std::time::Duration::from_secs(40));
    }
    if let Some(jobs) = args.jobs {
        options.jobs = jobs.get();
    }
    prove::prove(name, about, options, args.minimise_for, stop).map_err(CommandError::of)
}

fn line(proof: &Proof) -> String {
    let word = match &proof.finding {
        _ if proof.is_good() => styled(GOOD, "ok"),
        Some(finding) if proof.passes_without && !proof.is_small(finding.steps_after) => {
            styled(BAD, "TOO LARGE")
        }
        Some(_) if proof.name != CONTROL => styled(BAD, "SOMETHING ELSE"),
        Some(_) => styled(BAD, "FOUND"),
        None => styled(BAD, "SURVIVED"),
    };
    let figures = format!(
        "{:<32} {} scenarios, {:.1} s",
        proof.name, proof.scenarios, proof.elapsed_s
    );
    match &proof.finding {
        Some(finding) => format!(
            "{word} {figures}: {} → {} steps, {}",
            finding.steps_before, finding.steps_after, finding.signature
        ),
        None => match &proof.leak {
            Some(leak) => format!("{word} {figures}: leaks: {leak}"),
            None => format!("{word} {figures}"),
        },
    }
}
