"""Views: the bytes of pages where they are.

Every buffer, numpy array and DLPack tensor made from a view keeps the view's pages from being released: the C view is
released when the :class:`View` was released (or collected) *and* the last of them is gone, whichever is later.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any, Iterator, Optional

from . import _abi, _dlpack
from ._errors import BusyError, HandleError, check

if TYPE_CHECKING:
    import numpy as np

lib = _abi.lib


class _Lease:
    """Owns the handle of a C view. Whatever shows bytes of it refers to it; when nothing does, the view is released."""

    __slots__ = ("handle", "__weakref__", "_finalizer")

    def __init__(self, handle: int) -> None:
        self.handle = handle
        # Not at exit: the library may be gone by then, and the memory goes with the process.
        self._finalizer = weakref.finalize(self, lib.mmsb_view_release, handle)
        self._finalizer.atexit = False


def _array(lease: _Lease, address: int, length: int) -> Any:
    """A ctypes array over memory of the view that keeps the lease alive."""
    # A subclass has room for the attribute, and a view of no bytes has no address.
    kind = type("PageBytes", (ctypes.c_uint8 * length,), {})
    array = kind.from_address(address) if length else kind()
    array._lease = lease
    return array


class View:
    """Pages as of one moment. Use it in ``with``, or call :meth:`release`."""

    def __init__(self, handle: int, pages: list[int]) -> None:
        self._lease: Optional[_Lease] = _Lease(handle)
        self._pages = pages

    def _held(self) -> _Lease:
        if self._lease is None:
            raise HandleError(_abi.INVALID_HANDLE, "handle.stale", "the view was released")
        return self._lease

    def _bytes(self, page: Optional[int]) -> tuple[_Lease, int, int]:
        lease = self._held()
        if page is None:
            if len(self._pages) != 1:
                raise ValueError("the view has several pages; say which")
            position = 0
        else:
            position = self._pages.index(page)
        found = _abi.Bytes()
        check(lib.mmsb_view_page(lease.handle, position, None, ctypes.byref(found)))
        return lease, found.data or 0, found.len

    @property
    def pages(self) -> list[int]:
        """The ids of the pages, in the order in which they were asked for."""
        return list(self._pages)

    @property
    def lsn(self) -> int:
        """The highest LSN among the transactions that wrote to the pages."""
        lsn = ctypes.c_uint64()
        check(lib.mmsb_view_lsn(self._held().handle, ctypes.byref(lsn)))
        return lsn.value

    def address(self, page: Optional[int] = None) -> int:
        """The address of the first byte: the page's own. Of use only as long as the view is held."""
        return self._bytes(page)[1]

    def memory(self, page: Optional[int] = None) -> memoryview:
        """The bytes of a page, read-only, not copied."""
        return memoryview(_array(*self._bytes(page))).toreadonly().cast("B")

    def numpy(self, page: Optional[int] = None, dtype: Any = "u1") -> "np.ndarray[Any, Any]":
        """The bytes of a page as a read-only numpy array, not copied."""
        import numpy

        return numpy.frombuffer(self.memory(page), dtype=dtype)

    def __bytes__(self) -> bytes:
        return self.memory().tobytes()

    def __buffer__(self, flags: int) -> memoryview:
        """For Python 3.12 and later; before, use :meth:`memory`."""
        return self.memory()

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        lease, address, length = self._bytes(None)
        return _dlpack.capsule(lease, address, length, _dlpack.CPU, 0)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_dlpack.CPU, 0)

    def __len__(self) -> int:
        return len(self._pages)

    def __iter__(self) -> Iterator[int]:
        return iter(self._pages)

    def release(self) -> None:
        """Releases the view. :class:`BusyError` as long as arrays or buffers over it are alive; it goes with the last of them then."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        alive = weakref.ref(lease)
        del lease
        if alive() is not None:
            raise BusyError(_abi.BUSY, "view.arrays", "arrays or buffers over the view are alive; it is released with the last")

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *_: object) -> None:
        # Arrays that are still alive keep the view, and say so when somebody needs the page.
        self._lease = None


class DeviceView:
    """A page where it lies on a device, for DLPack or by its address."""

    def __init__(self, handle: int, place: _abi.DevicePage, index: int) -> None:
        self._lease: Optional[_Lease] = _Lease(handle)
        self.address: int = place.address
        self.len: int = place.len
        self.is_cuda: bool = place.device == 2
        self._index = index

    def __dlpack_device__(self) -> tuple[int, int]:
        if not self.is_cuda:
            raise BufferError("the device is none whose memory others can use")
        return (_dlpack.CUDA, self._index)

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        # Everything committed is on the device before the view is opened, so there is no stream to wait for.
        kind, index = self.__dlpack_device__()
        if self._lease is None:
            raise HandleError(_abi.INVALID_HANDLE, "handle.stale", "the view was released")
        return _dlpack.capsule(self._lease, self.address, self.len, kind, index)

    def release(self) -> None:
        """Releases the view; it goes with the last tensor over it."""
        self._lease = None

    def __enter__(self) -> "DeviceView":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
