//! `mmsb log diff`: where two logs part.

use mmsb_engine::Options;
use mmsb_engine::inspect::{Difference, PageDifference, Relation, Side};
use serde::Serialize;

use super::args::DiffArgs;
use super::{failed, open, print_json, text};
use crate::cli::exit::Exit;
use crate::cli::output::{BAD, BOLD, CommandError, GOOD, Output, WARN, styled};

#[derive(Serialize)]
struct Json<'a> {
    relation: &'static str,
    same_identity: bool,
    from: u64,
    left: JsonSide<'a>,
    right: JsonSide<'a>,
    first_record: Option<u64>,
    first_state: Option<u64>,
    page: Option<String>,
    offset: Option<u64>,
    left_byte: Option<u8>,
    right_byte: Option<u8>,
    difference: Option<String>,
}

#[derive(Serialize)]
struct JsonSide<'a> {
    directory: &'a str,
    first_lsn: u64,
    last_lsn: u64,
    broken: bool,
}

/// Compares, and says in plain words what was found.
pub(super) fn diff(args: &DiffArgs, out: &mut Output) -> Result<Exit, CommandError> {
    let (left, right) = (open(&args.left)?, open(&args.right)?);
    let found = mmsb_engine::inspect::diff(&left, &right, &Options::default()).map_err(failed)?;
    if args.json {
        print_json(out, &json(&found))?;
    } else {
        print(&found, out);
    }
    let is_same = found.relation == Relation::Same && found.is_same_identity;
    Ok(if is_same && !is_broken(&found) {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

fn print(found: &Difference, out: &mut Output) {
    for (name, side) in [("left", &found.left), ("right", &found.right)] {
        out.line(format_args!("{name:5}  {}", describe(side)));
    }
    if !found.is_same_identity {
        out.line(styled(
            WARN,
            "they are different logs: their identities differ",
        ));
    }
    let style = if found.relation == Relation::Same && !is_broken(found) {
        GOOD
    } else {
        BAD
    };
    out.line(styled(style, conclusion(found)));
    if let Some(state) = &found.first_state {
        out.line(format_args!(
            "{} {}",
            styled(BOLD, "first:"),
            page(&state.page)
        ));
    }
}

/// Whether damage hides the end of one of them.
const fn is_broken(found: &Difference) -> bool {
    found.left.is_broken || found.right.is_broken
}

fn describe(side: &Side) -> String {
    let range = (side.first <= side.last).then_some((side.first, side.last));
    let broken = if side.is_broken { ", then damage" } else { "" };
    format!("{}: {}{broken}", side.place, text::lsns(range))
}

fn conclusion(found: &Difference) -> String {
    let goes_on = |longer: &str, shorter: &Side| {
        format!(
            "the same up to LSN {}; the {longer} one goes on from there",
            shorter.last
        )
    };
    match (found.relation, found.first_record, &found.first_state) {
        (Relation::Same, ..) if is_broken(found) => {
            "the same transactions up to the damage".to_owned()
        }
        (Relation::Same, ..) => "the same transactions".to_owned(),
        (Relation::LeftIsPrefix, ..) => goes_on("right", &found.left),
        (Relation::RightIsPrefix, ..) => goes_on("left", &found.right),
        (Relation::OtherRecordsSamePages, Some(lsn), _) => {
            format!("other transactions from LSN {lsn} on, but the same pages as far as both go")
        }
        (_, Some(record), Some(state)) if record < state.lsn => format!(
            "other transactions from LSN {record} on, other pages from LSN {} on",
            state.lsn
        ),
        (_, Some(_), Some(state)) => format!("they part at LSN {}", state.lsn),
        (_, None, Some(state)) => format!(
            "the same transactions from LSN {} on, but other pages as of LSN {}: they parted before",
            found.from, state.lsn
        ),
        _ => "they differ".to_owned(),
    }
}

fn page(difference: &PageDifference) -> String {
    match difference {
        PageDifference::OnlyLeft(page) => format!("page {page} is in the left one only"),
        PageDifference::OnlyRight(page) => format!("page {page} is in the right one only"),
        PageDifference::Length { page, left, right } => {
            format!("page {page} has {left} bytes in the left one, {right} in the right one")
        }
        PageDifference::Byte {
            page,
            offset,
            left,
            right,
        } => format!(
            "byte {offset} of page {page} is {} in the left one, {} in the right one",
            text::byte(*left),
            text::byte(*right)
        ),
        PageDifference::Stale(page) => format!("page {page} is stale in one of them only"),
        _ => format!("{difference:?}"),
    }
}

fn json(found: &Difference) -> Json<'_> {
    fn side(side: &Side) -> JsonSide<'_> {
        JsonSide {
            directory: &side.place,
            first_lsn: side.first.0,
            last_lsn: side.last.0,
            broken: side.is_broken,
        }
    }
    let state = found.first_state.as_ref();
    let byte = state.and_then(|state| match state.page {
        PageDifference::Byte {
            offset,
            left,
            right,
            ..
        } => Some((offset, left, right)),
        _ => None,
    });
    let id = state.and_then(|state| match state.page {
        PageDifference::OnlyLeft(page)
        | PageDifference::OnlyRight(page)
        | PageDifference::Stale(page)
        | PageDifference::Length { page, .. }
        | PageDifference::Byte { page, .. } => Some(page.to_string()),
        _ => None,
    });
    Json {
        relation: match found.relation {
            Relation::Same => "same",
            Relation::LeftIsPrefix => "left_is_prefix",
            Relation::RightIsPrefix => "right_is_prefix",
            Relation::OtherRecordsSamePages => "other_records_same_pages",
            _ => "diverged",
        },
        same_identity: found.is_same_identity,
        from: found.from.0,
        left: side(&found.left),
        right: side(&found.right),
        first_record: found.first_record.map(|lsn| lsn.0),
        first_state: state.map(|state| state.lsn.0),
        page: id,
        offset: byte.map(|(offset, ..)| offset),
        left_byte: byte.map(|(_, left, _)| left),
        right_byte: byte.map(|(.., right)| right),
        difference: state.map(|state| page(&state.page)),
    }
}
