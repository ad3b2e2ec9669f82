"""Statuses of the C ABI as exceptions."""

from __future__ import annotations

from . import _abi


class MmsbError(Exception):
    """A call was refused. ``kind`` is the stable name of the error, such as ``page.stale``; ``status`` that of the C ABI."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(f"{message} [{kind}]" if message else kind)
        self.status = status
        self.kind = kind


class HandleError(MmsbError):
    """The object was released, or is another one."""


class ViewHeldError(MmsbError):
    """Views are held that the call would have to wait for: release them (and arrays over them), and try again."""


class BusyError(MmsbError):
    """Another call uses the object, or something that was opened from it is still open."""


class PageError(MmsbError):
    """The page, range or length is not one that there is or can be."""


class GraphError(MmsbError):
    """The graph, or a transform, refuses."""


class BusError(MmsbError):
    """The files, the disk or the device fail. With ``kind`` ``bus.poisoned`` the bus is read-only until it is opened again."""


class InDoubtError(BusError):
    """The commit is visible, but not as durable as asked. ``lsn`` is its place."""

    lsn: int = 0


_CLASSES: dict[int, type[MmsbError]] = {
    _abi.INVALID_HANDLE: HandleError, _abi.WRONG_KIND: HandleError, _abi.BUSY: BusyError, _abi.STATE: HandleError,
    _abi.PAGE: PageError, _abi.GRAPH: GraphError, _abi.VIEW_HELD: ViewHeldError, _abi.IO: BusError,
    _abi.DAMAGED: BusError, _abi.IN_USE: BusError, _abi.DEVICE: BusError, _abi.IN_DOUBT: InDoubtError,
}


def check(status: int) -> None:
    """Raises what the last call of this thread failed with, if it did."""
    if status != _abi.OK:
        # ctypes makes the call and these two on one thread, and no other call of the thread can come between them
        # but one of a finalizer; those that fail keep quiet and are rare, so at worst the message is another one.
        kind = (_abi.lib.mmsb_last_error_kind() or b"").decode()
        message = (_abi.lib.mmsb_last_error_message() or b"").decode()
        raise _CLASSES.get(status, MmsbError)(status, kind, message)
