//! What a failure is about, whatever the numbers in it: so that the same failure is known again in another scenario.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// What a failure is about: which kind, which invariant, at which place.
///
/// Two failures with one signature are taken for one finding, and a shorter scenario that fails with another
/// signature is not taken for the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// `difference`, `panic`, `order`, the kind of error that the engine gave, or `failure` for all else.
    pub kind: String,
    /// What is said, without numbers, names and offsets.
    pub invariant: String,
    /// The verb of the step that failed.
    pub place: String,
}

impl Signature {
    /// A signature that is not that of a failed step, such as of a process that hangs.
    #[must_use]
    pub fn new(kind: &str, message: &str, place: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            invariant: without_numbers(message),
            place: place.to_owned(),
        }
    }

    /// The signature of a failure.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        let kind = match (&failure.error, &failure.difference) {
            (_, Some(_)) => "difference".to_owned(),
            (Some(error), None) => error.to_string(),
            (None, None) if failure.message.starts_with("panicked") => "panic".to_owned(),
            (None, None) if failure.message.starts_with("out of order") => "order".to_owned(),
            (None, None) => "failure".to_owned(),
        };
        let place = failure.path.rsplit('.').next().unwrap_or_default();
        let place = place.split('[').next().unwrap_or_default();
        Self {
            kind,
            invariant: without_numbers(&failure.message),
            place: place.to_owned(),
        }
    }

    /// A short word for it that can be part of a file's name: the kind, the place, and eight digits of a digest.
    #[must_use]
    pub fn slug(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.kind, &self.invariant, &self.place] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        let digest = hasher.finalize().to_hex();
        let digest = digest.get(..8).unwrap_or_default();
        let word = |text: &str| {
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect::<String>()
        };
        format!("{}-{}-{digest}", word(&self.kind), word(&self.place))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.kind, self.place, self.invariant)
    }
}

/// How much of a message counts.
const MAX_LEN: usize = 160;

/// A message without what differs from one scenario to the next: numbers, and what stands in backquotes.
fn without_numbers(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut out = String::new();
    let mut quoted = false;
    let mut last_was_number = false;
    for c in line.chars() {
        if c == '`' {
            quoted = !quoted;
            out.push_str(if quoted { "`" } else { "..`" });
            continue;
        }
        if quoted {
            continue;
        }
        let is_number = c.is_ascii_digit() || (last_was_number && c.is_ascii_hexdigit());
        if is_number && !last_was_number {
            out.push('#');
        }
        if !is_number {
            out.push(c);
        }
        last_was_number = is_number;
    }
    let words = out.split_whitespace().map(|word| {
        // Names of pages, such as `p#`, come without quotes too.
        let core = word.trim_end_matches([',', ':', ';']);
        if core.contains('#') && core.chars().any(char::is_alphabetic) {
            "#"
        } else {
            word
        }
    });
    let mut words: Vec<&str> = words.collect();
    // A list of numbers is as long as the scenario makes it.
    words.dedup_by(|one, other| is_number(one) && is_number(other));
    let text = words.join(" ");
    text.chars().take(MAX_LEN).collect()
}

fn is_number(word: &str) -> bool {
    word.contains('#') && word.chars().all(|c| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::value::Span;

    fn failure(path: &str, message: &str) -> Failure {
        Failure {
            path: path.to_owned(),
            span: Span::default(),
            error: None,
            message: message.to_owned(),
            difference: None,
        }
    }

    #[test]
    fn numbers_and_names_do_not_count_and_words_do() {
        let one = Signature::of(&failure(
            "steps[3].storm.steps[0].open",
            "recovery came to LSN 17, but everything up to LSN 20 was acknowledged",
        ));
        let two = Signature::of(&failure(
            "steps[30].open",
            "recovery came to LSN 1, but everything up to LSN 2 was acknowledged",
        ));
        assert_eq!(one, two);
        assert_eq!(one.place, "open");
        let other = Signature::of(&failure("steps[30].open", "recovery came to nothing"));
        assert_ne!(one.slug(), other.slug());
        let page = |name: &str| Signature::of(&failure("end", &format!("page `{name}` is gone")));
        assert_eq!(page("p1"), page("own"));
        let list = |text: &str| Signature::of(&failure("end", text));
        assert_eq!(
            list("[1, 2, 3] is wrong"),
            list("[7, 8, 9, 10, 11] is wrong")
        );
    }

    #[test]
    fn a_slug_is_a_file_name() {
        let slug = Signature::new("hang", "told nothing for 3 s", "run").slug();
        assert!(
            slug.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "{slug}"
        );
        assert!(slug.starts_with("hang-run-"), "{slug}");
    }
}
