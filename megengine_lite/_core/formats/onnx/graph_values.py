"""Values of an ONNX model, as variables of the graph carry them.

A :class:`Value` is a value of the ONNX model: a variable of the graph, the element type and the rank that the model
gives it. Both can differ from what the variable has. A scalar has the shape (1,) here, since there are no tensors
without dimensions. An int64 may be carried by an int32 variable, as long as its numbers are known to fit: shapes,
positions and inputs of the API do. What only moves elements or reads indexes takes the variable as it is; arithmetic
asks for ``GraphBuilder.exact``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir.declared_shape import DeclaredShape
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyVar, Var
from megengine_lite._core.ir.quantize import to_float32

MOST_FOLDED = 4096
"""Elements of a result that is computed while a model is loaded."""


def numbers_of(array: np.ndarray, dtype: DType) -> np.ndarray:
    """What a stored array means. That of bfloat16, which numpy does not have, holds bits; its numbers are float32."""
    return to_float32(array, dtype) if dtype.code == DTypeCode.BFLOAT16 else array


FLOATS = frozenset((ElementType.FLOAT, ElementType.FLOAT16, ElementType.BFLOAT16, ElementType.DOUBLE))


class Length:
    """How many elements a vector has, and the inputs from whose declared shapes that follows."""

    __slots__ = ("inputs", "number")

    def __init__(self, number: int, inputs: frozenset[DeclaredShape] = frozenset()):
        self.number = number
        self.inputs = inputs


class Value:
    """A value of the model.

    Attributes
    ----------
    var
        The variable that carries it.
    kind
        Its element type in the model.
    dtype
        The element type of the variable.
    rank
        Its number of dimensions in the model; the variable has one where that is none.
    extent
        How many elements a vector has, where that is known; it may be the shape of something.
    """

    __slots__ = ("dtype", "extent", "kind", "rank", "var")

    def __init__(self, var: AnyVar, kind: ElementType, rank: int, dtype: DType, length: int | Length | None = None):
        self.var = var
        self.kind = kind
        self.rank = rank
        self.dtype = dtype
        if rank == 1 and length is None and isinstance(var, Var) and var.const is not None:
            length = var.spec.size
        if rank == 0:
            length = 1
        elif rank > 1:
            length = None
        self.extent = Length(length) if isinstance(length, int) else length

    @property
    def length(self) -> int | None:
        """The number of ``extent``. Who asks builds on it, so the inputs that it follows from must have these sizes."""
        if self.extent is None:
            return None
        for declared in self.extent.inputs:
            declared.trusted.add(0)
        return self.extent.number

    @property
    def known(self) -> np.ndarray | None:
        """The numbers of a small constant; None for all others."""
        var = self.var
        if var.const is None or not isinstance(var, Var) or var.spec.size > MOST_FOLDED:
            return None
        return numbers_of(var.const.array, var.spec.dtype)

    @property
    def is_float32(self) -> bool:
        return self.dtype == FLOAT32

    def with_rank(self, rank: int) -> Value:
        """The same variable as a value of another rank: a scalar as a vector of one, or the reverse."""
        return Value(self.var, self.kind, rank, self.dtype, self.extent)


class TensorList(Value):
    """A sequence, whose tensors are values while the model is imported. It has no variable.

    Attributes
    ----------
    stack
        Its tensors, all of one shape, along the first axis of this one, if how many there are is known only when the
        model runs.
    """

    __slots__ = ("_parts", "stack")

    def __init__(self, parts: Sequence[Value] | Value, kind: ElementType):
        self.stack = parts if isinstance(parts, Value) else None
        self._parts = () if isinstance(parts, Value) else parts
        self.kind = kind

    @property
    def parts(self) -> Sequence[Value]:
        """The tensors, all of the type ``kind``."""
        if self.stack is not None:
            raise NeedsShapes("how many tensors its sequence has is known only when the model runs")
        return self._parts

    @property
    def carriers(self) -> Sequence[Value]:
        """The tensors, or that in which they are stacked."""
        return self._parts if self.stack is None else [self.stack]


class Nothing(Value):
    """An optional value that is not there. It has no variable."""

    __slots__ = ()

    def __init__(self) -> None:
        pass


def tensors_of(values: Iterable[Value | None]) -> list[Value]:
    """Those that are tensors, and those that carry sequences."""
    found = (v for v in values if v is not None and not isinstance(v, Nothing))
    return [t for v in found for t in (v.carriers if isinstance(v, TensorList) else [v])]


class NotConverted(Exception):
    """Raised for a call that cannot be converted; the text is the reason."""


class NeedsShapes(NotConverted):
    """Raised for a call that can be converted once the shapes of the model's inputs are known."""


def check_same_kind(values: Sequence[Value]) -> None:
    """Raises if values do not have the one type that the standard asks for."""
    if len({v.kind for v in values}) > 1:
        raise NotConverted(
            f"its inputs are of the types {', '.join(v.kind.name for v in values[:20])}; they must be the same"
        )


def check_kind(kind: ElementType, kinds: str) -> None:
    """Raises if a function is not defined for a type; kinds are "f", "i", "u" and "b"."""
    letter = "f" if kind in FLOATS else DTYPES[kind].storage.kind
    if letter not in kinds and not (letter == "u" and "i" in kinds):
        raise NotConverted(f"it is not computed in {kind.name}")


def common_length(values: Sequence[Value]) -> Length | None:
    """The length of a vector that these make by broadcasting, if it is known."""
    return combined_length(values, lambda numbers: 0 if 0 in numbers else max(numbers))


def combined_length(values: Sequence[Value], combine: Callable[[list[int]], int]) -> Length | None:
    """The length that follows from those of several values; None if one of them is not known."""
    known = [v.extent for v in values if v.extent is not None]
    if len(known) < len(values):
        return None
    return Length(combine([e.number for e in known]), frozenset().union(*(e.inputs for e in known)))
