"""Doubles as float32, where the caller asks for that.

A double becomes a float32 where it meets data. What follows from constants and shapes alone stays as it is, so that
sizes are those which the model says; it is computed when a plan is made, not when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import (
    MOST_FOLDED,
    NotConverted,
    Nothing,
    TensorList,
    Value,
    tensors_of,
)
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.table import Call, Converter
from megengine_lite._core.formats.stored_values import FileConstant
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Constant

K = TypeVar("K", bound=int)
_DOUBLE = ElementType.DOUBLE


class Narrowing:
    """Chooses the element types of a graph's values."""

    def __init__(self, builder: GraphBuilder, asked: bool):
        self._builder = builder
        self.asked = asked

    def kind(self, kind: K) -> K | ElementType:
        """The element type of data that have this one in the model."""
        return ElementType.FLOAT if self.asked and kind == _DOUBLE else kind

    def narrows_stored(self, kind: int | None, shape: Sequence[int]) -> bool:
        """Whether a stored tensor is float32 from the start. Others may be numbers of which sizes are made."""
        return self.asked and kind == _DOUBLE and (len(shape) > 1 or np.prod(shape, dtype=object) > MOST_FOLDED)

    def value(self, value: Value | None) -> Value | None:
        """A value as data."""
        if not self.asked or value is None or isinstance(value, Nothing) or value.kind != _DOUBLE:
            return value
        if isinstance(value, TensorList):
            found = self.tensors(value.carriers)
            return TensorList(found if value.stack is None else found[0], ElementType.FLOAT)
        return self.tensors([value])[0]

    def values(self, values: Iterable[Value | None]) -> list[Value | None]:
        """Values as data."""
        return [self.value(v) for v in values]

    def tensors(self, values: Iterable[Value]) -> list[Value]:
        """Tensors as data."""
        b, found = self._builder, []
        for value in values:
            if self.asked and value.kind == _DOUBLE:
                known = value.known
                made = b.retyped(value, ElementType.FLOAT) if known is None else b.constant(narrowed(known))
                value = Value(made.var, ElementType.FLOAT, value.rank, FLOAT32, value.extent)
            found.append(value)
        return found

    def make_data(self, call: Call) -> None:
        """Makes the inputs, attributes and results of a call data."""
        call.inputs, call.narrows = self.values(call.inputs), self.asked

    def converted(self, convert: Converter, call: Call) -> Sequence[Value | None]:
        """What a converter makes of a call: sizes as the model says, or data."""
        if self.asked:
            if self.are_sizes(call.inputs) and (sizes := self._sizes(convert, call)) is not None:
                return sizes
            self.make_data(call)
        return self.values(_as_list(convert(call)))

    def _sizes(self, convert: Converter, call: Call) -> Sequence[Value | None] | None:
        """The results of a call as the model says them, if all that are doubles are sizes."""
        try:
            with self._builder.aside() as nodes:
                results = _as_list(convert(call))
        except NotConverted:
            return None
        if not self.are_sizes(v for v in tensors_of(results) if v.kind == _DOUBLE):
            return None
        self._builder.nodes += nodes
        return results

    def are_sizes(self, values: Iterable[Value | None]) -> bool:
        """Whether these are vectors and numbers that follow from constants and shapes alone."""
        found = tensors_of(values)
        return all(v.rank < 2 and self._builder.follows_from_shapes(v) for v in found)


def narrowed_constant(constant: FileConstant) -> Constant:
    """A stored tensor as float32. The values in the file are not kept in memory."""
    found = Constant(narrowed(constant.array), constant.key)
    constant.release()
    return found


def narrowed(array: np.ndarray) -> np.ndarray:
    """Doubles as float32. Numbers beyond its range become the largest ones, and do not become infinite."""
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    beyond = np.isinf(found) & np.isfinite(array)
    found[beyond] = np.copysign(np.finfo(np.float32).max, found[beyond])
    return found


def _as_list(made: Value | Sequence[Value | None]) -> Sequence[Value | None]:
    return [made] if isinstance(made, Value) else made
