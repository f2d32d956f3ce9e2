"""Writes the tables of docs/operators.md from what the code knows of its operators.

    python tools/operator_table.py            # rewrites the page
    python tools/operator_table.py --check    # tells by the exit status whether it is current

The package must be installed, or built in place and on the path. Which kernels can run an operator is found in the
source of its lowering functions: all names of kernels that they, and the functions that they use, mention.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from operator_samples import types_of  # noqa: E402

from megengine_lite._core.cpu import lower, planner  # noqa: E402, F401 - the planner registers all lowerings
from megengine_lite._core.cpu.algorithms import algorithm as algo  # noqa: E402
from megengine_lite._core.cpu.kernel_set import kernel_set  # noqa: E402
from megengine_lite._core.cpu.lowering import LOWERINGS  # noqa: E402
from megengine_lite._core.operators import REGISTRY  # noqa: E402
from megengine_lite._core.operators.base import Operator  # noqa: E402
from megengine_lite._core.operators.names import registered_name, registered_names  # noqa: E402
from megengine_lite._core.operators.sources import SOURCES  # noqa: E402
from megengine_lite.kernels.common import tiling  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"
BEGIN, END = "<!-- begin {} -->\n", "<!-- end {} -->\n"

# Operators that the planner replaces by others before it looks for kernels.
REPLACED = {
    "BatchNorm": "becomes a multiplication and an addition, or part of a convolution",
    "RelayoutFormat": "becomes nothing, or a transposition",
}


# ---- which kernels a lowering function can call ---------------------------------------------------------------------


class Source:
    """The definitions of a module: what each mentions, and what it uses."""

    def __init__(self, module: ModuleType):
        self.imported: dict[str, tuple[str, str]] = {}
        self.definitions: dict[str, ast.AST] = {}
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = node.module, alias.name
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        self.definitions[target.id] = node


@cache
def sources() -> dict[str, Source]:
    """The modules that name kernels. That of the context is left out: it names those that every operator may use."""
    names = [m.name for m in pkgutil.iter_modules(lower.__path__) if m.name != "context"]
    modules = [importlib.import_module(f"{lower.__name__}.{name}") for name in names]
    return {module.__name__: Source(module) for module in (*modules, algo, tiling)}


def mentioned(node: ast.AST) -> Iterator[str]:
    """Patterns of the strings in a definition that may be names of kernels: what is filled in matches anything."""
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            if isinstance(part.values[0], ast.Constant) and "_" in str(part.values[0].value):
                yield "".join(re.escape(str(v.value)) if isinstance(v, ast.Constant) else r"\w+" for v in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield re.escape(part.value)


def used(module: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """Definitions of the examined modules that a definition refers to."""
    source = sources()[module]
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            if part.id in source.definitions:
                yield module, part.id
            elif (target := source.imported.get(part.id)) and target[0] in sources():
                yield target


def lowering_functions(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The functions behind one that tries several."""
    inner = [f for f in inspect.getclosurevars(function).nonlocals.values() if callable(f)]
    if not inner:
        yield function
    for f in inner:
        yield from lowering_functions(f)


def kernels_of(op: str) -> list[str]:
    """Names of the kernels that can run an operator; empty for those that run in numpy."""
    if op not in LOWERINGS:
        return []
    todo = [(f.__module__, f.__name__) for f in lowering_functions(LOWERINGS[op])]
    seen: set[tuple[str, str]] = set()
    patterns: set[str] = set()
    while todo:
        place = todo.pop()
        if place in seen or place[1] not in sources()[place[0]].definitions:
            continue
        seen.add(place)
        node = sources()[place[0]].definitions[place[1]]
        patterns.update(mentioned(node))
        todo.extend(used(place[0], node))
    return sorted(k for k in kernel_set()._kernels if any(re.fullmatch(p, k) for p in patterns))


# ---- rows -----------------------------------------------------------------------------------------------------------


def file_names(op: str) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys((registered_name(op), op)))


def meaning(operator: Operator) -> str:
    text = type(operator).__dict__.get("__doc__") or "The input itself."
    return inspect.cleandoc(text).split("\n\n")[0].replace("\n", " ").replace("``", "`").replace("|", r"\|").rstrip(".")


def has_format(operator: Operator) -> bool:
    return is_dataclass(operator.param) and any(f.name == "format" for f in fields(operator.param))


# Kernels that move elements of any type, or ask for the type.
_OF_ANY_TYPE = {
    "convert_elements", "copy_bytes", "copy_strided", "fill_elements", "gather_one_hot", "gather_runs",
    "transpose_strided",
}  # fmt: skip
_TYPE_OF_ENDING = {"_f32": "float32", "_s32": "int32", "_int8": "8 bits", "_8": "8 bits", "_binary": "8 bits"}


def native_types(op: str, kernels: list[str]) -> list[str]:
    """Element types, told by the ends of the names."""
    if _OF_ANY_TYPE & set(kernels) or (op in LOWERINGS and not kernels):
        return ["all"]
    found = {kind for k in kernels for ending, kind in _TYPE_OF_ENDING.items() if k.endswith(ending)}
    if "float32" in found and REGISTRY[op].runs_in_float32:
        found.add("float16")
    return sorted(found)


def run_as(op: str, kernels: list[str]) -> str:
    if op in REPLACED:
        return REPLACED[op]
    if kernels:
        return ", ".join(f"`{k}`" for k in kernels)
    return "no work" if op in LOWERINGS else "numpy"


def row(op: str) -> str:
    kernels = kernels_of(op)
    cells = (
        file_names(op),
        meaning(REGISTRY[op]),
        types_of(op),
        "by `format`" if has_format(REGISTRY[op]) else "",
        run_as(op, kernels),
        ", ".join(native_types(op, kernels)),
    )
    return f"| {' | '.join(cells)} |"


def tables() -> dict[str, str]:
    """The generated parts of the page by name."""
    stored = set(registered_names())
    ours = sorted(op for op in REGISTRY if op in stored)
    refused = sorted(stored - set(ours) - set(SOURCES))
    head = "| names in files | meaning | types | layouts | kernels | native types |\n|---|---|---|---|---|---|\n"
    return {
        "operators": head + "".join(row(op) + "\n" for op in ours),
        "counts": f"{len(ours)} operators, {sum(op in LOWERINGS or op in REPLACED for op in ours)} of them native.\n",
        "sources": ", ".join(f"`{op}`" for op in sorted(SOURCES)) + "\n",
        "refused": ", ".join(f"`{op}`" for op in refused) + "\n",
    }


def filled(text: str) -> str:
    """The page with its generated parts made anew."""
    for name, content in tables().items():
        begin, end = BEGIN.format(name), END.format(name)
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{PAGE} has no part {name!r} between {begin!r} and {end!r}")
        text = head + begin + content + end + tail
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is not current")
    arguments = parser.parse_args()
    text = PAGE.read_text()
    current = filled(text)
    if arguments.check:
        return int(current != text)
    PAGE.write_text(current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
