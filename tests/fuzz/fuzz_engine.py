"""Fuzzes everything behind the loader: damaged graphs, damaged files and hostile inputs.

``python tests/fuzz/fuzz_engine.py --seconds 600 --seed 1`` runs cases with numbers from ``seed * 10**6`` on, in child
processes with limited memory and time, and prints every case that crashed, did not end, raised something else than
a LiteError, or gave another result than the definition. ``--case NUMBER`` runs one case again, here.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).parents[1:3])  # tests and the checkout

from fuzz.damage_case import REFERENCE_SECONDS, SESSION_SECONDS, corpus, run_case  # noqa: E402

MEMORY = 3 << 30
HARD_SECONDS = 5 * SESSION_SECONDS + REFERENCE_SECONDS
CASES_OF_A_CHILD = 400  # memory that is lost adds up in long runs
BROKEN = 3  # exit status of a child that failed by itself
QUIET = ("ok", "refused")


def _child(first: int, count: int, deadline: float, pipe: int, trace: int, pattern: str) -> None:
    """Runs cases and writes what comes of them, a line each; a line without an outcome announces a case."""
    faulthandler.enable(trace)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    paths = tuple(p for p in corpus() if pattern in p.name)

    def tell(number: int, **fields) -> None:
        os.write(pipe, json.dumps({"number": number, **fields}).encode() + b"\n")

    for number in range(first, first + count):
        if time.monotonic() > deadline:
            break
        faulthandler.dump_traceback_later(HARD_SECONDS, exit=True, file=trace)
        begin = time.monotonic()
        tell(number, log=[])
        outcome = run_case(number, paths, lambda log, number=number: tell(number, log=log))
        tell(number, log=outcome.log, kind=outcome.kind, text=outcome.text, seconds=time.monotonic() - begin)
        faulthandler.cancel_dump_traceback_later()


def _run_children(first: int, seconds: float, pattern: str):
    """Yields the outcomes of all cases, as dictionaries."""
    deadline = time.monotonic() + seconds
    number = first
    while time.monotonic() < deadline:
        read, write = os.pipe()
        with tempfile.TemporaryFile() as trace:
            child = os.fork()
            if child == 0:
                os.close(read)
                status = BROKEN
                try:
                    _child(number, CASES_OF_A_CHILD, deadline, write, trace.fileno(), pattern)
                    status = 0
                except Exception:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            os.close(write)
            last: dict = {"number": number, "kind": "ok"}
            with os.fdopen(read) as lines:
                for line in lines:
                    last = json.loads(line)
                    if "kind" in last:
                        yield last
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
                sys.exit(f"case {last['number']} cannot be run by this script")
            if "kind" not in last:
                trace.seek(0)
                text = trace.read().decode(errors="replace").split("\nExtension modules")[0]
                kind = "crash" if os.WIFSIGNALED(status) else "endless"
                yield {**last, "kind": kind, "text": f"status {status}\n{text}"}
            number = last["number"] + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="", help="only files whose names contain this")
    parser.add_argument("--case", type=int, help="run one case in this process")
    arguments = parser.parse_args()
    if arguments.case is not None:
        faulthandler.enable()
        outcome = run_case(
            arguments.case,
            tuple(p for p in corpus() if arguments.models in p.name),
            lambda log: print(*log, sep="\n", flush=True),
        )
        print(f"{outcome.kind}: {outcome.text}")
        return outcome.kind not in QUIET
    counts: Counter[str] = Counter()
    for found in _run_children(arguments.seed * 10**6, arguments.seconds, arguments.models):
        counts[found["kind"]] += 1
        if found["kind"] not in QUIET:
            print(
                f"{found['kind']} {found['number']}: {found.get('text', '')}", *found["log"], sep="\n    ", flush=True
            )
    print(dict(counts))
    return any(kind not in QUIET for kind in counts)


if __name__ == "__main__":
    sys.exit(main())
