"""Which kernel runs for which operator, element types and layout: the table of the dispatch, and what comes out.

``dispatch_x86-64.txt`` and ``dispatch_arm64.txt`` list the kernels of small sample nodes, so that a change of kernel is
seen in review. After a wanted change, ``PYTHONPATH=tests python tests/cpu/test_dispatch.py`` writes both anew, on any
machine: a set that does not run there is planned with the kernels of one that has as many lanes. Where there is none,
lines stay as they are, and a new sample gets what the set before has, until it is written on a machine that has one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
from support.instruction_sets import INSTRUCTION_SETS, planning_kernels
from support.places import TESTS

from megengine_lite._core.cpu.dispatch import EVERY, SHARED, DispatchTable, InputLayout, Row
from megengine_lite._core.cpu.isa import ARM64, X86_64, instruction_sets, usual_sets
from megengine_lite._core.cpu.kernel_set import KernelSet, kernel_set
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Step
from megengine_lite._core.ir import onnx_params, params
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32, INT64, UINT8, DType, DTypeCode
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.onnx_image_params import (
    Blocks,
    Corners,
    OnnxPooling,
    OnnxResize,
    Regions,
    Suppression,
    Unpooling,
)
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.onnx_recurrent import USUAL
from megengine_lite._core.operators.shape import PassThrough
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._records import replace
from megengine_lite.errors import InternalError, LiteError

LISTINGS = {a: TESTS / "cpu" / f"dispatch_{a}.txt" for a in (X86_64, ARM64)}
_C = DTypeCode
TYPES = [
    DType(c, 0.5, 1 if "ASYMM" in c.name else 0) if DType(c).is_quantized else DType(c)
    for c in (
        _C.FLOAT32, _C.FLOAT16, _C.BFLOAT16, _C.INT32, _C.INT16, _C.UINT16, _C.INT8, _C.UINT8, _C.BOOL, _C.QUANTIZED_S8,
        _C.QUANTIZED8_ASYMM, _C.QUANTIZED_S4, _C.QUANTIZED4_ASYMM, _C.QUANTIZED_S32, _C.QUANTIZED_S16, _C.INT64,
    )
]  # fmt: skip


# ---- samples ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A node: the shapes of its inputs; places of constants; types of inputs that do not change; parameters.

    ``made`` makes the parameters of an operator that no file of MegEngine's has.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    label: str = ""
    constants: tuple[int, ...] = ()
    fixed: dict[int, DType] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    outputs: int = 1
    param: dict[str, Any] = field(default_factory=dict)
    made: Any = None


IMAGE, SMALL, MATRIX = (2, 32, 6, 7), (1, 3, 12, 12), (8, 12)
_PAD = {"pad_h": 1, "pad_w": 1}
_WINDOW = {"window": (2, 2), "strides": (2, 2), "dilations": (1, 1), "pads_begin": (0, 0), "pads_end": (0, 0)}
_ROW = params.IndexDescMaskDump(items=(params.IndexDescMaskItem(0, True, True, False, False),))
_INDEX = params.IndexDescMaskDump(items=(params.IndexDescMaskItem(0, False, False, False, True),))


def _layer(cell: str, direction: str, before: bool, more: bool = False) -> dict[str, Any]:
    usual = tuple((name, 0.0, 0.0) for name in USUAL[cell]) * (2 if direction == "bidirectional" else 1)
    flags = (True, more, True, cell == "LSTM", more)
    return {"cell": cell, "direction": direction, "activations": usual, "clip": 0.0, "flags": flags,
            "linear_before_reset": before}  # fmt: skip


def _resize(mode: str) -> OnnxResize:
    return OnnxResize((2, 3), False, mode, "floor", "half_pixel", -0.75, False, 0.0, False, "stretch")


SAMPLES = [
    Sample("Convolution", (IMAGE, (16, 32, 3, 3)), "3 x 3", constants=(1,), param=_PAD),
    Sample("Convolution", (IMAGE, (16, 32, 1, 1)), "1 x 1", constants=(1,)),
    Sample("Convolution", ((1, 32, 6, 6), (32, 32, 3, 3)), "few tiles", constants=(1,), param=_PAD),
    Sample("Convolution", (SMALL, (16, 3, 3, 3)), "first", constants=(1,), param=_PAD),
    Sample("Convolution", (IMAGE, (32, 1, 1, 3, 3)), "channel-wise", constants=(1,), param={**_PAD, "sparse": 1}),
    Sample("Convolution", (IMAGE, (16, 2, 2, 3, 3)), "in pairs", constants=(1,), param={**_PAD, "sparse": 1}),
    Sample("Convolution", (IMAGE, (16, 32, 3, 3)), "computed filter", param=_PAD),
    Sample("ConvBiasForward", (IMAGE, (16, 32, 3, 3)), constants=(1,), param=_PAD),
    Sample("ConvolutionBackwardData", ((32, 16, 3, 3), IMAGE), constants=(0,), param=_PAD),
    Sample("DeformableConvForward", (IMAGE, (16, 32, 3, 3), (2, 18, 6, 7), (2, 9, 6, 7)), constants=(1,), param=_PAD),
    Sample("Convolution3D", ((2, 4, 4, 5, 6), (4, 4, 3, 3, 3)), constants=(1,)),
    Sample("MatrixMul", (MATRIX, (12, 40)), constants=(1,)),
    Sample("MatrixMul", ((1, 12), (12, 40)), "one row", constants=(1,)),
    Sample("MatrixMul", ((1, 12), (40, 12)), "one row, by rows", param={"transposeB": True}),
    Sample("BatchedMatrixMul", ((2, 8, 12), (2, 12, 40))),
    Sample("CvtColor", ((1, 6, 7, 3),)),
    Sample("CvtColor", ((1, 6, 4, 1),), "planes", param={"mode": params.CvtColorMode.YUV2RGB_NV12}),
    Sample("Pooling", (IMAGE,), "2 x 2"),
    Sample("Pooling", (IMAGE,), "whole", param={"window_h": 6, "window_w": 7, "stride_h": 6, "stride_w": 7}),
    Sample("AdaptivePooling", (IMAGE, (2,)), constants=(1,), fixed={1: INT32}, values={1: [3, 3]}),
    Sample("Argmax", (IMAGE,), param={"axis": 1}),
    Sample("Argmin", (IMAGE,), param={"axis": 3}),
    Sample("Cumsum", (MATRIX,), param={"axis": 1}),
    Sample("Softmax", (IMAGE,), param={"axis": 1}),
    Sample("LayerNorm", (MATRIX, (12,), (12,)), outputs=3, param={"normalized_size": 12}),
    Sample("GroupNorm", (IMAGE, (32,), (32,)), outputs=3, constants=(1, 2), param={"group": 4}),
    Sample("InstanceNorm", (IMAGE, (32,), (32,)), outputs=3, constants=(1, 2)),
    Sample("GeneralNorm", (MATRIX, (12,), (12,)), outputs=3, param={"axis_start": 1, "axis_end": 2}),
    Sample("GeneralNorm", (MATRIX, (8,), (8,)), "columns", outputs=3, param={"axis_start": 0, "axis_end": 1}),
    Sample("LRN", (IMAGE,)),
    Sample("RNNCellForward", ((4, 8), (16, 8), (16,), (4, 16), (16, 16), (16,)), constants=(1, 2, 4, 5)),
    Sample("LSTMCellForward", ((4, 8), (64, 8), (64,), (4, 16), (64, 16), (64,), (4, 16)), constants=(1, 2, 4, 5),
           outputs=3),
    Sample("RNNForward", ((5, 4, 8), (1, 4, 16), (416,)), constants=(2,), outputs=3, param={"hidden_size": 16}),
    Sample("LSTMForward", ((5, 4, 8), (1, 4, 16), (1, 4, 16), (1664,)), constants=(3,), outputs=4,
           param={"hidden_size": 16}),
    Sample("Recurrent", ((5, 4, 8), (2, 48, 8), (2, 48, 16), (2, 96), (2, 4, 16)), "GRU", constants=(1, 2, 3),
           outputs=2, made=onnx_params.Recurrent, param=_layer("GRU", "bidirectional", True)),
    Sample("Recurrent", ((5, 4, 8), (1, 48, 8), (1, 48, 16), (1, 96), (1, 4, 16)), "GRU, reset before the product",
           constants=(1, 2, 3), outputs=2, made=onnx_params.Recurrent, param=_layer("GRU", "forward", False)),
    Sample("Recurrent", ((5, 4, 8), (1, 64, 8), (1, 64, 16), (1, 128), (1, 4, 16), (1, 4, 16)), "LSTM",
           constants=(1, 2, 3), outputs=3, made=onnx_params.Recurrent, param=_layer("LSTM", "reverse", False)),
    Sample("Recurrent", ((5, 4, 8), (1, 64, 8), (1, 64, 16), (1, 128), (4,), (1, 4, 16), (1, 4, 16), (1, 48)),
           "LSTM, lengths and peepholes", constants=(1, 2, 3), outputs=3, fixed={4: INT32},
           made=onnx_params.Recurrent, param=_layer("LSTM", "forward", False, more=True)),
    Sample("Resize", (IMAGE, (2,)), "NHWC", constants=(1,), fixed={1: INT32}, values={1: [9, 9]}),
    Sample("Resize", (IMAGE, (2,)), "NCHW", constants=(1,), fixed={1: INT32}, values={1: [9, 9]}, param={"format": 0}),
    Sample("Resize", (IMAGE, (2,)), "to the nearest pixel", constants=(1,), fixed={1: INT32}, values={1: [9, 9]},
           param={"format": 0, "imode": 0}),
    *(Sample("OnnxResize", (IMAGE, (2,)), mode, constants=(1,), fixed={1: FLOAT32}, values={1: [2, 3]},
             param={"mode": mode}, made=_resize) for mode in ("linear", "nearest")),
    Sample("ROIAlign", (IMAGE, (3, 5)), outputs=2),
    Sample("DeformablePSROIPoolingForward", (IMAGE, (3, 5), (3, 2, 2, 2)), outputs=2,
           param={"no_trans": False, "pooled_h": 2, "pooled_w": 2, "part_size": 2, "sample_per_part": 2}),
    Sample("CorrelationForward", (IMAGE, IMAGE), param={"max_displacement": 1, "pad_size": 1}),
    Sample("NMSKeepMGB", ((2, 9, 4),), outputs=2, param={"iou_thresh": 0.5, "max_output": 3}),
    Sample("Argsort", (MATRIX,), outputs=2),
    Sample("TopK", (MATRIX, (1,)), outputs=2, constants=(1,), fixed={1: INT32}, values={1: [3]}),
    Sample("SortedTopK", (MATRIX, (1,)), outputs=2, constants=(1,), fixed={1: INT32}, values={1: [3]},
           param={"axis": 0, "largest": True}, made=onnx_params.SortedTopK),
    Sample("SuppressedBoxes", ((2, 9, 4), (2, 3, 9), (1,), (1,)), outputs=2, constants=(2,), fixed={2: INT32},
           values={2: [3]}, param={"by_center": False, "has_scores": False}, made=Suppression),
    Sample("OnnxPooling", (IMAGE,), "maxima", param={**_WINDOW, "mode": "max", "positions": True}, outputs=2,
           made=OnnxPooling),
    Sample("OnnxPooling", (IMAGE,), "means", param={**_WINDOW, "mode": "average"}, made=OnnxPooling),
    Sample("OnnxRoiAlign", (IMAGE, (3, 4), (3,)), fixed={2: INT64}, made=Regions,
           param={"size": (2, 2), "takes_max": False, "half_pixel": True, "sampling_ratio": 2, "scale": 1.0}),
    Sample("GatherND", (MATRIX, (5, 1)), fixed={1: INT64}, param={"batch_dims": 0}, made=onnx_params.GatherND),
    Sample("ScatterND", (MATRIX, (5, 2), (5,)), fixed={1: INT64}, param={"reduction": "none"},
           made=onnx_params.Scatter),
    Sample("MaxUnpool", (IMAGE, IMAGE), fixed={1: INT32}, made=Unpooling,
           param={"window": (2, 2), "strides": (2, 2), "begin": (0, 0), "end": (0, 0)}),
    Sample("Triangle", (MATRIX,), param={"upper": True}, made=onnx_params.Triangle),
    Sample("ReverseSequence", (MATRIX, (12,)), fixed={1: INT64}, param={"batch": 1, "time": 0},
           made=onnx_params.SequenceAxes),
    Sample("Col2Im", ((1, 27, 16), (2,), (2,)), constants=(1, 2), fixed={1: INT32, 2: INT32},
           values={1: [6, 6], 2: [3, 3]}, made=Blocks,
           param={"strides": (1, 1), "dilations": (1, 1), "begin": (0, 0), "end": (0, 0)}),
    Sample("AffineGrid", ((2, 2, 3), (4,)), constants=(1,), fixed={1: INT64}, values={1: [2, 1, 4, 5]}, made=Corners,
           param={"align_corners": True}),
    Sample("OnnxQuantize", (IMAGE, (1,), (1,)), fixed={2: UINT8}),
    Sample("Tile", (MATRIX, (2,)), constants=(1,), fixed={1: INT64}, values={1: [2, 3]}),
    Sample("PowC", (IMAGE,), param={"exp": 2.0}),
    Sample("Where", (MATRIX, MATRIX, MATRIX), fixed={0: BOOL}),
    Sample("MaskedFill", (MATRIX, MATRIX), fixed={1: BOOL}),
    *(Sample(operator.name, (IMAGE,)) for operator in PassThrough.__subclasses__()),
    Sample("AxisAddRemove", (IMAGE,), param={"desc": (params.AxisDesc(params.AxisMethod.ADD_1, 0),)}),
    Sample("Split", (MATRIX, (1,), (1,)), outputs=2, constants=(1, 2), fixed={1: INT32, 2: INT32},
           values={1: [3], 2: [9]}, param={"axis": 1}),
    Sample("Reshape", (IMAGE, (2,)), constants=(1,), fixed={1: INT32}, values={1: [64, 42]}),
    Sample("Broadcast", ((1, 12), (2,)), constants=(1,), fixed={1: INT32}, values={1: [8, 12]}),
    Sample("Subtensor", (MATRIX, (1,), (1,)), constants=(1, 2), fixed={1: INT32, 2: INT32}, values={1: [2], 2: [5]},
           param={"items": _ROW.items}),
    Sample("SetSubtensor", (MATRIX, (3, 12), (1,), (1,)), constants=(2, 3), fixed={2: INT32, 3: INT32},
           values={2: [2], 3: [5]}, param={"items": _ROW.items}),
    Sample("IndexingMultiAxisVec", (MATRIX, (5,)), fixed={1: INT32}, param={"items": _INDEX.items}),
    Sample("IndexingSetMultiAxisVec", (MATRIX, (5, 12), (5,)), fixed={2: INT32}, param={"items": _INDEX.items}),
    Sample("IndexingOneHot", (MATRIX, (8,)), fixed={1: INT32}, param={"axis": 1}),
    Sample("Dimshuffle", (IMAGE,), param={"pattern": (0, 2, 3, 1), "ndim": 4}),
    Sample("Concat", (IMAGE, (2, 5, 6, 7)), param={"axis": 1}),
    Sample("Padding", (IMAGE,), param={"front_offset_dim2": 1, "back_offset_dim3": 2}),
    Sample("Images2Neibs", (IMAGE,)),
    Sample("GatherElements", (MATRIX, (8, 5)), fixed={1: INT32}, param={"axis": 1}, made=onnx_params.AlongAxis),
    Sample("ScatterElements", (MATRIX, (8, 5), (8, 5)), fixed={1: INT32}, param={"reduction": "none", "axis": 1},
           made=onnx_params.Scatter),
    Sample("FourierTransform", ((8, 12, 1),), made=onnx_params.Fourier,
           param={"inverse": False, "onesided": True, "axis": 1, "has_length": False}),
    Sample("ShortTimeFourier", (MATRIX, (1,), (8,)), constants=(1,), fixed={1: INT32, 2: FLOAT32}, values={1: [2]},
           param={"onesided": True, "has_window": True, "has_length": False}, made=onnx_params.ShortTime),
    Sample("ROIPooling", (IMAGE, (3, 5), (2,)), constants=(2,), fixed={1: FLOAT32, 2: INT32},
           values={2: [3, 3]}, outputs=2),
    Sample("Remap", (IMAGE, (2, 6, 7, 2)), fixed={1: FLOAT32}, param={"format": Format.NCHW}),
    Sample("WarpPerspective", (IMAGE, (2, 3, 3), (2,)), constants=(2,), fixed={1: FLOAT32, 2: INT32},
           values={2: [5, 5]}),
    Sample("WarpAffine", (IMAGE, (2, 2, 3), (2,)), constants=(2,), fixed={1: FLOAT32, 2: INT32}, values={2: [5, 5]}),
]  # fmt: skip


def variable(number: int, sample: Sample, dtype: DType) -> Var:
    shape, dtype = sample.shapes[number], sample.fixed.get(number, dtype)
    if number not in sample.constants:
        return Var(number, f"x{number}", TensorSpec(shape, dtype))
    value = np.ones(shape, dtype.storage)
    if number in sample.values:
        value = np.array(sample.values[number], dtype.storage)
    return Var(number, f"x{number}", TensorSpec(shape, dtype, value), Constant(value, ("sample", sample.op, number)))


def kernels_of(node: Node, kernels: KernelSet, blocked: bool) -> tuple[str, ...]:
    """Kernels of a node whose images are plain or blocked, except for those that change layouts."""
    ctx = Lowering(
        Graph([node], [v for v in node.inputs if v.const is None], list(node.outputs[:1]), []), kernels,
        ConstantPool(), SessionConfig(threads=1, isa=kernels.name), TABLE,
    )  # fmt: skip
    for v in node.inputs:
        if v.const is None:
            (ctx.new_blocked if blocked and len(v.shape) == 4 else ctx.new_plain)(v)
    if not ctx.lower(node):
        return ("numpy",)
    names = [s.kernel.name for s in ctx.steps if isinstance(s, Step)]
    return tuple(sorted(set(names) - SHARED)) or ("views and copies",)


def node_of(sample: Sample, dtype: DType, param: Any, output: DType | None = None) -> Node | None:
    """The node for an element type; None if the operator is not defined for it."""
    inputs = [variable(k, sample, dtype) for k in range(len(sample.shapes))]
    node = Node(sample.op, param, inputs, [Var(len(inputs) + k) for k in range(sample.outputs)], "sample", output)
    try:
        specs = REGISTRY[sample.op].infer(node, [v.spec for v in inputs])
    except LiteError:
        return None
    node.outputs = [Var(len(inputs) + k, f"y{k}", spec) for k, spec in enumerate(specs)]
    return node


def param_of(sample: Sample) -> Any:
    made = sample.made or REGISTRY[sample.op].param
    return made(**sample.param) if made else None


def name_of(dtype: DType) -> str:
    return dtype.code.name.lower()


@dataclass(frozen=True)
class Variant:
    """A node to look at: its operator, element type and mode (of conversions: the target), and the layout of images."""

    heading: str
    dtype: str
    mode: str
    node: Node
    blocked: bool


def variants() -> Iterator[Variant]:
    for sample in SAMPLES:
        heading = " ".join(filter(None, (sample.op, sample.label)))
        for dtype in TYPES:
            yield from _both(heading, dtype, "", node_of(sample, dtype, param_of(sample)))
    for source in TYPES:
        for target in TYPES:
            node = node_of(Sample("TypeCvt", (IMAGE,)), source, params.DTypeTable(dtype=target))
            yield from _both("TypeCvt", source, name_of(target), node)
    for mode in params.ReduceMode:
        reduced = Sample("Reduce", (IMAGE,), param={"mode": mode, "axis": 1})
        for dtype in TYPES:
            yield from _both("Reduce", dtype, mode.name, node_of(reduced, dtype, param_of(reduced)))
    for op, modes, made in (
        ("Elemwise", params.ElemwiseMode, params.Elemwise),
        ("ElemwiseMultiType", params.ElemwiseMultiTypeMode, params.ElemwiseMultiType),
    ):
        for dtype, mode, count in product(TYPES, modes, range(1, 5)):
            output = dtype if mode.name.startswith("Q") else None
            yield from _both(
                op, dtype, mode.name, node_of(Sample(op, (IMAGE,) * count), dtype, made(mode=mode), output)
            )


def _both(heading: str, dtype: DType, mode: str, node: Node | None) -> Iterator[Variant]:
    """A node in the layouts that it can have; nothing for None."""
    if node is not None:
        yield Variant(heading, name_of(dtype), mode, node, False)
        if not dtype.is_wide and any(len(v.shape) == 4 and v.const is None for v in node.inputs):
            yield Variant(heading, name_of(dtype), mode, node, True)


Listed = dict[tuple[str, ...], dict[str, tuple[str, ...]]]


def key_of(variant: Variant) -> tuple[str, ...]:
    return variant.heading, variant.dtype, variant.mode, "blocked" if variant.blocked else "plain"


def read_listing(architecture: str) -> Listed:
    """The kernels by heading, type, mode and layout, then by instruction set."""
    listed: Listed = defaultdict(dict)
    for line in LISTINGS[architecture].read_text().splitlines():
        heading, types, *modes, layouts, kernels = line.split(" | ")
        for part in kernels.split("; "):
            names, sets = re.fullmatch(r"(.*?)(?: \((.*)\))?", part).groups()
            for dtype, mode, layout in product(types.split(), " ".join(modes).split() or [""], layouts.split()):
                for isa in sets.split(", ") if sets else usual_sets(architecture):
                    listed[heading, dtype, mode, layout][isa] = tuple(names.split(", "))
    return listed


def described(variant: Variant, sets: dict[str, KernelSet | None], listed: Listed) -> str:
    """The kernels of a node; those of each instruction set where they differ. Sets without kernels are listed."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    names: tuple[str, ...] = ()
    for isa, kernels in sets.items():
        if kernels:
            names = kernels_of(variant.node, kernels, variant.blocked)
        else:
            names = listed.get(key_of(variant), {}).get(isa, names)
        found[names].append(isa)
    parts = [", ".join(k) + (f" ({', '.join(of)})" if len(found) > 1 else "") for k, of in found.items()]
    return "; ".join(parts)


def listing(architecture: str) -> str:
    """A line for all types, modes and layouts of an operator that have the same kernels."""
    rows = instruction_sets(architecture)
    sets = {isa: planning_kernels(rows[isa]) for isa in reversed(usual_sets(architecture))}
    listed = read_listing(architecture)
    layouts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for v in variants():
        layouts[v.heading, described(v, sets, listed), v.dtype, v.mode].append("blocked" if v.blocked else "plain")
    modes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (heading, kernels, dtype, mode), found in layouts.items():
        modes[heading, kernels, " ".join(found), dtype].append(mode)
    types: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (heading, kernels, layout, dtype), found in modes.items():
        types[heading, kernels, layout, " ".join(found)].append(dtype)
    lines = (
        " | ".join(filter(None, (heading, " ".join(found), mode, layout, kernels)))
        for (heading, kernels, layout, mode), found in types.items()
    )
    return "\n".join(lines) + "\n"


# ---- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", LISTINGS)
def test_kernels_are_those_of_the_listing(architecture):
    assert listing(architecture) == LISTINGS[architecture].read_text()


@pytest.mark.parametrize("architecture", LISTINGS)
def test_listing_is_read_for_every_set(architecture):
    listed = read_listing(architecture)
    assert len(listed) > 1000
    assert all(kernels.keys() == {*usual_sets(architecture)} for kernels in listed.values())
    assert {key_of(v) for v in variants()} == listed.keys()


# The channels of a gather come from a pass, as do logarithms of softmax; a policy alone asks for the naive product, and
# the precision for products of bfloat16. How many channels one and a half blocks are depends on the set.
NOT_SEEN = {
    "conv_halves_f32", "gather_channels_blocked_8", "gather_channels_blocked_f32", "gemm_naive_f32", "log_softmax_f32",
    "narrow_bf16", "narrow_rows_bf16",
}  # fmt: skip
# No set of ARM64 widens bytes before it multiplies them.
NOT_SEEN_ON = {
    X86_64: set(),
    ARM64: {
        "conv_winograd2_int8", "gemm_wide_int8", "pack_columns_wide_int8", "pack_rows_wide_int8", "widen_bytes",
    },
}  # fmt: skip


@pytest.mark.parametrize("architecture", LISTINGS)
def test_every_kernel_of_a_row_is_listed(architecture):
    seen = {name for kernels in read_listing(architecture).values() for names in kernels.values() for name in names}
    assert {kernel for row in TABLE.rows for kernel in row.kernels} - seen == NOT_SEEN | NOT_SEEN_ON[architecture]


def nothing(ctx: Lowering, node: Node) -> None:
    """A lowering function."""


ROW = Row(op="Elemwise", lower=nothing, kernels=("elemwise_int",))
F32, I32 = frozenset((_C.FLOAT32,)), frozenset((_C.INT32,))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({}, {}),
        ({"inputs": (F32,)}, {}),
        ({"inputs": (F32,)}, {"inputs": (F32 | I32,)}),
        ({"inputs": (F32, F32)}, {"inputs": (F32, I32)}),  # a node of one input would be of both
        ({"modes": frozenset((1, 2))}, {"modes": frozenset((2, 3))}),
        ({"modes": frozenset((1, 2))}, {"formats": frozenset((2, 3))}),
        ({"layout": InputLayout.PLAIN}, {}),
        ({"halo": lambda node, index: (1, 1)}, {"halo": lambda node, index: (0, 0)}),
    ],
)
def test_overlapping_rows_are_an_error(a, b):
    for rows in ((a, b), (b, a)):
        with pytest.raises(InternalError, match="a node may belong to nothing and to nothing"):
            DispatchTable([replace(ROW, **changes) for changes in rows])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"op": "PowC"}, {}),
        ({"inputs": (F32,)}, {"inputs": (I32,)}),
        ({"outputs": (F32,)}, {"outputs": (I32,)}),
        ({"modes": frozenset((1, 2))}, {"modes": frozenset((3,))}),
        ({"formats": frozenset((1, 2))}, {"formats": frozenset((3,))}),
        ({"layout": InputLayout.PLAIN}, {"layout": InputLayout.BLOCKED}),
    ],
)
def test_disjoint_rows_stand_side_by_side(a, b):
    assert len(DispatchTable([replace(ROW, **a), replace(ROW, **b)]).rows) == 2


def test_order_of_rows_decides_nothing():
    other = DispatchTable(reversed(TABLE.rows))
    found = 0
    for v in variants():
        row = TABLE.find(v.node, InputLayout(v.blocked))
        assert other.find(v.node, InputLayout(v.blocked)) is row
        found += row is not None
    assert found > 1000


def test_node_of_no_row_runs_in_numpy():
    node = node_of(Sample("Elemwise", (IMAGE,)), DType(_C.FLOAT16), params.Elemwise(mode=params.ElemwiseMode.EXP))
    assert node is not None
    assert TABLE.find(node, InputLayout.PLAIN) is None
    assert kernels_of(node, kernel_set(INSTRUCTION_SETS[0]), False) == ("numpy",)


# Kernels that run while weights are packed, and in no step.
PACKING = {"pack_tiles_32", "pack_tiles_half", "pack_winograd_f32", "pack_winograd_int8"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_rows_and_kernels_know_each_other(isa):
    """No kernel is unused. That rows name all kernels that they run is seen wherever tests run plans."""
    named = {kernel for row in TABLE.rows for kernel in row.kernels}
    assert not named & (SHARED | PACKING)
    assert named | SHARED | PACKING == {kernel.name for kernel in kernel_set(isa)}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_conversions_take_the_types_of_their_kernel(isa):
    rows = [row for row in TABLE.rows if "convert_elements" in row.kernels and row.op == "TypeCvt"]
    kinds = kernel_set(isa).module("typecvt").KINDS
    for of in (lambda row: row.inputs[0], lambda row: row.outputs[0]):
        assert {code.name for row in rows for code in of(row)} == kinds.keys()


# Passes make these of others; the sample of attention would say no more than its tests do.
NOT_LISTED = {
    "ChannelGather", "FusedAttention", "FusedConv", "FusedElemwise", "FusedMatMul", "LogSoftmax", "MultiHeadAttn",
    "QuantizedConv", "QuantizedFunction", "QuantizedMatMul", "ReduceAxes", "RmsNorm",
    "OnnxElemwise",  # tests/kernels/test_kernels_int64.py has its functions
    "OnnxReduce",  # tests/kernels/test_kernels_reduce.py
    "OnnxPad",  # tests/formats/test_onnx_operators.py
    "OnnxBytes",  # read from ONNX models only; tests/formats/test_onnx_quantized.py has its kernels
}  # fmt: skip


@pytest.mark.parametrize("architecture", LISTINGS)
def test_every_operator_of_the_table_is_listed(architecture):
    listed = {line.split()[0] for line in LISTINGS[architecture].read_text().splitlines() if not line.endswith("numpy")}
    assert listed == {row.op for row in TABLE.rows} - NOT_LISTED
    for row in TABLE.rows:
        assert row.op in REGISTRY
        assert all(codes and codes <= EVERY for codes in (*row.inputs, *row.outputs))


if __name__ == "__main__":
    for of, path in LISTINGS.items():
        path.write_text(listing(of))
