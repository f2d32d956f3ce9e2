"""Finds what quantized models of ONNX mean: integers between ``DequantizeLinear`` and ``QuantizeLinear``.

Such a model computes in real numbers, and says where they are quantized (QDQ). First conversions are brought to where
they belong: to quantized types as early, to real numbers as late as possible, so that what only moves numbers moves
bytes. Then convolutions and products of dequantized numbers become quantized ones with a real result, and what else
stands between two conversions a quantized operator. ``fuse_quantized`` merges them with what follows.

Only types that round halves to even numbers are looked at: models of MegEngine name quantized operators themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.compile.substitution import Substitution
from megengine_lite._core.ir.dtype import INT8_OPERANDS, DType, DTypeCode
from megengine_lite._core.ir.fused_quantized import QuantizedConv, QuantizedMatMul
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import (
    ConvBias,
    Convolution,
    ConvolutionFormat,
    ConvolutionSparse,
    DTypeTable,
    ElemwiseMode,
    ElemwiseMultiType,
    ElemwiseMultiTypeMode,
    MatrixMulFormat,
    Padding,
    PaddingMode,
    PoolingMode,
)
from megengine_lite._core.operators import REGISTRY

_C = DTypeCode
_M, _Q = ElemwiseMode, ElemwiseMultiTypeMode
_OF_TWO = {_M.ADD: _Q.QADD, _M.SUB: _Q.QSUB, _M.MUL: _Q.QMUL}
_RELU = (_M.RELU, _M.NAN_RELU)  # the same for numbers that were integers
_AVERAGES = (PoolingMode.AVERAGE, PoolingMode.AVERAGE_COUNT_EXCLUDE_PADDING)
# Parameters that a Convolution and a ConvBias have in common.
_GEOMETRY = ("mode", "sparse", "format", "pad_h", "pad_w", "stride_h", "stride_w", "dilate_h", "dilate_w")


def run(graph: Graph, pool: ConstantPool) -> None:
    if not any(v.dtype.ties_to_even for node in graph.nodes if isinstance(node, Node) for v in node.outputs):
        return
    _quantize_early(graph)
    _dequantize_late(graph)
    _as_quantized(graph, pool)


# ---- conversions -----------------------------------------------------------------------------------------------------


def _is_quantized(dtype: DType) -> bool:
    return dtype.ties_to_even and dtype.code in INT8_OPERANDS


def quantizes(node: Node) -> bool:
    """Whether a node makes quantized numbers of real ones, as QuantizeLinear does."""
    return node.op == "TypeCvt" and node.inputs[0].dtype.code is _C.FLOAT32 and _is_quantized(node.outputs[0].dtype)


def dequantizes(node: Node) -> bool:
    return node.op == "TypeCvt" and _is_quantized(node.inputs[0].dtype) and node.outputs[0].dtype.code is _C.FLOAT32


def _retyped(var: Var, dtype: DType) -> Var:
    """A new variable of the same shape."""
    return Var(var.id, var.name, TensorSpec(var.shape, dtype))


def _conversion(x: Var, y: Var, name: str) -> Node:
    return Node("TypeCvt", DTypeTable(dtype=y.dtype), [x], [y], name)


def _moves(node: Node) -> bool:
    """Whether the result consists of elements of the first input, and of all of them."""
    is_one = len(node.outputs) == 1 and REGISTRY[node.op].moves_elements
    return is_one and node.outputs[0].spec.size == node.inputs[0].spec.size


def _quantize_early(graph: Graph) -> None:
    """Exchanges a quantization with the reshapes, transpositions and concatenations that only it reads."""
    rewriter = Rewriter(graph)
    for node in rewriter:
        if not quantizes(node):
            continue
        x, y = node.inputs[0], node.outputs[0]
        if (mover := _mover(x, node, rewriter)) is not None:
            replaced: list[Node] = [node]
            made: list[Node] = []
            _quantize_before(mover, y, node.name, rewriter, replaced, made)
            rewriter.replace(replaced, made)
    rewriter.finish()


def _mover(x: Var, reader: Node, rewriter: Rewriter) -> Node | None:
    """What makes a variable by moving elements, if nobody else reads it."""
    node = rewriter.producer(x)
    if node is None or rewriter.only_reader(x) is not reader:
        return None
    return node if _moves(node) or node.op == "Concat" else None


def _quantize_before(
    mover: Node, y: Var, name: str, rewriter: Rewriter, replaced: list[Node], made: list[Node]
) -> None:
    """Makes nodes by which a mover moves quantized numbers to ``y``, and those before it that can do the same."""
    replaced.append(mover)
    count = len(mover.inputs) if mover.op == "Concat" else 1
    small = {v: _retyped(v, y.dtype) for v in mover.inputs[:count]}  # one may be joined to itself
    for v, s in small.items():
        before = _mover(v, mover, rewriter)
        if before is None:
            made.append(_conversion(v, s, name))
        else:
            _quantize_before(before, s, name, rewriter, replaced, made)
    sources = [small[v] for v in mover.inputs[:count]]
    made.append(Node(mover.op, mover.params, [*sources, *mover.inputs[count:]], [y], mover.name))


def _dequantize_late(graph: Graph) -> None:
    """Lets what moves or chooses elements do it before they are dequantized, and drops conversions that cancel out."""
    nodes = Substitution(graph)
    made: dict[Var, Node] = {}  # conversions by their results
    for node in nodes:
        before = [made.get(v) for v in node.inputs]
        first = before[0] if before else None
        if first is None:
            nodes.add(node)
        elif node.op in ("TypeCvt", "OnnxBytes"):
            _convert_again(nodes, first, node)
        else:
            sources = [c.inputs[0] for c in before if c is not None]
            params = _padding(node, first) if node.op == "Padding" else node.params
            alike = len(sources) == len(before) and len({s.dtype for s in sources}) == 1
            is_moved = _moves(node) or REGISTRY[node.op].chooses_elements(node) or params is not node.params
            count = len(before) if node.op == "Concat" and alike else int(is_moved)
            if count:
                y = node.outputs[0]
                moved = _retyped(y, sources[0].dtype)
                later = Node(first.op, first.params, [moved], [y], first.name)
                nodes.add(Node(node.op, params, [*sources[:count], *node.inputs[count:]], [moved], node.name), later)
                node = later
            else:
                nodes.add(node)
        y = node.outputs[0]
        if dequantizes(node) or (node.op == "OnnxBytes" and _is_quantized(node.inputs[0].dtype)):
            made[y] = node
    nodes.finish()


def _convert_again(nodes: Substitution, first: Node, second: Node) -> None:
    """A conversion of what a conversion made: back to what it was, to another quantized type, or anything else."""
    x, y = first.inputs[0], second.outputs[0]
    if y.dtype == x.dtype and first.op == second.op:
        nodes.replace(y, x)
    elif second.op == "TypeCvt" and first.op == "TypeCvt" and _is_quantized(y.dtype):
        nodes.add(_conversion(x, y, second.name))
    else:
        nodes.add(second)


def _padding(node: Node, conversion: Node) -> Padding:
    """The parameters for a padding of quantized numbers; unchanged if it is not one with zeros."""
    p: Padding = node.params
    if p.padding_mode != PaddingMode.CONSTANT or p.padding_val != 0 or not dequantizes(conversion):
        return p
    return p.replace(padding_val=float(conversion.inputs[0].dtype.zero_point))


# ---- operators -------------------------------------------------------------------------------------------------------


def _as_quantized(graph: Graph, pool: ConstantPool) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        made = _product(node, rewriter, pool)
        if made is not None:
            rewriter.replace([node], [made])
        elif quantizes(node):
            _between_conversions(node, rewriter)
    rewriter.finish()
    graph.remove_dead()


def source_of(var: Var, rewriter: Rewriter) -> Var | None:
    """The quantized numbers that a variable has as real ones."""
    node = rewriter.producer(var)
    return node.inputs[0] if node is not None and dequantizes(node) else None


def _product(node: Node, rewriter: Rewriter, pool: ConstantPool) -> Node | None:
    """A convolution or matrix product of dequantized numbers as one of integers, with a real result."""
    if node.op == "Convolution":
        return _quantized_conv(node, rewriter, pool)
    if node.op not in ("MatrixMul", "BatchedMatrixMul") or node.params.format != MatrixMulFormat.DEFAULT:
        return None
    a, b = (source_of(v, rewriter) for v in node.inputs)
    if a is None or node.outputs[0].dtype.code is not _C.FLOAT32:
        return None
    scales: list[Var] = []
    if b is None:
        axis = -2 if node.params.transposeB else -1
        found = quantized_constant(node.inputs[1], axis, pool) if len(a.shape) == 2 else None
        if found is None:
            return None
        b, *scales = found
    params = QuantizedMatMul(
        matmul=node.params, product_dtype=node.outputs[0].dtype, has_scales=bool(scales), is_real=True
    )
    return Node("QuantizedMatMul", params, [a, b, *scales], node.outputs, node.name)


def _quantized_conv(node: Node, rewriter: Rewriter, pool: ConstantPool) -> Node | None:
    p = node.params
    x = source_of(node.inputs[0], rewriter)
    if x is None or p.format != ConvolutionFormat.NCHW or len(x.shape) != 4:
        return None
    is_grouped = p.sparse == ConvolutionSparse.GROUP
    found = quantized_constant(node.inputs[1], (0, 1) if is_grouped else 0, pool)
    if found is None or len(found[0].shape) != (5 if is_grouped else 4):
        return None
    params = QuantizedConv(
        conv=with_bias(p),
        input_dtype=x.dtype,
        conv_dtype=node.outputs[0].dtype,
        has_scales=len(found) > 1,
        is_real=True,
    )
    return Node("QuantizedConv", params, [x, *found], node.outputs, node.name)


def with_bias(p: Convolution) -> ConvBias:
    """The parameters of the operator that also adds a bias."""
    return ConvBias(**{name: getattr(p, name) for name in _GEOMETRY})


def quantized_constant(var: Var, axes: int | tuple[int, ...], pool: ConstantPool) -> list[Var] | None:
    """A constant of real numbers as integers, with their scales if each position of some axes has its own.

    None if the constant is not known to be made of integers of 8 bits.
    """
    if var.const is None or var.const.scales is None:
        return None
    scales = var.const.scales
    shape = _channels(var.shape, axes)
    number = _number_of_scales(var, shape, pool)
    if number is None:
        return None
    recipe = ("integers", shape)
    integers = pool.derive(recipe, [var.const, scales], lambda w, s: _integers(w, s, shape).astype(np.int8))
    if number == 1:
        dtype = DType(_C.QUANTIZED_S8, float(np.float32(scales.array.reshape(-1)[0])), 0, True)
        return [Var(var.id, var.name, TensorSpec(var.shape, dtype), integers)]
    w = Var(var.id, var.name, TensorSpec(var.shape, DType(_C.QUANTIZED_S8, 1.0, 0, True)), integers)
    return [w, Var(var.id, "", TensorSpec((number,), var.dtype), scales)]


def _channels(shape: tuple[int, ...], axes: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape of scales that belong to positions of axes."""
    kept = {a % len(shape) for a in (axes if isinstance(axes, tuple) else (axes,))}
    return tuple(n if k in kept else 1 for k, n in enumerate(shape))


def _number_of_scales(var: Var, shape: tuple[int, ...], pool: ConstantPool) -> int | None:
    """How many scales a constant has; None if its numbers are not integers of 8 bits times these."""
    constant = var.constant
    scales = constant.scales
    assert scales is not None

    def check(w: np.ndarray, s: np.ndarray) -> int:
        if s.size not in (1, math.prod(shape)) or not (np.isfinite(s).all() and (s > 0).all()):
            return 0
        q = _integers(w, s, shape)
        exact = q * _aligned(s, shape)
        fits = q.size and q.min() >= -128 and q.max() <= 127 and np.array_equal(exact, w)
        return s.size if fits else 0

    number = pool.number(("number of scales", shape), [constant, scales], check)
    constant.release()  # the real numbers take four times the memory of the integers
    return number or None


def _aligned(scales: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found: np.ndarray = scales.astype(np.float32).reshape(shape if scales.size > 1 else (1,) * len(shape))
    return found


def _integers(w: np.ndarray, scales: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found: np.ndarray = np.rint(w / _aligned(scales, shape))
    return found


def _between_conversions(node: Node, rewriter: Rewriter) -> None:
    """Replaces what lies between dequantized numbers and this quantization by a quantized operator, if there is one."""
    y, x = node.outputs[0], node.inputs[0]
    last = rewriter.producer(x)
    if last is None or rewriter.only_reader(x) is not node:
        return
    absorbed = [last, node]
    relu = last.op == "Elemwise" and last.params.mode in _RELU
    if relu:
        before = rewriter.producer(last.inputs[0])
        if before is None or rewriter.only_reader(last.inputs[0]) is not last:
            return
        last = before
        absorbed.insert(0, last)
    sources = [s for v in last.inputs if (s := source_of(v, rewriter)) is not None]
    if len(sources) < len(last.inputs):
        return
    make = _of_two(last, relu) or (None if relu else _average(last, sources[0], y))
    if make is not None:
        rewriter.replace(absorbed, [make(sources, y)])


_Maker = Callable[[list[Var], Var], Node]


def _of_two(node: Node, relu: bool) -> _Maker | None:
    if node.op != "Elemwise" or node.params.mode not in _OF_TWO or (relu and node.params.mode != _M.ADD):
        return None
    mode = _Q.QFUSE_ADD_RELU if relu else _OF_TWO[node.params.mode]
    return lambda sources, y: Node("ElemwiseMultiType", ElemwiseMultiType(mode=mode), sources, [y], node.name, y.dtype)


def _average(node: Node, x: Var, y: Var) -> _Maker | None:
    if node.op != "Pooling" or node.params.format != ConvolutionFormat.NCHW:
        return None
    if node.params.mode not in _AVERAGES or x.dtype != y.dtype:
        return None
    return lambda sources, y: Node(node.op, node.params, sources, [y], node.name)
