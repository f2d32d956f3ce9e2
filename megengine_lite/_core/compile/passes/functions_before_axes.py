"""Computes functions of a convolution's result before an axis is removed from it.

Convolutions of rows are convolutions of images of height 1, whose axis is removed behind them. A bias, a scale for each
channel or an activation can be fused with the convolution only if it comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
    following = functions_of(y, image, rewriter, lambda v: _with_axis(v, len(y.shape), axis, pool))
    if following.now:
        moved = Node(removal.op, removal.params, [following.result], [following.last], removal.name)
        rewriter.replace([removal, *following.before], [*following.now, moved])


class Functions(NamedTuple):
    """Functions that follow each other.

    Attributes
    ----------
    before
        The nodes that compute them.
    last
        What the last one makes.
    now
        Nodes that compute them of another form of their input.
    result
        What ``last`` is in that form.
    """

    before: list[Node]
    last: Var
    now: list[Node]
    result: Var


def functions_of(y: Var, x: Var, rewriter: Rewriter, form: Callable[[Var], Var | None]) -> Functions:
    """The functions of a variable and constants that follow one after the other, and what they are for ``x``.

    ``x`` has the numbers of ``y`` in another shape. ``form`` gives a constant that broadcasts with ``y`` as one that
    broadcasts with ``x``, or None. Each is the only reader of what it is computed of.
    """
    found = Functions([], y, [], x)
    while (reader := rewriter.only_reader(found.last)) is not None:
        operands = _operands(reader, found, form)
        if operands is None:
            break
        out = reader.outputs[0]
        result = Var(out.id, out.name, TensorSpec(x.shape, out.dtype))
        now = Node(reader.op, reader.params, operands, [result], reader.name)
        found = Functions([*found.before, reader], out, [*found.now, now], result)
    return found


def _operands(node: Node, so_far: Functions, form: Callable[[Var], Var | None]) -> list[Var] | None:
    """The operands of a function of the last result in the new form; None if it is none of that and constants."""
    y = so_far.last
    if node.op != "Elemwise" or node.outputs[0].shape != y.shape or node.outputs[0].dtype != FLOAT32:
        return None
    operands = []
    for v in node.inputs:
        if v is not y and v.const is None:
            return None
        operand = so_far.result if v is y else v if v.spec.size == 1 else form(v)
        if operand is None:
            return None
        operands.append(operand)
    return operands


def _with_axis(v: Var, ndim: int, axis: int, pool: ConstantPool) -> Var:
    """A constant that broadcasts with tensors of ``ndim`` axes, with one more axis of length 1."""
    shape = (1,) * (ndim - len(v.shape)) + v.shape
    return reshaped_constant(v, (*shape[:axis], 1, *shape[axis:]), pool)
