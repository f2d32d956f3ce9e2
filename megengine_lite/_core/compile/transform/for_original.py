"""Rewrites the graph of another format with what files of MegEngine's can say.

The sizes of the inputs are fixed to those of the graph: what is computed from shapes becomes constants, since ONNX
computes it in 64 bits, which the files do not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from megengine_lite._core.compile.expand import expanded
from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, Stage, infer_stage
from megengine_lite._core.compile.passes.simplify import passes_through
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import (
    NOT_NUMBERED,
    AnyNode,
    AnyVar,
    Constant,
    ConstantPool,
    ModelGraph,
    Node,
    TensorSpec,
    Var,
)
from megengine_lite._core.ir.onnx_params import OnnxPad, OnnxReduce
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, IndexDescMaskItem, PaddingMode, ReduceMode
from megengine_lite._core.ir.params.elemwise import OF_OTHER_FORMATS
from megengine_lite._core.operators.base import operator_of
from megengine_lite.errors import UnsupportedOperatorError, brief, listed

_IN_FILES = {
    ElemwiseMode.NAN_RELU: ElemwiseMode.RELU,
    ElemwiseMode.NAN_MAX: ElemwiseMode.MAX,
    ElemwiseMode.NAN_MIN: ElemwiseMode.MIN,
    ElemwiseMode.NAN_SIGN: ElemwiseMode.SIGN,
}
"""Modes that differ for NaN only, and those that files have in their place."""
_REDUCTIONS = {OnnxReduction.MAX: ReduceMode.MAX, OnnxReduction.MIN: ReduceMode.MIN}
"""These differ for NaN, and for nothing but infinities."""
_PADDING = {"constant": PaddingMode.CONSTANT, "edge": PaddingMode.REPLICATE, "reflect": PaddingMode.REFLECT}
_LAST = max(code for code in DTypeCode if code < DTypeCode.INT64)


def for_original(source: ModelGraph, what: str, shapes: Mapping[str, tuple[int, ...]]) -> ModelGraph:
    """A graph that computes the same for inputs of certain sizes, with operators that files have.

    Inputs without a name in ``shapes`` have their sizes in the graph.

    Raises
    ------
    UnsupportedOperatorError
        Some nodes have no counterpart; all of them are listed.
    """
    known: dict[AnyVar, TensorSpec] = {v: TensorSpec(shapes.get(v.name, v.shape), v.dtype) for v in source.inputs}
    stage = _whole_stage(source, known, what)
    missing: dict[str, None] = {}
    nodes: list[AnyNode] = []
    instead: dict[AnyVar, Var] = {}
    for node in stage.graph.nodes:
        node.inputs = [instead.get(v, v) for v in node.inputs]
        # The original drops broadcasts to the same shape while it loads them, and then misses them.
        if isinstance(node, Node) and node.outputs[0] not in stage.graph.outputs and passes_through(node):
            instead[node.outputs[0]] = node.inputs[0]
            continue
        parts = _counterpart(node)
        reason = next(filter(None, map(_reason, parts)), "")
        if reason:
            missing[f"{node.op} {brief(node.name)} ({reason})"] = None
        nodes += [_with_limits(part) if part.op == "Subtensor" else _written(part) for part in parts]
    if missing:
        raise UnsupportedOperatorError(
            f"{what}: files of MegEngine's have no counterpart of these nodes: {listed(missing)}"
        )
    made = {original: copy for copy, original in stage.original.items()}
    inputs = [made.get(v, Var(v.id, v.name, known[v])) for v in source.inputs]
    outputs = [made.get(v, v) for v in source.outputs]
    return ModelGraph(nodes, [v for v in inputs if isinstance(v, Var)], outputs, list(source.output_names))


def _whole_stage(source: ModelGraph, known: Mapping[AnyVar, TensorSpec], what: str) -> Stage:
    """The graph with all shapes known, and what follows from them constant."""
    graph = source
    while True:
        try:
            stage = infer_stage(graph, 0, known, ConstantPool())
        except NeedsExpansion as need:
            graph = expanded(graph, 0, need.specs)
            continue
        except (NeedsRounds, NeedsValue):
            end = 0
        else:
            end = stage.next_node
            if end == len(graph.nodes):
                return stage
        node = graph.nodes[end]
        raise UnsupportedOperatorError(
            f"{what}: files of MegEngine's cannot have what depends on data from {node.op} {brief(node.name)} on"
        )


def _counterpart(node: AnyNode) -> list[AnyNode]:
    """Nodes of files that mean the same; the node itself if there are none, or if it is one."""
    p, data, out = node.params, node.inputs[0].spec if node.inputs else None, node.outputs[0]
    if node.op == "Where":
        return _choice(node)
    if not isinstance(data, TensorSpec) or data.dtype not in (FLOAT32, INT32) or not data.size:
        return [node]
    if isinstance(p, OnnxReduce) and p.mode in _REDUCTIONS and p.axes:
        return _reductions(node, data, _REDUCTIONS[p.mode], p.axes)
    if isinstance(p, params.GroupNorm | params.BN) and len(data.shape) != 4:
        return _as_images(node, data, result=node.outputs[0 if isinstance(p, params.GroupNorm) else -1])
    if isinstance(p, OnnxPad) and p.mode in _PADDING and data.dtype == FLOAT32:
        known = [v.const.array.reshape(-1) for v in node.inputs[1:] if v.const is not None]
        rank = len(data.shape)
        if len(known) < 2 or known[1].size != 1 or known[0].size != 2 * rank or known[0].min() < 0:
            return [node]
        widths, value = [int(n) for n in known[0]], float(known[1][0])
        offsets = {f"front_offset_dim{k}": widths[k] for k in range(rank)}
        offsets |= {f"back_offset_dim{k}": widths[rank + k] for k in range(rank)}
        parameters = params.Padding(padding_val=value, padding_mode=_PADDING[p.mode], **offsets)
        return [AnyNode("Padding", parameters, node.inputs[:1], [out], node.name)]
    return [node]


def _choice(node: AnyNode) -> list[AnyNode]:
    """Elements by a mask, as a sum of both with zeros in place of the others: releases until 1.13 have no Where."""
    mask, x, y = node.inputs
    out = node.outputs[0]
    if not isinstance(mask.spec, TensorSpec) or not isinstance(out.spec, TensorSpec):
        return [node]
    dtype = out.spec.dtype
    if dtype not in (FLOAT32, INT32):
        return [node]
    zero, one = (_constant(np.full(1, number, dtype.storage), dtype) for number in (0, 1))
    number = Var(out.id, "", TensorSpec(mask.spec.shape, dtype))  # the writer numbers variables anew
    first, second = Var(out.id, "", out.spec), Var(out.id, "", out.spec)
    if_at_most, add = params.Elemwise(mode=ElemwiseMode.COND_LEQ_MOV), params.Elemwise(mode=ElemwiseMode.ADD)
    return [
        AnyNode("TypeCvt", params.DTypeTable(dtype=dtype), [mask], [number], node.name, output_dtype=dtype),
        AnyNode("Elemwise", if_at_most, [one, number, x], [first], node.name),
        AnyNode("Elemwise", if_at_most, [number, zero, y], [second], node.name),
        AnyNode("Elemwise", add, [first, second], [out], node.name),
    ]


def _reductions(node: AnyNode, data: TensorSpec, mode: ReduceMode, axes: Sequence[int]) -> list[AnyNode]:
    """One axis after the other."""
    made: list[AnyNode] = []
    source, shape = node.inputs[0], list(data.shape)
    for k, axis in enumerate(axes):
        shape[axis] = 1
        last = k == len(axes) - 1
        out = node.outputs[0]
        if not last:  # the writer numbers variables anew
            out = Var(out.id, "", TensorSpec(tuple(shape), data.dtype))
        made.append(AnyNode("Reduce", params.Reduce(mode=mode, axis=axis), [source], [out], node.name))
        source = out
    return made


def _as_images(node: AnyNode, data: TensorSpec, result: AnyVar) -> list[AnyNode]:
    """A normalization of channels or of groups of them: the original asks for four dimensions."""
    size = int(np.prod(data.shape[2:], dtype=np.int64))
    images = TensorSpec((*data.shape[:2], size, 1), data.dtype)
    given, found = Var(result.id, "", images), Var(result.id, "", images)  # the writer numbers variables anew
    made, others = [_reshape(node.inputs[0], given, images.shape, node.name)], []
    for var in node.inputs[1:]:
        numbers = var
        if isinstance(var.spec, TensorSpec) and len(var.spec.shape) == len(data.shape):  # one for each channel
            numbers = Var(result.id, "", TensorSpec((1, data.shape[1], 1, 1), var.spec.dtype))
            made.append(_reshape(var, numbers, numbers.shape, node.name))
        others.append(numbers)
    outputs = [found if v is result else v for v in node.outputs]
    return [
        *made,
        AnyNode(node.op, node.params, [given, *others], outputs, node.name),
        _reshape(found, result, data.shape, node.name),
    ]


def _reshape(source: AnyVar, result: AnyVar, shape: Sequence[int], name: str) -> AnyNode:
    target = _constant(np.array(shape, np.int32), INT32)
    return AnyNode("Reshape", params.OptionalAxisV1(), [source, target], [result], name)


def _constant(array: np.ndarray, dtype: DType) -> Var:
    return Var(NOT_NUMBERED, "", TensorSpec(array.shape, dtype), Constant(array, object()))


def _reason(node: AnyNode) -> str:
    """Why a node cannot be written; empty if it can."""
    in_files = operator_of(node.op).in_files
    if in_files is None:
        return "there is no such operator"
    if not in_files.released:
        return "no release of the original knows it"
    if isinstance(node.params, params.Elemwise) and node.params.mode in OF_OTHER_FORMATS - _IN_FILES.keys():
        return f"there is no function {ElemwiseMode(node.params.mode).name}"
    for var in (*node.inputs, *node.outputs):
        dtype: DType | None = None if var.spec is None else var.spec.dtype
        if dtype is not None and dtype.code > _LAST:
            return f"there are no elements of {dtype}"
    return ""


def _with_limits(node: AnyNode) -> AnyNode:
    """A slice whose limits lie inside of the data, as the original asks for; those of ONNX may be anywhere."""
    data = node.inputs[0].spec
    numbers = iter(node.inputs[1:])
    items, inputs = [], [node.inputs[0]]
    for item in node.params.items:
        given = [next(numbers) if flag else None for flag in (item.begin, item.end, item.step, item.idx)]
        known = [None if v is None or v.const is None else int(v.const.array.reshape(-1)[0]) for v in given]
        limits = zip(given[:3], known, strict=False)
        if item.idx or not isinstance(data, TensorSpec) or any(v is not None and n is None for v, n in limits):
            items.append(item)
            inputs += [v for v in given if v is not None]
            continue
        begin, end, step = slice(*known[:3]).indices(data.shape[item.axis])
        has_end = end >= 0  # a step back to the first element has no end
        items.append(IndexDescMaskItem(item.axis, True, has_end, True, False))
        inputs += [_number(n) for n, flag in ((begin, True), (end, has_end), (step, True)) if flag]
    return AnyNode(node.op, node.params.replace(items=tuple(items)), inputs, node.outputs, node.name)


def _number(n: int) -> Var:
    array = np.array([n], np.int32)
    return Var(NOT_NUMBERED, "", TensorSpec(array.shape, INT32), Constant(array, object()))


def _written(node: AnyNode) -> AnyNode:
    """A node with the parameters that files have."""
    p = node.params
    if isinstance(p, params.Elemwise) and p.mode in _IN_FILES:
        p = params.Elemwise(mode=_IN_FILES[ElemwiseMode(p.mode)])
    dtype, spec = node.output_dtype, node.outputs[0].spec
    if node.op == "ElemwiseMultiType" and dtype is None and spec is not None:
        dtype = spec.dtype  # the original asks for it, also where it follows from the mode
    return AnyNode(node.op, p, node.inputs, node.outputs, node.name, dtype, node.payload)
