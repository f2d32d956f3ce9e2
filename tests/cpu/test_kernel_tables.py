"""Arguments of kernels: the tables that are made from their structs, and how values are packed by them."""

import ctypes
import importlib.util
import re
from struct import calcsize

import numpy as np
import pytest
from support.c_library import compile_library
from support.one_node import INSTRUCTION_SETS
from support.places import ROOT

from megengine_lite._core.cpu import kernel_index
from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import KernelSet, _bytes_of_struct, kernel_set
from megengine_lite._core.ir.fused import ActivationCode
from megengine_lite._core.ir.params import ElemwiseMode, PoolingMode, ReduceMode, ROIAlignMode
from megengine_lite.errors import InternalError
from megengine_lite.kernels.common import shared_constants
from megengine_lite.kernels.common.shared_constants import OutputKind, StorageKind

SPEC = importlib.util.spec_from_file_location("kernel_tables", ROOT / "tools" / "kernel_tables.py")
assert SPEC is not None and SPEC.loader is not None
kernel_tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(kernel_tables)

VMATH = ROOT / "megengine_lite" / "kernels" / "common" / "vmath.pxd"

GROUPS = """
cdef struct Strides:
    int64_t row, plane


cdef struct Epilogue:  # comment
    int64_t activation
    double act_a


cdef struct Places:
    const float* where
    const int32_t* which
    int64_t count
"""
SOURCE = """
cdef enum:
    SIZE = 2


# A group of this file.
cdef struct Outer:
    Strides s_
    Epilogue epilogue


cdef struct ExampleArgs:
    const float* x

    void* many[SIZE]
    int64_t extent[3]
    int64_t n  # a number
    Strides x_, y_
    Outer outer, y_
    double eps


cdef void example_f32(
    const ExampleArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    pass
"""


def names(source, struct="ExampleArgs"):
    return kernel_tables.Declarations(GROUPS, source).arguments(struct)


def test_arguments_are_the_fields_in_the_order_of_memory():
    source = SOURCE.replace("    Outer outer, y_\n", "    Outer outer, z_\n")
    found = names(source)
    assert " ".join(a.name for a in found) == (
        "x many0 many1 extent0 extent1 extent2 n x_row x_plane y_row y_plane"
        " s_row s_plane activation act_a z_s_row z_s_plane z_activation z_act_a eps"
    )
    assert "".join(a.kind for a in found) == "ppp" + "iiii" + "iiii" + "iiif" + "iiif" + "f"


def test_the_table_holds_address_size_names_and_kinds():
    code = kernel_tables.table(SOURCE.replace("    Outer outer, y_\n", ""), GROUPS)
    row = '"example_f32": (<uintptr_t>&call_example_f32, sizeof(ExampleArgs), "x many0 many1 '
    assert row in code
    assert 'ml_arguments(a, b"pppiiiiiiiif", &copy)' in code
    assert kernel_tables.table("cdef struct Other:\n    int x\n", GROUPS) == ""


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("int32_t n", "int32_t is no struct"),
        ("Strides x_[2]", "array of groups"),
        ("int64_t n, *p", "cannot read"),
        ("int64_t row\n    Strides strides", "several arguments row"),
        ("const float* x y", "cannot read"),
        ("const float* x\n    Places places", "in pairs"),  # places would begin elsewhere if pointers had 4 bytes
    ],
)
def test_what_cannot_be_an_argument_is_refused(field, message):
    with pytest.raises(ValueError, match=message):
        names(f"cdef struct ExampleArgs:\n    {field}\n")


def test_a_module_must_include_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_tables, "GROUPS", tmp_path / "groups.pxd")
    found = {name: e._replace(module=ROOT / e.module) for name, e in kernel_tables.ENUMERATIONS.items()}
    monkeypatch.setattr(kernel_tables, "ENUMERATIONS", found)
    monkeypatch.setattr(kernel_tables, "SHARED", ROOT / kernel_tables.SHARED)
    (tmp_path / "groups.pxd").write_text(GROUPS)
    module = tmp_path / "example.pyx"
    source = SOURCE.replace("    Outer outer, y_\n", "")
    module.write_text(source)
    with pytest.raises(ValueError, match=r'include "example_table\.pxi"'):
        kernel_tables.write_tables([module], tmp_path / "tables")
    module.write_text(source + '\ninclude "example_table.pxi"\n')
    kernel_tables.write_tables([module], tmp_path / "tables")
    assert "example_f32" in (tmp_path / "tables" / "example_table.pxi").read_text()


ENUMERATIONS = (ActivationCode, ElemwiseMode, OutputKind, PoolingMode, ReduceMode, ROIAlignMode, StorageKind)


@pytest.mark.parametrize("members", ENUMERATIONS, ids=lambda members: members.__name__)
def test_kernels_have_the_numbers_of_enumerations(members):
    (wanted,) = (e for e in kernel_tables.ENUMERATIONS.values() if e.name == members.__name__)
    code = kernel_tables.numbers(wanted, (ROOT / wanted.module).read_text())
    found = dict(line.split(" = ") for line in code.splitlines() if line.startswith("    "))
    expected = {wanted.prefix + member.name: member.value for member in members} | {wanted.count: len(members)}
    assert {name.strip(): int(n) for name, n in found.items()} == expected


def test_kernels_have_the_shared_sizes():
    code = kernel_tables.sizes((ROOT / kernel_tables.SHARED).read_text())
    found = dict(line.strip().split(" = ") for line in code.splitlines() if line.startswith("    "))
    assert {name: int(n) for name, n in found.items()} == {
        k: v for k, v in vars(shared_constants).items() if k.isupper()
    }
    with pytest.raises(ValueError, match="cannot read any size"):
        kernel_tables.sizes("class OutputKind(CodeEnum):\n    BYTES = 0\n")


@pytest.mark.parametrize("numbers", ["", "    RELU = 0\n    ABS = 2\n"], ids=["none", "gap"])
def test_enumerations_that_cannot_be_read_are_refused(numbers):
    wanted = kernel_tables.ENUMERATIONS["elemwise_mode_numbers.pxi"]
    with pytest.raises(ValueError, match="cannot read ElemwiseMode"):
        kernel_tables.numbers(wanted, f'class ElemwiseMode(CodeEnum):\n    """Modes."""\n{numbers}')


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_all_instruction_sets_have_the_same_kernels_and_arguments(isa):
    expected = {k.name: k.arguments for k in kernel_set(INSTRUCTION_SETS[0])}
    assert {k.name: list(k.arguments.items()) for k in kernel_set(isa)} == {
        name: list(arguments.items()) for name, arguments in expected.items()
    }
    assert len(expected) > 40


NARROW = r"""
#include "kernel.h"

struct Args { /* as a compiler for 32 bits lays out pointers */
    uint32_t x;
    int64_t n;
    uint32_t y, z, w;
    double eps;
    uint32_t last;
};

int narrow(double *found) {
    struct Args a;
    double eps = 0.5;
    int64_t slots[] = {0x80000001, -2, 3, 4, 5, 0, 0xFFFFFFFF};
    memcpy(&slots[5], &eps, 8);
    ml_narrow_arguments(slots, "pipppfp", &a, 4);
    found[0] = a.x, found[1] = a.n, found[2] = a.y, found[3] = a.z, found[4] = a.w, found[5] = a.eps, found[6] = a.last;
    return ml_arguments(slots, "pipppfp", &a) == (sizeof(void *) == 8 ? (void *)slots : (void *)&a);
}
"""


def test_arguments_get_narrow_where_pointers_have_4_bytes(tmp_path):
    source = tmp_path / "narrow.c"
    source.write_text(NARROW)
    include = ROOT / "megengine_lite" / "kernels" / "common"
    library = ctypes.CDLL(str(compile_library(tmp_path, str(source), "-Wall", "-Werror", f"-I{include}")))
    found = (ctypes.c_double * 7)()
    assert library.narrow(found) == 1
    assert [*found] == [0x80000001, -2, 3, 4, 5, 0.5, 0xFFFFFFFF]


def test_the_bytes_of_a_struct_are_those_of_its_fields():
    pointer = calcsize("P")
    assert (_bytes_of_struct("ppif"), _bytes_of_struct("ii")) == (2 * pointer + 16, 16)
    assert _bytes_of_struct("p") == _bytes_of_struct("i") == 8


def test_a_table_that_does_not_fill_its_struct_is_refused(monkeypatch):
    module = kernel_set(INSTRUCTION_SETS[0]).module("fill")
    address, nbytes, names, kinds = module.KERNELS["copy_bytes"]
    monkeypatch.setitem(module.KERNELS, "copy_bytes", (address, nbytes + 8, names, kinds))
    with pytest.raises(InternalError, match=r"copy_bytes.*build the package again"):
        KernelSet(kernel_set(INSTRUCTION_SETS[0]).isa)["copy_bytes"]


def test_arguments_are_given_by_name_and_all_of_them():
    kernel = kernel_set()["norm_rows_f32"]
    arguments = dict.fromkeys(kernel.arguments, 0) | {"eps": 1, "inner": np.int64(3)}
    values = dict(zip(kernel.arguments, kernel.values(arguments), strict=True))
    assert type(values["eps"]) is float and type(values["inner"]) is int
    del arguments["eps"]
    with pytest.raises(TypeError, match=r"norm_rows_f32: missing arguments \['eps'\], unknown \['epsilon'\]"):
        kernel.values({**arguments, "epsilon": 0})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_integers_reals_and_pointers_reach_the_kernel_in_their_places(isa):
    x = np.float32([[1, 2, 3, 4]])
    y, mean, deviation = np.empty_like(x), np.empty(1, np.float32), np.empty(1, np.float32)
    KernelCall(
        kernel_set(isa), "norm_rows_f32", work=1, x=x, weight=None, bias=None, y=y, mean=mean, deviation=deviation,
        segments=4, inner=1, weight_rows=1, give_variance=0, stream=0, centred=1, eps=0.5,
    ).run()  # fmt: skip
    np.testing.assert_allclose(mean, [2.5], rtol=1e-6)
    np.testing.assert_allclose(deviation, [1 / np.sqrt(1.25 + 0.5)], rtol=1e-6)
    np.testing.assert_allclose(y, (x - 2.5) / np.sqrt(1.25 + 0.5), rtol=1e-6)


def test_order_of_activations_tells_the_cheap_from_the_costly():
    """Kernels ask by comparing codes; what the two functions compute must agree with that.

    Convolutions without code for CLIP_NAN in their blocks ask for what lies behind CLIP_HIGH: they apply that to
    results that are stored, as they do the costly ones.
    """

    def computed(function):
        body = re.search(rf"^cdef inline [\w ]*{function}\(.*?(?=^cdef |^# ---|\Z)", VMATH.read_text(), re.M | re.S)
        return {ActivationCode[name] for name in re.findall(r"code == ACT_(\w+)", body[0])}

    cheap = {code for code in ActivationCode if code <= ActivationCode.CLIP_NAN}
    assert computed("activate") == cheap - {ActivationCode.NONE}
    assert computed("costly_activation") == {*ActivationCode} - cheap
    texts = "".join(p.read_text() for p in VMATH.parent.parent.rglob("*.p*x*"))
    assert {*re.findall(r"code [<>]=? *(\w+)", texts)} <= {"ACT_CLIP_NAN", "ACT_CLIP_HIGH"}


def test_a_module_is_imported_when_one_of_its_kernels_is_asked_for(monkeypatch):
    own = KernelSet(kernel_set().isa)
    assert own["softmax_f32"].module == "softmax" and [*own._modules] == ["softmax"]
    assert [k.name for k in own] == [k.name for k in kernel_set()] and "softmax_f32" in own and "none" not in own
    for wrong in ({}, {"softmax_f32": "fill"}, {"softmax_f32": "no_module"}):
        monkeypatch.setattr(kernel_index, "MODULES", wrong)
        assert KernelSet(own.isa)["softmax_f32"] == own["softmax_f32"]
    with pytest.raises(KeyError):
        own["none"]
