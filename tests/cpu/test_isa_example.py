"""The set of docs/adding-an-instruction-set.md, added to a copy of the checkout: two rows are all it needs."""

import re
from pathlib import Path

import pytest
from support.copied_checkout import copy_checkout, is_compiled, run_in
from support.places import ROOT

from megengine_lite._core.cpu.isa import ARM64, OTHER, X86_64, architecture
from megengine_lite._core.cpu.kernel_set import runnable_sets

PAGE = ROOT / "docs" / "adding-an-instruction-set.md"
TABLE = Path("megengine_lite", "_core", "cpu", "isa.py")
END_OF_TABLE = ')  # fmt: skip\n"""All rows'
PAGE_FOR_USERS = Path("docs", "performance.md")
CONSTANTS = {X86_64: "X86_64", ARM64: "ARM64", OTHER: "OTHER"}
TESTS = {"softmax": "softmax", "recurrent": "lstm_cell"}  # kernel modules that are built: which of their tests run
ISA = {"MEGENGINE_LITE_ISA": "portable16"}


def row_of_page() -> str:
    """The row that the page shows, for the architecture of this machine."""
    (row,) = re.findall(r"^```python\n(InstructionSet\(.*?)^```", PAGE.read_text(), re.M | re.S)
    return row.replace("X86_64", CONSTANTS[architecture()])


def row_for_users() -> str:
    """The row of the table on the page about performance."""
    (row,) = re.findall(r"^```text\n(\| `portable16`.*\n)```", PAGE.read_text(), re.M)
    return row


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the checkout with both rows below all others, and some kernels compiled for the set."""
    tree = copy_checkout(tmp_path_factory.mktemp("checkout"))
    text = (tree / TABLE).read_text()
    assert text.count(END_OF_TABLE) == 1
    (tree / TABLE).write_text(text.replace(END_OF_TABLE, f"    {row_of_page().strip()},\n{END_OF_TABLE}"))
    text = (tree / PAGE_FOR_USERS).read_text()
    last = re.findall(r"^\| `\w+` \| .* \| \d+ \|.*\n", text, re.M)[-1]
    (tree / PAGE_FOR_USERS).write_text(text.replace(last, last + row_for_users()))
    build = {"MEGENGINE_LITE_BUILD_ISA": "portable16", "MEGENGINE_LITE_BUILD_ONLY": ",".join(TESTS)}
    run_in(tree, "setup.py", "-q", "build_ext", "--inplace", **build)
    return tree


def test_a_set_is_one_line_each_in_two_files(tree):
    changed = {}
    for path in (p for p in (*tree.glob("megengine_lite/**/*"), *tree.glob("docs/**/*"), *tree.glob("*.*"))):
        relative = path.relative_to(tree)
        if path.is_file() and "__pycache__" not in path.parts and not is_compiled(path.name):
            before, after = (ROOT / relative).read_bytes(), path.read_bytes()
            if before != after:
                changed[relative] = len(after.splitlines()) - len(before.splitlines())
    assert changed == {TABLE: 1, PAGE_FOR_USERS: 1}
    assert "two places are all" in PAGE.read_text()
    assert "a row in `_core/cpu/isa.py` and one in `docs/performance.md`" in (ROOT / "CONTRIBUTING.md").read_text()


def test_it_is_used_only_where_it_is_asked_for(tree):
    code = (
        "from megengine_lite import cpu_info; from megengine_lite._core.cpu.kernel_set import kernel_set\n"
        "k = kernel_set(); print(cpu_info()['chosen'], k.name, k.width, k.isa.registers, k.isa.costs.weight)\n"
        "from megengine_lite.kernels import _portable16; print(*_portable16.MODULES)"
    )
    chosen, modules = run_in(tree, "-c", code, **ISA).splitlines()
    assert chosen == "portable16 portable16 16 16 19.2"
    assert {*modules.split()} == {*TESTS}
    assert run_in(tree, "-c", code).split()[0] == runnable_sets()[0]


def test_the_tests_of_the_table_pass(tree):
    """On another set, as it looks at kernels that are not built here."""
    options = ["-p", "no:cacheprovider", "-vv", "--isa", runnable_sets()[-1]]
    said = run_in(tree, "-m", "pytest", *options, "tests/cpu/test_isa.py")
    for name in ("the_page_about_performance_shows_the_table", "base_is_a_name_of_the_set_for_all"):
        assert re.search(rf"{name} PASSED", said)


@pytest.mark.parametrize("module", TESTS)
def test_its_kernels_pass_their_tests(module, tree):
    """In guarded memory, against the definitions."""
    options = ["-p", "no:cacheprovider", "-vv", "--isa", "portable16", "-k", TESTS[module]]
    said = run_in(tree, "-m", "pytest", *options, f"tests/kernels/test_kernels_{module}.py", **ISA)
    results = re.findall(r"::(\S+) (PASSED|SKIPPED)", said)
    assert len(results) >= 4
    assert {("portable16" in test, result) for test, result in results} == {(True, "PASSED")}
