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
print("ran")
"""

IN_ANOTHER = """
try:
    import _interpreters as interpreters  # of Python 3.13
except ImportError:
    import _xxsubinterpreters as interpreters
CODE = '''
try:
    import megengine_lite
except ImportError as error:
    print(error, flush=True)
'''
other = interpreters.create()
interpreters.run_string(other, CODE)
interpreters.destroy(other)
"""
REFUSAL = (
    "megengine_lite works in the main interpreter of a process only, because numpy and the pool of threads belong to "
    "the whole process; start another process instead of a subinterpreter"
)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([HERE, IN_ANOTHER], ["ran", REFUSAL]),
        ([IN_ANOTHER, HERE], [REFUSAL, "ran"]),
        (["import megengine_lite", IN_ANOTHER, IN_ANOTHER], [REFUSAL, REFUSAL]),
        ([IN_ANOTHER, IN_ANOTHER, HERE, IN_ANOTHER], [REFUSAL, REFUSAL, "ran", REFUSAL]),
    ],
    ids=["used before", "used after", "imported before", "between"],
)
def test_another_interpreter_is_refused(order, said):
    done = subprocess.run([sys.executable, "-c", "\n".join(order)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, said, "")
