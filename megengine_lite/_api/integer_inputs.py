"""Which integers an input may have that nobody gives: what the model uses them for decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.expansion import Subgraphs
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from megengine_lite._core.operators.base import ElementwiseOperator, Operator, operator_of
from megengine_lite._core.operators.shape import PassThrough

Range: TypeAlias = tuple[int, int]
"""The lowest number, and the one behind the highest."""
NARROW: Range = (0, 2)
_WIDE: Range = (-100, 101)
_NOT_NEGATIVE: Range = (0, 101)
# Of large exponents and shifts programs make different numbers, or none.
_SENSITIVE = {
    Elemwise: (ElemwiseMode.POW, ElemwiseMode.SHL, ElemwiseMode.SHR),
    OnnxElemwise: (OnnxMode.POWER, OnnxMode.SHIFT_LEFT, OnnxMode.SHIFT_RIGHT),
}


def integer_ranges(graph: ModelGraph) -> Mapping[str, Range]:
    """For each input of integers the numbers that suit the model, by name.

    They are zeros and ones where nothing is known, as where a shape depends on them. Indexes lie in what they are
    indexes of; numbers that are computed with, or compared, may be negative and larger.
    """
    found: dict[str, Range] = {}
    for var in graph.inputs:
        dtype = var.spec.dtype
        if dtype.storage.kind in "iu" and dtype.itemsize > 1 and not dtype.is_quantized:
            found[var.name] = _range_of(graph, var, dtype)
    return found


def _range_of(graph: ModelGraph, var: AnyVar, dtype: DType) -> Range:
    wide = _WIDE if dtype.storage.kind == "i" else _NOT_NEGATIVE
    # What is a number of the input, what is an integer that is made of some, and what is a real number.
    moved, computed, real = {var}, set[AnyVar](), set[AnyVar]()
    limit: int | None = None
    for node in graph.nodes:
        reads = [k for k, v in enumerate(node.inputs) if v in moved or v in computed or v in real]
        if not reads:
            continue
        operator = operator_of(node.op)
        indexes = [k for k in operator.index_inputs(node) if k in reads]
        if any(node.inputs[k] not in moved for k in indexes) or not _runs_for_all(node, operator, reads):
            return NARROW
        if indexes:
            length = _length(node.inputs[0])
            limit = length if limit is None else min(limit, length)
        data = [k for k in reads if k not in indexes]
        integers = [k for k in data if node.inputs[k] not in real]
        if integers and not _takes_all(node, operator):
            return NARROW
        if not data:
            continue
        if not integers or _is_made_real(node):
            real.update(node.outputs)
        elif _keeps(node, operator) and all(node.inputs[k] in moved for k in data):
            moved.update(node.outputs)
        else:
            computed.update(node.outputs)
    return wide if limit is None else (0, max(limit, 1))


def _length(data: AnyVar) -> int:
    """How many numbers are indexes of all axes of data."""
    return min(data.spec.shape) if isinstance(data.spec, TensorSpec) else 1


def _converts_to(node: AnyNode) -> DType | None:
    target = getattr(node.params, "dtype", None)
    return target if isinstance(target, DType) else None


def _is_made_real(node: AnyNode) -> bool:
    target = _converts_to(node)
    return target is not None and target.storage.kind == "f"


def _moves(operator: Operator) -> bool:
    return operator.moves_elements or operator.elements_of is not None or isinstance(operator, PassThrough)


def _keeps(node: AnyNode, operator: Operator) -> bool:
    """Whether the results are numbers of the inputs."""
    target = _converts_to(node)
    return _moves(operator) or (target is not None and target.storage.kind in "iu" and not target.is_quantized)


def _runs_for_all(node: AnyNode, operator: Operator, places: Sequence[int]) -> bool:
    """Whether what a node does is known, and no shape depends on these inputs."""
    if isinstance(node.params, Subgraphs) or operator.foreign or operator.dynamic:
        return False
    return {k % len(node.inputs) for k in operator.needed_values(node)}.isdisjoint(places)


def _takes_all(node: AnyNode, operator: Operator) -> bool:
    """Whether a node gives a result for all integers."""
    if isinstance(operator, ElementwiseOperator):
        return getattr(node.params, "mode", None) not in _SENSITIVE.get(type(node.params), ())
    return _moves(operator)
