//! Every promise of the atlas, kept at every operation that its fault can strike.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(
    clippy::print_stdout,
    reason = "how often each promise was kept is worth seeing"
)]

use mmsb_harness::scenario::fault::{Act, FaultKind, Holds};
use mmsb_harness::world::atlas::{ATLAS, Promise, markdown, strike};

fn keeps(holds: Holds) {
    let mut struck = 0;
    let mut broken = Vec::new();
    for entry in ATLAS.iter().filter(|entry| entry.on.holds == holds) {
        let strikes = strike(entry);
        let count = strikes.recovered + strikes.detected + strikes.unknowable;
        assert!(
            count > 0 || !strikes.unsound.is_empty(),
            "{} is never asked for in the run of the atlas",
            entry.on
        );
        // Two ends of a run, three seeds.
        assert!(strikes.unknowable <= 6, "{} {:?}", entry.on, entry.kind);
        struck += strikes.recovered + strikes.detected;
        println!(
            "{:16} {:12} {:10} recovered {:4}, detected {:4}",
            entry.on.to_string(),
            entry.kind.as_str(),
            entry.promise.as_str(),
            strikes.recovered,
            strikes.detected
        );
        broken.extend(strikes.unsound);
    }
    assert!(
        broken.is_empty(),
        "{} broken:\n{}",
        broken.len(),
        broken.join("\n")
    );
    assert!(struck > 20, "{struck} strikes on {holds:?}");
}

#[test]
fn of_the_log() {
    keeps(Holds::Log);
}

#[test]
fn of_spares() {
    keeps(Holds::Spare);
}

#[test]
fn of_manifests() {
    keeps(Holds::Manifest);
}

#[test]
fn of_images() {
    keeps(Holds::Images);
}

#[test]
fn of_the_mark_of_a_close() {
    keeps(Holds::Closed);
}

#[test]
fn of_names() {
    keeps(Holds::Names);
}

/// A promise of detection that nothing ever needs would only hide what is recovered.
#[test]
fn what_is_detected_is_detected_somewhere() {
    let entry = ATLAS
        .iter()
        .find(|entry| {
            entry.on.holds == Holds::Log
                && entry.on.act == Act::Write
                && entry.kind == FaultKind::Lost
        })
        .unwrap();
    assert_eq!(entry.promise, Promise::Noticed);
    assert!(strike(entry).detected > 0);
}

#[test]
fn the_document_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/GUARANTEES.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (
        "<!-- generated: the atlas -->\n\n",
        "\n<!-- end of the atlas -->",
    );
    let (head, rest) = document.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let updated = format!("{head}{begin}{}{end}{tail}", markdown());
    if std::env::var_os("MMSB_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, &updated).unwrap();
        return;
    }
    assert!(
        document == updated,
        "docs/GUARANTEES.md is out of date: run the tests with MMSB_BLESS=1"
    );
}
