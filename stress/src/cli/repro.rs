//! `mmsb-stress repro`: runs one scenario as a campaign does.

use std::env;
use std::sync::atomic::AtomicBool;

use mmsb_harness::scenario::{parse_file, print};
use mmsb_stress::campaign::Job;
use mmsb_stress::worker::{Answer, Limits, Request, Worker};

use super::args::ReproArgs;
use super::exit::Exit;
use super::output::{BAD, CommandError, GOOD, Output, complain, styled};

/// Runs the scenario of a file in a worker.
pub(super) fn repro(args: &ReproArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let scenario = match parse_file(&args.file) {
        Ok(scenario) => scenario,
        Err(errors) => {
            errors.iter().for_each(|error| complain(error));
            return Ok(Exit::Usage);
        }
    };
    let scratch = tempfile::tempdir().map_err(CommandError::of)?;
    let mut worker = Worker::new(Limits {
        program: env::current_exe().map_err(CommandError::of)?,
        scratch: scratch.path().to_owned(),
        max_rss_bytes: u64::MAX,
        planted: env::var("MMSB_PLANTED").ok(),
    });
    let request = Request {
        job: Job {
            campaign: args.campaign,
            seed: args.seed,
            canary: false,
        },
        scenario: Some(print(&scenario)),
    };
    let answer = worker
        .ask(&request, args.timeout, &AtomicBool::new(false))
        .map_err(CommandError::of)?;
    let message = match answer {
        Answer::Done(done) => done.failure.map(|found| found.message),
        Answer::Hung => Some(format!("it came to no end in {} s", args.timeout.as_secs())),
        Answer::Died(how) => Some(format!("the process died: {how}")),
        Answer::Failed(why) => return Err(CommandError(why)),
        Answer::Stopped => None,
    };
    Ok(match message {
        None => {
            out.line(styled(GOOD, "passed"));
            Exit::Passed
        }
        Some(message) => {
            out.line(format_args!("{}: {message}", styled(BAD, "FAIL")));
            Exit::Failed
        }
    })
}
