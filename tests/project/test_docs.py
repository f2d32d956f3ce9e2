"""The examples of the documentation pages run, and what the pages say of names, flags and files is so."""

import doctest
import inspect
import logging
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from support.pages import DOCS, PAGES, blocks_of, id_of
from support.places import ROOT, TESTS

import megengine_lite
from megengine_lite import LiteOptions, LiteWarning
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.operators import REGISTRY, Operator
from megengine_lite._core.runtime import devices
from megengine_lite.cli import COMMANDS

LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")
EXTERNAL = re.compile(r"https://(?:[\w-]+\.)+[a-z]{2,}(?:/[\w.~%+-]+)*/?")
# Files and folders of this repository that a page names: `cpu/arena.py`, `_core/ir/`, `tests/operators/test_oprs_*.py`.
NAMED_FILE = re.compile(r"`((?:[\w.*-]+/)*[\w.*-]+\.(?:pyx|pxd|pyi|py|h|toml))`|`((?:[\w.-]+/)+)`")
# Scripts of the original.
NOT_OURS = {"compare_binary_iodump.py", "graph_info_analyze.py", "profile_analyze.py"}

# Where a class is described, if not on the page of its name.
PAGE_OF_CLASS = {"LiteNetworkIO": "lite-io", "LiteExtraConfig": "lite-config"}
# Passed on for programs that star-import the package; all other such names are classes or functions of ctypes.
CTYPES = {"CFUNCTYPE", "POINTER", "byref", "cast", "memmove", "memset", "pointer", "sizeof"}


def examples_of(page: Path) -> doctest.DocTest:
    """The interactive examples of a page as one doctest; the lines between them are left empty."""
    text = page.read_text()
    kept = list(re.sub(r"[^\n]", " ", text))
    for block in blocks_of(page, "python"):
        if ">>>" in block.text:
            kept[block.begin : block.begin + len(block.text)] = block.text
    lines = "\n".join(line.rstrip() for line in "".join(kept).split("\n"))
    return doctest.DocTestParser().get_doctest(lines, {}, page.name, str(page), 0)


def test_page_on_devices_shows_the_device_of_the_tests():
    source = (TESTS / "support" / "numpy_device.py").read_text()
    blocks = [b.text for b in blocks_of(DOCS / "adding-a-device.md", "python") if ">>>" not in b.text]
    assert len(blocks) > 3
    for block in blocks:
        assert "".join(block.split()) in "".join(source.split())  # methods are indented there


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A directory with the models that pages name; what examples set for the process is taken back."""
    bundled = Path(megengine_lite.__file__).parent / "bundled"
    for file in (TESTS / "models" / "extern" / "affine.mge", *bundled.glob("digits.*")):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cryption, "METHODS", dict(cryption.METHODS))
    for method in cryption.METHODS.values():
        monkeypatch.setattr(method, "key", method.key)
    monkeypatch.setattr(devices, "_DEVICES", dict(devices._DEVICES))
    operators = set(REGISTRY)
    logger = logging.getLogger("megengine_lite")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LiteWarning)
        yield
    logger.setLevel(level)
    CACHE.clear()
    for name in set(REGISTRY) - operators:
        del REGISTRY[name]
    for name in [n for n in sys.modules if n.partition(".")[0] == "megenginelite"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_examples_run(page, workplace):
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(examples_of(page), out=report.append)
    assert runner.failures == 0, "".join(report)


def test_pages_of_the_api_have_examples():
    pages = [*(DOCS / "api").glob("*.md")]
    assert len(pages) >= 13
    assert [p.name for p in pages if not examples_of(p).examples] == []


def anchors(page: Path) -> set[str]:
    """What links can point to: the headings, in lower case, with dashes for blanks."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        if target.startswith("https://"):  # not asked: tests need no network
            assert EXTERNAL.fullmatch(target), target
            continue
        to = page.parent / target if target else page
        assert to.exists(), target
        assert not anchor or anchor[1:] in anchors(to), target + anchor


def test_index_leads_to_every_page():
    """By one link, or by two where a folder has an index of its own."""
    indexes = sorted(DOCS.glob("**/index.md"))
    linked = {(page.parent / target).resolve() for page in indexes for target, _ in LINK.findall(page.read_text())}
    assert [p.name for p in DOCS.glob("**/*.md") if p != DOCS / "index.md" and p.resolve() not in linked] == []


def test_navigation_of_the_site_has_every_page_once():
    """The README is the repository's own first page."""
    navigation = (DOCS / "site" / "navigation.yml").read_text()
    named = [f"{name}.md" for name in re.findall(r"(?:file|root): (\S+)", navigation)]
    (pattern,) = re.findall(r"glob: (\S+)", navigation)  # takes those that are not named
    others = {id_of(p) for p in PAGES} - {"README.md", *named}
    assert len(named) == len(set(named))
    assert [p for p in named if not (ROOT / p).exists()] == []
    assert [p for p in others if not fnmatch(p, f"{pattern}.md")] == []


def test_docstrings_of_every_public_module_are_on_the_site():
    modules = {f"megengine_lite.{p.stem}" for p in (ROOT / "megengine_lite").glob("[a-z]*.py")}
    shown = set(re.findall(r"automodule:: (\S+)", "".join(p.read_text() for p in DOCS.glob("reference/*.md"))))
    # base and log have their functions on the page of functions; cli is described as a program
    assert modules - shown == {"megengine_lite.base", "megengine_lite.cli", "megengine_lite.log"}


@cache
def our_paths() -> frozenset[str]:
    """Files and folders of the repository, with a slash in front and, for folders, behind."""
    folders = [
        ROOT / name for name in ("megengine_lite", "tests", "tools", "benchmarks", "docs", "examples", ".ci", ".github")
    ]
    inside = [p for folder in folders for p in folder.rglob("*") if "__pycache__" not in p.parts]
    paths = [*(p for p in ROOT.iterdir() if p.is_file()), *folders, *inside]
    return frozenset(f"/{p.relative_to(ROOT).as_posix()}{'/' if p.is_dir() else ''}" for p in paths)


def unknown_files(text: str) -> list[str]:
    """What a page names as a file or folder of ours and is none; the beginning of the path may be left out.

    Files that its reader makes are announced by "a new file".
    """
    made = set(re.findall(r"^`(\S+)`, a new file:$", text, re.M))
    named = {file or folder for file, folder in NAMED_FILE.findall(text)} - NOT_OURS - made
    return sorted(n for n in named if not any(fnmatch(path, f"*/{n}") for path in our_paths()))


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_named_files_exist(page):
    if page.name != "CHANGELOG.md":  # tells of what was
        assert unknown_files(page.read_text()) == []


def sources_named_in(text: str) -> str:
    """The text of all source files that are named in a text, or lie in folders that are."""
    named = [file or f"{folder}*" for file, folder in NAMED_FILE.findall(text)]
    paths = {path for n in named for path in our_paths() if path[-1] != "/" and fnmatch(path, f"*/{n}")}
    return "".join((ROOT / path[1:]).read_text() for path in paths if Path(path).suffix in (".py", ".pyx", ".pxd"))


def test_names_in_the_map_are_in_the_files_beside_them():
    rows = re.findall(r"^\| (?!---|question|to add)(.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert len(rows) > 10
    for row in rows:
        names = re.findall(r"`(?:\w+\.)?([A-Za-z_]+)`", NAMED_FILE.sub("", row))
        sources = sources_named_in(row)
        assert [n for n in names if not re.search(rf"\b{n}\b", sources)] == [], row


def test_files_that_do_not_exist_are_found():
    text = (
        "`cpu/arena.py`, `cpu/no_arena.py`, `_core/ir/`, `_core/no/`, `tests/operators/test_oprs_*.py`, "
        "`tests/test_no_*.py`"
    )
    assert unknown_files(text) == ["_core/no/", "cpu/no_arena.py", "tests/test_no_*.py"]


# ---- names ----------------------------------------------------------------------------------------------------------


def public_names() -> list[str]:
    """What the package itself defines, without its modules and what it passes on of ctypes and numpy."""
    return [
        name
        for name in megengine_lite.__all__
        if not isinstance(getattr(megengine_lite, name), ModuleType) and name not in CTYPES and name[:2] != "c_"
    ]


def words_of(*pages: Path) -> set[str]:
    return {word for page in pages for word in re.findall(r"\w+", page.read_text())}


def test_every_public_name_is_on_a_page():
    words = words_of(DOCS / "coming-from-megengine-lite.md", *(DOCS / "api").glob("*.md"))
    assert [name for name in public_names() if name not in words] == []


def test_names_of_onnx_runtime_are_right():
    """Those in the first columns of the page for its users."""
    runtime = pytest.importorskip("onnxruntime")
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    words = words_of(DOCS / "coming-from-onnx-runtime.md")
    assert {"InferenceSession", "SessionOptions", "run_with_iobinding"} <= words
    text = (DOCS / "coming-from-onnx-runtime.md").read_text()
    quoted = [
        code for first in re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.M) for code in re.findall(r"`(.*?)`", first)
    ]
    named = {name for code in quoted for name in re.findall(r"(?<![\w\"])[A-Za-z]\w{3,}", re.sub(r'".*?"', "", code))}
    kinds = (runtime.InferenceSession, runtime.SessionOptions, runtime.OrtValue, runtime.IOBinding, state.ModelMetadata)
    known = {name for place in (runtime, state, *kinds) for name in dir(place)}
    known |= {
        p
        for kind in kinds
        for f in vars(kind).values()
        if inspect.isfunction(f)
        for p in inspect.signature(f).parameters
    }
    ours = {"session", "binding", "feeds", "data", "path", "bytes", "None", "ValueError", "callback", "onnxruntime"}
    assert named - known - ours == set() and len(named & known) > 30


def described_classes() -> list[str]:
    """Public classes that have members of their own."""
    return [
        name
        for name in public_names()
        if inspect.isclass(kind := getattr(megengine_lite, name))
        and kind.__module__.startswith("megengine_lite")
        and not issubclass(kind, int | Exception)
    ]


def members(kind: type) -> set[str]:
    """Public methods, properties and fields; not the attributes of compiled bases."""
    ours = [c for c in kind.__mro__ if c.__module__.startswith("megengine_lite")]
    return {n for c in ours for n, value in vars(c).items() if n[0] != "_" and not inspect.isgetsetdescriptor(value)}


@pytest.mark.parametrize("name", described_classes())
def test_every_member_is_on_the_page_of_its_class(name):
    dashed = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    page = DOCS / "api" / f"{PAGE_OF_CLASS.get(name, dashed)}.md"
    assert members(getattr(megengine_lite, name)) - words_of(page) == set()


def test_every_option_has_its_effect_and_default_in_the_table():
    rows = re.findall(r"^\| (`.*?`) \| (\d) \| (.+) \|$", (DOCS / "api" / "lite-options.md").read_text(), re.M)
    defaults = {name: int(default) for names, default, _ in rows for name in re.findall(r"\w+", names)}
    options = LiteOptions()
    assert defaults == {name: getattr(options, name) for name in LiteOptions.__slots__}


def test_every_error_is_in_the_table():
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", (DOCS / "api" / "errors.md").read_text(), re.M))
    kinds = {n: getattr(megengine_lite.errors, n) for n in megengine_lite.errors.__all__ if n.endswith("Error")}
    assert table.keys() == kinds.keys()
    for name, kind in kinds.items():
        bases = {b.__name__ for b in kind.__bases__} - {"LiteError"}
        assert set(re.findall(r"\w+", table[name])) == bases, name


# ---- operators ------------------------------------------------------------------------------------------------------


def test_every_fact_of_operators_is_described():
    facts = {name for name in vars(Operator) if name[0] != "_"}
    assert facts - words_of(DOCS / "adding-an-operator.md") == set()


def test_indexes_of_operators_and_tables_are_current():
    done = subprocess.run([sys.executable, ROOT / "tools" / "import_index.py", "--check"], cwd=ROOT)
    assert done.returncode == 0, "an index is not current: run python tools/import_index.py"


def test_operator_tables_are_current():
    done = subprocess.run([sys.executable, ROOT / "tools" / "operator_table.py", "--check"], cwd=ROOT)
    assert done.returncode == 0, "docs/operators.md is not current: run python tools/operator_table.py"


@pytest.mark.parametrize(
    ("op", "kernels"),
    [
        ("Softmax", ["softmax_f32"]),
        ("Argmax", ["arg_reduce_f32", "arg_reduce_int"]),
        ("TopK", ["sort_elements"]),
        ("MatrixInverse", []),
        ("Reshape", []),
    ],
)
def test_operator_table_finds_the_kernels(op, kernels):
    tool = runpy.run_path(str(ROOT / "tools" / "operator_table.py"))
    assert tool["kernels_of"](op) == kernels


def test_operators_are_tried_with_inputs_that_they_take():
    samples = runpy.run_path(str(ROOT / "tools" / "operator_samples.py"))
    assert [op for op, opr in REGISTRY.items() if opr.in_files and not samples["types_of"](op)] == []
    assert samples["types_of"]("Softmax") == "floats"
    assert samples["types_of"]("CvtColor") == "float32, uint8"


# ---- command line ---------------------------------------------------------------------------------------------------


def test_every_command_is_described():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for command in COMMANDS:
        assert re.search(rf"^\| `{command}\b", text, re.M), command
