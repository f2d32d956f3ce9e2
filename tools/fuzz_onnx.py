"""Generates graphs of ONNX, runs and converts them, and compares with ONNX Runtime.

    python tools/fuzz_onnx.py --seconds 3600
    python tools/fuzz_onnx.py --first 1088 --count 1 --nodes 12 --save /tmp/failures

The packages onnx and onnxruntime must be installed; this one, too, or built in place and on the path. Ends with status
1 if a graph failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.onnx_graph_check import faults  # noqa: E402
from support.onnx_graphs import Graph  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--count", type=int, help="how many graphs (100, or as many as there is time for)")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--nodes", type=int, default=8, help="about how many nodes a graph has (8)")
    parser.add_argument("--save", type=Path, help="folder for failing graphs, as ONNX files")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    end = None if args.seconds is None else time.monotonic() + args.seconds
    most = args.count if args.count is not None or end is not None else 100
    failed = done = 0
    for seed in count(args.first):
        if done == most or (end is not None and time.monotonic() > end):
            break
        done += 1
        try:
            texts = list(faults(seed, args.nodes))
        except Exception as error:  # of any kind: it is a finding
            texts = [f"{type(error).__name__}: {error}"]
        if texts:
            failed += 1
            print(f"seed {seed}: {'; '.join(texts)}", flush=True)
            if args.save:
                args.save.mkdir(parents=True, exist_ok=True)
                content = Graph(seed, args.nodes).model().SerializeToString()
                (args.save / f"{seed}.onnx").write_bytes(content)
    print(f"{done} graphs, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
