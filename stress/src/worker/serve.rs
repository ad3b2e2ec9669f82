//! What a worker does: job after job, until its input ends.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mmsb_harness::scenario::parse_str;
use parking_lot::Mutex;

use super::protocol::{Reply, Request};
use super::trim::trim;
use crate::campaign::{Environment, execute, execute_scenario};

/// How often it is told that a job goes on.
const BEAT: Duration = Duration::from_millis(250);

/// Answers every request of the input. Meanwhile it tells now and then how many steps were begun, if more were.
///
/// # Errors
/// When the input or the output fails, which they do when whoever asked is gone.
pub fn serve(
    input: impl BufRead,
    output: impl Write + Send,
    environment: &Environment,
) -> io::Result<()> {
    let pulse = Arc::new(AtomicU64::new(0));
    let environment = Environment {
        pulse: Some(Arc::clone(&pulse)),
        ..environment.clone()
    };
    let output = Mutex::new(Output {
        output,
        busy: false,
    });
    thread::scope(|scope| {
        // Dropped at the end, which ends the thread.
        let (_end, ended) = mpsc::channel::<()>();
        let (output, pulse) = (&output, &pulse);
        scope.spawn(move || tell(output, pulse, &ended));
        for line in input.lines() {
            let request = serde_json::from_str::<Request>(&line?);
            output.lock().busy = true;
            let reply = match request {
                Ok(request) => answer(&request, &environment),
                Err(error) => Reply::Error(format!("what was asked is no request: {error}")),
            };
            let text = line_of(&reply)?;
            drop(reply);
            // Before the answer, as whoever reads it looks at what this process keeps.
            trim();
            let mut output = output.lock();
            output.busy = false;
            output.write(&text)?;
        }
        Ok(())
    })
}

/// Where answers go.
struct Output<W> {
    output: W,
    /// Whether a job is under way.
    busy: bool,
}

impl<W: Write> Output<W> {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }
}

fn line_of(reply: &Reply) -> io::Result<String> {
    let mut text = serde_json::to_string(reply)?;
    text.push('\n');
    Ok(text)
}

/// Tells that a job goes on, for as long as there is anybody to tell.
fn tell<W: Write>(output: &Mutex<Output<W>>, pulse: &AtomicU64, ended: &mpsc::Receiver<()>) {
    let mut told = 0;
    while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
        let steps = pulse.load(Ordering::Relaxed);
        let mut output = output.lock();
        if !output.busy || steps == told {
            continue;
        }
        told = steps;
        let Ok(text) = line_of(&Reply::Alive(steps)) else {
            return;
        };
        if output.write(&text).is_err() {
            return;
        }
    }
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
            .filter(|reply| !matches!(reply, Reply::Alive(_)))
            .collect();
        assert!(matches!(&replies[0], Reply::Done(done) if done.failure.is_none()));
        assert!(matches!(&replies[1], Reply::Error(text) if text.contains("no request")));
        assert!(matches!(&replies[2], Reply::Error(text) if text.contains("version")));
    }
}
