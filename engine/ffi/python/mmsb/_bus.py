"""The bus, its transactions, events, states of the past and transforms."""

from __future__ import annotations

import ctypes
import enum
import json
import os
import sys
import traceback
import weakref
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, Sequence, Union

from . import _abi
from ._errors import HandleError, InDoubtError, MmsbError, check
from ._view import DeviceView, View

lib = _abi.lib
_Path = Union[str, "os.PathLike[str]"]


class Durability(enum.IntEnum):
    """How far a commit goes before it returns."""

    SYNC = 0
    MEMORY = 1
    BUFFERED = 2


class Location(enum.IntEnum):
    """Where the bytes of a page are."""

    HOST = 0
    DEVICE = 1
    UNIFIED = 2


@dataclass(frozen=True)
class Event:
    """One commit: its LSN, the pages that it concerns, and how many events before it were lost."""

    lsn: int
    pages: list[int]
    lost: int


@dataclass(frozen=True)
class PageInfo:
    """What is known of a page besides its bytes."""

    len: int
    offset: int
    epoch: int
    location: Location
    is_derived: bool


class _Handle:
    """A handle that is released once: by hand, or when its owner is collected."""

    def __init__(self, value: int, release: Callable[[int], int]) -> None:
        self._value = value
        self._release = release
        self._finalizer = weakref.finalize(self, release, value)
        self._finalizer.atexit = False

    @property
    def value(self) -> int:
        if not self._finalizer.alive:
            raise HandleError(_abi.INVALID_HANDLE, "handle.stale", "the object was released")
        return self._value

    def release(self) -> None:
        """Releases it; nothing if it was. If that is refused, it stays."""
        if self._finalizer.alive:
            check(self._release(self._value))
            self._finalizer.detach()


def _out() -> ctypes.c_uint64:
    return ctypes.c_uint64()


def _list(call: Callable[[Any, int, Any], int]) -> list[int]:
    """All ids that a call has: as many as it says are needed."""
    capacity = 64
    while True:
        room, needed = (ctypes.c_uint64 * capacity)(), ctypes.c_size_t()
        status = call(room, capacity, ctypes.byref(needed))
        if status != _abi.BUFFER_TOO_SMALL:
            check(status)
            return list(room[: needed.value])
        capacity = needed.value


def _source(data: Any) -> tuple[Any, int, int]:
    """What keeps the bytes, their address and their length. Copies only what is not contiguous, or is read-only and no ``bytes``."""
    if isinstance(data, bytes):
        return data, ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0, len(data)
    view = memoryview(data)
    if not view.c_contiguous:
        return _source(view.tobytes())
    if view.nbytes == 0:
        return data, 0, 0
    if view.readonly:
        interface = getattr(data, "__array_interface__", None)
        return (data, interface["data"][0], view.nbytes) if interface else _source(view.tobytes())
    array = (ctypes.c_uint8 * view.nbytes).from_buffer(view.cast("B"))
    return array, ctypes.addressof(array), view.nbytes


@dataclass(frozen=True)
class TransformCall:
    """What a transform is to compute: bytes ``start`` to ``start + len(out)`` of a page of ``output_len`` bytes, to ``out``."""

    inputs: list[memoryview]
    params: bytes
    output_len: int
    start: int
    out: memoryview


class Transforms:
    """Transforms in Python, for :meth:`Bus.open`. They run inside of commits and reads, and must not call the library."""

    def __init__(self) -> None:
        handle = _out()
        check(lib.mmsb_registry_create(ctypes.byref(handle)))
        self._handle = _Handle(handle.value, lib.mmsb_registry_release)

    def add(self, name: str, compute: Callable[[TransformCall], None], *, version: int = 1, parents: int = 0,
            same_offset: bool = False, granule_bytes: int = 1) -> None:
        """Adds ``compute`` under a name and a version. It must be a pure function; an exception makes the page stale.

        With ``same_offset`` a byte of a parent alters the byte at the same offset alone, so small changes stay small.
        """

        def run(_: Any, work: Any) -> int:
            call = work.contents
            try:
                def memory(address: int, length: int) -> memoryview:
                    return memoryview((ctypes.c_uint8 * length).from_address(address)).cast("B")

                inputs = [memory(call.inputs[n].data, call.inputs[n].len).toreadonly()
                          for n in range(call.input_count)]
                params = ctypes.string_at(call.params.data, call.params.len) if call.params.len else b""
                compute(TransformCall(inputs, params, call.output_len, call.start, memory(call.out, call.out_len)))
                return 0
            except BaseException as error:  # noqa: BLE001 - nothing may unwind into C
                said = f"{type(error).__name__}: {error}".encode()[: call.error_capacity - 1]
                ctypes.memmove(call.error, said + b"\0", len(said) + 1)
                return 1

        run_c = _abi.ComputeFn(run)
        key = id(run_c)

        def forget(_: Any) -> None:
            _alive.pop(key, None)

        destroy_c = _abi.DestroyFn(forget)
        # The library calls them for as long as it has not called `destroy`, whatever becomes of this object.
        _alive[key] = (run_c, destroy_c)
        transform = _abi.Transform(name=name.encode(), version=version, mapping=int(same_offset), parents=parents,
                                   granule_bytes=granule_bytes, compute=run_c, destroy=destroy_c)
        check(lib.mmsb_registry_add(self._handle.value, ctypes.byref(transform)))


_alive: dict[int, Any] = {}


class Transaction:
    """An atomic group of changes. In ``with``, it is committed at the end, and discarded if an exception leaves it."""

    def __init__(self, bus: "Bus", durability: Durability, wait_s: float) -> None:
        handle = _out()
        check(lib.mmsb_transaction_begin(bus._handle.value, ctypes.byref(handle)))
        self._handle = _Handle(handle.value, lib.mmsb_transaction_release)
        self._durability, self._wait_s = durability, wait_s
        self.lsn: Optional[int] = None

    def allocate(self, length: int, location: Location = Location.HOST) -> int:
        """A page of zeros. The id is good in this transaction alone; :meth:`page` gives the lasting one after the commit."""
        page = _out()
        check(lib.mmsb_transaction_allocate(self._handle.value, length, location, ctypes.byref(page)))
        return page.value

    def write(self, page: int, offset: int, data: Any) -> None:
        """Writes ``data``, anything with a buffer."""
        keep, address, length = _source(data)
        check(lib.mmsb_transaction_write(self._handle.value, page, offset, address, length))
        del keep

    def free(self, page: int) -> None:
        check(lib.mmsb_transaction_free(self._handle.value, page))

    def transfer(self, page: int) -> None:
        """Gives the page a new id, see :meth:`transferred`; every copy of the old one is stale after the commit."""
        check(lib.mmsb_transaction_transfer(self._handle.value, page))

    def connect(self, child: int, transform: str, parents: Sequence[int], *, version: int = 1, params: bytes = b"") -> None:
        """Makes ``child`` a page that is computed from ``parents``."""
        ids = (ctypes.c_uint64 * len(parents))(*parents)
        check(lib.mmsb_transaction_connect(self._handle.value, child, transform.encode(), version, params, len(params),
                                           ids, len(parents)))

    def disconnect(self, child: int) -> None:
        check(lib.mmsb_transaction_disconnect(self._handle.value, child))

    def annotate(self, page: int, key: str, value: Optional[bytes]) -> None:
        check(lib.mmsb_transaction_annotate(self._handle.value, page, key.encode(), value, len(value or b"")))

    def commit(self, durability: Optional[Durability] = None, wait_s: Optional[float] = None) -> int:
        """Commits, and gives the LSN. :class:`ViewHeldError` says that views are in the way and nothing has changed: it can be
        committed again. With ``wait_s`` it tries for so long."""
        lsn = _out()
        durability = self._durability if durability is None else durability
        wait_ns = int((self._wait_s if wait_s is None else wait_s) * 1e9)
        try:
            check(lib.mmsb_transaction_commit(self._handle.value, durability, wait_ns, ctypes.byref(lsn)))
        except InDoubtError as error:
            error.lsn = self.lsn = lsn.value
            raise
        self.lsn = lsn.value
        return lsn.value

    def page(self, new_page: int) -> int:
        """The lasting id of a page that this allocated."""
        page = _out()
        check(lib.mmsb_transaction_page(self._handle.value, new_page, ctypes.byref(page)))
        return page.value

    def transferred(self, old: int) -> int:
        """The new id of a page that this transferred."""
        page = _out()
        check(lib.mmsb_transaction_transferred(self._handle.value, old, ctypes.byref(page)))
        return page.value

    def release(self) -> None:
        self._handle.release()

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.lsn is None:
            try:
                self.commit()
            except BaseException:
                self.release()
                raise
        elif self.lsn is None:
            self.release()


class Events:
    """A subscription to commits. It has a ``fileno``, so ``select`` and ``asyncio`` can wait for it."""

    def __init__(self, bus: "Bus", capacity: int) -> None:
        handle = _out()
        check(lib.mmsb_events_open(bus._handle.value, capacity, ctypes.byref(handle)))
        self._handle = _Handle(handle.value, lib.mmsb_events_close)

    def fileno(self) -> int:
        descriptor = ctypes.c_int32()
        check(lib.mmsb_events_fd(self._handle.value, ctypes.byref(descriptor)))
        return descriptor.value

    def next(self) -> Optional[Event]:
        """The oldest event that waits, or ``None``."""
        event = _abi.Event()

        def call(room: Any, capacity: int, needed: Any) -> int:
            return lib.mmsb_events_next(self._handle.value, ctypes.byref(event), room, capacity, needed)

        try:
            pages = _list(call)
        except MmsbError as error:
            if error.status == _abi.NOTHING:
                return None
            raise
        return Event(event.lsn, pages, event.lost)

    def __iter__(self) -> "Events":
        return self

    def __next__(self) -> Event:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        self._handle.release()

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _options(arguments: dict[str, Any]) -> _abi.Options:
    transforms = arguments.pop("transforms", None)
    if transforms is not None:
        arguments["registry"] = transforms._handle.value
    return _abi.Options(**arguments)


class Bus:
    """Pages that change only through transactions, which are totally ordered in one log."""

    def __init__(self, directory: _Path, **options: Any) -> None:
        """Opens the bus in ``directory``, or creates it. Options are the fields of ``mmsb_options``, and ``transforms``."""
        handle, given = _out(), _options(options)
        check(lib.mmsb_bus_open(os.fsencode(directory), ctypes.byref(given), ctypes.byref(handle)))
        self._handle = _Handle(handle.value, lib.mmsb_bus_close)
        self._device_index = given.device_index

    def begin(self, durability: Durability = Durability.SYNC, wait_s: float = 0) -> Transaction:
        return Transaction(self, durability, wait_s)

    def allocate(self, length: int, location: Location = Location.HOST) -> int:
        """A page of zeros, in a transaction of its own."""
        with self.begin(Durability.MEMORY) as transaction:
            page = transaction.allocate(length, location)
        page = transaction.page(page)
        transaction.release()
        return page

    def write(self, writes: Iterable[tuple[int, int, Any]], durability: Durability = Durability.SYNC, wait_s: float = 0) -> int:
        """Commits writes of (page, offset, data) as one transaction, in one call of the library; gives the LSN."""
        sources = [(page, offset, _source(data)) for page, offset, data in writes]
        rows = (_abi.Write * len(sources))(
            *[_abi.Write(page, offset, address, length) for page, offset, (_, address, length) in sources])
        lsn = _out()
        try:
            check(lib.mmsb_commit_writes(self._handle.value, rows, len(sources), durability, int(wait_s * 1e9),
                                         ctypes.byref(lsn)))
        except InDoubtError as error:
            error.lsn = lsn.value
            raise
        return lsn.value

    def view(self, *pages: int) -> View:
        """Pages as of one moment, not copied. Commits to them are refused until it is released."""
        handle = _out()
        if len(pages) == 1:
            check(lib.mmsb_view_one(self._handle.value, pages[0], ctypes.byref(handle), ctypes.byref(_abi.Bytes())))
        else:
            ids = (ctypes.c_uint64 * len(pages))(*pages)
            check(lib.mmsb_view_open(self._handle.value, ids, len(pages), ctypes.byref(handle)))
        return View(handle.value, list(pages))

    def device_view(self, page: int) -> DeviceView:
        """A page where it lies on a device."""
        handle, place = _out(), _abi.DevicePage()
        check(lib.mmsb_view_device(self._handle.value, page, ctypes.byref(handle), ctypes.byref(place)))
        return DeviceView(handle.value, place, self._device_index)

    def export(self, page: int) -> int:
        """A descriptor of the memory of a page, for another process to :func:`attach` to. It is the caller's to close, which
        ends nothing: :meth:`withdraw` does. Pages from 4033 bytes on, in host memory."""
        descriptor = ctypes.c_int32()
        check(lib.mmsb_page_export(self._handle.value, page, ctypes.byref(descriptor)))
        return descriptor.value

    def withdraw(self, page: int) -> None:
        """Ends the export of a page: who has it mapped is told that it is gone, and keeps what was there last."""
        check(lib.mmsb_page_withdraw(self._handle.value, page))

    def read(self, page: int, offset: int = 0, length: Optional[int] = None) -> bytes:
        """A copy of bytes of a page."""
        length = self.info(page).len - offset if length is None else length
        room = ctypes.create_string_buffer(max(length, 0))
        check(lib.mmsb_read_into(self._handle.value, page, offset, room, len(room)))
        return room.raw

    def info(self, page: int) -> PageInfo:
        info = _abi.PageInfo()
        check(lib.mmsb_page_describe(self._handle.value, page, ctypes.byref(info)))
        return PageInfo(info.len, info.offset, info.epoch, Location(info.location), bool(info.is_derived))

    def parents(self, page: int) -> list[int]:
        return _list(lambda *room: lib.mmsb_page_parents(self._handle.value, page, *room))

    def annotation(self, page: int, key: str) -> Optional[bytes]:
        room, needed = (ctypes.c_uint8 * 65536)(), ctypes.c_size_t()
        status = lib.mmsb_page_annotation(self._handle.value, page, key.encode(), room, len(room), ctypes.byref(needed))
        if status == _abi.NOTHING:
            return None
        check(status)
        return bytes(room[: needed.value])

    def pages(self) -> list[int]:
        return _list(lambda *room: lib.mmsb_bus_pages(self._handle.value, *room))

    def digest(self) -> bytes:
        """BLAKE3 over all pages, as of one moment."""
        room = (ctypes.c_uint8 * 32)()
        check(lib.mmsb_bus_digest(self._handle.value, room))
        return bytes(room)

    def statistics(self) -> dict[str, int]:
        value = _abi.Statistics()
        check(lib.mmsb_bus_statistics(self._handle.value, ctypes.byref(value)))
        return {name: getattr(value, name) for name, *_ in value._fields_ if name != "size"}

    def opened(self) -> dict[str, int]:
        """What opening found and did, by the fields of ``mmsb_open_report``."""
        value = _abi.OpenReport()
        check(lib.mmsb_bus_opened(self._handle.value, ctypes.byref(value)))
        return {name: getattr(value, name) for name, *_ in value._fields_ if name != "size"}

    def sync(self) -> int:
        lsn = _out()
        check(lib.mmsb_bus_sync(self._handle.value, ctypes.byref(lsn)))
        return lsn.value

    def checkpoint(self) -> dict[str, int]:
        report = _abi.CheckpointReport()
        check(lib.mmsb_bus_checkpoint(self._handle.value, ctypes.byref(report)))
        return {name: getattr(report, name) for name, *_ in report._fields_ if name != "size"}

    def propagate(self) -> None:
        check(lib.mmsb_bus_propagate(self._handle.value))

    def maintain(self) -> bool:
        prepared = ctypes.c_int32()
        check(lib.mmsb_bus_maintain(self._handle.value, ctypes.byref(prepared)))
        return bool(prepared.value)

    def restore_device(self) -> None:
        check(lib.mmsb_bus_restore_device(self._handle.value))

    def events(self, capacity: int = 1024) -> Events:
        return Events(self, capacity)

    def close(self) -> None:
        """Makes everything durable. :class:`BusyError`, and it stays open, as long as views or transactions are."""
        self._handle.release()

    def abandon(self) -> None:
        """Lets go of the directory without writing what is buffered, as if the process had died."""
        check(lib.mmsb_bus_abandon(self._handle.value))
        self._handle._finalizer.detach()

    def __enter__(self) -> "Bus":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.close()
        except MmsbError:
            if kind is None:
                raise
            # The exception that is under way says more.
            traceback.print_exc(file=sys.stderr)


class Replayed:
    """The state of a bus as of an LSN, rebuilt from its log."""

    def __init__(self, directory: _Path, until: Optional[int] = None, **options: Any) -> None:
        handle, given = _out(), _options(options)
        lsn = _abi.END if until is None else until
        check(lib.mmsb_replay_open(os.fsencode(directory), lsn, ctypes.byref(given), ctypes.byref(handle)))
        self._handle = _Handle(handle.value, lib.mmsb_replay_release)

    @property
    def lsn(self) -> int:
        lsn = _out()
        check(lib.mmsb_replay_lsn(self._handle.value, ctypes.byref(lsn)))
        return lsn.value

    def digest(self) -> bytes:
        room = (ctypes.c_uint8 * 32)()
        check(lib.mmsb_replay_digest(self._handle.value, room))
        return bytes(room)

    def pages(self) -> list[int]:
        return _list(lambda *room: lib.mmsb_replay_pages(self._handle.value, *room))

    def view(self, *pages: int) -> View:
        handle = _out()
        ids = (ctypes.c_uint64 * len(pages))(*pages)
        check(lib.mmsb_replay_view(self._handle.value, ids, len(pages), ctypes.byref(handle)))
        return View(handle.value, list(pages))

    def release(self) -> None:
        self._handle.release()

    def __enter__(self) -> "Replayed":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def doctor(directory: _Path) -> dict[str, Any]:
    """What opening the directory would say, without opening it. ``verdict`` is ``refused`` where it is damaged."""
    capacity = 4096
    while True:
        room, needed = ctypes.create_string_buffer(capacity), ctypes.c_size_t()
        status = lib.mmsb_doctor(os.fsencode(directory), room, capacity, ctypes.byref(needed))
        if status == _abi.BUFFER_TOO_SMALL:
            capacity = needed.value + 1
            continue
        if status != _abi.DAMAGED:
            check(status)
        return dict(json.loads(room.value))


def has_feature(name: str) -> bool:
    """Whether the library was built with a feature, such as ``cuda`` or ``zstd``."""
    present = ctypes.c_int32()
    check(lib.mmsb_feature(name.encode(), ctypes.byref(present)))
    return bool(present.value)
