//! Gives pages names that remind of the paths they come from.

use std::collections::BTreeSet;

/// The longest name that a scenario allows, in bytes.
const MAX_LEN_BYTES: usize = 64;
/// Digits of the path's digest that tell apart names that would be the same.
const TAG_DIGITS: usize = 12;

/// The names in use.
///
/// A name is the path with `.` in place of `/` and `_` in place of whatever else a name cannot have.
/// Where that is too long or taken, it is shortened and ends with a digest of the path. So names
/// depend on nothing but the paths and the order in which they come and go.
#[derive(Debug, Default)]
pub(super) struct PageNames {
    taken: BTreeSet<String>,
}

impl PageNames {
    /// Takes a name for a path.
    pub(super) fn take(&mut self, path: &[u8]) -> String {
        let plain = sanitise(path);
        let mut name = plain.clone();
        if name.len() > MAX_LEN_BYTES || self.taken.contains(&name) {
            let digest = blake3::hash(path).to_hex();
            let tag: String = digest.chars().take(TAG_DIGITS).collect();
            // A suffix that is taken as well needs two paths with one digest, or a file that was
            // named after the digest of another.
            name = tagged(&plain, &tag);
            let mut count = 1u64;
            while self.taken.contains(&name) {
                count = count.saturating_add(1);
                name = tagged(&plain, &format!("{tag}-{count}"));
            }
        }
        self.taken.insert(name.clone());
        name
    }

    /// Gives a name back.
    pub(super) fn release(&mut self, name: &str) {
        self.taken.remove(name);
    }
}

/// Replaces what a name cannot have; the result is ASCII.
fn sanitise(path: &[u8]) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut name: String = path
        .iter()
        .map(|byte| match byte {
            b'/' => '.',
            byte if allowed(*byte) => char::from(*byte),
            _ => '_',
        })
        .collect();
    if name.is_empty() || name.starts_with(['.', '-']) {
        name.insert(0, '_');
    }
    name
}

/// The end of the plain name, which tells more than its beginning, and a tag.
fn tagged(plain: &str, tag: &str) -> String {
    let room = MAX_LEN_BYTES.saturating_sub(tag.len()).saturating_sub(1);
    let skip = plain.len().saturating_sub(room);
    let kept: String = plain.chars().skip(skip).collect();
    let kept = kept.trim_start_matches(['.', '-']);
    if kept.is_empty() {
        format!("_{tag}")
    } else {
        format!("{kept}-{tag}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::value::Name;

    fn is_valid(name: &str) -> bool {
        serde_json::from_str::<Name>(&serde_json::to_string(name).unwrap()).is_ok()
    }

    #[test]
    fn plain_paths_stay_readable() {
        let mut names = PageNames::default();
        assert_eq!(names.take(b"src/main.rs"), "src.main.rs");
        assert_eq!(names.take(b".gitignore"), "_.gitignore");
        assert_eq!(names.take(b"-"), "_-");
    }

    #[test]
    fn colliding_and_odd_paths_get_valid_names_of_their_own() {
        let mut names = PageNames::default();
        let long = "x/".repeat(60) + "end";
        let paths: [&[u8]; 9] = [
            b"a/b",
            b"a.b",
            b"a b",
            b"a\nb",
            b"a\xffb",
            b"{i}",
            b"\xf0\x9f\x8e\x89",
            long.as_bytes(),
            b"//",
        ];
        let all: BTreeSet<String> = paths.iter().map(|path| names.take(path)).collect();
        assert_eq!(all.len(), paths.len());
        for name in &all {
            assert!(is_valid(name), "{name}");
        }
        // The same path while its name is in use still gets a name of its own.
        assert!(!all.contains(&names.take(b"a/b")));
    }

    #[test]
    fn a_released_name_can_be_taken_again() {
        let mut names = PageNames::default();
        let name = names.take(b"a/b");
        names.release(&name);
        assert_eq!(names.take(b"a.b"), name);
    }

    #[test]
    fn a_path_that_looks_like_a_tagged_name_cannot_take_it() {
        let mut names = PageNames::default();
        names.take(b"a/b");
        let tagged = PageNames {
            taken: names.taken.clone(),
        }
        .take(b"a.b");
        names.take(tagged.as_bytes());
        let name = names.take(b"a.b");
        assert_ne!(name, tagged);
        assert!(is_valid(&name));
    }
}
