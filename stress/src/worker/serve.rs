//! What a worker does: job after job, until its input ends.

use std::io::{self, BufRead, Write};

use mmsb_harness::scenario::parse_str;

use super::protocol::{Reply, Request};
use crate::campaign::{Environment, execute, execute_scenario};

/// Answers every request of the input.
///
/// # Errors
/// When the input or the output fails, which they do when whoever asked is gone.
pub fn serve(
    input: impl BufRead,
    mut output: impl Write,
    environment: &Environment,
) -> io::Result<()> {
    for line in input.lines() {
        let reply = match serde_json::from_str::<Request>(&line?) {
            Ok(request) => answer(&request, environment),
            Err(error) => Reply::Error(format!("what was asked is no request: {error}")),
        };
        let mut text = serde_json::to_string(&reply)?;
        text.push('\n');
        output.write_all(text.as_bytes())?;
        output.flush()?;
    }
    Ok(())
}

fn answer(request: &Request, environment: &Environment) -> Reply {
    let job = &request.job;
    let done = match &request.scenario {
        None => execute(job, environment),
        Some(text) => match parse_str("scenario", text) {
            Ok(scenario) => {
                execute_scenario(job.campaign, &scenario, job.seed, job.canary, environment)
            }
            Err(errors) => {
                let first = errors.first().map(ToString::to_string);
                return Reply::Error(first.unwrap_or_default());
            }
        },
    };
    match done {
        Ok(done) => Reply::Done(done),
        Err(error) => Reply::Error(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::campaign::{Campaign, Job};

    #[test]
    fn requests_are_answered_in_order_and_nonsense_is_named() {
        let job = Job {
            campaign: Campaign::Sim,
            seed: 3,
            canary: false,
        };
        let request = serde_json::to_string(&Request {
            job,
            scenario: None,
        })
        .unwrap();
        let broken = serde_json::to_string(&Request {
            job,
            scenario: Some("version: 9".to_owned()),
        })
        .unwrap();
        let input = format!("{request}\nnonsense\n{broken}\n");
        let mut output = Vec::new();
        serve(input.as_bytes(), &mut output, &Environment::default()).unwrap();
        let replies: Vec<Reply> = String::from_utf8(output)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(matches!(&replies[0], Reply::Done(done) if done.failure.is_none()));
        assert!(matches!(&replies[1], Reply::Error(text) if text.contains("no request")));
        assert!(matches!(&replies[2], Reply::Error(text) if text.contains("version")));
    }
}
