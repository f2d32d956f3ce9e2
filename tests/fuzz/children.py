"""Runs cases in child processes, so that a crash, an endless loop or a lack of memory is an outcome like others."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.damage_case import REFERENCE_SECONDS, SESSION_SECONDS, run_case

MEMORY = 3 << 30
HARD_SECONDS = 5 * SESSION_SECONDS + REFERENCE_SECONDS
CASES_OF_A_CHILD = 400  # what leaks adds up in longer ones
BROKEN = 3  # exit status of a child that failed by itself


def run_cases(numbers: range, paths: tuple[Path, ...], seconds: float = 1e9) -> Iterator[dict[str, Any]]:
    """Runs cases of these models until time is up.

    Yields
    ------
    dict
        ``number`` of the case; ``kind``, ``text`` and ``log`` of its outcome. There are two more kinds here: ``crash``,
        and ``endless`` for what no alarm could end.
    """
    deadline = time.monotonic() + seconds
    while numbers and time.monotonic() < deadline:
        last: dict[str, Any] = {"number": numbers[0], "kind": "ok"}
        with tempfile.TemporaryFile() as trace:
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(read)
                _be_child(numbers[:CASES_OF_A_CHILD], paths, deadline, write, trace.fileno())
            os.close(write)
            with os.fdopen(read) as lines:
                for line in lines:
                    last = json.loads(line)
                    if "kind" in last:
                        yield last
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
                raise RuntimeError(f"case {last['number']} cannot be run")
            if "kind" not in last:
                trace.seek(0)
                text = trace.read().decode(errors="replace").split("\nExtension modules")[0]
                kind = "crash" if os.WIFSIGNALED(status) else "endless"
                yield {**last, "kind": kind, "text": f"status {status}\n{text}"}
        numbers = range(last["number"] + 1, numbers.stop)


def _be_child(numbers: range, paths: tuple[Path, ...], deadline: float, pipe: int, trace: int) -> None:
    """Runs cases, writes what comes of them, and ends the process."""
    status = BROKEN
    try:
        faulthandler.enable(trace)
        _limit_memory()
        for number in numbers:
            if time.monotonic() > deadline:
                break
            _run(number, paths, pipe, trace)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _limit_memory() -> None:
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    if "ASAN_OPTIONS" not in os.environ:  # a sanitizer reserves terabytes of addresses
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def _run(number: int, paths: tuple[Path, ...], pipe: int, trace: int) -> None:
    """Writes two lines: what is going to be run, and what came of it."""

    def tell(**fields: Any) -> None:
        os.write(pipe, json.dumps({"number": number, **fields}).encode() + b"\n")

    faulthandler.dump_traceback_later(HARD_SECONDS, exit=True, file=trace)
    tell(log=[])
    outcome = run_case(number, paths, lambda log: tell(log=log))
    tell(log=outcome.log, kind=outcome.kind, text=outcome.text)
    faulthandler.cancel_dump_traceback_later()
