"""How many instructions a forward takes, and how many of them are in the loops that multiply.

    python benchmarks/instructions.py models/mobilenet_v2.mge models/resnet18_int8.mge
    MEGENGINE_LITE_ISA=base python benchmarks/instructions.py model.mge --markdown

callgrind counts the instructions of one forward on one thread, after two that are not counted. A count depends neither
on the machine nor on what else runs there, so it can be compared where times cannot. objdump finds the innermost loops
of kernels. Those with a product of vectors are what the arithmetic costs, in the form that the compiler gave it; the
rest are the edges of loops, layouts, poolings, and what calls the kernels. Needed are valgrind, which knows no AVX-512,
and binutils.
"""

from __future__ import annotations

import argparse
import bisect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

LONGEST = 1 << 14  # bytes of a loop
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
BACK = re.compile(r"^(j\w+|b|b\.\w+|cbn?z|tbn?z)$")
PRODUCT = re.compile(
    r"^(?:(v?fn?m(?:add|sub)\d*p[sd]|v?mulp[sd]|v?pmadd\w+|v?pmulld|vpdpb\w+)\b"
    r"|(fmla|fmls|fmul|mla|mul|[su]mlal2?|[su]mull2?|[su]dot|usdot) v)"
)
CHILD = """
import sys
import numpy as np
import megengine_lite

network = megengine_lite.LiteNetwork()
network.threads_number = 1
network.enable_cpu_inplace_mode()
network.load(sys.argv[1])
for is_counted in (False, False, True):
    if is_counted:
        print("ready", flush=True)
        sys.stdin.readline()
    network.forward()
    network.wait()
print("done", flush=True)
sys.stdin.readline()
"""


class Loop(NamedTuple):
    """Addresses of the first and the last instruction."""

    first: int
    last: int


def product_loops(listing: str) -> list[Loop]:
    """The loops with a product of vectors and no loop in them, in order, from what objdump prints."""
    spans, products = set[Loop](), []
    for line in listing.splitlines():
        if not (found := LINE.match(line)):
            continue
        address, name, operands = int(found[1], 16), found[2], found[3]
        if PRODUCT.match(f"{name} {operands}"):
            products.append(address)
        elif BACK.match(name) and (target := re.search(r"(?:^|[\s,])([0-9a-f]+)(?: <|$)", operands)):
            spans.add(Loop(int(target[1], 16), address))
    ordered = sorted(loop for loop in spans if 0 <= loop.last - loop.first < LONGEST)
    starts = [loop.first for loop in ordered]

    def is_innermost(loop: Loop) -> bool:
        begin, end = bisect.bisect_left(starts, loop.first), bisect.bisect_right(starts, loop.last)
        return all(other == loop or other.last > loop.last for other in ordered[begin:end])

    def multiplies(loop: Loop) -> bool:
        return bisect.bisect_left(products, loop.first) < bisect.bisect_right(products, loop.last)

    return [loop for loop in ordered if multiplies(loop) and is_innermost(loop)]


def read_counts(text: str) -> dict[str, Counter[int]]:
    """Shared object -> address -> how many times its instruction ran, from callgrind's output with instructions."""
    found: dict[str, Counter[int]] = {}
    here: Counter[int] = Counter()
    is_call = False
    for line in text.splitlines():
        if line.startswith("ob="):
            here = found.setdefault(line[3:], Counter())
        elif line.startswith("calls="):
            is_call = True  # the next line has what the called function cost
        elif line.startswith("0x"):
            if not is_call:
                address, *_, count = line.split()
                here[int(address, 16)] += int(count)
            is_call = False
    return found


def count(model: Path) -> dict[str, Counter[int]]:
    """The instructions of one forward by the shared objects that they are in."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "counts")
        options = ["--instr-atstart=no", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"]
        command = ["valgrind", "-q", "--tool=callgrind", *options, f"--callgrind-out-file={out}"]
        command += [sys.executable, "-c", CHILD, str(model)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            for says, switch in (("ready", "on"), ("done", "off")):
                if child.stdout.readline() != f"{says}\n":
                    sys.exit(f"{model} does not run under valgrind")
                subprocess.run(["callgrind_control", "-i", switch, str(child.pid)], check=True, capture_output=True)
                child.stdin.write("\n")
                child.stdin.flush()
        return read_counts(out.read_text())


def row(model: Path) -> list[str]:
    """Name, instructions of a forward, those of kernels, those of loops that multiply, and the ratio of the ends."""
    counts = count(model)
    every = sum(c.total() for c in counts.values())
    kernels = {path: c for path, c in counts.items() if "/kernels/_" in path}
    in_loops = 0
    for path, counter in kernels.items():
        command = ["objdump", "-d", "--no-show-raw-insn", path]
        loops = product_loops(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        starts = [loop.first for loop in loops]
        for address, times in counter.items():
            place = bisect.bisect_right(starts, address) - 1
            if place >= 0 and address <= loops[place].last:
                in_loops += times
    inside = sum(c.total() for c in kernels.values())
    return [model.stem, *(f"{n / 1e6:.1f}" for n in (every, inside, in_loops)), f"{every / max(in_loops, 1):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--markdown", action="store_true", help="as a table for docs/performance.md")
    arguments = parser.parse_args()
    missing = [c for c in ("valgrind", "objdump") if shutil.which(c) is None]
    if missing:
        sys.exit(f"instructions.py needs {' and '.join(missing)}")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    rows = [["network", "millions of instructions", "of kernels", "of loops that multiply", "first to last"]]
    rows += [row(model) for model in arguments.models]
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    for number, cells in enumerate(rows):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if arguments.markdown else "  ".join(padded).rstrip(), flush=True)
        if arguments.markdown and number == 0:
            print("|" + "---|" * len(cells))


if __name__ == "__main__":
    main()
