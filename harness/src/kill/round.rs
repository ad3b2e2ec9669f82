//! The life of one child: started, listened to, and killed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::KillError;
use super::ledger::Ledger;
use super::plan::{LONGEST_RUN, Moment, Plan};
use super::report::Report;
use crate::world::Milestone;

/// What a child tells its parent, one JSON value a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Message {
    /// What it has come to.
    Milestone(Milestone),
    /// It did what it was started for.
    Passed,
    /// Something is wrong.
    Failed(String),
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was killed.
    Killed,
    /// It came to the end.
    Passed,
    /// It found, or is, something that must not be.
    Failed(String),
}

/// A child that tells nothing for so long hangs.
const STALL: Duration = Duration::from_secs(120);

/// Starts a child, keeps account of what it tells, and kills it when the plan says so; without a plan it is let live.
pub(super) fn live(
    mut command: Command,
    plan: Option<Plan>,
    ledger: &mut Ledger,
    report: &mut Report,
) -> Result<End, KillError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(KillError::Spawn)?;
    let messages = listen(&mut child);
    let mut listener = Listener {
        ledger,
        report,
        plan,
        commits: 0,
        deadline: None,
        end: None,
    };
    listener.begin();
    let interrupted = listener.follow(&messages);
    if interrupted.is_some() {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(KillError::Spawn)?;
    // What it had told before it died is in the pipe.
    for message in &messages {
        listener.note(message);
    }
    Ok(match (listener.end, interrupted) {
        (Some(end), _) => end,
        (None, Some(Interrupted::Planned)) => End::Killed,
        (None, Some(Interrupted::Stalled)) => {
            End::Failed(format!("told nothing for {} s: it hangs", STALL.as_secs()))
        }
        (None, None) => End::Failed(format!("died by itself: {status}")),
    })
}

enum Interrupted {
    Planned,
    Stalled,
}

struct Listener<'a> {
    ledger: &'a mut Ledger,
    report: &'a mut Report,
    plan: Option<Plan>,
    commits: u64,
    deadline: Option<Instant>,
    end: Option<End>,
}

impl Listener<'_> {
    fn begin(&mut self) {
        if let Some(plan) = self.plan
            && plan.moment == Moment::Start
        {
            self.deadline = Some(Instant::now() + plan.delay);
        }
    }

    /// Takes note of messages until the child ends, or has to. `None`: it ended.
    fn follow(&mut self, messages: &Receiver<Message>) -> Option<Interrupted> {
        loop {
            let now = Instant::now();
            let left = match self.deadline {
                Some(deadline) if deadline <= now => return Some(Interrupted::Planned),
                Some(deadline) => STALL.min(deadline - now),
                None => STALL,
            };
            match messages.recv_timeout(left) {
                Ok(message) => self.note(message),
                Err(RecvTimeoutError::Timeout) if left == STALL => {
                    return Some(Interrupted::Stalled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn note(&mut self, message: Message) {
        match message {
            Message::Milestone(milestone) => self.milestone(milestone),
            Message::Passed => self.end = Some(End::Passed),
            Message::Failed(message) => self.end = Some(End::Failed(message)),
        }
    }

    fn milestone(&mut self, milestone: Milestone) {
        self.ledger.note(milestone);
        if let Some(plan) = self.plan {
            let mut sooner = |deadline: Instant| {
                self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
            };
            if plan.begins_at(&milestone, self.commits) {
                sooner(Instant::now() + plan.delay);
            }
            if matches!(milestone, Milestone::Resumed { .. }) {
                sooner(Instant::now() + LONGEST_RUN);
            }
        }
        match milestone {
            Milestone::Opened { torn, .. } => self.report.torn_ends += u64::from(torn),
            Milestone::Resumed { .. } => self.report.verified_opens += 1,
            Milestone::Committed { durability, .. } => {
                self.commits += 1;
                self.report.commits.count(durability);
            }
            Milestone::Checkpointed { .. } => self.report.checkpoints += 1,
            _ => {}
        }
    }
}

/// Reads the messages of a child on a thread, so that waiting for them can end.
fn listen(child: &mut Child) -> Receiver<Message> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            while let Some(message) = next_message(&mut lines) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// The next message. `None` at the end, also at a line that a kill cut off.
fn next_message(lines: &mut BufReader<impl Read>) -> Option<Message> {
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let line = line.strip_suffix('\n')?;
    let unreadable =
        |error: serde_json::Error| Message::Failed(format!("told what is no message: {error}"));
    Some(serde_json::from_str(line).unwrap_or_else(unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, plan: Option<Plan>) -> (End, Ledger, Report) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let (mut ledger, mut report) = (Ledger::default(), Report::default());
        let end = live(command, plan, &mut ledger, &mut report).unwrap();
        (end, ledger, report)
    }

    const COMMIT: &str = r#"{"milestone":{"committed":{"lsn":7,"durability":"sync"}}}"#;

    #[test]
    #[cfg(unix)]
    fn a_child_is_killed_and_what_it_told_counts() {
        let script = format!("echo '{COMMIT}'; exec sleep 60");
        let plan = Plan {
            moment: Moment::Commits(1),
            delay: Duration::ZERO,
        };
        let (end, ledger, report) = run(&script, Some(plan));
        assert_eq!(end, End::Killed);
        assert_eq!((ledger.safe_lsn, report.commits.sync), (7, 1));
    }

    #[test]
    #[cfg(unix)]
    fn a_child_that_dies_by_itself_is_a_finding_and_half_a_line_is_none() {
        let (end, ledger, _) = run(&format!("printf '%s' '{COMMIT}'; kill -6 $$"), None);
        let End::Failed(message) = end else {
            unreachable!("{end:?}");
        };
        assert!(message.contains("signal: 6"), "{message}");
        assert_eq!(ledger.safe_lsn, 0);
        assert_eq!(run("echo '\"passed\"'", None).0, End::Passed);
        let (end, ..) = run("echo nonsense", None);
        assert!(matches!(end, End::Failed(_)), "{end:?}");
    }
}
