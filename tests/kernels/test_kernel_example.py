"""The kernel of docs/adding-a-kernel.md, added to a copy of the checkout as the page says, built and tested."""

import re

import pytest
from support.copied_checkout import copy_checkout, run_in
from support.places import ROOT

from megengine_lite._core.cpu.isa import ARM64, X86_64, usual_sets

PAGE = (ROOT / "docs" / "adding-a-kernel.md").read_text()
NEW_FILE = re.compile(r"^`(\S+)`, a new file:\n\n```\w+\n(.*?)^```", re.M | re.S)
NEW_LINE = re.compile(r"^In `(\S+)`, behind `(.+)`:\n\n```\w*\n(.*\n)```", re.M)
LISTED = re.search(r"^(?:Flip \|.*\n)+", PAGE, re.M)[0]
LOWEST = usual_sets()[-1]
BUILD = {"MEGENGINE_LITE_BUILD_ISA": LOWEST, "MEGENGINE_LITE_BUILD_ONLY": "fill,flip,relayout"}
TEST = {"MEGENGINE_LITE_TEST_ISA": LOWEST}
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the checkout with all that the page adds, and the kernel compiled for one set."""
    tree = copy_checkout(tmp_path_factory.mktemp("checkout"))
    files, lines = NEW_FILE.findall(PAGE), NEW_LINE.findall(PAGE)
    assert (len(files), len(lines)) == (3, 5)
    for path, text in files:
        assert not (tree / path).exists()
        (tree / path).write_text(text)
    for path, before, line in lines:
        rows = (tree / path).read_text().splitlines(keepends=True)
        (place,) = (k for k, row in enumerate(rows) if row.strip() == before)
        (tree / path).write_text("".join((*rows[: place + 1], line, *rows[place + 1 :])))
    run_in(tree, "setup.py", "-q", "build_ext", "--inplace", **BUILD)
    return tree


def test_it_passes_its_tests(tree):
    """In guarded memory, against the definition, through its row and its lowering function."""
    said = run_in(tree, *PYTEST, "-vv", "tests/kernels/test_kernels_flip.py", **TEST)
    assert " 6 passed" in said


def test_listings_of_both_architectures_get_the_lines_of_the_page(tree):
    """The command writes all operators; here only the kernels of this one are built."""
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/cpu']; import test_dispatch as d; every = d.variants\n"
        "d.variants = lambda: (v for v in every() if v.heading == 'Flip')\n"
        "for of in d.LISTINGS: print(of, d.listing(of), end='')"
    )
    assert run_in(tree, "-c", code, **TEST) == f"{X86_64} {LISTED}{ARM64} {LISTED}"
    for architecture in (X86_64, ARM64):
        with (tree / "tests" / "cpu" / f"dispatch_{architecture}.txt").open("a") as listing:
            listing.write(LISTED)
    run_in(tree, *PYTEST, "tests/cpu/test_dispatch.py", "-k", "every_kernel_of_a_row or every_operator", **TEST)


def test_notes_and_lists_of_modules_are_complete(tree):
    run_in(tree, *PYTEST, "tests/project/test_layers.py", "-k", "note_of_a_package or kernels", **TEST)


def test_the_table_of_operators_names_the_kernel(tree):
    run_in(tree, "tools/operator_table.py")
    assert re.search(r"^\| `Flip` .* `flip_rows` \|", (tree / "docs" / "operators.md").read_text(), re.M)
