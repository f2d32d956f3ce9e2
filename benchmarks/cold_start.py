"""Compares what a first forward costs in a new process: import, load, and the run itself.

Takes the same directory as ``compare.py``:

    python benchmarks/cold_start.py MODELS --peers PEERS/bin/python

Every measurement is a process of its own in which nothing but numpy is imported and the inputs are read already. The
engines take turns. Processor time (of all threads, user and system) and wall time are medians of the rounds, memory is
the largest peak; in brackets our median in parts of the other engine's. A round that is not counted compiles modules to
``.pyc`` files before, as an installation does.

``--prepared`` also starts from prepared files, which are made before, and compares these with the other engine, too. At
the end it says how much memory four processes at once take of the weights, if they start so: the sum of their shares
(PSS) of the mapped files, and of all their memory, less what a process takes that has only imported the package.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FIGURES = ("processor", "wall", "mib")

# Begin and end of a measured program; between them an engine runs the model `stem` on `feeds`.
BEGIN = """
import resource, sys, time
import numpy as np
stem, threads = sys.argv[1], int(sys.argv[2])
case = np.load(stem + ".npz")
feeds = {name[3:]: np.ascontiguousarray(case[name]) for name in case.files if name.startswith("in_")}
def processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
begin = processor(), time.perf_counter()
"""
END = """
end = processor(), time.perf_counter()
print([(b - a) * 1e3 for a, b in zip(begin, end)] + [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024])
"""
OURS, PREPARED = "ours", "prepared"
_RUN = """
import megengine_lite
network = megengine_lite.LiteNetwork()
network.threads_number = threads
network.load(stem + ".mge", prepared=prepared)
for name, value in feeds.items():
    network.get_io_tensor(name).set_data_by_copy(value)
network.forward()
network.wait()
"""
ENGINES = {
    OURS: "prepared = None" + _RUN,
    PREPARED: "prepared = sys.argv[3]" + _RUN,
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = onnxruntime.InferenceSession(stem + ".onnx", options, providers=["CPUExecutionProvider"])
session.run(None, feeds)
""",
}


# Behind a run: waits until all processes are here, and prints the kilobytes of its shares of memory.
SHARES = """
print("ready", flush=True)
sys.stdin.readline()
shares = [line.split()[1] for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:")]
mapped, file = 0, ""
for line in open("/proc/self/smaps"):
    if line[0] in "0123456789abcdef":
        file = line.split(None, 5)[5:]
    elif line.startswith("Pss:") and file and file[0].strip() == prepared:
        mapped += int(line.split()[1])
print(int(shares[0]), mapped, flush=True)
sys.stdin.readline()
"""
PROCESSES = 4


def program(interpreter: str, code: str, stem: Path, threads: int, cache: str) -> dict[str, Any]:
    """Arguments of a process that runs a measured program."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": cache, "OMP_NUM_THREADS": str(threads)}
    prepared = str(Path(cache) / f"{stem.name}.prepared")
    return {"args": [interpreter, "-c", BEGIN + code, str(stem), str(threads), prepared], "env": environment}


def measure(interpreter: str, engine: str, stem: Path, threads: int, cache: str) -> list[float]:
    """Milliseconds of processor and of wall time, MiB of memory."""
    started = program(interpreter, ENGINES[engine] + END, stem, threads, cache)
    done = subprocess.run(**started, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{engine}, {stem.name}: {done.stderr[-500:]}")
    figures: list[float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def prepare(stem: Path, threads: int, cache: str) -> None:
    """Writes the prepared file of a network."""
    code = "prepared = None" + _RUN + "network.prepare(sys.argv[3])"
    subprocess.run(**program(sys.executable, code, stem, threads, cache), check=True)


def shares(code: str, stem: Path, threads: int, cache: str) -> tuple[float, float]:
    """MiB of memory, and of a prepared file in it, that processes with a network take together."""
    started = program(sys.executable, "prepared = sys.argv[3]" + code + SHARES, stem, threads, cache)
    running = [
        subprocess.Popen(**started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    found = []
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found.append([int(text) / 1024 for text in process.stdout.readline().split()])
    for process in running:
        process.communicate("\n")
    memory, mapped = (sum(column) for column in zip(*found, strict=True))
    return memory, mapped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="directory with NAME.mge, NAME.npz, NAME.onnx")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks, not all")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable, help="interpreter with ONNX Runtime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prepared", action="store_true", help="also start from prepared files")
    args = parser.parse_args()
    print(f"{'network':24}{'engine':>14}{'processor ms':>20}{'wall ms':>20}{'MiB':>8}")
    with tempfile.TemporaryDirectory() as cache:
        for name in args.only or sorted(p.stem for p in args.models.glob("*.mge")):
            stem = args.models.absolute() / name
            if args.prepared:
                prepare(stem, args.threads, cache)
            rounds: dict[str, list[list[float]]] = {e: [] for e in ENGINES if args.prepared or e != PREPARED}
            for k in range(args.rounds + 1):
                for engine, results in rounds.items():
                    interpreter = sys.executable if engine in (OURS, PREPARED) else args.peers
                    figures = measure(interpreter, engine, stem, args.threads, cache)
                    if k:
                        results.append(figures)
            show(name, {e: dict(zip(FIGURES, zip(*r, strict=True), strict=True)) for e, r in rounds.items()})
            if args.prepared:
                show_shares(stem, args.threads, cache)
    return 0


def show(name: str, engines: dict[str, dict[str, tuple[float, ...]]]) -> None:
    for engine, figures in engines.items():
        cells = []
        for key in FIGURES[:2]:
            median = statistics.median(figures[key])
            ratios = [f"{statistics.median(engines[e][key]) / median:.2f}" for e in (OURS, PREPARED) if e in engines]
            ratio = f" ({', '.join(ratios)})" if engine not in (OURS, PREPARED) else ""
            cells.append(f"{median:.1f}{ratio}")
        print(f"{name:24}{engine:>14}{cells[0]:>20}{cells[1]:>20}{max(figures['mib']):>8.0f}", flush=True)


def show_shares(stem: Path, threads: int, cache: str) -> None:
    """What processes with a network take together, and what of it is for the network."""
    alone, _ = shares("\nimport megengine_lite\n", stem, threads, cache)
    usual, _ = shares("\nprepared = None" + _RUN, stem, threads, cache)
    memory, mapped = shares(_RUN, stem, threads, cache)
    size = (Path(cache) / f"{stem.name}.prepared").stat().st_size / 2**20
    print(
        f"{'':24}{PROCESSES} processes, more than without a network: {usual - alone:.1f} MiB as usual, "
        f"{memory - alone:.1f} MiB prepared, of which {mapped:.1f} MiB are of the file ({size:.1f} MiB)"
    )


if __name__ == "__main__":
    sys.exit(main())
