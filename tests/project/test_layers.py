"""The dependency rule: packages in one order, never upward; no kernel family uses another one."""

import ast
import re
from pathlib import Path

import pytest
from support.places import ROOT

PACKAGE = ROOT / "megengine_lite"  # the sources, not what is installed
IMPORT = re.compile(
    r"^[ \t]*(?:from\s+(?P<package>[\w.]+)\s+c?import\s+(?P<names>\([^)]*\)|[^\n]*)"
    r"|c?import\s+(?P<modules>[^\n]*))",
    re.M,
)
# Below everything: errors, the log, and how small classes are made, which use nothing of the package.
COMMON = {f"megengine_lite.{m}" for m in ("errors", "log", "_log_lines", "_records", "_codes")}
SOURCES = sorted(
    p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pyx", ".pxd", ".pxi")
)


def module_name(source: str) -> str:
    parts = ["megengine_lite", *Path(source).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or any(path.with_suffix(s).exists() for s in (".py", ".pyx", ".pxd"))


def imports_of(source: str) -> set[str]:
    """Modules of this package that a source imports or cimports."""
    found = set()
    text = (PACKAGE / source).read_text()
    for match in IMPORT.finditer(text):
        if match["package"]:
            names = [n.split(" as ")[0].strip() for n in re.sub(r"#[^\n]*|[()]", "", match["names"]).split(",")]
            inner = {f"{match['package']}.{n}" for n in names if n}
            found.update(m for m in inner if m.startswith("megengine_lite") and is_module(m))
            if any(not is_module(m) for m in inner):
                found.add(match["package"])
        else:
            found.update(m.split(" as ")[0].strip() for m in match["modules"].split(","))
    return {m for m in found if m.split(".")[0] == "megengine_lite"} - COMMON


# Lowest first. A module imports only what stands at its own place or before it.
ORDER = (
    "kernels", "definitions", "system", "session_config", "ir", "operators", "formats", "compile", "device", "cpu",
    "runtime", "reports", "_api", "public", "_cli",
)  # fmt: skip
# Modules with the original's names that only define: enumerations, versions, layouts and tensors.
DEFINITIONS = {"megengine_lite.base", "megengine_lite.struct"}
API_OBJECTS = {"megengine_lite.tensor"}
PROGRAM = {"megengine_lite.cli", "megengine_lite.__main__"}
# Neighbours that do not know each other.
STRANGERS = {("formats", "compile"), ("compile", "formats")}


def layer(module: str) -> str:
    if module in DEFINITIONS:
        return "definitions"
    if module in API_OBJECTS:
        return "_api"
    _, *rest = module.split(".")
    if module in PROGRAM:
        return "_cli"
    if not rest or rest[0] not in ("kernels", "_core", "_api", "_cli"):
        return "public"
    return rest[0] if rest[0] != "_core" else rest[1] if len(rest) > 1 else "system"


# The parts of ``formats``, lowest first; the two formats do not know each other.
FORMATS = ("wire", "containers", "stored_values", "loaded_model", "prepared", "mge", "onnx", "foreign_files", "load")


@pytest.mark.parametrize("source", [s for s in SOURCES if s.startswith("_core/formats/")])
def test_formats_know_what_they_share_and_not_each_other(source):
    def part(module: str) -> str:
        return module.removeprefix("megengine_lite._core.formats").lstrip(".").split(".")[0]

    mine = part(module_name(source))
    known = {part(m) for m in imports_of(source) if m.startswith("megengine_lite._core.formats")} - {mine}
    assert known <= set(FORMATS[: FORMATS.index(mine)] if mine else ())
    assert not (mine == "onnx" and "mge" in known)


NOTES = [s for s in SOURCES if s.endswith("/__init__.py")]


@pytest.mark.parametrize("source", NOTES)
def test_packages_begin_with_a_diagram_and_say_where_to_start(source):
    note = (PACKAGE / source).read_text().split('"""')[1]
    assert "::\n\n" in note and "─" in note
    assert re.search(r"[Ss]tart\s+with|start (here|there)|stands alone", note)


# Packages with a module for each family of operators, which the note need not list, and twins that it names by a star.
FAMILIES = (
    "_core/operators/*", "_core/cpu/lower/*", "_core/formats/onnx/operators/*", "_core/formats/onnx/export/operators/*",
    "_core/ir/params/*", "kernels/conv/*_int8",
)  # fmt: skip


@pytest.mark.parametrize("source", NOTES)
def test_note_of_a_package_names_its_modules(source):
    note = (PACKAGE / source).read_text().split('"""')[1]
    modules = {Path(s).with_suffix("") for s in SOURCES if Path(s).parent == Path(source).parent}
    wanted = {m for m in modules if m.name != "__init__" and not any(m.match(f) for f in FAMILIES)}
    assert {m.name for m in wanted if not re.search(rf"\b{m.name}\b", note)} == set()


# Packages of devices. What stands above them asks ``Device`` objects, which one module lists.
DEVICES = {"cpu"}
ASK_DEVICES = {"device", "runtime", "reports", "_api"}
LIST_OF_DEVICES = "megengine_lite._core.runtime.devices"


def may_import(mine: str, other: str) -> bool:
    if other == "kernels" and mine != "kernels":
        return mine == "cpu"
    return ORDER.index(other) <= ORDER.index(mine) and (mine, other) not in STRANGERS


def test_reader_of_imports_sees_all_forms():
    assert "megengine_lite.kernels.common.simd" in imports_of("kernels/conv/conv_direct.pyx")
    assert "megengine_lite.kernels.elemwise.elemwise_modes" in imports_of("kernels/elemwise/elemwise.pyx")
    assert "megengine_lite._core.ir.graph" in imports_of("_core/cpu/planner.py")
    assert "megengine_lite._api.layout" in imports_of("tensor.py")


@pytest.mark.parametrize("source", SOURCES)
def test_module_imports_only_what_its_layer_may(source):
    mine = module_name(source)
    imported = imports_of(source)
    if mine in COMMON:
        assert not imported
    else:
        assert {m for m in imported if not may_import(layer(mine), layer(m))} == set()


@pytest.mark.parametrize("source", [s for s in SOURCES if layer(module_name(s)) in ASK_DEVICES])
def test_no_device_is_known_above_the_list_of_devices(source):
    mine = module_name(source)
    known = {m for m in imports_of(source) if layer(m) in DEVICES}
    assert known == ({"megengine_lite._core.cpu.device"} if mine == LIST_OF_DEVICES else set())


def test_every_package_of_the_core_has_a_place():
    packages = {p.name for p in (PACKAGE / "_core").iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert packages <= set(ORDER)


@pytest.mark.parametrize("source", [s for s in SOURCES if s.startswith("kernels/") and not s.endswith(".py")])
def test_kernel_uses_no_other_family(source):
    """Shared code lives in ``.pxd`` files that have no module of their own."""
    mine = module_name(source)
    siblings = {m for m in imports_of(source) if (PACKAGE.parent / m.replace(".", "/")).with_suffix(".pyx").exists()}
    families = {m.split(".")[2] for m in imports_of(source) if m.startswith("megengine_lite.kernels.")}
    assert siblings - {mine} == set()
    assert families <= {mine.split(".")[2], "common"}


def needed_by(source: str) -> set[str]:
    """Modules that a module imports at any time, but not those of which it only needs the types."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(m if is_module(m) else node.module for m in inner)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((PACKAGE / source).read_text()))
    return found


def test_no_modules_need_each_other():
    """Directly or through others, late imports included."""
    modules = {module_name(s): needed_by(s) for s in SOURCES if s.endswith(".py")}
    rest = {m: needed & set(modules) - {m} for m, needed in modules.items()}
    while free := {m for m, needed in rest.items() if not needed}:
        rest = {m: needed - free for m, needed in rest.items() if m not in free}
    assert len(modules) > 300 and sorted(rest) == []
