"""How the original calls and numbers the operators and variables of a model: for dumps that can be laid beside its own.

Operators and their variables share one count, in the order of the file. The original counts what it adds by itself,
too: workspaces, outputs that a mode of an operator leaves unused, and one hidden input, made together with the first
operator that chooses among algorithms. Operators that it rewrites while it loads have other numbers there; none are
rewritten here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from megengine_lite._core.formats.mge.records import NOT_NUMBERED
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Graph, Node, Var
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode

DEVICE = 'CompNode("cpu0:0" from "cpu0:0")'
INPUT, CONSTANT, HOLDER = "Host2DeviceCopy", "ImmutableTensor", "MultipleDeviceTensorHolder"

_DTYPES = {
    DTypeCode.FLOAT32: "Float32",
    DTypeCode.UINT8: "Uint8",
    DTypeCode.INT8: "Int8",
    DTypeCode.INT16: "Int16",
    DTypeCode.INT32: "Int32",
    DTypeCode.BYTE: "Byte",
    DTypeCode.FLOAT16: "Float16",
    DTypeCode.BFLOAT16: "BFloat16",
    DTypeCode.BOOL: "Bool",
    DTypeCode.UINT16: "Uint16",
    DTypeCode.QUANTIZED8_ASYMM: "Quantized8Asymm",
    DTypeCode.QUANTIZED_S32: "QuantizedS32",
    DTypeCode.QUANTIZED_S8: "QuantizedS8",
    DTypeCode.QUANTIZED_S16: "QuantizedS16",
    DTypeCode.QUANTIZED4_ASYMM: "Quantized4Asymm",
    DTypeCode.QUANTIZED_S4: "QuantizedS4",
    DTypeCode.QUANTIZED_S1: "QuantizedS1",
    DTypeCode.COMPLEX64: "Complex64",
}

# Names of types that are not those of files.
_TYPES = {
    "LSTMCellForward": "LSTMCell",
    "LSTMForward": "LSTM",
    "NMSKeepMGB": "NMSKeep",
    "RNNForward": "RNN",
    **{
        name: f"{name}Forward"
        for name in (
            "AdaptivePooling", "Argsort", "BatchNorm", "Convolution", "Convolution3D", "CvtColor", "FakeQuant",
            "GeneralNorm", "GroupLocal", "GroupNorm", "Images2Neibs", "InstanceNorm", "LRN", "LSQ", "LayerNorm",
            "MultiHeadAttn", "Padding", "Pooling", "ROIAlign", "ROIPooling", "RegionRestrictedConvolution", "Remap",
            "Resize", "Resize3D", "SlidingWindowTranspose", "Softmax", "TQT", "WarpAffine", "WarpPerspective",
        )
    },
    # What passes make of several operators goes by the one that it is most like.
    "FusedConv": "ConvBiasForward",
    "FusedElemwise": "Elemwise",
    "FusedMatMul": "MatrixMul",
    "QuantizedConv": "ConvBiasForward",
    "QuantizedMatMul": "MatrixMul",
    "ReduceAxes": "Reduce",
}  # fmt: skip

# What names of operators begin with, where it is not the type in small letters.
_SHORT = {
    "AxisAddRemove": "axis_add_rm",
    "ConvBiasForward": "conv_bias",
    "Convolution": "conv",
    "Convolution3D": "conv3d",
    "Convolution3DBackwardData": "conv3d_bwd_data",
    "ConvolutionBackwardData": "conv_bwd_data",
    "CorrelationForward": "correlation",
    "Cumsum": "Cumsum",
    "DeformableConvForward": "deformable_conv",
    "DeformablePSROIPoolingForward": "deformable_ps_roi_pooling",
    "FakeQuant": "fakequant_fwd",
    "GetVarShape": "shape_of",
    "GroupLocal": "glocal",
    "Images2Neibs": "images2neibs",
    "LSQ": "lsq_fwd",
    "LSTMCellForward": "lstm_cell",
    "LSTMForward": "lstm",
    "Linspace": "linspce",
    "MatrixInverse": "matrix_inv",
    "NMSKeepMGB": "nms_keep",
    "RNNCellForward": "rnn_cell",
    "RNNForward": "rnn_fwd",
    "RegionRestrictedConvolution": "region_restricted_conv_fwd",
    "TQT": "tqt_fwd",
}

# How many inputs a name mentions; others mention all.
_MENTIONED = {
    **dict.fromkeys(
        (
            "BatchedMeshIndexing", "Broadcast", "FakeQuant", "GroupLocal", "IndexingMultiAxisVec", "IndexingOneHot",
            "IndexingSetOneHot", "LSQ", "MaskedFill", "MeshIndexing", "RNNForward", "Reduce", "Remap", "Reshape",
            "Resize", "Resize3D", "Split", "Subtensor", "TQT", "WarpAffine",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            "BatchedIncrMeshIndexing", "BatchedSetMeshIndexing", "ConvolutionBackwardData", "IncrMeshIndexing",
            "IncrSubtensor", "IndexingIncrMultiAxisVec", "IndexingSetMultiAxisVec", "Linspace", "SetMeshIndexing",
            "SetSubtensor", "WarpPerspective",
        ),
        2,
    ),
}  # fmt: skip
_LONGEST_NAME = 62

_WITHOUT_WORKSPACE = frozenset(
    {
        "Alloc", "AxisAddRemove", "Broadcast", "Concat", "Copy", "Dimshuffle", "Elemwise", "ElemwiseMultiType", "Eye",
        "GetVarShape", "Identity", "IncrSubtensor", "Linspace", "MarkDynamicVar", "MarkNoBroadcastElemwise",
        "PersistentOutputStorage", "Reshape", "SetSubtensor", "Split", "Subtensor", "TypeCvt", "VirtualDep",
    }
)  # fmt: skip
_CHOOSING = frozenset(
    {
        "BatchConvBiasForward", "BatchNorm", "BatchedMatrixMul", "ConvBiasForward", "Convolution", "Convolution3D",
        "Convolution3DBackwardData", "ConvolutionBackwardData", "DeformableConvForward", "MatrixMul", "Pooling",
    }
)  # fmt: skip


@dataclass(slots=True)
class Listed:
    """An operator under the original's names: a node, an input, or constants (``node`` None).

    ``numbers`` and ``names`` belong to ``outputs``; ``first_slot`` is the place of the first of them among all outputs
    that the original knows.
    """

    node: Node | None
    outputs: list[Var]
    number: int
    type: str
    name: str
    numbers: list[int]
    names: list[str]
    first_slot: int


def dtype_name(dtype: DType) -> str:
    """The original's name of an element type; scales are not part of it."""
    return _DTYPES.get(dtype.code, dtype.name)


def type_name(op: str) -> str:
    """The original's name of an operator's type."""
    return _TYPES.get(op, op)


def list_operators(graph: Graph, named: bool = False) -> list[Listed]:
    """All operators that the graph uses, in the order of the file.

    Parameters
    ----------
    graph
        Of a loaded model.
    named
        The file has names of operators.
    """
    listed: list[Listed] = []
    names: dict[Var, str] = {}
    count = 0
    has_chosen = False
    for node, outputs in _in_file_order(graph):
        number = count
        if node is None:
            op, before, after = _source_type(outputs[0]), 0, 0
        else:
            op = node.op
            before, after = _hidden_outputs(node)
        called = _invented_name(op, node, outputs[0], names)
        name = f"{called}[{number}]" if called else f"opr{number}"
        if named:
            name = (node.name if node is not None else outputs[0].name) or name
        numbers = [number + 1 + before + k for k in range(len(outputs))]
        single = len(outputs) == 1 and not before and op != HOLDER
        own = [v.name or (name if single else f"{name}:o{before + k}") for k, v in enumerate(outputs)]
        names.update(zip(outputs, own, strict=True))
        listed.append(Listed(node, outputs, number, type_name(op), name, numbers, own, before))
        count += 1 + before + len(outputs) + after
        if op in _CHOOSING and not has_chosen:
            has_chosen = True
            count += 2
    return listed


def _in_file_order(graph: Graph) -> Iterator[tuple[Node | None, list[Var]]]:
    """Operators and what they define. Variables are numbered in file order."""
    sources = iter(_sources(graph))
    source = next(sources, None)
    for node in graph.nodes:
        first = next((v.id for v in node.outputs if v.id != NOT_NUMBERED), 0)
        while source is not None and source[0].id < first:
            yield None, source
            source = next(sources, None)
        yield node, node.outputs
    while source is not None:
        yield None, source
        source = next(sources, None)


def _sources(graph: Graph) -> list[list[Var]]:
    """Inputs and constants; those of one operator together."""
    found: dict[Any, dict[Var, None]] = {}
    inputs = set(graph.inputs)
    readers: Iterable[Var] = (v for node in graph.nodes for v in node.inputs)
    for var in (*graph.inputs, *readers, *graph.outputs):
        if var.const is not None or var in inputs:
            # Keys of constants in files: load, place of the operator, its type, place of the tensor.
            key: Any = var.id if var.const is None else var.const.key[:-1]  # type: ignore[index]
            found.setdefault(key, {})[var] = None
    return sorted((sorted(group, key=lambda v: v.id) for group in found.values()), key=lambda group: group[0].id)


def _source_type(var: Var) -> str:
    return INPUT if var.const is None else var.const.key[2]  # type: ignore[index]


def _hidden_outputs(node: Node) -> tuple[int, int]:
    """How many outputs the original has before and behind those that are numbered in files."""
    n = len(node.outputs)
    if node.op == "BatchNorm":
        return 6 - n, 1
    if node.op == "TopK":
        return 0, 3 - n
    if node.op == "SVD":
        return (0, 1) if n == 3 else (1, 2)
    return 0, int(node.op not in _WITHOUT_WORKSPACE)


def _invented_name(op: str, node: Node | None, output: Var, names: dict[Var, str]) -> str:
    if node is None:
        if op in (INPUT, HOLDER):
            return "h2d" if op == INPUT else "multi_dv"
        return f"const{{{','.join(map(str, output.spec.shape))}}}"
    inputs = node.inputs[: _MENTIONED.get(op)]
    short = _short_name(node)
    text = ""
    for k, var in enumerate(inputs):
        if k and len(short) + len(text) > _LONGEST_NAME:
            text += ",..."
            break
        text += ("," if k else "") + _abbreviated(names.get(var, var.name))
    return f"{short}({text})"


def _short_name(node: Node) -> str:
    p = node.params
    if node.op == "Elemwise":
        return ElemwiseMode(p.mode).name
    if node.op == "ElemwiseMultiType":
        return ElemwiseMultiTypeMode(p.mode).name
    if node.op == "Reduce":
        return f"reduce{int(p.mode)}"
    if node.op == "PowC":
        return f"powc_{p.exp:g}"
    if node.op == "TypeCvt":
        return f"as{dtype_name(p.dtype)}"
    return _SHORT.get(node.op) or _in_small_letters(node.op)


def _in_small_letters(name: str) -> str:
    """``MatrixMul`` -> ``matrix_mul``, ``ROIAlign`` -> ``roi_align``."""
    out = ""
    for k, letter in enumerate(name):
        begins = letter.isupper() and k and (name[k - 1].islower() or name[k + 1 : k + 2].islower())
        out += ("_" if begins else "") + letter.lower()
    return out


def _abbreviated(name: str) -> str:
    """A name without what stands in parentheses: ``LT(a,b)[12]`` -> ``LT[12]``."""
    begin, end = name.find("("), name.rfind(")")
    return name[:begin] + name[end + 1 :] if 0 <= begin < end else name
