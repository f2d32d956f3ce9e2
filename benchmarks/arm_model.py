"""What a model of ARM64 processors says about the inner loops of kernels: multiplications in a cycle, and spills.

    python tools/emulate_arm.py --build-only                          # compiles the kernels, on an x86-64 machine, too
    python benchmarks/arm_model.py                                    # the largest loop of each kernel that multiplies
    python benchmarks/arm_model.py --isa dotprod --only gemm_int8 --top 20
    python benchmarks/arm_model.py --markdown                         # as a table for docs/performance.md

llvm-mca runs each loop as if all data lay in the first cache; objdump reads it from the object files of the build. A
loop is the code from the target of a branch back to the branch, with no other such loop in it. Spills are stores and
loads of vector registers on the stack.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from emulate_arm import TRIPLE, default_folder  # noqa: E402

CPUS = ("neoverse-n1", "cortex-a55", "neoverse-v2")
WITHOUT = {"i8mm": ("neoverse-n1", "cortex-a55")}  # processors that cannot run a set
KERNELS = (
    *("conv_direct", "conv_first", "gemm", "conv_depthwise", "conv_winograd"),
    *("gemm_int8", "conv_direct_int8", "conv_depthwise_int8"),
)
ITERATIONS = 100
LONGEST = 3000  # instructions of a loop
FEWEST = 4  # multiplications of a loop that is worth a look

INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*([^<;/]*)")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
BRANCH = re.compile(r"^(b|b\.\w+|cbn?z|tbn?z)$")
MULTIPLY = re.compile(r"^(fmla|fmls|fmul|mla|mul|[su]mlal2?|[su]mull2?|[su]dot|usdot|sudot|[su]mmla|usmmla)$")


@dataclass(frozen=True)
class Instruction:
    """One line of a listing."""

    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a branch goes to; None for other instructions."""
        return int(self.operands.split(",")[-1].strip(), 16) if BRANCH.match(self.name) else None

    @property
    def products(self) -> int:
        """How many pairs of elements are multiplied."""
        if not MULTIPLY.match(self.name) or not self.operands.startswith("v"):
            return 0
        if self.name.endswith("mmla"):
            return 32
        if self.name.endswith("dot"):
            return 16
        lanes = re.search(r"\.(\d+)[bhsd]", self.operands)
        return int(lanes[1]) if lanes else 1

    def touches_stack(self, kind: str) -> bool:
        """Whether a vector register is stored (``st``) to or loaded (``ld``) from the stack."""
        return self.name.startswith(kind) and "[sp" in self.operands and self.operands[0] in "qvd"


@dataclass(frozen=True)
class Loop:
    """An inner loop of a function."""

    function: str
    body: tuple[Instruction, ...]

    @property
    def multiplications(self) -> int:
        return sum(i.products > 0 for i in self.body)

    @property
    def products(self) -> int:
        return sum(i.products for i in self.body)

    @property
    def spills(self) -> tuple[int, int]:
        """Stores, loads."""
        return sum(i.touches_stack("st") for i in self.body), sum(i.touches_stack("ld") for i in self.body)


def read_listing(text: str) -> Iterator[tuple[str, list[Instruction]]]:
    """Functions with their instructions, from what objdump prints."""
    name, body = "", list[Instruction]()
    for line in text.splitlines():
        if found := FUNCTION.match(line):
            if body:
                yield name, body
            name, body = found[1], []
        elif found := INSTRUCTION.match(line):
            body.append(Instruction(int(found[1], 16), found[2], found[3].strip()))
    if body:
        yield name, body


def inner_loops(function: str, body: list[Instruction]) -> list[Loop]:
    """The loops of a function that have no loop in them."""
    place = {instruction.address: k for k, instruction in enumerate(body)}
    spans = {
        (place[i.target], k)
        for k, i in enumerate(body)
        if i.target is not None and i.target in place and place[i.target] <= k < place[i.target] + LONGEST
    }
    inner = [
        (a, b) for a, b in spans if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)
    ]  # fmt: skip
    return [Loop(function, tuple(body[a : b + 1])) for a, b in sorted(inner)]


def cycles(mca: str, loop: Loop, cpu: str) -> float:
    """How long one turn of the loop takes in the model.

    Raises
    ------
    RuntimeError
        The model does not know an instruction.
    """
    lines = [".Lstart:"]
    for i in loop.body:
        if BRANCH.match(i.name):
            *before, _ = i.operands.split(",")
            lines.append(f"{i.name} {','.join([*before, '.Lstart'])}")
        elif i.name == "adrp":
            lines.append(f"adrp {i.operands.split(',')[0]}, .Lstart")
        else:
            lines.append(f"{i.name} {i.operands}")
    command = [mca, "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm", f"-iterations={ITERATIONS}", "--json"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{loop.function} on {cpu}: {done.stderr.strip().splitlines()[0]}")
    summary = json.loads(done.stdout)["CodeRegions"][0]["SummaryView"]
    return float(summary["TotalCycles"]) / ITERATIONS


def newest_mca() -> str:
    """The command ``llvm-mca``, of the newest version that is here."""
    for version in range(30, 13, -1):
        if found := shutil.which(f"llvm-mca-{version}"):
            return found
    return shutil.which("llvm-mca") or sys.exit("arm_model.py needs llvm-mca; try: apt-get install llvm-19")


def largest(objects: list[Path], top: int) -> list[Loop]:
    """The loops with the most multiplications, of those that look the same only one."""
    found: dict[tuple[int, int, tuple[int, int]], Loop] = {}
    for path in objects:
        command = [f"{TRIPLE}-objdump", "-d", "--no-show-raw-insn", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for function, body in read_listing(text):
            for loop in inner_loops(function, body):
                if loop.multiplications >= FEWEST and not any(i.name in ("bl", "blr") for i in loop.body):
                    found.setdefault((loop.multiplications, len(loop.body), loop.spills), loop)
    return sorted(found.values(), key=lambda loop: (-loop.products, len(loop.body)))[:top]


def row(kernel: str, isa: str, loop: Loop, mca: str, cpus: list[str]) -> list[str]:
    """Numbers of a loop; in each cycle: multiplying instructions, and for bytes the products of elements."""
    numbers = []
    for cpu in cpus:
        if cpu in WITHOUT.get(isa, ()):
            numbers.append("")
            continue
        time = cycles(mca, loop, cpu)
        numbers.append(f"{loop.multiplications / time:.2f}")
        if kernel.endswith("int8"):
            numbers[-1] += f" ({loop.products / time:.1f})"
    stores, loads = loop.spills
    return [kernel, isa, f"{loop.multiplications}/{len(loop.body)}", f"{stores}/{loads}", *numbers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder(), help="that of emulate_arm.py (%(default)s)")
    parser.add_argument("--isa", action="append", help="may be repeated (neon; for bytes all)")
    parser.add_argument("--only", action="append", help="a kernel module; may be repeated")
    parser.add_argument("--cpu", action="append", help=f"a processor of llvm-mca ({', '.join(CPUS)})")
    parser.add_argument("--top", type=int, default=1, help="loops of each module (%(default)s)")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    mca, cpus = newest_mca(), arguments.cpu or [*CPUS]
    rows = [["loop of", "set", "multiplies/instructions", "spills st/ld", *cpus]]
    for kernel in arguments.only or KERNELS:
        for isa in arguments.isa or (("i8mm", "dotprod", "neon") if kernel.endswith("int8") else ("neon",)):
            objects = [*(arguments.folder / "sources" / "build").glob(f"temp*/_{isa}/**/{kernel}.o")]
            if not objects:
                sys.exit(f"{kernel} for {isa} is not compiled in {arguments.folder}; run tools/emulate_arm.py first")
            for loop in largest(objects, arguments.top):
                rows.append(row(kernel, isa, loop, mca, cpus))
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    for number, cells in enumerate(rows):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if arguments.markdown else "  ".join(padded).rstrip())
        if arguments.markdown and number == 0:
            print("|" + "---|" * len(cells))


if __name__ == "__main__":
    main()
