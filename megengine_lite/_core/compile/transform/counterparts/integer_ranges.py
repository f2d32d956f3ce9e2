"""Between which numbers integers lie, as far as constants, types and shapes say it.

Integers of 64 bits are written in 32 where all of their numbers fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode, OnnxReduce
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.operators.base import operator_of

_M = ElemwiseMode
_O = OnnxMode
Range = tuple[int, int]
INT32_RANGE: Range = (-(2**31), 2**31 - 1)
_MOST_ELEMENTS = 2**31 - 1
"""That a tensor has in the original, of which places are numbers in 32 bits."""


def fits_int32(numbers: Range) -> bool:
    return INT32_RANGE[0] <= numbers[0] and numbers[1] <= INT32_RANGE[1]


def is_index_in_32_bits(numbers: Range, length: int) -> bool:
    """Whether the low 32 bits of these numbers are an index of an axis of this length only if the numbers are one."""
    return numbers[1] < 2**32 - length and numbers[0] >= length - 2**32


_MODULAR = frozenset((_M.ADD, _M.SUB, _M.MUL, _M.NEGATE))


def used_as_indexes(nodes: Sequence[AnyNode], outputs: Sequence[AnyVar]) -> set[AnyVar]:
    """The variables of a graph that are nothing but indexes, or are made such by arithmetic in which the low bits of
    the results follow from the low bits alone."""
    found = {v for node in nodes for v in node.outputs}
    found.difference_update(outputs)
    for node in reversed(nodes):
        operator = operator_of(node.op)
        indexes, keeps = set(operator.index_inputs(node)), found.issuperset(node.outputs)
        if keeps and isinstance(node.params, params.Elemwise) and node.params.mode in _MODULAR:
            indexes.update(range(len(node.inputs)))
        elif keeps and operator.moves_elements:
            indexes.add(0)
        elif keeps and operator.elements_of is not None and not operator.gives_positions:  # those compare elements
            indexes.update(range(len(node.inputs))[operator.elements_of])
        found.difference_update(v for k, v in enumerate(node.inputs) if k not in indexes)
    return found


class IntegerRanges:
    """The smallest and the largest number that each variable of integers may have.

    Parameters
    ----------
    any_size
        For all sizes that the inputs of the model may have; else for those that the variables have.
    """

    def __init__(self, any_size: bool) -> None:
        self._any_size = any_size
        self._found: dict[AnyVar, Range] = {}

    def of(self, var: AnyVar) -> Range:
        """The range of a variable, of which at least the type is known."""
        found = self._found.get(var)
        if found is None:
            found = self._found[var] = self._known(var)
        return found

    @staticmethod
    def _known(var: AnyVar) -> Range:
        assert var.spec is not None
        array = None if var.const is None else var.const.array
        if array is not None and array.size and array.dtype.kind in "iub":
            return int(array.min()), int(array.max())
        return _of_type(var.spec.dtype)

    def add(self, node: AnyNode) -> None:
        """Adds what follows for the outputs of a node."""
        for var in node.outputs:
            if var.spec is None or var.spec.dtype.storage.kind not in "iub" or var.const is not None:
                continue
            limits = _of_type(var.spec.dtype)
            found = self._computed(node, var)
            # What leaves the type wraps around, so nothing is known of it.
            inside = found is not None and limits[0] <= found[0] and found[1] <= limits[1]
            self._found[var] = found if inside and found is not None else limits

    def _computed(self, node: AnyNode, var: AnyVar) -> Range | None:
        inputs = node.inputs
        p, operator = node.params, operator_of(node.op)
        if any(var is node.outputs[k] for k in operator.gives_positions if k < len(node.outputs)):
            return self._of_positions(node)
        if any(v.spec is None or v.spec.dtype.storage.kind not in "iub" for v in inputs):
            return None
        if isinstance(p, params.Elemwise | OnnxElemwise):
            function = (_FUNCTIONS if isinstance(p, params.Elemwise) else _OF_ONNX).get(p.mode)
            return None if function is None else function(*map(self.of, inputs))
        if isinstance(p, params.DTypeTable) or operator.moves_elements:
            return self.of(inputs[0])
        if operator.elements_of is not None:
            return _union([self.of(v) for v in inputs[operator.elements_of]])
        if isinstance(p, OnnxReduce):
            return self._reduced(node, var)
        return None

    def _reduced(self, node: AnyNode, var: AnyVar) -> Range | None:
        low, high = self.of(node.inputs[0])
        if node.params.mode in (OnnxReduction.MAX, OnnxReduction.MIN, OnnxReduction.MEAN):
            return low, high
        specs = node.inputs[0].spec, var.spec
        if node.params.mode != OnnxReduction.SUM or not all(isinstance(s, TensorSpec) for s in specs):
            return None
        sizes = [math.prod(s.shape) for s in specs if isinstance(s, TensorSpec)]
        counts = (0, _MOST_ELEMENTS) if self._any_size else (sizes[0] // max(sizes[1], 1),)
        return min(min(low * n, low if n else 0) for n in counts), max(max(high * n, high if n else 0) for n in counts)

    def _of_positions(self, node: AnyNode) -> Range | None:
        """The range of positions in the first input."""
        data = node.inputs[0].spec if node.inputs else None
        if not isinstance(data, TensorSpec):
            return None
        return 0, _MOST_ELEMENTS - 1 if self._any_size else max(math.prod(data.shape) - 1, 0)


def _of_type(dtype: DType) -> Range:
    storage = dtype.storage
    if storage == np.bool_:
        return 0, 1
    if storage.kind not in "iu":
        return INT32_RANGE
    limits = np.iinfo(storage)
    return int(limits.min), int(limits.max)


def _union(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _corners(function: Callable[[int, int], int]) -> Callable[..., Range]:
    """The range of a function that is monotonous in both operands."""

    def of(x: Range, y: Range) -> Range:
        found = [function(a, b) for a in x for b in y]
        return min(found), max(found)

    return of


def _quotient(x: Range, y: Range) -> Range | None:
    if y[0] <= 0 <= y[1]:
        return None
    most = max(abs(x[0]), abs(x[1]))
    return -most, most


def _rest(x: Range, y: Range) -> Range:
    most = max(abs(y[0]), abs(y[1]), 1) - 1
    return -most, most


_FUNCTIONS: Mapping[int, Callable[..., Range | None]] = {
    _M.ADD: _corners(lambda a, b: a + b),
    _M.SUB: _corners(lambda a, b: a - b),
    _M.MUL: _corners(lambda a, b: a * b),
    _M.MAX: _corners(max),
    _M.MIN: _corners(min),
    _M.NEGATE: lambda x: (-x[1], -x[0]),
    _M.ABS: lambda x: (0 if x[0] <= 0 <= x[1] else min(map(abs, x)), max(map(abs, x))),
    _M.FLOOR_DIV: _quotient,
    _M.MOD: _rest,
    _M.SIGN: lambda x: (-1, 1),
    _M.RELU: lambda x: (max(x[0], 0), max(x[1], 0)),
    _M.NOT: lambda x: (0, 1),
    _M.AND: lambda x, y: (0, 1),
    _M.OR: lambda x, y: (0, 1),
    _M.XOR: lambda x, y: (0, 1),
    _M.COND_LEQ_MOV: lambda x, y, z: _union([z, (0, 0)]),
}
_OF_ONNX: Mapping[int, Callable[..., Range | None]] = {
    _O.DIVIDE: _quotient,
    _O.REMAINDER: _rest,
    _O.MODULO: _rest,
    _O.MAX: _corners(max),
    _O.MIN: _corners(min),
    _O.NARROW: lambda x: x if fits_int32(x) else INT32_RANGE,
}
