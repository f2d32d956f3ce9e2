"""Computes functions of a convolution's result before an axis is removed from it.

Convolutions of rows are convolutions of images of height 1, whose axis is removed behind them. A bias, a scale for each
channel or an activation can be fused with the convolution only if it comes first.
"""

from __future__ import annotations

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import AxisMethod
from megengine_lite._core.ir.shape_constant import reshaped_constant


def run(graph: Graph, pool: ConstantPool) -> None:
    rewriter = Rewriter(graph)
    waiting = [node for node in graph.nodes if isinstance(node, Node) and node.op == "AxisAddRemove"]
    for removal in waiting:
        image = removal.inputs[0]
        if _removes_one(removal) and rewriter.only_reader(image) is removal and _is_convolved(image, rewriter):
            _exchange(removal, rewriter, pool)
    rewriter.finish()


def _is_convolved(image: Var, rewriter: Rewriter) -> bool:
    """Whether a convolution makes a variable, or one with a bias."""
    node = rewriter.producer(image)
    if node is not None and node.op == "Elemwise":
        sources = [rewriter.producer(v) for v in node.inputs if v.const is None]
        node = sources[0] if len(sources) == 1 else None
    return node is not None and node.op in ("Convolution", "QuantizedConv")


def _removes_one(node: Node) -> bool:
    steps = node.params.desc
    return len(steps) == 1 and steps[0].method == AxisMethod.REMOVE and len(node.inputs[0].shape) == 4


def _exchange(removal: Node, rewriter: Rewriter, pool: ConstantPool) -> None:
    """Moves the removal of an axis behind all functions that follow it one after the other."""
    image, y = removal.inputs[0], removal.outputs[0]
    axis = removal.params.desc[0].axis % len(image.shape)
    replaced, functions = [removal], []
    x = image
    while (reader := rewriter.only_reader(y)) is not None:
        operands = _operands(reader, y, x, axis, pool)
        if operands is None:
            break
        out = reader.outputs[0]
        x = Var(out.id, out.name, TensorSpec(image.shape, out.dtype))
        functions.append(Node(reader.op, reader.params, operands, [x], reader.name))
        replaced.append(reader)
        y = out
    if functions:
        rewriter.replace(replaced, [*functions, Node(removal.op, removal.params, [x], [y], removal.name)])


def _operands(node: Node, y: Var, x: Var, axis: int, pool: ConstantPool) -> list[Var] | None:
    """The operands of a function with ``x`` in place of ``y``; None if it is none of ``y`` and constants."""
    if node.op != "Elemwise" or node.outputs[0].shape != y.shape or node.outputs[0].dtype != FLOAT32:
        return None
    operands = []
    for v in node.inputs:
        if v is not y and v.const is None:
            return None
        operands.append(x if v is y else v if v.spec.size == 1 else _with_axis(v, len(y.shape), axis, pool))
    return operands


def _with_axis(v: Var, ndim: int, axis: int, pool: ConstantPool) -> Var:
    """A constant that broadcasts with tensors of ``ndim`` axes, with one more axis of length 1."""
    shape = (1,) * (ndim - len(v.shape)) + v.shape
    return reshaped_constant(v, (*shape[:axis], 1, *shape[axis:]), pool)
