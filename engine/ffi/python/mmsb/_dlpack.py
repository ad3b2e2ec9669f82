"""DLPack capsules over memory that somebody else owns."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

CPU, CUDA = 1, 2
_UINT = 1


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
                ("byte_offset", ctypes.c_uint64)]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_names = itertools.count(1)
# What consumers hold, by a number of ours: the structure, its shape, and what keeps the memory.
_held: dict[int, tuple[_Managed, Any, Any]] = {}


def _delete(address: int) -> None:
    managed = ctypes.cast(address, ctypes.POINTER(_Managed)).contents
    _held.pop(managed.context, None)


_deleter = _Deleter(_delete)

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]

_NAME = b"dltensor"


def _destroy(capsule: int) -> None:
    # A consumer that took the tensor has renamed the capsule, and calls the deleter itself.
    if _is_valid(capsule, _NAME):
        _delete(_pointer(capsule, _NAME))


_destructor = _Destructor(_destroy)


def capsule(owner: Any, address: int, length: int, device_type: int, device_id: int) -> Any:
    """A capsule of ``length`` bytes at ``address`` that keeps ``owner`` until its consumer lets go."""
    shape = (ctypes.c_int64 * 1)(length)
    managed = _Managed()
    managed.tensor = _Tensor(address, device_type, device_id, 1, _UINT, 8, 1, ctypes.addressof(shape), None, 0)
    managed.context = next(_names)
    managed.deleter = ctypes.cast(_deleter, ctypes.c_void_p)
    _held[managed.context] = (managed, shape, owner)
    return _new(ctypes.addressof(managed), _NAME, _destructor)
