"""Drops nodes that pass a value through, joins transpositions, and writes others by what has kernels.

Batch normalization and constant powers become elementwise functions, reductions of ONNX that have elements others.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from megengine_lite._core.compile.substitution import Substitution
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32
from megengine_lite._core.ir.graph import AnyVar, Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import Dimshuffle, Elemwise, ElemwiseMode, Padding, PaddingMode, Reduce, ReduceMode
from megengine_lite._core.ir.quantize import stored_constant
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.power import constant_exponent, power_steps
from megengine_lite._core.system.memory import MAX_NDIM

_PADDING_MODES = {"constant": PaddingMode.CONSTANT, "edge": PaddingMode.REPLICATE, "reflect": PaddingMode.REFLECT}


def run(graph: Graph, pool: ConstantPool) -> None:
    read: set[AnyVar] = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
    nodes = Substitution(graph)
    transposed: dict[Var, Node] = {}
    for node in nodes:
        if node.op == "Dimshuffle":
            node = transposed[node.outputs[0]] = _one_transposition(node, transposed.get(node.inputs[0]))
        if passes_through(node):
            nodes.replace(node.outputs[0], node.inputs[0])
            continue
        if node.op == "BatchNorm":
            node = batch_norm_as_scale(node, read, pool) or node
        if node.op == "OnnxReduce":
            node = plain_reduction(node) or node
        if node.op == "OnnxPad":
            node = plain_padding(node) or node
        nodes.add(*(power_as_functions(node) if node.op in ("Elemwise", "PowC") else [node]))
    nodes.finish()


def passes_through(node: Node) -> bool:
    """Whether the result of a node is its first input, in the same form."""
    if not node.inputs or not node.outputs:
        return False
    x, y = node.inputs[0], node.outputs[0]
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    return REGISTRY[node.op].is_identity(node)


def _one_transposition(node: Node, before: Node | None) -> Node:
    """A transposition, together with another one that makes what it reads."""
    if before is None:
        return node
    axes = before.params.pattern
    pattern = tuple(-1 if k == -1 else axes[k] for k in node.params.pattern)
    parameters = Dimshuffle(pattern=pattern, ndim=before.params.ndim)
    return Node("Dimshuffle", parameters, before.inputs, node.outputs, node.name)


def plain_reduction(node: Node) -> Node | None:
    """A reduction of float32 along one axis as ``Reduce``, which has no rule for axes without elements."""
    p, x = node.params, node.inputs[0]
    if not p.is_finite or len(p.axes) != 1 or x.dtype != FLOAT32 or not x.shape[p.axes[0]]:
        return None
    parameters = Reduce(mode=ReduceMode[p.mode.name], axis=p.axes[0])
    return Node("Reduce", parameters, node.inputs, node.outputs, node.name)


def plain_padding(node: Node) -> Node | None:
    """A padding whose numbers and value are known as ``Padding``, which has kernels; None if that has other rules."""
    x, numbers, value = node.inputs
    mode = _PADDING_MODES.get(node.params.mode)
    if numbers.const is None or value.const is None or mode is None or len(x.shape) > MAX_NDIM:
        return None
    count = len(x.shape)
    front, back = (numbers.const.array[k : k + count].tolist() for k in (0, count))
    if min((*front, *back), default=0) < 0:
        return None
    # Replication needs an element, mirroring one more than the padding is wide.
    needed = [max(f, b) + 1 if mode == PaddingMode.REFLECT else 1 for f, b in zip(front, back, strict=True)]
    too_short = any(d < n and f + b for d, n, f, b in zip(x.shape, needed, front, back, strict=True))
    if too_short and mode != PaddingMode.CONSTANT:
        return None
    element = value.const.array.reshape(-1)
    number = float(element[0])
    if mode == PaddingMode.CONSTANT and stored_constant(number, x.dtype).tobytes() != element.tobytes():
        return None
    offsets = {f"front_offset_dim{k}": n for k, n in enumerate(front)}
    offsets |= {f"back_offset_dim{k}": n for k, n in enumerate(back)}
    parameters = Padding(padding_val=number, padding_mode=mode, **offsets)
    return Node("Padding", parameters, [x], node.outputs, node.name)


def batch_norm_as_scale(node: Node, read: Set[AnyVar], pool: ConstantPool) -> Node | None:
    """``y = x * s + t`` for a batch norm whose four parameters are constants and whose other outputs nobody reads.

    ``read`` has the variables that are read anywhere. None if the node is something else.
    """
    if node.op != "BatchNorm" or not read.isdisjoint(node.outputs[:-1]):
        return None
    if len(node.inputs) != 5 or node.params.fwd_mode != 1 or any(v.const is None for v in node.inputs[1:]):
        return None
    x, scale, bias, mean, variance = node.inputs
    if x.dtype not in (FLOAT32, FLOAT16) or any(v.dtype != x.dtype for v in node.inputs):
        return None
    eps = float(node.params.epsilon)

    def factor(g: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (g.astype(np.float64) / np.sqrt(v.astype(np.float64) + eps)).astype(g.dtype)

    def shift(g: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
        s = g.astype(np.float64) / np.sqrt(v.astype(np.float64) + eps)
        return (b.astype(np.float64) - m.astype(np.float64) * s).astype(b.dtype)

    s = pool.derive(("bn_scale", eps), [scale.constant, variance.constant], factor)
    t = pool.derive(("bn_shift", eps), [v.constant for v in (scale, bias, mean, variance)], shift)
    s_var = Var(scale.id, "", TensorSpec(scale.shape, scale.dtype), s)
    t_var = Var(bias.id, "", TensorSpec(bias.shape, bias.dtype), t)
    return Node("Elemwise", Elemwise(mode=ElemwiseMode.FUSE_MUL_ADD3), [x, s_var, t_var], [node.outputs[-1]], node.name)


def power_as_functions(node: Node) -> list[Node]:
    """A float32 power with a constant exponent as elementwise functions, which can be fused; other nodes unchanged.

    Dumps for older runtimes contain square roots and squares as powers.
    """
    exponent = constant_exponent(node)
    x, y = node.inputs[0], node.outputs[0]
    if exponent is None or x.dtype != FLOAT32:
        return [node]
    constants, steps = power_steps(exponent)
    registers = [x, *(_number(y, c) for c in constants)]
    nodes: list[Node] = []
    for mode, args in steps:
        out = y if len(nodes) == len(steps) - 1 else Var(y.id, "", TensorSpec(y.shape, FLOAT32))
        nodes.append(Node("Elemwise", Elemwise(mode=mode), [registers[k] for k in args], [out], node.name))
        registers.append(out)
    return nodes


def _number(var: Var, value: float) -> Var:
    """A constant without dimensions. No file has such an exponent, so here it marks a plain power."""
    array = np.array(value, np.float32)
    return Var(var.id, "", TensorSpec(array.shape, FLOAT32, array), Constant(array, ("number", array.tobytes())))
