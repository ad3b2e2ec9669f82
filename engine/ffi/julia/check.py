#!/usr/bin/env python3
"""Checks the Julia package against the header without a Julia: every file parses, every @ccall names a function of mmsb.h with as
many arguments, of the same kinds, structures have the pinned layouts, and calls that pass pointers to Julia memory are preserved."""

import re
import sys
from pathlib import Path

import tree_sitter_julia
from tree_sitter import Language, Parser

ROOT = Path(__file__).resolve().parent
HEADER = re.sub(r"//[^\n]*", "", (ROOT.parent / "include/mmsb.h").read_text())
C = {"uint64_t": "8", "uint32_t": "4", "int32_t": "i4", "size_t": "8"}
JULIA = {"UInt64": "8", "UInt32": "4", "Int32": "i4", "Csize_t": "8", "Cstring": "pointer"}
SIZES = {"UInt64": 8, "UInt32": 4, "NTuple{16,UInt8}": 16, "Ptr{UInt8}": 8}


def c_kind(text):
    text = text.replace("const", "").strip()
    return "pointer" if "*" in text else C[text.split()[0]]


def julia_kind(text):
    return "pointer" if text.startswith("Ptr{") else JULIA[text]


def split(text):
    """By commas that are in no brackets."""
    parts, depth, part = [], 0, ""
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [p.strip() for p in parts + [part] if p.strip()]


def main():
    functions = {}
    for result, name, arguments in re.findall(r"^([\w ]+[ *]+)(mmsb_\w+)\(([^)]*)\);", HEADER, re.M):
        parts = [] if arguments.strip() == "void" else [re.sub(r"\w+$", "", part.strip()) for part in arguments.split(",")]
        functions[name] = (c_kind(result), [c_kind(part) for part in parts])
    wrong, calls = [], 0
    parser = Parser(Language(tree_sitter_julia.language()))
    for path in sorted(ROOT.rglob("*.jl")):
        text = path.read_text()
        tree = parser.parse(text.encode())
        stack = [tree.root_node]
        while stack:
            node = stack.pop()
            if node.type == "ERROR" or node.is_missing:
                wrong.append(f"{path.name}:{node.start_point[0] + 1}: does not parse")
            stack.extend(node.children)
        for match in re.finditer(r"@ccall\s+library\.(\w+)\(", text):
            calls += 1
            line = text.count("\n", 0, match.start()) + 1
            end, depth = match.end(), 1
            while depth:
                depth += (text[end] == "(") - (text[end] == ")")
                end += 1
            arguments = split(text[match.end() : end - 1])
            kinds = [julia_kind(argument.rsplit("::", 1)[1]) for argument in arguments]
            result = julia_kind(re.match(r"::([\w{}]+)", text[end:])[1])
            expected = functions.get(match[1])
            if expected != (result, kinds):
                wrong.append(f"{path.name}:{line}: {match[1]} is called as {(result, kinds)}, and is {expected}")
            start = text.rfind("\n", 0, match.start())
            before = text[text.rfind("\n", 0, start) if start > 0 else 0 : match.start()]
            for name in set(re.findall(r"(?:pointer|handle)\((\w+)\)", text[match.end() : end])):
                if not re.search(rf"GC\.@preserve[^\n]*\b{name}\b", before):
                    wrong.append(f"{path.name}:{line}: {match[1]} uses {name}, which is not preserved")
    if calls < 25:
        wrong.append(f"only {calls} calls were found")
    pinned = dict(re.findall(r"struct (\w+) size \d+ align \d+\n((?:    .*\n?)*)", (ROOT.parent / "abi.txt").read_text()))
    structures = re.findall(r"^struct (mmsb_\w+)\n(.*?)^end", (ROOT / "src/structures.jl").read_text(), re.M | re.S)
    for name, body in structures:
        ours = [(field, SIZES[kind]) for field, kind in re.findall(r"^\s+(\w+)::(\S+)$", body, re.M)]
        theirs = [(field, int(size)) for field, size in re.findall(r"^    (\w+) at \d+ size (\d+)$", pinned[name], re.M)]
        if ours != theirs:
            wrong.append(f"structures.jl: {name} has {ours}, and is {theirs}")
    for problem in wrong:
        print(problem, file=sys.stderr)
    print(f"Julia: parsed and compared with the header, not run: {calls} calls, {len(structures)} structures, {len(wrong)} problems")
    return 1 if wrong else 0


sys.exit(main())
