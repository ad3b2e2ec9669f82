//! A worker as whoever asks it sees it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

use thiserror::Error;

use super::protocol::{Reply, Request};
use crate::campaign::Done;
use crate::monitor;

/// What a worker may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The program, whose command `worker` is a worker.
    pub program: PathBuf,
    /// An empty directory of its own.
    pub scratch: PathBuf,
    /// A worker that has grown beyond this is replaced by a new one, in bytes.
    pub max_rss_bytes: u64,
    /// The planted bug that is live in it, in a build that has them.
    pub planted: Option<String>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done.
    Done(Box<Done>),
    /// Nothing came in time; the worker was killed.
    Hung,
    /// The worker died of it.
    Died(String),
    /// It could not be done.
    Failed(String),
    /// The wait was called off; the worker was killed.
    Stopped,
}

/// Why a worker could not be started.
#[derive(Debug, Error)]
#[error("cannot start {}: {source}", program.display())]
pub struct WorkerError {
    program: PathBuf,
    source: std::io::Error,
}

/// How often it is looked whether the wait is called off.
const TICK: Duration = Duration::from_millis(50);

/// A job that goes on may take so many times as long as one that does not.
const PATIENCE: u32 = 10;

/// How long an answer was waited for. Counted in ticks: on a busy machine they take longer, as everything does.
#[derive(Default)]
struct Waited {
    in_all: Duration,
    since_beat: Duration,
}

impl Waited {
    fn tick(&mut self) {
        self.in_all += TICK;
        self.since_beat += TICK;
    }
}

/// A process that does jobs. It ends with this value.
#[derive(Debug)]
pub struct Worker {
    limits: Limits,
    running: Option<Running>,
    resting_bytes: Option<u64>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    input: ChildStdin,
    replies: Receiver<Reply>,
}

impl Worker {
    /// A worker that is started with the first request.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: None,
            resting_bytes: None,
        }
    }

    /// The process, while there is one.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Memory that it kept after the last job that it has done, in bytes, as far as that is known.
    #[must_use]
    pub const fn resting_bytes(&self) -> Option<u64> {
        self.resting_bytes
    }

    /// Has a job done, and waits for it: for as long as it goes on, up to ten times the timeout, and for the timeout when
    /// it does not. Waiting is measured in what this process gets of the processor, so that a busy machine is not taken for a job
    /// that hangs; and a job of which a thread runs, or would run, or waits for a disk, does not hang yet.
    ///
    /// # Errors
    /// When no worker can be started.
    pub fn ask(
        &mut self,
        request: &Request,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<Answer, WorkerError> {
        let mut waited = Waited::default();
        if self.running.is_none() {
            // Of a run that was killed itself, nobody has removed what was under way.
            self.clean();
            self.running = Some(start_one(&self.limits)?);
        }
        let answer = self.running.as_mut().map(|running| running.ask(request));
        if let Some(Err(())) | None = answer {
            return Ok(self.died());
        }
        loop {
            if stop.load(Ordering::Relaxed) {
                self.kill();
                return Ok(Answer::Stopped);
            }
            let Some(running) = &self.running else {
                return Ok(Answer::Stopped);
            };
            match running.replies.recv_timeout(TICK) {
                Ok(Reply::Done(done)) => {
                    self.rest();
                    return Ok(Answer::Done(Box::new(done)));
                }
                Ok(Reply::Error(message)) => return Ok(Answer::Failed(message)),
                Ok(Reply::Alive(_)) => waited.since_beat = Duration::ZERO,
                Err(RecvTimeoutError::Timeout) => {
                    waited.tick();
                    let is_stuck = || !monitor::is_busy(running.child.id());
                    if waited.in_all > timeout * PATIENCE
                        || waited.since_beat > timeout && is_stuck()
                    {
                        self.kill();
                        return Ok(Answer::Hung);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(self.died()),
            }
        }
    }

    /// Looks at what the process keeps, now that it has nothing to do; one that keeps too much is replaced.
    fn rest(&mut self) {
        self.resting_bytes = self.id().and_then(monitor::rss_bytes);
        if self.resting_bytes > Some(self.limits.max_rss_bytes) {
            self.kill();
        }
    }

    fn died(&mut self) -> Answer {
        let Some(mut running) = self.running.take() else {
            return Answer::Died("it is gone".to_owned());
        };
        let status = running.child.wait();
        self.clean();
        Answer::Died(match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })
    }

    fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // It may have ended by itself meanwhile.
            let _ = running.child.kill();
            let _ = running.child.wait();
            self.clean();
        }
    }

    /// Removes what a killed worker has left, so that the disk does not fill.
    fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.limits.scratch) else {
            return;
        };
        for entry in entries.flatten() {
            // The children of a kill may still be at work here, and end by themselves soon.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    fn ask(&mut self, request: &Request) -> Result<(), ()> {
        let mut line = serde_json::to_string(request).map_err(drop)?;
        line.push('\n');
        self.input.write_all(line.as_bytes()).map_err(drop)?;
        self.input.flush().map_err(drop)
    }
}

fn start_one(limits: &Limits) -> Result<Running, WorkerError> {
    let failed = |source| WorkerError {
        program: limits.program.clone(),
        source,
    };
    fs::create_dir_all(&limits.scratch).map_err(failed)?;
    let mut command = command(&limits.program, &limits.scratch);
    match &limits.planted {
        Some(bug) => command.env(PLANTED, bug),
        None => command.env_remove(PLANTED),
    };
    let mut child = command.spawn().map_err(failed)?;
    let gone = || std::io::Error::other("it has no input or output");
    let input = child.stdin.take().ok_or_else(|| failed(gone()))?;
    let output = child.stdout.take().ok_or_else(|| failed(gone()))?;
    let (sender, replies) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else {
                return;
            };
            let reply = serde_json::from_str(&line).unwrap_or_else(|error| {
                Reply::Error(format!("the worker talks nonsense: {error}"))
            });
            if sender.send(reply).is_err() {
                return;
            }
        }
    });
    Ok(Running {
        child,
        input,
        replies,
    })
}

/// The variable that names the planted bug.
const PLANTED: &str = "MMSB_PLANTED";

fn command(program: &Path, scratch: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("worker")
        .arg("--scratch")
        .arg(scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What a panic says is in the finding as well.
        .stderr(Stdio::null());
    // A signal to the group of the terminal is for the parent, which ends its workers itself.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}
