"""Compares the time of trained models from packages with ONNX Runtime's: one thread, each model in two settings.

The models and their inputs are those of ``tests/trained``; ``.ci/run`` names the packages. Models whose packages are
not installed are left out. Both engines run in this process and take turns, some milliseconds each, so that a change in
the load of the machine meets both. Each round gives a ratio; a setting's figure is the median of its rounds:

    python benchmarks/trained_models.py --rounds 9
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.trained_models import MODELS, TURN, Trained, feeds_of, is_installed, model_file  # noqa: E402

import megengine_lite  # noqa: E402

CLOCKS = {"wall": perf_counter, "cpu": process_time}


def session_of(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def time_of(run: Callable[[], Any], repeats: int, now: Callable[[], float]) -> float:
    begin = now()
    for _ in range(repeats):
        run()
    return (now() - begin) / repeats


def compare(trained: Trained, setting: int, args: argparse.Namespace) -> dict[str, Any]:
    """Medians in milliseconds of both engines, and of our time in parts of the other's."""
    now = CLOCKS[args.clock]
    path = model_file(trained.file)
    session = session_of(path)
    feeds = feeds_of(trained, setting, session)
    with warnings.catch_warnings(), megengine_lite.load(path, threads=1) as model:
        warnings.simplefilter("ignore", megengine_lite.LiteWarning)  # some declare shapes that are not theirs
        runs: list[Callable[[], Any]] = [lambda: model(feeds), lambda: session.run(None, feeds)]
        for run in runs:
            time_of(run, 3, now)
        repeats = [max(3, int(args.seconds / max(time_of(run, 3, now), 1e-6))) for run in runs]
        turns = list(zip(runs, repeats, strict=True))
        times = [[time_of(run, count, now) for run, count in turns] for _ in range(args.rounds)]
    ours, theirs = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    return {"ours_ms": ours, "onnxruntime_ms": theirs, "ratio": statistics.median(a / b for a, b in times)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose path has this text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="of one turn of an engine")
    parser.add_argument("--clock", choices=[*CLOCKS], default="cpu", help="the time that passes, or of the processor")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    args = parser.parse_args()

    rows = []
    for trained in [*MODELS, TURN]:
        if args.only not in trained.file or not is_installed(trained.file):
            continue
        for setting in range(2):
            row = {"model": trained.file, "setting": setting, **compare(trained, setting, args)}
            rows.append(row)
            print(f"{trained.file:70}{setting:3}{row['ours_ms']:10.3f}{row['onnxruntime_ms']:10.3f}{row['ratio']:7.2f}")
    if not rows:
        print("none of the packages is installed: .ci/run names them", file=sys.stderr)
        return 1
    ratios = [row["ratio"] for row in rows]
    print(f"{len(rows)} settings: geometric mean {statistics.geometric_mean(ratios):.2f}, highest {max(ratios):.2f}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
