//! The statuses that every function returns, and which error of the engine is which.

/// It worked.
pub const MMSB_OK: i32 = 0;
/// A pointer that must not be null is, is not aligned, or a value is not one that is allowed.
pub const MMSB_INVALID_ARGUMENT: i32 = 1;
/// A handle that was released, or is none; `mmsb_last_error_kind` tells `handle.stale` from `handle.unknown`.
pub const MMSB_INVALID_HANDLE: i32 = 2;
/// A handle of another kind than the function takes.
pub const MMSB_WRONG_KIND: i32 = 3;
/// Another call uses the handle in a way that excludes this one, or something that was opened from it is still open.
pub const MMSB_BUSY: i32 = 4;
/// The call is not possible in the state that the object is in, such as writing to a committed transaction.
pub const MMSB_STATE: i32 = 5;
/// The caller's buffer is too short; the length that is needed was stored, and nothing else.
pub const MMSB_BUFFER_TOO_SMALL: i32 = 6;
/// A structure asks for something that this version of the library does not know.
pub const MMSB_UNSUPPORTED: i32 = 7;
/// Nothing there: no event is waiting, the page has no such metadata.
pub const MMSB_NOTHING: i32 = 8;
/// A page, range or length is not one that the bus has or can have.
pub const MMSB_PAGE: i32 = 9;
/// The graph, or a transform, refuses.
pub const MMSB_GRAPH: i32 = 10;
/// Views are held that the call would have to wait for. Release them and try again.
pub const MMSB_VIEW_HELD: i32 = 11;
/// No memory, no room in the arena, or more than a transaction can hold.
pub const MMSB_OUT_OF_SPACE: i32 = 12;
/// The operating system refused, or the bus is read-only since its files failed.
pub const MMSB_IO: i32 = 13;
/// The commit is visible, but did not become as durable as asked; whether it survives is known after the next open.
pub const MMSB_IN_DOUBT: i32 = 14;
/// The files are not what they should be.
pub const MMSB_DAMAGED: i32 = 15;
/// The directory is open elsewhere.
pub const MMSB_IN_USE: i32 = 16;
/// A device failed.
pub const MMSB_DEVICE: i32 = 17;
/// The library was called from a transform, which may only compute.
pub const MMSB_REENTERED: i32 = 18;
/// A bug of the library was caught at the border. The objects that the call used may be of no more use; nothing is undefined.
pub const MMSB_PANIC: i32 = 19;
/// An error that has no status of its own in this version; the kind and the message tell.
pub const MMSB_OTHER: i32 = 20;

/// The names, by status.
pub(crate) const NAMES: [&core::ffi::CStr; 21] = [
    c"ok",
    c"invalid argument",
    c"invalid handle",
    c"wrong kind of handle",
    c"busy",
    c"wrong state",
    c"buffer too small",
    c"unsupported",
    c"nothing there",
    c"page",
    c"graph",
    c"view held",
    c"out of space",
    c"input or output",
    c"in doubt",
    c"damaged",
    c"in use",
    c"device",
    c"called from a transform",
    c"panic",
    c"other",
];

/// The status for a stable kind of the engine's errors.
pub(crate) fn of_kind(kind: &str) -> i32 {
    match kind {
        "view.held" | "guard.held" => MMSB_VIEW_HELD,
        "bus.poisoned" | "open.io" | "log.io" | "checkpoint.io" => MMSB_IO,
        "open.in-use" => MMSB_IN_USE,
        "open.option" => MMSB_INVALID_ARGUMENT,
        "memory.out-of-space" | "memory.table-full" | "memory.arena" | "transaction.too-large" => {
            MMSB_OUT_OF_SPACE
        }
        _ => match kind.split('.').next().unwrap_or_default() {
            "page" | "write" | "memory" | "metadata" | "export" => MMSB_PAGE,
            "graph" | "transform" | "derived" => MMSB_GRAPH,
            "log" | "replay" => MMSB_DAMAGED,
            "device" => MMSB_DEVICE,
            _ => MMSB_OTHER,
        },
    }
}
