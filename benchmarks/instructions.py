"""How many instructions a forward takes, and how many of them are in the loops that multiply.

    python benchmarks/instructions.py models/mobilenet_v2.mge models/resnet18_int8.mge
    MEGENGINE_LITE_ISA=base python benchmarks/instructions.py model.mge --markdown
    python tools/emulate_arm.py --build-only                          # compiles for ARM64, on an x86-64 machine
    python benchmarks/instructions.py model.mge --cpu neoverse-n1     # counts there, in the emulator
    python benchmarks/instructions.py model.mge --functions 20        # and where those outside of the loops are

callgrind counts the instructions of one forward on one thread, after two that are not counted. In the emulator they are
the difference between two and three forwards. A count depends neither on the machine nor on what else runs there, so
it can be compared where times cannot. objdump finds the innermost loops of kernels. Those with a product of vectors are
what the arithmetic costs, in the form that the compiler gave it; so is what was taken out of them, such as a first row
of a filter. The rest are the edges of loops, bias and activation, layouts, poolings, and what calls the kernels.

Needed are binutils and valgrind, which knows no AVX-512; for ARM64 what ``tools/emulate_arm.py`` needs, a compiler and
qemu-user: unlike qemu-user-static it takes plugins.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import emulate_arm  # noqa: E402

LONGEST = 1 << 14  # bytes of a loop
FEWEST = 8  # products of code that was taken out of a loop
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
BRANCH = re.compile(r"^(j\w+|b|b\.\w+|cbn?z|tbn?z)$")
PRODUCT = re.compile(
    r"^(?:(v?fn?m(?:add|sub)\d*p[sd]|v?mulp[sd]|v?pmadd\w+|v?pmulld|vpdpb\w+)\b"
    r"|(fmla|fmls|fmul|mla|mul|[su]mlal2?|[su]mull2?|[su]dot|usdot|sudot|(?:[su]|us)mmla) v)"
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
EMULATED_CHILD = """
import sys
import megengine_lite

network = megengine_lite.LiteNetwork()
network.threads_number = 1
network.enable_cpu_inplace_mode()
network.load(sys.argv[1])
for _ in range(int(sys.argv[2])):
    network.forward()
    network.wait()
print(open("/proc/self/maps").read())
"""
# Counts how often each translated block runs. The interface of plugins is that of qemu 4.2 to 8.2.
PLUGIN = """
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);

int qemu_plugin_version = 1;

static struct block { struct block *next; uint64_t address, instructions, times; } *blocks;
static const char *file;

static void translated(uint64_t id, struct qemu_plugin_tb *code) {
    struct block *block = calloc(1, sizeof *block);
    *block = (struct block){blocks, qemu_plugin_tb_vaddr(code), qemu_plugin_tb_n_insns(code), 0};
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(code, 0 /* add */, &block->times, 1);
}

static void ended(uint64_t id, void *data) {
    FILE *out = fopen(file, "w");
    for (struct block *block = blocks; out && block; block = block->next)
        fprintf(out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\\n", block->address, block->instructions, block->times);
    if (out) fclose(out);
}

int qemu_plugin_install(uint64_t id, const void *information, int count, char **values) {
    file = strdup(strchr(values[0], '=') + 1);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
"""


class Stretch(NamedTuple):
    """Addresses of the first and the last instruction of a piece of code."""

    first: int
    last: int


def product_loops(listing: str) -> list[Stretch]:
    """The loops with a product of vectors, and no other such loop in them, in order, from what objdump prints.

    A loop that only prefetches may be in them. What a compiler or a kernel has taken out of a loop, as the first or the
    last round, counts as well: code without branches, not in one of the loops, that consists of products by a third.
    """
    addresses, products = list[int](), list[int]()
    spans, ends = set[Stretch](), set[int]()  # the latter are places where code without branches ends
    for line in listing.splitlines():
        if not (found := LINE.match(line)):
            continue
        address, name, operands = int(found[1], 16), found[2], found[3]
        addresses.append(address)
        if PRODUCT.match(f"{name} {operands}"):
            products.append(address)
        elif BRANCH.match(name):
            ends.add(len(addresses))
            if target := re.search(r"(?:^|[\s,])([0-9a-f]+)(?: <|$)", operands):
                spans.add(Stretch(int(target[1], 16), address))

    def products_of(code: Stretch) -> int:
        return bisect.bisect_right(products, code.last) - bisect.bisect_left(products, code.first)

    ordered = sorted(loop for loop in spans if 0 <= loop.last - loop.first < LONGEST and products_of(loop))
    starts = [loop.first for loop in ordered]

    def is_innermost(loop: Stretch) -> bool:
        begin, end = bisect.bisect_left(starts, loop.first), bisect.bisect_right(starts, loop.last)
        return all(other == loop or other.last > loop.last for other in ordered[begin:end])

    loops = [loop for loop in ordered if is_innermost(loop)]
    ends.update(bisect.bisect_left(addresses, target) for target, _ in spans)
    borders = sorted({0, len(addresses), *ends})
    for begin, end in itertools.pairwise(borders):
        code = Stretch(addresses[begin], addresses[end - 1])
        count = products_of(code)
        if count >= FEWEST and 3 * count >= end - begin and not is_within(code.first, loops):
            bisect.insort(loops, code)
    return loops


def is_within(address: int, ordered: list[Stretch]) -> bool:
    place = bisect.bisect_right(ordered, (address, sys.maxsize)) - 1
    return place >= 0 and address <= ordered[place].last


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


def read_blocks(blocks: str, maps: str) -> dict[str, Counter[int]]:
    """The same from what the plugin writes, and the map of memory that the emulated process sees."""
    starts = list[int]()
    ranges = list[tuple[int, int, str]]()  # the end, where the file's first byte lies, the file
    bases = dict[str, int]()
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            base = bases.setdefault(fields[5], start - int(fields[2], 16))
            starts.append(start)
            ranges.append((end, base, fields[5]))
    found: dict[str, Counter[int]] = {}
    for line in blocks.splitlines():
        address, (instructions, times) = int(line.split()[0], 16), map(int, line.split()[1:])
        place = bisect.bisect_right(starts, address) - 1
        end, base, path = ranges[place] if place >= 0 else (0, 0, "")
        if address >= end:
            base, path = 0, "elsewhere"
        counter = found.setdefault(path, Counter())
        for k in range(instructions if times else 0):
            counter[address - base + 4 * k] += times
    return found


def count_emulated(model: Path, cpu: str, folder: Path) -> dict[str, Counter[int]]:
    """:func:`count` for the build of emulate_arm.py, as one of the processors that qemu knows."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        out, plugin = Path(temporary, "blocks"), Path(temporary, "plugin.so")
        compile_plugin = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(plugin)]
        subprocess.run(compile_plugin, input=PLUGIN, text=True, check=True)
        system = folder / "system"
        version = emulate_arm.python_of(system).name.removeprefix("python")
        path = [folder / "sources", folder / f"site-{version}"]
        emulator = f"{shutil.which('qemu-aarch64')} -plugin {plugin},out={out}"
        python = emulate_arm.emulated_python(Path(temporary), system, cpu, path, emulator)
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
        for forwards in ("2", "3"):
            command = [str(python), "-c", EMULATED_CHILD, str(model), forwards]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=temporary)
            if done.returncode:
                sys.exit(f"{model} does not run in the emulator")
            found.append(read_blocks(out.read_text(), done.stdout))
    before, after = found
    return {path: counter - before.get(path, Counter()) for path, counter in after.items()}


def outside(listing: str, counter: Counter[int], label: str) -> Counter[str]:
    """Function -> its instructions, by what objdump prints."""
    found, name = Counter[str](), label
    for line in listing.splitlines():
        if start := FUNCTION.match(line):
            name = f"{label}: {start[1]}"
        elif (at := LINE.match(line)) and (times := counter.get(int(at[1], 16))):
            found[name] += times
    return found


def measure(model: Path, cpu: str | None, folder: Path) -> tuple[list[str], Counter[str]]:
    """A row of the table, and the instructions outside of the loops by function.

    The row has the name, instructions of a forward, those of kernels, those of loops that multiply, and the ratio of
    the first number to the last.
    """
    counts = count_emulated(model, cpu, folder) if cpu else count(model)
    objdump = f"{emulate_arm.TRIPLE}-objdump" if cpu else "objdump"
    every = sum(c.total() for c in counts.values())
    in_kernels, in_loops = 0, 0
    rest = Counter[str]()
    for path, counter in counts.items():
        label = Path(path).name.partition(".")[0]
        if "/kernels/_" not in path:
            rest[label] += counter.total()
            continue
        in_kernels += counter.total()
        command = [objdump, "-d", "--no-show-raw-insn", path]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        loops = product_loops(listing)
        left = Counter[int]()
        for address, times in counter.items():
            if is_within(address, loops):
                in_loops += times
            else:
                left[address] = times
        rest.update(outside(listing, left, label))
    numbers = (f"{n / 1e6:.1f}" for n in (every, in_kernels, in_loops))
    return [model.stem, *numbers, f"{every / max(in_loops, 1):.2f}"], rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--cpu", help="count in the emulator, as this ARM64 processor of qemu")
    parser.add_argument("--folder", type=Path, default=emulate_arm.default_folder(), help="that of emulate_arm.py")
    parser.add_argument(
        "--functions",
        type=int,
        default=0,
        help="so many with the most instructions outside of loops; names are there "
        "if the shared objects are linked without -Wl,-s",
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for docs/performance.md")
    arguments = parser.parse_args()
    needed = ("qemu-aarch64", "cc", f"{emulate_arm.TRIPLE}-objdump") if arguments.cpu else ("valgrind", "objdump")
    missing = [c for c in needed if shutil.which(c) is None]
    if missing:
        sys.exit(f"instructions.py needs {' and '.join(missing)}")
    if not arguments.cpu:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    rows = [["network", "millions of instructions", "of kernels", "of loops that multiply", "first to last"]]
    rests = []
    for model in arguments.models:
        cells, rest = measure(model.resolve(), arguments.cpu, arguments.folder.resolve())
        rows.append(cells)
        rests.append(rest)
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
    for number, cells in enumerate(rows):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        print("| " + " | ".join(cells) + " |" if arguments.markdown else "  ".join(padded).rstrip(), flush=True)
        if arguments.markdown and number == 0:
            print("|" + "---|" * len(cells))
    for model, rest in zip(arguments.models, rests, strict=True):
        for name, times in rest.most_common(arguments.functions):
            print(f"{model.stem}  {times / 1e6:8.2f}  {name}")


if __name__ == "__main__":
    main()
