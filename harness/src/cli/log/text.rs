//! How numbers and names are shown to people.

use mmsb_engine::Lsn;
use mmsb_engine::inspect::Operation;

/// A count of bytes, in the largest unit that leaves a number of at least 1.
pub(in crate::cli) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A range of transactions.
pub(super) fn lsns(range: Option<(Lsn, Lsn)>) -> String {
    match range {
        None => "no transaction".to_owned(),
        Some((first, last)) if first == last => format!("LSN {first}"),
        Some((first, last)) => format!("LSN {first} to {last}"),
    }
}

/// A number and its noun.
pub(in crate::cli) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Bytes as two hexadecimal digits each.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An operation in a few words.
pub(super) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Allocate {
            page,
            len_bytes,
            location,
        } => format!("allocate {page} of {len_bytes} B, {location:?}").to_lowercase(),
        Operation::Free { page } => format!("free {page}"),
        Operation::Transfer { old, new } => format!("transfer {old} to {new}"),
        Operation::Connect {
            child,
            transform,
            parents,
        } => {
            let parents: Vec<String> = parents.iter().map(ToString::to_string).collect();
            format!(
                "connect {child} by {}@{} to {}",
                transform.name,
                transform.version,
                parents.join(", ")
            )
        }
        Operation::Disconnect { child } => format!("disconnect {child}"),
        Operation::Annotate { page, key, value } => match value {
            Some(value) => format!(
                "annotate {page} {key:?} with {}",
                plural(value.len() as u64, "byte")
            ),
            None => format!("annotate {page} {key:?} with nothing"),
        },
        _ => format!("{operation:?}"),
    }
}

/// One byte, in hexadecimal and as a character if it is one.
pub(super) fn byte(value: u8) -> String {
    if value.is_ascii_graphic() {
        format!("0x{value:02x} ({:?})", char::from(value))
    } else {
        format!("0x{value:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1 << 30), "1.0 GiB");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(lsns(Some((Lsn(3), Lsn(3)))), "LSN 3");
        assert_eq!(byte(0), "0x00");
        assert_eq!(byte(b'a'), "0x61 ('a')");
        assert_eq!(hex(&[1, 0xab]), "01ab");
    }
}
