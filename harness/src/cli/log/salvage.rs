//! `mmsb log salvage`: a new directory with everything that can be proven good.

use std::ops::ControlFlow;
use std::sync::Arc;

use mmsb_engine::inspect::{Loss, Salvaged, Start};
use mmsb_engine::{FileStorage, Lsn, Options};
use serde::Serialize;

use super::args::SalvageArgs;
use super::{Bar, failed, open, print_json, text};
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, BOLD, CommandError, GOOD, Output, WARN, styled};

#[derive(Serialize)]
struct Json {
    last_lsn: u64,
    first_lsn: u64,
    checkpoint: Option<u64>,
    digest: Option<String>,
    unverified: Option<String>,
    losses: Vec<JsonLoss>,
    repairs: Vec<String>,
    files: Vec<String>,
}

#[derive(Serialize)]
struct JsonLoss {
    kind: &'static str,
    first_lsn: Option<u64>,
    last_lsn: Option<u64>,
    file: Option<String>,
    offset: Option<u64>,
    pages: Vec<String>,
    message: String,
}

/// Salvages, and says what was lost.
pub(super) fn salvage(args: &SalvageArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let source = open(&args.source)?;
    let target = FileStorage::create(&args.target)
        .map_err(|error| CommandError::file("create", &args.target, &error))?;
    let bar = Bar::new();
    let options = Options {
        progress: Some(Arc::new(move |progress| {
            bar.show(progress.done_bytes, progress.total_bytes);
            ControlFlow::Continue(())
        })),
        ..Options::default()
    };
    let salvaged = mmsb_engine::inspect::salvage(&source, &target, &options).map_err(failed)?;
    if args.json {
        print_json(out, &json(&salvaged))?;
    } else {
        print(&salvaged, args, out);
    }
    Ok(if salvaged.losses.is_empty() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

fn print(salvaged: &Salvaged, args: &SalvageArgs, out: &mut Output) {
    for repair in &salvaged.repairs {
        out.line(format_args!("{}  {repair}", styled(WARN, "repaired")));
    }
    for loss in &salvaged.losses {
        out.line(format_args!("{}      {loss}", styled(BAD, "lost")));
    }
    if salvaged.losses.is_empty() {
        out.line(styled(GOOD, "nothing was lost"));
    }
    let start = match salvaged.start {
        Start::Checkpoint { replay_after, .. } => {
            format!("the checkpoint as of LSN {replay_after}")
        }
        _ => "the beginning".to_owned(),
    };
    out.line(format_args!(
        "{} {} holds the state as of LSN {}, from {start}; {}",
        styled(BOLD, "saved:"),
        args.target.display(),
        salvaged.last_lsn,
        text::plural(salvaged.files.len() as u64, "file")
    ));
    if let Some(digest) = &salvaged.digest {
        out.line(format_args!("{} {digest}", styled(BOLD, "digest:")));
    }
    if let Some(why) = &salvaged.unverified {
        out.line(format_args!(
            "{} {why}; open it with the transforms that the bus was used with",
            styled(WARN, "not tried:")
        ));
    }
}

fn json(salvaged: &Salvaged) -> Json {
    Json {
        last_lsn: salvaged.last_lsn.0,
        first_lsn: salvaged.first_lsn.0,
        checkpoint: match salvaged.start {
            Start::Checkpoint { replay_after, .. } => Some(replay_after.0),
            _ => None,
        },
        digest: salvaged.digest.map(|digest| digest.to_string()),
        unverified: salvaged.unverified.clone(),
        losses: salvaged.losses.iter().map(json_loss).collect(),
        repairs: salvaged.repairs.clone(),
        files: salvaged.files.clone(),
    }
}

fn json_loss(loss: &Loss) -> JsonLoss {
    let mut json = JsonLoss {
        kind: "other",
        first_lsn: None,
        last_lsn: None,
        file: None,
        offset: None,
        pages: Vec::new(),
        message: loss.to_string(),
    };
    let mut range = |kind, first: &Lsn, last: &Lsn| {
        json.kind = kind;
        json.first_lsn = Some(first.0);
        json.last_lsn = Some(last.0);
    };
    match loss {
        Loss::Transactions { first, last } => range("transactions", first, last),
        Loss::History { first, last } => range("history", first, last),
        Loss::Stranded {
            first,
            last,
            file,
            pages,
        } => {
            range("stranded", first, last);
            json.file = Some(file.clone());
            json.pages = pages.iter().map(ToString::to_string).collect();
        }
        Loss::Tail { file, offset } => {
            json.kind = "tail";
            json.file = Some(file.clone());
            json.offset = Some(*offset);
        }
        Loss::File { file, .. } => {
            json.kind = "file";
            json.file = Some(file.clone());
        }
        _ => {}
    }
    json
}
