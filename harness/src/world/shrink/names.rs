//! Gives pages short names.

use std::collections::BTreeMap;

use crate::scenario::{Scenario, parse_str, print};

/// The scenario with its pages called `a`, `b`, `c` and so on, in the order in which they come.
///
/// Names are changed in the text that the scenario is printed as, where a word is a name only if the scenario defines it.
pub(super) fn shortened(
    scenario: &Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let text = print(scenario);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for word in words(&text) {
        if is_generated(word) && !names.contains_key(word) {
            let short = short(names.len());
            names.insert(word.to_owned(), short);
        }
    }
    let clash = names
        .values()
        .any(|short| words(&text).any(|word| word == short));
    if names.is_empty() || clash {
        return scenario.clone();
    }
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        renamed.push_str(names.get(word).map_or(word, String::as_str));
        let other = after.find(is_part).unwrap_or(after.len());
        let (between, next) = after.split_at(other);
        renamed.push_str(between);
        rest = next;
    }
    match parse_str("renamed", &renamed) {
        Ok(candidate) if fails(&candidate) => candidate,
        _ => scenario.clone(),
    }
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_part(c))
        .filter(|word| !word.is_empty())
}

/// Whether a generator makes such names of pages: `p` and a number.
fn is_generated(word: &str) -> bool {
    word.strip_prefix('p')
        .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

fn short(number: usize) -> String {
    let letter = u8::try_from(number % 26).unwrap_or_default();
    let letter = char::from(b'a' + letter);
    match number / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}
