"""Every kernel runs in guarded memory somewhere in the tests, on every instruction set."""

import json
import subprocess
import sys
from pathlib import Path

from support.guarded_memory import RAN
from support.instruction_sets import INSTRUCTION_SETS
from support.places import TESTS

from megengine_lite._core.cpu.kernel_set import kernel_set

FILES = [
    *(TESTS / "kernels").glob("test_kernels_*.py"),
    *(TESTS / "cpu" / f"test_{name}.py" for name in ("algorithms", "lower_quantized")),
]
RUN = """
import json, sys, pytest
status = pytest.main(["-q", "--tb=short", "-p", "no:cacheprovider", *sys.argv[2:]])
from support.guarded_memory import RAN
open(sys.argv[1], "w").write(json.dumps(sorted(RAN)))
sys.exit(status)
"""


def compiled() -> set[tuple[str, str]]:
    """The instruction set that it is compiled for, and the name, of every kernel."""
    sets = map(kernel_set, INSTRUCTION_SETS)
    return {(own.isa.home_of(kernel.module), kernel.name) for own in sets for kernel in own}


def unrun(ran) -> list[str]:
    """The kernels that are not among those that have run."""
    return [f"{name} ({isa})" for isa, name in sorted(compiled() - ran)]


def run_all(report: Path) -> set[tuple[str, str]]:
    """Runs all tests of kernels in a process of their own; which kernels they ran."""
    done = subprocess.run([sys.executable, "-c", RUN, report, *FILES], capture_output=True, text=True, cwd=TESTS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {(isa, name) for isa, name in json.loads(report.read_text())}


def test_every_kernel_has_run_in_guarded_memory(tmp_path):
    """This file comes after those of the kernels: only where they have not run in this process, they run again."""
    missing = unrun(RAN) and unrun(RAN | run_all(tmp_path / "ran.json"))
    assert not missing, f"no test runs {', '.join(missing)}: add one that uses run_node, run_blocked or GuardedCall"


def test_kernel_that_did_not_run_is_named():
    everything = compiled()
    isa = kernel_set(INSTRUCTION_SETS[0]).isa.home_of("fill")
    assert unrun(everything - {(isa, "copy_bytes")}) == [f"copy_bytes ({isa})"]
    assert unrun(everything) == []
