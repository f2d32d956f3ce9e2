"""Writes the tables of docs/operators.md from what the code knows of its operators.

    python tools/operator_table.py            # rewrites the page
    python tools/operator_table.py --check    # tells by the exit status whether it is current

The package must be installed, or built in place and on the path. Which kernels can run an operator is said by the table
of the dispatch (``megengine_lite/_core/cpu/lower/table.py``).
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from operator_samples import names_of, types_of  # noqa: E402

from megengine_lite._core.cpu.dispatch import ANY  # noqa: E402
from megengine_lite._core.cpu.lower.table import TABLE  # noqa: E402
from megengine_lite._core.ir.dtype import DTypeCode  # noqa: E402
from megengine_lite._core.operators import REGISTRY  # noqa: E402
from megengine_lite._core.operators.base import Operator  # noqa: E402
from megengine_lite._core.operators.names import registered_name, registered_names  # noqa: E402
from megengine_lite._core.operators.sources import SOURCES  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"
BEGIN, END = "<!-- begin {} -->\n", "<!-- end {} -->\n"


def kernels_of(op: str) -> list[str]:
    """Names of the kernels that can run an operator; empty for those that run in numpy."""
    return sorted({kernel for row in TABLE.of(op) for kernel in row.kernels})


# ---- rows -----------------------------------------------------------------------------------------------------------


def file_names(op: str) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys((registered_name(op), op)))


def meaning(operator: Operator) -> str:
    text = type(operator).__dict__.get("__doc__") or "The input itself."
    return inspect.cleandoc(text).split("\n\n")[0].replace("\n", " ").replace("``", "`").replace("|", r"\|").rstrip(".")


def has_format(operator: Operator) -> bool:
    return operator.param is not None and "format" in getattr(operator.param, "defaults", ())


def native_types(op: str) -> list[str]:
    """Element types of the first input that kernels take, or of the output where the input is a mask or an index."""
    codes: set[DTypeCode] = set()
    for row in TABLE.of(op):
        chosen = row.outputs[0] if row.inputs[0] >= ANY else row.inputs[0]
        if chosen >= ANY:
            return ["all"]
        codes.update(chosen)
    if DTypeCode.FLOAT32 in codes and REGISTRY[op].runs_in_float32:
        codes.add(DTypeCode.FLOAT16)
    return names_of(codes)


def run_as(op: str, kernels: list[str]) -> str:
    if becomes := REGISTRY[op].becomes:
        return f"becomes {becomes}"
    if kernels:
        return ", ".join(f"`{k}`" for k in kernels)
    return "no work" if TABLE.of(op) else "numpy"


def row(op: str) -> str:
    kernels = kernels_of(op)
    cells = (
        file_names(op),
        meaning(REGISTRY[op]),
        types_of(op),
        "by `format`" if has_format(REGISTRY[op]) else "",
        run_as(op, kernels),
        ", ".join(native_types(op)),
    )
    return f"| {' | '.join(cells)} |"


def tables() -> dict[str, str]:
    """The generated parts of the page by name."""
    stored = set(registered_names())
    ours = sorted(op for op in REGISTRY if op in stored)
    refused = sorted(stored - set(ours) - set(SOURCES))
    head = "| names in files | meaning | types | layouts | kernels | native types |\n|---|---|---|---|---|---|\n"
    native = [op for op in ours if TABLE.of(op) or REGISTRY[op].becomes]
    return {
        "operators": head + "".join(row(op) + "\n" for op in ours),
        "counts": f"{len(ours)} operators, {len(native)} of them native.\n",
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
