"""The set of docs/adding-an-instruction-set.md, added to a copy of the sources: its row is all that it needs."""

import os
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from support.places import ROOT

import megengine_lite
from megengine_lite._core.cpu.isa import ARM64, OTHER, X86_64, architecture

PAGE = ROOT / "docs" / "adding-an-instruction-set.md"
INSTALLED = Path(megengine_lite.__file__).parent
TABLE = Path("megengine_lite", "_core", "cpu", "isa.py")
END_OF_TABLE = ')  # fmt: skip\n"""All rows'
CONSTANTS = {X86_64: "X86_64", ARM64: "ARM64", OTHER: "OTHER"}
TESTS = {"softmax": "softmax", "recurrent": "lstm_cell"}  # kernel modules that are built: which of their tests run
VARIABLES = ("BUILD_ONLY", "BUILD_ISA", "ISA", "TEST_ISA")


def row_of_page() -> str:
    """The row that the page shows, for the architecture of this machine."""
    (row,) = re.findall(r"^```python\n(InstructionSet\(.*?)^```", PAGE.read_text(), re.M | re.S)
    return row.replace("X86_64", CONSTANTS[architecture()])


def is_compiled(name: str) -> bool:
    return name.endswith(tuple(EXTENSION_SUFFIXES))


def run(tree: Path, *command: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k.removeprefix("MEGENGINE_LITE_") not in VARIABLES}
    environment |= {"PYTHONPATH": str(tree), **variables}
    done = subprocess.run([sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources with the row below all others, and two kernels compiled for the set."""
    tree = tmp_path_factory.mktemp("sources")
    shutil.copytree(
        ROOT / "megengine_lite", tree / "megengine_lite",
        ignore=lambda folder, names: [n for n in names if n == "__pycache__" or is_compiled(n)],
    )  # fmt: skip
    shutil.copytree(ROOT / "tools", tree / "tools")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    for compiled in INSTALLED.rglob("*"):  # what is no kernel, and the same for all sets
        folder = compiled.relative_to(INSTALLED).parent
        if is_compiled(compiled.name) and folder != Path("kernels"):
            shutil.copy(compiled, tree / "megengine_lite" / folder)
    text = (tree / TABLE).read_text()
    assert text.count(END_OF_TABLE) == 1
    (tree / TABLE).write_text(text.replace(END_OF_TABLE, f"    {row_of_page().strip()},\n{END_OF_TABLE}"))
    build = {"MEGENGINE_LITE_BUILD_ISA": "portable16", "MEGENGINE_LITE_BUILD_ONLY": ",".join(TESTS)}
    run(tree, "setup.py", "-q", "build_ext", "--inplace", **build)
    return tree


def test_a_set_is_one_line_of_one_file(tree):
    changed = {}
    for path in (p for p in (*tree.glob("megengine_lite/**/*"), *tree.glob("*.*")) if p.is_file()):
        relative = path.relative_to(tree)
        if "__pycache__" not in path.parts and not is_compiled(path.name):
            before, after = (ROOT / relative).read_bytes(), path.read_bytes()
            if before != after:
                changed[relative] = len(after.splitlines()) - len(before.splitlines())
    assert changed == {TABLE: 1}
    assert "one line of one file, `isa.py`" in PAGE.read_text()


def test_it_is_known_and_chosen_as_the_only_one_that_is_built(tree):
    code = (
        "from megengine_lite import cpu_info; from megengine_lite._core.cpu.kernel_set import kernel_set\n"
        "k = kernel_set(); print(cpu_info()['chosen'], k.name, k.width, k.isa.registers, k.isa.costs.weight)\n"
        "from megengine_lite.kernels import _portable16; print(*_portable16.MODULES)"
    )
    chosen, modules = run(tree, "-c", code).splitlines()
    assert chosen == "portable16 portable16 16 16 10.4"
    assert {*modules.split()} == {*TESTS}


@pytest.mark.parametrize("module", TESTS)
def test_its_kernels_pass_their_tests(module, tree):
    """In guarded memory, against the definitions."""
    tests = [str(ROOT / "tests" / "kernels" / f"test_kernels_{module}.py"), "-k", TESTS[module]]
    options = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-vv", "--isa", "portable16"]
    said = run(tree, "-m", "pytest", *options, *tests)
    results = re.findall(r"::(\S+) (PASSED|SKIPPED)", said)
    assert len(results) >= 4
    assert {("portable16" in test, result) for test, result in results} == {(True, "PASSED")}
