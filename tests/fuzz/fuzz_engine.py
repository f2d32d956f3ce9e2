"""Fuzzes everything behind the loader: damaged graphs, damaged files and hostile inputs.

``python tests/fuzz/fuzz_engine.py --seconds 600 --seed 1`` runs cases with numbers from ``seed * 10**6`` on, in child
processes with limited memory and time, and prints every case that crashed, did not end, raised something else than
a LiteError, or gave another result than the definition. ``--case NUMBER`` runs one case again, in this process.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).parents[1:3])  # tests and the checkout

from fuzz.children import run_cases  # noqa: E402
from fuzz.damage_case import QUIET, corpus, run_case  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="", help="only files whose names contain this")
    parser.add_argument("--case", type=int, help="run this case only")
    arguments = parser.parse_args()
    paths = tuple(p for p in corpus() if arguments.models in p.name)
    if arguments.case is not None:
        faulthandler.enable()
        outcome = run_case(arguments.case, paths, lambda log: print(*log, sep="\n", flush=True))
        print(f"{outcome.kind}: {outcome.text}")
        return outcome.kind not in QUIET
    counts: Counter[str] = Counter()
    first = arguments.seed * 10**6
    for found in run_cases(range(first, first + 10**6), paths, arguments.seconds):
        counts[found["kind"]] += 1
        if found["kind"] not in QUIET:
            print(f"{found['kind']} {found['number']}: {found['text']}", *found["log"], sep="\n    ", flush=True)
    print(dict(counts))
    return any(kind not in QUIET for kind in counts)


if __name__ == "__main__":
    sys.exit(main())
