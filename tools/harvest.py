"""Makes models of the calls that MegEngine's own unit tests make.

Needs a Python with MegEngine and pytest, and a checkout of MegEngine's repository::

    python tools/harvest.py MEGENGINE/imperative/python/test/unit FOLDER

The tests run under a recorder. It dumps each call of a public function, of an operator, of a module, and of a tensor's
methods as a model: the tensors among the arguments become inputs, everything else constants. Calls that differ only in
the numbers of their tensors are dumped once. FOLDER gets, for each call,

- ``NAME.mge`` and ``NAME.v1.mge``, of both generations of the format,
- ``NAME.npz``: ``in_NAME`` for each input, ``eager_0``, … what MegEngine computes while it runs the function, and
  ``lite_0``, … what MegEngine Lite computes from the file, if it can,
- ``NAME.json``: ``function``, the ``test`` that called it, ``arguments``, whether the result is ``random``, and the
  error of MegEngine Lite, if there is one, as ``lite_error``.

``left_out.jsonl`` has the calls that could not be dumped. ``tools/check_harvest.py`` runs the models.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from isolated_workers import Worker, serve

_FOLDERS = "functional module core quantization random jit utils traced_module amp autodiff optimizer distributions"


def record(test: Path, folder: Path, per_function: int) -> int:
    """Runs one file of tests under the recorder; the exit status of pytest."""
    import pytest
    from call_recorder import Recorder

    recorder = Recorder(folder, per_function)
    recorder.install()
    return int(pytest.main([str(test), "-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=no"], plugins=[recorder]))


def compute(path: str) -> dict[str, Any]:
    """Runs one model in MegEngine Lite and stores what comes out; an error or nothing."""
    from megenginelite import LiteNetwork

    target = Path(path).with_suffix(".npz")
    with np.load(target) as data:
        stored = {key: data[key] for key in data if not key.startswith("lite_")}
    try:
        network = LiteNetwork()
        network.load(path)
        for name in network.get_all_input_name() or []:
            array = stored[f"in_{name}"]
            # The API has no type for truth values.
            array = array.astype(np.uint8) if array.dtype == bool else array
            network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(array))
        runs = []
        for _ in range(2):
            network.forward()
            network.wait()
            tensors = [network.get_io_tensor(name) for name in network.get_all_output_name()]
            runs.append([tensor.to_numpy().copy() for tensor in tensors])
    except Exception as error:
        return {"lite_error": str(error)[-500:]}
    same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(*runs, strict=True))
    np.savez_compressed(target, **stored, **{f"lite_{i}": array for i, array in enumerate(runs[0])})
    return {"random": not same}


def compute_all(folder: Path) -> None:
    """Fills in what MegEngine Lite computes, for all models that have no result yet."""
    waiting = []
    for path in sorted(folder.glob("*.json")):
        note = json.loads(path.read_text())
        if not note.keys() & {"random", "lite_error"}:
            waiting.append(str(path.with_suffix(".mge")))
    worker = Worker([sys.executable, __file__, "--compute"])
    for task, answer, reason in worker.run(waiting):
        path = Path(task).with_suffix(".json")
        note = {**json.loads(path.read_text()), **(answer or {"lite_error": reason})}
        path.write_text(json.dumps(note))


def _run_tests(command: list[str], folder: Path, timeout: float) -> int:
    """The exit status of a process that records; it is killed when a test takes longer than ``timeout`` seconds."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    progress = -1
    while True:
        before, progress = progress, _size(folder / "done.txt")
        if before == progress:
            process.kill()
            return process.wait()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout)


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.json")))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _test_files(tests: Path, folders: list[str]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted((tests / folder).glob("test_*.py")) if "distributed" not in path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tests", type=Path, nargs="?", help="imperative/python/test/unit of MegEngine's repository")
    parser.add_argument("folder", type=Path, nargs="?", help="where the models go; a run that was stopped goes on")
    parser.add_argument("--only", nargs="+", default=_FOLDERS.split(), help="folders of tests (default: %(default)s)")
    parser.add_argument("--per-function", type=int, default=250, help="models of one function at most (%(default)s)")
    parser.add_argument("--timeout", type=float, default=90, help="seconds for one test (%(default)s)")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compute", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compute:
        return serve(compute)
    if arguments.tests is None or arguments.folder is None:
        parser.error("TESTS and FOLDER are needed")
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.record:
        sys.exit(record(arguments.record, folder, arguments.per_function))
    common = [sys.executable, __file__, str(arguments.tests), str(folder), f"--per-function={arguments.per_function}"]
    for test in _test_files(arguments.tests.resolve(), arguments.only):
        for _ in range(50):  # goes on behind a test that killed the process
            before = _count(folder)
            status = _run_tests([*common, "--record", str(test)], folder, arguments.timeout)
            print(f"{test.name}: {_count(folder) - before} calls, status {status}", flush=True)
            if status >= 0:
                break
    compute_all(folder)
    functions = {path.name.rpartition("-")[0] for path in folder.glob("*.json")}
    print(f"{_count(folder)} calls of {len(functions)} functions")


if __name__ == "__main__":
    main()
