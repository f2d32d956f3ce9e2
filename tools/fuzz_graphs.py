"""Generates graphs, runs them at many settings, compares with the definitions in numpy, and makes failing ones small.

    python tools/fuzz_graphs.py --seconds 3600
    python tools/fuzz_graphs.py --family necks --first 30061 --count 1 --settings all --save /tmp/failures

The package must be installed, or built in place and on the path. Ends with status 1 if a graph failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from generated.check import Checker, Failure, write_case  # noqa: E402
from generated.grammar import FAMILIES, make_case  # noqa: E402
from generated.maker import Case  # noqa: E402
from generated.settings import (  # noqa: E402
    INSTRUCTION_SETS,
    Setting,
    default_settings,
    every_setting,
    some_settings,
)
from generated.shrink import describe, shrink  # noqa: E402


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=FAMILIES, help="may be repeated; all by default")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--count", type=int, help="seeds of each family (100, or as many as there is time for)")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--settings", default="4", help="'default', 'all', or how many by chance for each graph (4)")
    parser.add_argument("--isa", action="append", choices=INSTRUCTION_SETS, help="may be repeated; all by default")
    parser.add_argument("--no-shrink", action="store_true", help="show failing graphs as they are")
    parser.add_argument("--per-kind", type=int, default=3, help="how many graphs of one kind of failure are shown (3)")
    parser.add_argument("--save", type=Path, help="folder for small failing graphs: .mge and .npz")
    return parser.parse_args()


def _settings(choice: str, label: str, isas: list[str]) -> list[Setting]:
    if choice == "default":
        return default_settings(isas)
    if choice == "all":
        return every_setting(isas)
    return some_settings(random.Random(label), int(choice), isas)


def kind_of(case: Case, failure: Failure) -> str:
    """What failures of the same cause have in common: how they fail, and the operators of the small graph."""
    return f"{failure.kind} [{' '.join(sorted({n.op for n in case.graph.nodes}))}]"


class _Fuzzer:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.isas = args.isa or list(INSTRUCTION_SETS)
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def try_seed(self, family: str, seed: int) -> None:
        """Checks one graph; shows what is wrong with it."""
        case = make_case(family, seed)
        checker = Checker(case)
        self.counts["graphs"] += 1
        if checker.uncertain:
            self.counts["uncertain graphs"] += 1
            return
        failures = []
        for setting in _settings(self.args.settings, case.label, self.isas):
            self.counts["runs"] += 1
            failure = checker.check(setting)
            if failure is not None and all(failure.kind != f.kind for f in failures):
                failures.append(failure)
        if failures:
            self.counts["failing graphs"] += 1
        for failure in failures:
            self._show(case, failure)

    def _show(self, case: Case, failure: Failure) -> None:
        if not self.args.no_shrink:
            case, failure = shrink(case, failure)
        kind = kind_of(case, failure)
        self.kinds[kind] += 1
        if self.kinds[kind] > self.args.per_kind:
            return
        print(f"== {case.label}: {failure}")
        print(*(f"  {line}" for line in describe(case)), sep="\n", flush=True)
        if self.args.save:
            self.args.save.mkdir(parents=True, exist_ok=True)
            write_case(case, self.args.save / case.label.replace(" ", "_"))

    def report(self) -> None:
        """Numbers of graphs and of failures of each kind."""
        print("== " + ", ".join(f"{n} {what}" for what, n in self.counts.items()))
        for kind, count in self.kinds.most_common():
            print(f"{count:6} {kind}")


def main() -> int:
    args = _arguments()
    fuzzer = _Fuzzer(args)
    count = args.count if args.count is not None else 10**9 if args.seconds else 100
    end = time.monotonic() + (args.seconds or float("inf"))
    try:
        for seed in range(args.first, args.first + count):
            for family in args.family or FAMILIES:
                if time.monotonic() > end:
                    raise KeyboardInterrupt
                fuzzer.try_seed(family, seed)
    except KeyboardInterrupt:
        pass
    fuzzer.report()
    return 1 if fuzzer.kinds else 0


if __name__ == "__main__":
    sys.exit(main())
