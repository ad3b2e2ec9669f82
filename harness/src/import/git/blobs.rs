//! Reads blobs by their ids.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};

use mmsb_engine::MAX_PAGE_LEN_BYTES;

use super::command::{Process, git};
use super::error::GitImportError;

const COMMAND: &str = "cat-file";

/// One `git cat-file --batch`, which answers any number of requests.
pub(super) struct Blobs {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    _process: Process,
}

/// A blob, or that it is longer than any page.
pub(super) enum Blob {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Its length, which is above [`MAX_PAGE_LEN_BYTES`]. Nothing can be read after it.
    TooLarge(u64),
}

impl Blobs {
    /// Starts the process.
    pub(super) fn open(repository: &Path) -> Result<Self, GitImportError> {
        let mut command = git(repository);
        command
            .args([COMMAND, "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(COMMAND, &mut command)?;
        match (process.stdin(), process.stdout()) {
            (Some(requests), Some(answers)) => Ok(Self {
                requests,
                answers: BufReader::new(answers),
                _process: process,
            }),
            _ => Err(malformed("its pipes are missing")),
        }
    }

    /// Reads one blob.
    pub(super) fn read(&mut self, id: &str) -> Result<Blob, GitImportError> {
        let header = self.ask(id).map_err(exchange)?;
        let mut words = header.split_ascii_whitespace().skip(1);
        let len_bytes = match (words.next(), words.next()) {
            (Some("missing"), _) => {
                return Err(GitImportError::MissingObject { id: id.to_owned() });
            }
            (Some("blob"), Some(len)) => len.parse::<u64>().map_err(|_| malformed(&header))?,
            _ => return Err(malformed(&header)),
        };
        if len_bytes > MAX_PAGE_LEN_BYTES {
            return Ok(Blob::TooLarge(len_bytes));
        }
        let len = usize::try_from(len_bytes).map_err(|_| malformed(&header))?;
        let mut bytes = vec![0; len];
        self.answers.read_exact(&mut bytes).map_err(exchange)?;
        let mut end = [0];
        self.answers.read_exact(&mut end).map_err(exchange)?;
        if end != *b"\n" {
            return Err(malformed("a blob does not end where its length says"));
        }
        Ok(Blob::Bytes(bytes))
    }

    fn ask(&mut self, id: &str) -> io::Result<String> {
        writeln!(self.requests, "{id}")?;
        self.requests.flush()?;
        let mut header = String::new();
        if self.answers.read_line(&mut header)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        header.truncate(header.trim_end().len());
        Ok(header)
    }
}

fn exchange(source: io::Error) -> GitImportError {
    GitImportError::Exchange {
        command: COMMAND,
        source,
    }
}

fn malformed(what: &str) -> GitImportError {
    GitImportError::Malformed {
        command: COMMAND,
        what: what.to_owned(),
    }
}
