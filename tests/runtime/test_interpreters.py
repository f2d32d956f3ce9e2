"""Subinterpreters are refused in plain words, in every order of imports, and the process goes on and ends."""

import subprocess
import sys

import pytest

HERE = """
import megengine_lite
from pathlib import Path
network = megengine_lite.LiteNetwork()
network.load(next(Path(megengine_lite.__file__).parent.glob("bundled/*.mge")))
network.forward()
network.wait()
print("ran", flush=True)  # before the other interpreter says something
"""

START = """
import threading
try:
    import _interpreters as interpreters  # of Python 3.13
except ImportError:
    import _xxsubinterpreters as interpreters

def create(own_gil):
    if hasattr(interpreters, "new_config"):
        return interpreters.create("isolated" if own_gil else "legacy")
    return interpreters.create(isolated=own_gil)

def imported(module, own_gil=True, before="pass"):
    code = f"{before}\\ntry:\\n    import {module}\\nexcept ImportError as error:\\n    print(error, flush=True)"
    other = create(own_gil)
    interpreters.run_string(other, code)
    return other
"""
IN_ANOTHER = "interpreters.destroy(imported('megengine_lite'))"
SHARED_GIL = "interpreters.destroy(imported('megengine_lite', own_gil=False))"
NUMPY = "try: import numpy\nexcept ImportError: pass"  # where there is no GIL, it refuses other interpreters itself
NUMPY_FIRST = f"interpreters.destroy(imported('megengine_lite', own_gil=False, before={NUMPY!r}))"
LEFT = "left = imported('megengine_lite')"
LEFT_WITH_SHARED_GIL = "left_too = imported('megengine_lite', own_gil=False)"
ON_A_THREAD = "thread = threading.Thread(target=imported, args=['megengine_lite']); thread.start(); thread.join()"
REFUSAL = (
    "megengine_lite works in the main interpreter of a process only, because numpy and the pool of threads belong to "
    "the whole process; start another process instead of a subinterpreter"
)
TAKEN = (
    "ImportError: megengine_lite needs numpy, which another interpreter of this process has imported; numpy can be "
    "loaded only once, so import it in the main interpreter first, or start another process for megengine_lite"
)


ORDERS = {
    "used before": ([HERE, IN_ANOTHER], ["ran", REFUSAL]),
    "used after": ([IN_ANOTHER, HERE], [REFUSAL, "ran"]),
    "imported before": (["import megengine_lite", IN_ANOTHER, IN_ANOTHER], [REFUSAL, REFUSAL]),
    "between": ([IN_ANOTHER, IN_ANOTHER, HERE, IN_ANOTHER], [REFUSAL, REFUSAL, "ran", REFUSAL]),
    "the same GIL, used before": ([HERE, SHARED_GIL], ["ran", REFUSAL]),
    "the same GIL, used after": ([SHARED_GIL, IN_ANOTHER, HERE], [REFUSAL, REFUSAL, "ran"]),
    "not destroyed": ([LEFT, HERE, LEFT_WITH_SHARED_GIL], [REFUSAL, "ran", REFUSAL]),
    "on another thread": ([ON_A_THREAD, HERE, ON_A_THREAD], [REFUSAL, "ran", REFUSAL]),
}


def run_python(parts: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a program; one that hangs is an error."""
    code = "\n".join([START, *parts])
    command = [sys.executable, "-W", "ignore:remaining subinterpreters", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("order", "said"), [*ORDERS.values()], ids=[*ORDERS])
def test_another_interpreter_is_refused(order, said):
    done = run_python(order)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, said, "")


@pytest.mark.parametrize("module", ["megengine_lite.network", "megengine_lite._native", "megengine_lite.kernels"])
def test_every_module_is_refused(module):
    done = run_python([f"interpreters.destroy(imported({module!r}))", HERE])
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [REFUSAL, "ran"], "")


def test_numpy_that_another_interpreter_has_is_named():
    """It warns there, where it lets itself be imported; since 2.0 it cannot be loaded again."""
    done = run_python([NUMPY_FIRST, HERE])
    if run_python([NUMPY_FIRST, "import numpy"]).returncode == 0:
        assert (done.returncode, done.stdout.splitlines()) == (0, [REFUSAL, "ran"])
    else:
        assert (done.returncode, done.stdout.splitlines()) == (1, [REFUSAL])
        assert done.stderr.splitlines()[-1] == TAKEN


@pytest.mark.parametrize(
    "error",
    [
        "ImportError('cannot load module more than once per process')",
        "RuntimeError('CPU dispatcher tracer already initlized')",  # numpy 2.0 to 2.2
    ],
)
def test_every_numpy_that_another_interpreter_has_is_named(error, tmp_path):
    (tmp_path / "numpy.py").write_text(f"raise {error}\n")
    done = run_python([f"import sys; sys.path.insert(0, {str(tmp_path)!r})", "import megengine_lite"])
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, TAKEN)


@pytest.mark.parametrize("error", ["ImportError('no numpy here')", "RuntimeError('no numpy here')"])
def test_other_errors_of_numpy_stay_what_they_are(error, tmp_path):
    (tmp_path / "numpy.py").write_text(f"raise {error}\n")
    done = run_python([f"import sys; sys.path.insert(0, {str(tmp_path)!r})", "import megengine_lite"])
    assert done.stderr.splitlines()[-1] == error.replace("('", ": ").removesuffix("')")
