//! What can be done about an error of the operating system, for the end of a message.

use std::io;

/// A way out, in brackets and with a space before; empty where the error itself says all there is to say.
pub(crate) const fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (storage full: free some space)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (make it writable for this process; `replay` needs to read only)"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            " (a file is in the way: choose a path for a directory)"
        }
        io::ErrorKind::IsADirectory => " (move it away)",
        _ => "",
    }
}
