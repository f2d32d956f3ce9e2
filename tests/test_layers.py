"""The dependency rule: api modules -> _core -> kernels; no kernel family uses another one."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "megengine_lite"  # the sources, not what is installed
IMPORT = re.compile(
    r"^[ \t]*(?:from\s+(?P<package>[\w.]+)\s+c?import\s+(?P<names>\([^)]*\)|[^\n]*)"
    r"|c?import\s+(?P<modules>[^\n]*))",
    re.M,
)
# Below everything: errors and the log, which use nothing of the package.
COMMON = {"megengine_lite.errors", "megengine_lite.log"}
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


def layer(module: str) -> str:
    if module.startswith("megengine_lite.kernels"):
        return "kernels"
    return "_core" if module.startswith("megengine_lite._core") else "api"


def test_reader_of_imports_sees_all_forms():
    assert "megengine_lite.kernels.simd" in imports_of("kernels/conv_direct.pyx")
    assert "megengine_lite.kernels.elemwise_modes" in imports_of("kernels/elemwise.pyx")
    assert "megengine_lite._core.graph" in imports_of("_core/planner.py")
    assert "megengine_lite.layout" in imports_of("tensor.py")


@pytest.mark.parametrize("source", SOURCES)
def test_module_imports_only_what_its_layer_may(source):
    mine = module_name(source)
    imported = imports_of(source)
    if mine in COMMON:
        assert not imported
    elif layer(mine) == "kernels":
        assert {m for m in imported if layer(m) != "kernels"} == set()
    elif layer(mine) == "_core":
        assert {m for m in imported if layer(m) == "api"} == set()
    else:
        assert {m for m in imported if layer(m) == "kernels"} == set()


@pytest.mark.parametrize("source", [s for s in SOURCES if s.startswith("kernels/") and not s.endswith(".py")])
def test_kernel_uses_no_other_family(source):
    """Shared code lives in ``.pxd`` files that have no module of their own."""
    mine = module_name(source)
    families = {module_name(s) for s in SOURCES if s.startswith("kernels/") and s.endswith(".pyx")}
    assert (imports_of(source) & families) - {mine} == set()
