"""Compares what a first forward costs in a new process: import, load, and the run itself.

Takes the same directory as ``compare.py``:

    python benchmarks/cold_start.py MODELS --peers PEERS/bin/python

Every measurement is a process of its own in which nothing but numpy is imported and the inputs are read already. The
engines take turns. Processor time (of all threads, user and system) and wall time are medians of the rounds, memory is
the largest peak; in brackets our median in parts of the other engine's. A round that is not counted compiles modules to
``.pyc`` files before, as an installation does.
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
OURS = "ours"
ENGINES = {
    OURS: """
import megengine_lite
network = megengine_lite.LiteNetwork()
network.threads_number = threads
network.load(stem + ".mge")
for name, value in feeds.items():
    network.get_io_tensor(name).set_data_by_copy(value)
network.forward()
network.wait()
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = onnxruntime.InferenceSession(stem + ".onnx", options, providers=["CPUExecutionProvider"])
session.run(None, feeds)
""",
}


def measure(interpreter: str, engine: str, stem: Path, threads: int, cache: str) -> list[float]:
    """Milliseconds of processor and of wall time, MiB of memory."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": cache, "OMP_NUM_THREADS": str(threads)}
    command = [interpreter, "-c", BEGIN + ENGINES[engine] + END, str(stem), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{engine}, {stem.name}: {done.stderr[-500:]}")
    figures: list[float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="directory with NAME.mge, NAME.npz, NAME.onnx")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks, not all")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable, help="interpreter with ONNX Runtime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(f"{'network':24}{'engine':>14}{'processor ms':>20}{'wall ms':>20}{'MiB':>8}")
    with tempfile.TemporaryDirectory() as cache:
        for name in args.only or sorted(p.stem for p in args.models.glob("*.mge")):
            rounds: dict[str, list[list[float]]] = {engine: [] for engine in ENGINES}
            for k in range(args.rounds + 1):
                for engine, results in rounds.items():
                    interpreter = sys.executable if engine == OURS else args.peers
                    figures = measure(interpreter, engine, args.models.absolute() / name, args.threads, cache)
                    if k:
                        results.append(figures)
            show(name, {e: dict(zip(FIGURES, zip(*r, strict=True), strict=True)) for e, r in rounds.items()})
    return 0


def show(name: str, engines: dict[str, dict[str, tuple[float, ...]]]) -> None:
    for engine, figures in engines.items():
        cells = []
        for key in FIGURES[:2]:
            median = statistics.median(figures[key])
            ratio = "" if engine == OURS else f" ({statistics.median(engines[OURS][key]) / median:.2f})"
            cells.append(f"{median:.1f}{ratio}")
        print(f"{name:24}{engine:>14}{cells[0]:>20}{cells[1]:>20}{max(figures['mib']):>8.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
