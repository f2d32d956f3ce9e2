"""Makes the nodes and constants of an ONNX graph, and gives everything a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.messages import (
    AttributeProto,
    AttributeType,
    ElementType,
    NodeProto,
    TensorProto,
)
from megengine_lite._core.formats.onnx.tensors import KINDS
from megengine_lite._core.formats.stored_values import bytes_of
from megengine_lite._records import record

NUMPY = {kind: dtype for dtype, kind in KINDS.items()}
"""Element types of the format -> the numpy type with the same elements."""

END, BEGIN = 2**63 - 1, -(2**63)
"""Limits of slices that leave nothing out: behind the last element, and before the first one for those that go back."""

_SHARED_BYTES = 256  # smaller constants of equal value are stored once


@record(frozen=True, slots=True)
class OnnxValue:
    """A value of the graph: its name and the type of its elements. Arithmetic on values makes nodes.

    Numbers beside a value become scalars of its type, so that they change no shape.
    """

    writer: GraphWriter
    name: str
    kind: ElementType

    def _with(self, op: str, other: OnnxValue | float, reverse: bool = False) -> OnnxValue:
        value = other if isinstance(other, OnnxValue) else self.writer.scalar(other, self.kind)
        return self.writer.op(op, *((value, self) if reverse else (self, value)))

    def __add__(self, other: OnnxValue | float) -> OnnxValue:
        return self._with("Add", other)

    def __sub__(self, other: OnnxValue | float) -> OnnxValue:
        return self._with("Sub", other)

    def __mul__(self, other: OnnxValue | float) -> OnnxValue:
        return self._with("Mul", other)

    def __truediv__(self, other: OnnxValue | float) -> OnnxValue:
        return self._with("Div", other)

    def __radd__(self, other: float) -> OnnxValue:
        return self._with("Add", other, reverse=True)

    def __rsub__(self, other: float) -> OnnxValue:
        return self._with("Sub", other, reverse=True)

    def __rmul__(self, other: float) -> OnnxValue:
        return self._with("Mul", other, reverse=True)

    def __rtruediv__(self, other: float) -> OnnxValue:
        return self._with("Div", other, reverse=True)

    def __neg__(self) -> OnnxValue:
        return self.writer.op("Neg", self)

    def __lt__(self, other: OnnxValue | float) -> OnnxValue:
        return self._compare("Less", other)

    def __le__(self, other: OnnxValue | float) -> OnnxValue:
        return self._compare("LessOrEqual", other)

    def __gt__(self, other: OnnxValue | float) -> OnnxValue:
        return self._compare("Greater", other)

    def __ge__(self, other: OnnxValue | float) -> OnnxValue:
        return self._compare("GreaterOrEqual", other)

    def equals(self, other: OnnxValue | float) -> OnnxValue:
        return self._compare("Equal", other)

    def _compare(self, op: str, other: OnnxValue | float) -> OnnxValue:
        value = other if isinstance(other, OnnxValue) else self.writer.scalar(other, self.kind)
        return self.writer.op(op, self, value, kind=ElementType.BOOL)


_NOT_CHOSEN = (ElementType.BOOL, ElementType.INT16, ElementType.UINT16)
"""Types for which ONNX Runtime has no ``Where``."""
_NOT_PADDED = (ElementType.INT16, ElementType.UINT16)
"""Types for which it has no ``Pad``."""


class GraphWriter:
    """Nodes and constants as they are made.

    Attributes
    ----------
    opset
        Version of the standard's operators that is written.
    label
        What the names of new values begin with.
    """

    def __init__(self, opset: int):
        self.opset = opset
        self.label = "value"
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.domains: set[str] = set()
        self._shared: dict[Any, OnnxValue] = {}
        self._taken: dict[str, int] = {"": 0}

    # ---- names and constants ----------------------------------------------------------------------------------------

    def name(self, wanted: str) -> str:
        """A name that nothing else has: the wanted one, or that with a number."""
        found = wanted
        while found in self._taken:
            self._taken[wanted] = self._taken.get(wanted, 0) + 1
            found = f"{wanted}.{self._taken[wanted]}"
        self._taken[found] = 0
        return found

    def constant(self, value: Any, dtype: Any = None, name: str = "", key: object = None) -> OnnxValue:
        """A constant; equal small ones, and those with equal keys, are one value."""
        array = np.ascontiguousarray(value, dtype) if np.ndim(value) else np.asarray(value, dtype)
        if key is None and array.nbytes <= _SHARED_BYTES:
            key = (array.shape, array.dtype.str, array.tobytes())
        found = None if key is None else self._shared.get(key)
        if found is None:
            found = OnnxValue(self, self.name(name or f"{self.label}/constant"), KINDS[array.dtype])
            self.constants[found.name] = array
            if key is not None:
                self._shared[key] = found
        return found

    def scalar(self, number: float, kind: ElementType) -> OnnxValue:
        return self.constant(np.asarray(number).astype(NUMPY[kind]))

    def integers(self, *numbers: int) -> OnnxValue:
        """A vector of int64."""
        return self.constant(np.array(numbers, np.int64))

    def array_of(self, value: OnnxValue) -> np.ndarray | None:
        """The array of a constant; None for other values."""
        return self.constants.get(value.name)

    def stored_constants(self) -> list[TensorProto]:
        """The constants that nodes read."""
        read = {name for node in self.nodes for name in node.input}
        return [
            TensorProto(dims=list(array.shape), data_type=int(KINDS[array.dtype]), name=name, raw_data=bytes_of(array))
            for name, array in self.constants.items()
            if name in read
        ]

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def nodes_of(
        self,
        op: str,
        inputs: Sequence[OnnxValue | None],
        kinds: Sequence[ElementType | None],
        domain: str = "",
        **attributes: Any,
    ) -> list[OnnxValue]:
        """The outputs of a new node. Outputs whose kind is None are left out: their names are empty."""
        label = self.name(f"{self.label}/{op}")
        outputs = [
            OnnxValue(
                self, "" if kind is None else label if k == 0 else self.name(f"{label}:{k}"), kind or ElementType.FLOAT
            )
            for k, kind in enumerate(kinds)
        ]
        names = ["" if v is None else v.name for v in inputs]
        while names and not names[-1]:
            names.pop()
        made = [_attribute(name, value) for name, value in attributes.items() if value is not None]
        self.nodes.append(
            NodeProto(
                input=names, output=[v.name for v in outputs], name=label, op_type=op, attribute=made, domain=domain
            )
        )
        self.domains.add(domain)
        return outputs

    def remove_dead(self, outputs: Sequence[str]) -> None:
        """Drops nodes that no output needs: shapes that turned out to be known."""
        needed = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]

    def op(self, op: str, *inputs: OnnxValue | None, kind: ElementType | None = None, **attributes: Any) -> OnnxValue:
        """The only output of a new node; its elements are those of the first input unless ``kind`` says it."""
        if kind is None:
            first = inputs[0]
            assert first is not None
            kind = first.kind
        return self.nodes_of(op, inputs, [kind], **attributes)[0]

    # ---- what many converters need ----------------------------------------------------------------------------------

    def as_kind(self, x: OnnxValue, kind: ElementType) -> OnnxValue:
        """The value in another element type."""
        if x.kind == kind:
            return x
        array = self.array_of(x)
        if array is not None and array.nbytes <= _SHARED_BYTES and array.dtype.kind != "f" and kind in NUMPY:
            return self.constant(array.astype(NUMPY[kind]))
        key = ("cast", x.name, kind)
        if key not in self._shared:
            self._shared[key] = self.op("Cast", x, kind=kind, to=int(kind))
        return self._shared[key]

    def where(self, condition: OnnxValue, x: OnnxValue | float, y: OnnxValue | float) -> OnnxValue:
        kind = x.kind if isinstance(x, OnnxValue) else y.kind if isinstance(y, OnnxValue) else ElementType.FLOAT
        x, y = (v if isinstance(v, OnnxValue) else self.scalar(v, kind) for v in (x, y))
        if kind not in _NOT_CHOSEN:
            return self.op("Where", condition, x, y, kind=kind)
        x, y = (self.as_kind(v, ElementType.INT32) for v in (x, y))
        return self.as_kind(self.op("Where", condition, x, y, kind=ElementType.INT32), kind)

    def shape(self, x: OnnxValue) -> OnnxValue:
        """The shape, as int64."""
        key = ("shape", x.name)
        if key not in self._shared:
            self._shared[key] = self.op("Shape", x, kind=ElementType.INT64)
        return self._shared[key]

    def size(self, x: OnnxValue, axis: int) -> OnnxValue:
        """One number of the shape, as int64 [1]."""
        key = ("size", x.name, axis)
        if key not in self._shared:
            self._shared[key] = self.op("Gather", self.shape(x), self.integers(axis), axis=0)
        return self._shared[key]

    def reshape(self, x: OnnxValue, *sizes: int | OnnxValue) -> OnnxValue:
        """The value in another shape: numbers, of which one may be -1, and vectors of sizes."""
        parts: list[OnnxValue] = []
        numbers: list[int] = []
        for size in sizes:
            if isinstance(size, OnnxValue):
                parts += [self.integers(*numbers)] if numbers else []
                parts.append(size)
                numbers = []
            else:
                numbers.append(size)
        parts += [self.integers(*numbers)] if numbers else []
        return self.op("Reshape", x, self.joined(parts))

    def joined(self, parts: Sequence[OnnxValue], axis: int = 0) -> OnnxValue:
        """Values joined along an axis."""
        arrays = [self.array_of(p) for p in parts]
        known = [a for a in arrays if a is not None]
        if len(parts) == 1:
            return parts[0]
        if len(known) == len(parts) and sum(a.nbytes for a in known) <= _SHARED_BYTES:
            return self.constant(np.concatenate(known, axis))
        return self.op("Concat", *parts, axis=axis)

    def transpose(self, x: OnnxValue, order: Sequence[int]) -> OnnxValue:
        return x if list(order) == sorted(order) else self.op("Transpose", x, perm=list(order))

    def squeeze(self, x: OnnxValue, axes: Sequence[int]) -> OnnxValue:
        return self.op("Squeeze", x, self.integers(*axes)) if axes else x

    def unsqueeze(self, x: OnnxValue, axes: Sequence[int]) -> OnnxValue:
        return self.op("Unsqueeze", x, self.integers(*axes)) if axes else x

    def slice(self, x: OnnxValue, axis: int, begin: int | OnnxValue, end: int | OnnxValue, step: int = 1) -> OnnxValue:
        first, last = (v if isinstance(v, OnnxValue) else self.integers(v) for v in (begin, end))
        return self.op("Slice", x, first, last, self.integers(axis), self.integers(step))

    def flip(self, x: OnnxValue, axis: int) -> OnnxValue:
        """The value in reverse order along an axis."""
        return self.slice(x, axis, -1, BEGIN, -1)

    def pad(self, x: OnnxValue, widths: OnnxValue, fill: OnnxValue | None = None, mode: str = "constant") -> OnnxValue:
        """The value with more elements in front of each axis and behind it: zeros, ``fill``, or by another mode."""
        kind = ElementType.INT32 if x.kind in _NOT_PADDED else x.kind
        fill = None if fill is None else self.as_kind(fill, kind)
        return self.as_kind(self.op("Pad", self.as_kind(x, kind), widths, fill, kind=kind, mode=mode), x.kind)

    def reduce(self, op: str, x: OnnxValue, axes: Sequence[int], keep: bool = True) -> OnnxValue:
        """A reduction. Axes became an input of all reductions in version 18; of ReduceSum they were one before."""
        if op == "ReduceSum" or self.opset >= 18:
            return self.op(op, x, self.integers(*axes), keepdims=int(keep))
        return self.op(op, x, axes=list(axes), keepdims=int(keep))

    def range(self, count: OnnxValue, kind: ElementType = ElementType.INT64) -> OnnxValue:
        """The numbers from 0 up to a count, int64 [1] or a scalar."""
        scalar = self.squeeze(count, [0])
        found = self.op("Range", self.scalar(0, count.kind), scalar, self.scalar(1, count.kind))
        return self.as_kind(found, kind)

    def filled(self, shape: OnnxValue, value: Any) -> OnnxValue:
        """A tensor of one number; ``shape`` is int64, ``value`` an array of one element."""
        array = np.asarray(value).reshape(1)
        stored = TensorProto(dims=[1], data_type=int(KINDS[array.dtype]), name="", raw_data=bytes_of(array))
        return self.op("ConstantOfShape", shape, kind=KINDS[array.dtype], value=stored)


def _attribute(name: str, value: Any) -> AttributeProto:
    made = AttributeProto(name=name)
    if isinstance(value, TensorProto):
        made.type, made.t = AttributeType.TENSOR, value
    elif isinstance(value, str | bytes):
        text = value.encode() if isinstance(value, str) else value
        made.type, made.s = AttributeType.STRING, memoryview(text)
    elif isinstance(value, float):
        made.type, made.f = AttributeType.FLOAT, value
    elif isinstance(value, int):
        made.type, made.i = AttributeType.INT, int(value)
    elif all(isinstance(v, str | bytes) for v in value) and value:
        texts = [v.encode() if isinstance(v, str) else v for v in value]
        made.type, made.strings = AttributeType.STRINGS, [memoryview(text) for text in texts]
    elif any(isinstance(v, float) for v in value):
        made.type, made.floats = AttributeType.FLOATS, list(value)
    else:
        made.type, made.ints = AttributeType.INTS, [int(v) for v in value]
    return made
