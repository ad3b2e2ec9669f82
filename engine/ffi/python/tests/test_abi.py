"""The prototypes and structures of the package are those of the header."""

import ctypes
import re
from pathlib import Path

from mmsb import _abi

FOLDER = Path(__file__).resolve().parents[2]
HEADER = re.sub(r"//[^\n]*", "", (FOLDER / "include/mmsb.h").read_text())

NAMES = {
    "uint64_t": ctypes.c_uint64, "uint32_t": ctypes.c_uint32, "int32_t": ctypes.c_int32, "size_t": ctypes.c_size_t,
    "uint8_t": ctypes.c_uint8, "char": ctypes.c_char,
}


def kind(text):
    """A C type as a word: integers by width, every pointer as one."""
    text = text.replace("const", "").strip()
    if "*" in text or "(" in text:
        return "pointer"
    return NAMES[text.split()[0]]


def kind_of(ctype):
    if ctype in NAMES.values():
        return ctype
    if ctype in (ctypes.c_char_p, ctypes.c_void_p) or hasattr(ctype, "contents") or hasattr(ctype, "restype") or \
            issubclass(ctype, ctypes._CFuncPtr):
        return "pointer"
    return ctype


def test_every_function_of_the_header_has_its_prototype():
    found = {}
    for result, name, arguments in re.findall(r"^([\w ]+[ *]+)(mmsb_\w+)\(([^)]*)\);", HEADER, re.M):
        parts = [] if arguments.strip() == "void" else [part.strip() for part in arguments.split(",")]
        found[name] = (kind(result), [kind(re.sub(r"\w+$", "", part)) for part in parts])
    ours = {name: (kind_of(result), [kind_of(argument) for argument in arguments])
            for name, (result, arguments) in _abi.FUNCTIONS.items()}
    assert found == ours and len(found) > 40


def test_every_structure_has_its_layout():
    pinned = {}
    current = None
    for line in (FOLDER / "abi.txt").read_text().splitlines():
        words = line.split()
        if words[0] == "struct":
            current = pinned.setdefault(words[1], (int(words[3]), {}))
        elif line.startswith("    "):
            current[1][words[0]] = (int(words[2]), int(words[4]))
    for name, structure in _abi.STRUCTURES.items():
        fields = {field: (getattr(structure, field).offset, getattr(structure, field).size)
                  for field, _ in structure._fields_}
        assert (ctypes.sizeof(structure), fields) == pinned[name], name
    assert set(pinned) == set(_abi.STRUCTURES)


def test_every_constant_has_its_value():
    statuses = dict(re.findall(r"#define MMSB_(\w+) (\d+)", HEADER))
    assert int(statuses["ABI_VERSION"]) == _abi.ABI_VERSION
    for name in ("OK INVALID_ARGUMENT INVALID_HANDLE WRONG_KIND BUSY STATE BUFFER_TOO_SMALL UNSUPPORTED NOTHING PAGE GRAPH "
                 "VIEW_HELD OUT_OF_SPACE IO IN_DOUBT DAMAGED IN_USE DEVICE REENTERED PANIC OTHER").split():
        assert int(statuses[name]) == getattr(_abi, name), name
