"""No two classes or structs of the package have the same name, except for operators and their tables of parameters."""

import re
from collections import defaultdict

from support.places import ROOT

PACKAGE = ROOT / "megengine_lite"  # the sources, not what is installed
# Classes of Python and Cython, structs, enumerations of C.
CLASS = re.compile(
    r"^[ \t]*(?:(?:cdef|cpdef|ctypedef)[ \t]+(?:packed[ \t]+)?(?:struct|union|enum)|(?:cdef[ \t]+)?class)[ \t]+(\w+)",
    re.M,
)
SUFFIXES = (".py", ".pyx", ".pxd")
# Both have the name of the operator.
TWINS = (("_core/ir/params/", "_core/ir/onnx_params.py", "_core/ir/onnx_image_params.py"), "_core/operators/")
# The element type, and the original's table that has the number of one.
ALSO = {"DType": {"_core/ir/dtype.py", "_core/ir/params/elemwise.py"}}


def test_a_name_stands_for_one_class():
    places = defaultdict(list)
    for source in sorted(p for p in PACKAGE.rglob("*") if p.suffix in SUFFIXES):
        for name in CLASS.findall(source.read_text()):
            places[name].append(source.relative_to(PACKAGE).as_posix())
    assert len(places) > 500 and places["LiteTensor"] == ["tensor.py"]
    assert places["BlockOutput"] == ["kernels/common/block_output.pxd"] and places["Replay"] == [
        "_core/cpu/program.pyx"
    ]
    # A .pxd file declares what the module of its name defines.
    assert places["Storage"] == ["_core/system/memory.pxd", "_core/system/memory.pyx"]
    for found in places.values():
        found[:] = [p for p in found if not (p.endswith(".pxd") and p[:-3] + "pyx" in found)]
    shared = {name: found for name, found in places.items() if len(found) > 1}
    twins = {n for n, found in shared.items() if len(found) == 2 and all(map(str.startswith, found, TWINS))}
    assert len(twins) > 40
    assert {n: set(shared[n]) for n in shared.keys() - twins} == ALSO


def test_a_name_stands_for_one_lowering():
    places = defaultdict(list)
    for source in (PACKAGE / "_core" / "cpu" / "lower").glob("*.py"):
        for name in re.findall(r"^def (lower_\w+)", source.read_text(), re.M):
            places[name].append(source.name)
    assert len(places) > 50
    assert {n: found for n, found in places.items() if len(found) > 1} == {}
