"""Pages of other processes, mapped for reading."""

from __future__ import annotations

import ctypes
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, TypeVar, Union

from . import _abi
from ._errors import HandleError, check
from ._view import _array

if TYPE_CHECKING:
    import numpy as np

lib = _abi.lib
_T = TypeVar("_T")


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


@dataclass(frozen=True)
class Moment:
    """What a page was when it was read: the LSN of the last transaction that wrote to it, and how many did."""

    sequence: int
    lsn: int
    epoch: int


class _Mapping:
    """Owns the handle of a mapping. What shows bytes of it refers to it."""

    __slots__ = ("handle", "__weakref__", "_finalizer")

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._finalizer = weakref.finalize(self, lib.mmsb_shared_close, handle)
        self._finalizer.atexit = False


class SharedPage:
    """A page that another process exported (:meth:`Bus.export`). See :func:`attach`."""

    def __init__(self, descriptor: int) -> None:
        handle, page, place = ctypes.c_uint64(), ctypes.c_uint64(), _abi.Bytes()
        check(lib.mmsb_shared_open(descriptor, ctypes.byref(handle), ctypes.byref(page), ctypes.byref(place)))
        self._mapping: Optional[_Mapping] = _Mapping(handle.value)
        self._place = place
        self.page: int = page.value

    def _held(self) -> _Mapping:
        if self._mapping is None:
            raise HandleError(_abi.INVALID_HANDLE, "handle.stale", "the mapping was released")
        return self._mapping

    def __len__(self) -> int:
        return int(self._place.len)

    def read(self, offset: int = 0, length: Optional[int] = None, *, dtype: Any = "u1",
             wait_s: float = 1.0) -> "tuple[np.ndarray[Any, Any], Moment]":
        """A copy of the bytes as of one moment, as an array, and which moment. It tries again while commits change the page, for
        ``wait_s``: then :class:`BusyError`. :class:`PageError` of the kind ``shared.gone`` if the page is gone."""
        import numpy

        length = len(self) - offset if length is None else length
        array = numpy.empty(max(length, 0), dtype="u1")
        moment = _abi.Moment()
        check(lib.mmsb_shared_read(self._held().handle, offset, array.ctypes.data, len(array), int(wait_s * 1e9),
                                   ctypes.byref(moment)))
        array.flags.writeable = False
        return array.view(dtype), Moment(moment.sequence, moment.lsn, moment.epoch)

    def read_in_place(self, work: "Callable[[np.ndarray[Any, Any]], _T]", *, dtype: Any = "u1",
                      wait_s: float = 1.0) -> "tuple[_T, Moment]":
        """Runs ``work`` on the page itself, not a copy, until it saw all of it as of one moment, and gives what it returned.

        It may see bytes in the middle of a change, and is then run again: it must not rely on what it sees before it returns,
        and must not return the array.
        """
        deadline = time.monotonic() + wait_s
        moment = _abi.Moment()
        while True:
            left_ns = max(0, int((deadline - time.monotonic()) * 1e9))
            check(lib.mmsb_shared_begin(self._held().handle, left_ns, ctypes.byref(moment)))
            found = work(self.numpy(dtype))
            if lib.mmsb_shared_check(self._held().handle, moment.sequence) == _abi.OK:
                return found, Moment(moment.sequence, moment.lsn, moment.epoch)
            if time.monotonic() >= deadline:
                # Says what it is that does not agree.
                check(lib.mmsb_shared_check(self._held().handle, moment.sequence))

    def numpy(self, dtype: Any = "u1") -> "np.ndarray[Any, Any]":
        """The page itself, read-only, not copied. **Its bytes change at any time**, and no check tells: use :meth:`read`."""
        import numpy

        array = _array(self._held(), self._place.data or 0, len(self))
        return numpy.frombuffer(memoryview(array).toreadonly().cast("B"), dtype=dtype)

    def release(self) -> None:
        """Unmaps the page; it goes with the last array over it."""
        self._mapping = None

    def __enter__(self) -> "SharedPage":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def attach(descriptor: Union[int, _HasFileno]) -> SharedPage:
    """Maps a page that another process exported, by a descriptor from :meth:`Bus.export` that came here through ``pass_fds``,
    ``socket.recv_fds`` or ``fork``. The descriptor stays the caller's and is needed no more."""
    return SharedPage(descriptor if isinstance(descriptor, int) else descriptor.fileno())

