"""The functions and structures of include/mmsb.h, as ctypes has them. tests/test_abi.py compares them with the header."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char, c_char_p, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path

ABI_VERSION = 0x0001_0001

(OK, INVALID_ARGUMENT, INVALID_HANDLE, WRONG_KIND, BUSY, STATE, BUFFER_TOO_SMALL, UNSUPPORTED, NOTHING, PAGE, GRAPH,
 VIEW_HELD, OUT_OF_SPACE, IO, IN_DOUBT, DAMAGED, IN_USE, DEVICE, REENTERED, PANIC, OTHER) = range(21)

END = 2**64 - 1


class Sized(ctypes.Structure):
    """A structure whose first field is its size."""

    def __init__(self, **fields: object) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), **fields)


class Options(Sized):
    _fields_ = [("size", c_uint64), ("arena_bytes", c_uint64), ("segment_bytes", c_uint64),
                ("retention_bytes", c_uint64), ("retention", c_uint32), ("propagation", c_uint32),
                ("threads", c_uint32), ("appliers", c_uint32), ("no_prefill", c_uint32), ("compression", c_uint32),
                ("registry", c_uint64), ("device", c_uint32), ("device_index", c_uint32), ("device_bytes", c_uint64),
                ("identity", c_uint8 * 16)]


class CheckpointReport(Sized):
    _fields_ = [(name, c_uint64) for name in
                ("size", "replay_after", "sequence", "is_full", "images", "image_bytes", "freed_segments")]


class Statistics(Sized):
    _fields_ = [(name, c_uint64) for name in
                ("size", "last_lsn", "durable_lsn", "live_pages", "live_bytes", "derived_pages", "reserved_bytes",
                 "capacity_bytes", "log_bytes", "syncs", "rotations", "open_handles", "log_writes", "recycled",
                 "footprint_bytes", "peak_footprint_bytes", "waste_bytes", "largest_free_range_bytes",
                 "allocations_total", "releases_total")]


class OpenReport(Sized):
    _fields_ = [(name, c_uint64) for name in
                ("size", "created", "last_lsn", "has_checkpoint", "checkpoint_lsn", "applied", "torn", "torn_lsn",
                 "dropped_segments", "warnings")]


class PageInfo(Sized):
    _fields_ = [("size", c_uint64), ("len", c_uint64), ("offset", c_uint64), ("epoch", c_uint64),
                ("location", c_uint32), ("is_derived", c_uint32), ("parents", c_uint64)]


class Event(Sized):
    _fields_ = [(name, c_uint64) for name in ("size", "lsn", "lost", "pages")]


class Moment(Sized):
    _fields_ = [(name, c_uint64) for name in ("size", "sequence", "lsn", "epoch")]


class DevicePage(Sized):
    _fields_ = [(name, c_uint64) for name in ("size", "address", "len", "device")]


class Bytes(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("len", c_uint64)]


class Write(ctypes.Structure):
    _fields_ = [("page", c_uint64), ("offset", c_uint64), ("bytes", c_void_p), ("len", c_uint64)]


class Compute(ctypes.Structure):
    _fields_ = [("size", c_uint64), ("inputs", POINTER(Bytes)), ("input_count", c_uint64), ("params", Bytes),
                ("output_len", c_uint64), ("start", c_uint64), ("out", c_void_p), ("out_len", c_uint64),
                ("error", c_void_p), ("error_capacity", c_uint64)]


ComputeFn = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(Compute))
DestroyFn = ctypes.CFUNCTYPE(None, c_void_p)


class Transform(Sized):
    _fields_ = [("size", c_uint64), ("name", c_char_p), ("version", c_uint32), ("mapping", c_uint32),
                ("granule_bytes", c_uint32), ("parents", c_uint32), ("user_data", c_void_p), ("compute", ComputeFn),
                ("destroy", DestroyFn)]


STRUCTURES = {
    "mmsb_options": Options, "mmsb_checkpoint_report": CheckpointReport, "mmsb_statistics": Statistics,
    "mmsb_page_info": PageInfo, "mmsb_event": Event, "mmsb_device_page": DevicePage, "mmsb_bytes": Bytes,
    "mmsb_moment": Moment, "mmsb_open_report": OpenReport, "mmsb_write": Write, "mmsb_compute": Compute, "mmsb_transform": Transform,
}

_u64p = POINTER(c_uint64)
_sizep = POINTER(c_size_t)

# Result and arguments, by name.
FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "mmsb_abi_version": (c_uint32, []),
    "mmsb_version": (c_char_p, []),
    "mmsb_status_name": (c_char_p, [c_int32]),
    "mmsb_feature": (c_int32, [c_char_p, POINTER(c_int32)]),
    "mmsb_last_error_message": (c_char_p, []),
    "mmsb_last_error_kind": (c_char_p, []),
    "mmsb_bus_open": (c_int32, [c_char_p, POINTER(Options), _u64p]),
    "mmsb_bus_close": (c_int32, [c_uint64]),
    "mmsb_bus_abandon": (c_int32, [c_uint64]),
    "mmsb_bus_sync": (c_int32, [c_uint64, _u64p]),
    "mmsb_bus_maintain": (c_int32, [c_uint64, POINTER(c_int32)]),
    "mmsb_bus_propagate": (c_int32, [c_uint64]),
    "mmsb_bus_checkpoint": (c_int32, [c_uint64, POINTER(CheckpointReport)]),
    "mmsb_bus_restore_device": (c_int32, [c_uint64]),
    "mmsb_bus_digest": (c_int32, [c_uint64, POINTER(c_uint8)]),
    "mmsb_bus_pages": (c_int32, [c_uint64, _u64p, c_size_t, _sizep]),
    "mmsb_bus_statistics": (c_int32, [c_uint64, POINTER(Statistics)]),
    "mmsb_bus_opened": (c_int32, [c_uint64, POINTER(OpenReport)]),
    "mmsb_page_describe": (c_int32, [c_uint64, c_uint64, POINTER(PageInfo)]),
    "mmsb_page_parents": (c_int32, [c_uint64, c_uint64, _u64p, c_size_t, _sizep]),
    "mmsb_page_annotation": (c_int32, [c_uint64, c_uint64, c_char_p, POINTER(c_uint8), c_size_t, _sizep]),
    "mmsb_transaction_begin": (c_int32, [c_uint64, _u64p]),
    "mmsb_transaction_release": (c_int32, [c_uint64]),
    "mmsb_transaction_allocate": (c_int32, [c_uint64, c_uint64, c_uint32, _u64p]),
    "mmsb_transaction_write": (c_int32, [c_uint64, c_uint64, c_uint64, c_void_p, c_size_t]),
    "mmsb_transaction_free": (c_int32, [c_uint64, c_uint64]),
    "mmsb_transaction_transfer": (c_int32, [c_uint64, c_uint64]),
    "mmsb_transaction_connect": (
        c_int32, [c_uint64, c_uint64, c_char_p, c_uint32, c_char_p, c_size_t, _u64p, c_size_t]),
    "mmsb_transaction_disconnect": (c_int32, [c_uint64, c_uint64]),
    "mmsb_transaction_annotate": (c_int32, [c_uint64, c_uint64, c_char_p, c_char_p, c_size_t]),
    "mmsb_transaction_commit": (c_int32, [c_uint64, c_uint32, c_uint64, _u64p]),
    "mmsb_transaction_page": (c_int32, [c_uint64, c_uint64, _u64p]),
    "mmsb_transaction_transferred": (c_int32, [c_uint64, c_uint64, _u64p]),
    "mmsb_commit_writes": (c_int32, [c_uint64, POINTER(Write), c_size_t, c_uint32, c_uint64, _u64p]),
    "mmsb_view_one": (c_int32, [c_uint64, c_uint64, _u64p, POINTER(Bytes)]),
    "mmsb_view_open": (c_int32, [c_uint64, _u64p, c_size_t, _u64p]),
    "mmsb_view_page": (c_int32, [c_uint64, c_size_t, _u64p, POINTER(Bytes)]),
    "mmsb_view_lsn": (c_int32, [c_uint64, _u64p]),
    "mmsb_view_release": (c_int32, [c_uint64]),
    "mmsb_view_device": (c_int32, [c_uint64, c_uint64, _u64p, POINTER(DevicePage)]),
    "mmsb_read_into": (c_int32, [c_uint64, c_uint64, c_uint64, c_void_p, c_size_t]),
    "mmsb_page_export": (c_int32, [c_uint64, c_uint64, POINTER(c_int32)]),
    "mmsb_page_withdraw": (c_int32, [c_uint64, c_uint64]),
    "mmsb_shared_open": (c_int32, [c_int32, _u64p, _u64p, POINTER(Bytes)]),
    "mmsb_shared_read": (c_int32, [c_uint64, c_uint64, c_void_p, c_size_t, c_uint64, POINTER(Moment)]),
    "mmsb_shared_begin": (c_int32, [c_uint64, c_uint64, POINTER(Moment)]),
    "mmsb_shared_check": (c_int32, [c_uint64, c_uint64]),
    "mmsb_shared_close": (c_int32, [c_uint64]),
    "mmsb_replay_open": (c_int32, [c_char_p, c_uint64, POINTER(Options), _u64p]),
    "mmsb_replay_lsn": (c_int32, [c_uint64, _u64p]),
    "mmsb_replay_digest": (c_int32, [c_uint64, POINTER(c_uint8)]),
    "mmsb_replay_pages": (c_int32, [c_uint64, _u64p, c_size_t, _sizep]),
    "mmsb_replay_view": (c_int32, [c_uint64, _u64p, c_size_t, _u64p]),
    "mmsb_replay_release": (c_int32, [c_uint64]),
    "mmsb_events_open": (c_int32, [c_uint64, c_size_t, _u64p]),
    "mmsb_events_next": (c_int32, [c_uint64, POINTER(Event), _u64p, c_size_t, _sizep]),
    "mmsb_events_fd": (c_int32, [c_uint64, POINTER(c_int32)]),
    "mmsb_events_close": (c_int32, [c_uint64]),
    "mmsb_registry_create": (c_int32, [_u64p]),
    "mmsb_registry_add": (c_int32, [c_uint64, POINTER(Transform)]),
    "mmsb_registry_release": (c_int32, [c_uint64]),
    "mmsb_doctor": (c_int32, [c_char_p, POINTER(c_char), c_size_t, _sizep]),
}


def _load() -> ctypes.CDLL:
    """MMSB_LIBRARY, the package's own folder, or wherever the system finds it."""
    name = "libmmsb_ffi.so"
    beside = Path(__file__).with_name(name)
    path = os.environ.get("MMSB_LIBRARY") or (str(beside) if beside.exists() else name)
    library = ctypes.CDLL(path)
    for function, (result, arguments) in FUNCTIONS.items():
        pointer = getattr(library, function)
        pointer.restype, pointer.argtypes = result, arguments
    found = library.mmsb_abi_version()
    if found >> 16 != ABI_VERSION >> 16 or found & 0xFFFF < ABI_VERSION & 0xFFFF:
        raise ImportError(f"{path} has ABI {found:#x}, and this package needs {ABI_VERSION:#x}")
    return library


lib = _load()
