"""Makes the nodes of a graph from what operators of ONNX mean.

A node whose inputs are known and whose results are small is computed at once, so that its result is a constant.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.graph_values import (
    FLOATS,
    Length,
    NotConverted,
    Value,
    check_kind,
    check_same_kind,
    combined_length,
    common_length,
    numbers_of,
)
from megengine_lite._core.formats.onnx.inference import Inference
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.tensors import DTYPES, KINDS
from megengine_lite._core.ir import params
from megengine_lite._core.ir.declared_shape import DeclaredShape
from megengine_lite._core.ir.dtype import INT32, INT64, DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Constant, TensorSpec, Var
from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode
from megengine_lite._core.ir.params import AxisDesc, AxisMethod, ElemwiseMode, ElemwiseMultiTypeMode
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS
from megengine_lite._core.operators.onnx_elemwise import kinds_of
from megengine_lite.errors import ModelFormatError

MOST_MADE = 1 << 17
"""Nodes that are made for a model, those included that are computed at once."""
CONSTANT = "ImmutableTensor"
"""What the original calls operators of constants, for dumps that can be laid beside its own."""

CARRIED_BY_INT32 = frozenset(
    DTYPES[k].code
    for k in (
        ElementType.INT32,
        ElementType.INT16,
        ElementType.INT8,
        ElementType.UINT16,
        ElementType.UINT8,
        ElementType.BOOL,
    )
)

# The functions of ONNX keep NaN where those of MegEngine make a number of it.
_KEEPING_NAN = {
    ElemwiseMode.RELU: ElemwiseMode.NAN_RELU,
    ElemwiseMode.MAX: ElemwiseMode.NAN_MAX,
    ElemwiseMode.MIN: ElemwiseMode.NAN_MIN,
    ElemwiseMode.SIGN: ElemwiseMode.NAN_SIGN,
}


class GraphBuilder:
    """Collects nodes.

    Attributes
    ----------
    nodes
        In an order in which they can be computed.
    label
        Name that nodes get, until it is changed.
    operators
        The names of operators in the file, by the label of the node.
    sizes
        Dimensions that are known although the shape is not, by variable and axis.
    ids
        Numbers for variables. All graphs that are made of one model take theirs from one place, since constants that
        are derived from weights are found by them.
    """

    def __init__(self, ids: Iterator[int] | None = None, operators: dict[str, str] | None = None) -> None:
        self.nodes: list[AnyNode] = []
        self.label = ""
        self.operators: dict[str, str] = {} if operators is None else operators
        self.ids = count() if ids is None else ids
        self.sizes: dict[tuple[AnyVar, int], int] = {}
        self._inference = Inference()
        self._n_made = 0
        self._n_constants = 0
        self._int64: set[AnyVar] = set()
        self._token = object()  # makes keys of constants unique to this load

    @contextmanager
    def aside(self, nodes: list[AnyNode] | None = None) -> Iterator[list[AnyNode]]:
        """Nodes that are made inside go to a list of their own, or at the end of the given one."""
        own: list[AnyNode] = [] if nodes is None else nodes
        outer, self.nodes = self.nodes, own
        try:
            yield own
        finally:
            self.nodes = outer

    @property
    def declared(self) -> dict[AnyVar, DeclaredShape]:
        """The shapes that the model gives its inputs; 1 stands for what is not known before the input is given."""
        return self._inference.declared

    # ---- variables and nodes ----------------------------------------------------------------------------------------

    def know(self, value: Value, spec: TensorSpec) -> None:
        """Says what is known of a value that another graph makes."""
        self._inference.given[value.var] = spec
        if value.dtype == INT64:
            self._int64.add(value.var)

    def known_shape(self, value: Value) -> tuple[int, ...] | None:
        """The shape of a value, if it follows from constants and from inputs that the model gives sizes."""
        found = self._inference.find(value.var)
        return None if found is None else found.trusted().shape

    def inferred_shape(self, value: Value) -> tuple[int, ...] | None:
        """The shape of a value if that is known, for those who build on its number of dimensions only."""
        found = self._inference.find(value.var)
        return None if found is None else found.spec.shape

    def length_of(self, vector: Value) -> int | None:
        """How many elements a vector has, if that is known."""
        if vector.length is not None or vector.rank != 1:
            return vector.length
        shape = self.known_shape(vector)
        return None if shape is None else shape[0]

    def known_value(self, value: Value) -> np.ndarray | None:
        """The numbers of a small value, if they follow from constants and from sizes of inputs."""
        found = self._inference.find(value.var)
        if found is None or found.spec.value is None:
            return None
        spec = found.trusted()
        assert spec.value is not None
        return numbers_of(spec.value, spec.dtype)

    def follows_from_shapes(self, value: Value) -> bool:
        """Whether a value is made of constants and shapes alone."""
        return self._inference.follows_from_shapes(value.var)

    def new_id(self) -> int:
        return next(self.ids)

    def nodes_of(
        self,
        op: str,
        parameters: Any,
        inputs: Iterable[AnyVar],
        n_outputs: int = 1,
        dtype: DType | None = None,
        payload: tuple[bytes, ...] = (),
    ) -> list[AnyVar]:
        """Adds a node; gives the variables of its outputs. ``dtype`` is the output's type if the operator asks."""
        self._n_made += 1
        if self._n_made > MOST_MADE:
            raise ModelFormatError(f"more than {MOST_MADE} nodes would be made for the model; none has so many")
        outputs = [AnyVar(self.new_id(), self.label) for _ in range(n_outputs)]
        node = AnyNode(op, parameters, inputs, outputs, self.label, dtype, payload)
        results = self._inference.computed(node)
        if results is not None:
            folded: list[AnyVar] = []
            for v, s in zip(outputs, results, strict=True):
                constant = self._kept(np.ascontiguousarray(s.value))
                if REGISTRY[op].moves_elements:
                    constant.scales = node.inputs[0].constant.scales
                folded.append(Var(v.id, v.name, TensorSpec(s.shape, s.dtype), constant))
            return folded
        self.nodes.append(node)
        self._inference.add(node)
        return outputs

    def node(
        self,
        op: str,
        parameters: Any,
        inputs: Iterable[AnyVar],
        kind: ElementType,
        rank: int,
        dtype: DType | None = None,
        length: int | Length | None = None,
    ) -> Value:
        """Adds a node with one output, whose variable has the element type that stands for ``kind``, or ``dtype``."""
        (var,) = self.nodes_of(op, parameters, inputs)
        return self.carried(var, kind, rank, dtype, length)

    def carried(
        self, var: AnyVar, kind: ElementType, rank: int, dtype: DType | None = None, length: int | Length | None = None
    ) -> Value:
        """The value that the output of a node carries, in the element type that stands for ``kind``, or ``dtype``."""
        dtype = dtype or DTYPES[kind]
        if dtype == INT64:
            self._int64.add(var)
        return Value(var, kind, rank, dtype, length)

    def constant(self, value: Any, kind: ElementType | None = None) -> Value:
        """A constant from an array or a number."""
        array = np.asarray(value) if kind is None else np.asarray(value, DTYPES[kind].storage)
        stored = np.ascontiguousarray(array.reshape(array.shape or (1,)))
        kind = KINDS[stored.dtype] if kind is None else kind
        spec = TensorSpec(stored.shape, DTYPES[kind])
        return Value(Var(self.new_id(), "", spec, self._kept(stored)), kind, array.ndim, spec.dtype)

    def integers(self, numbers: Sequence[int]) -> AnyVar:
        """A vector of sizes or positions, as int32 if they fit."""
        fits = all(-(2**31) <= n < 2**31 for n in numbers)
        stored = np.array(numbers, np.int32 if fits else np.int64)
        spec = TensorSpec(stored.shape, INT32 if fits else INT64)
        return Var(self.new_id(), "", spec, self._kept(stored))

    def _kept(self, array: np.ndarray) -> Constant:
        """A constant of the model, as those are that its file stores."""
        return Constant(array, self.constant_key())

    def constant_key(self) -> Hashable:
        """A key for one more constant of the model."""
        self._n_constants += 1
        return (self._token, self._n_constants, CONSTANT, 0)

    # ---- types ------------------------------------------------------------------------------------------------------

    def exact(self, value: Value) -> AnyVar:
        """A variable of the very type that the model gives the value."""
        return self.converted(value, DTYPES[value.kind])

    def converted(self, value: Value, dtype: DType) -> AnyVar:
        """The value's numbers in another element type."""
        if value.dtype == dtype:
            return value.var
        (var,) = self.nodes_of("TypeCvt", params.DTypeTable(dtype=dtype), [value.var])
        if dtype == INT64:
            self._int64.add(var)
        return var

    def is_int64(self, var: AnyVar) -> bool:
        return var in self._int64 or (isinstance(var, Var) and var.spec.dtype == INT64)

    def size(self, var: AnyVar) -> AnyVar:
        """Sizes as int32, so that kernels take the node that reads them; an error where they do not fit."""
        if not self.is_int64(var):
            return var
        return self.nodes_of("OnnxElemwise", OnnxElemwise(OnnxMode.NARROW, of_sizes=True), [var])[0]

    def limit(self, var: AnyVar) -> AnyVar:
        """Limits of slices as int32: beyond that there are no elements."""
        if not self.is_int64(var):
            return var
        for mode, number in ((ElemwiseMode.MIN, 2**31 - 1), (ElemwiseMode.MAX, -(2**31))):
            bound = self.constant(np.int64(number))
            (var,) = self.nodes_of("Elemwise", params.Elemwise(mode=mode), [var, bound.var])
        return self.nodes_of("TypeCvt", params.DTypeTable(dtype=INT32), [var])[0]

    def retyped(self, value: Value, kind: ElementType) -> Value:
        """The value as another element type of the model."""
        if kind == value.kind:
            return value
        if kind == ElementType.INT64 and value.dtype.code in CARRIED_BY_INT32:
            return Value(self.converted(value, INT32), kind, value.rank, INT32, value.extent)
        return Value(self.converted(value, DTYPES[kind]), kind, value.rank, DTYPES[kind], value.extent)

    def same_carrier(self, values: Sequence[Value]) -> tuple[list[AnyVar], DType]:
        """Variables of one element type for values of one element type."""
        if len({v.dtype for v in values}) == 1:
            return [v.var for v in values], values[0].dtype
        return [self.exact(v) for v in values], DTYPES[values[0].kind]

    # ---- common nodes -----------------------------------------------------------------------------------------------

    def elemwise(self, mode: ElemwiseMode, *values: Value) -> Value:
        """A function of values of one type, which the result has, too. NaN stays NaN."""
        rank = max(v.rank for v in values)
        inputs = [self.exact(v) for v in values]
        length = common_length(values)
        check_same_kind(values)
        check_kind(values[0].kind, FUNCTIONS[mode].kinds)
        if values[0].kind in FLOATS:
            mode = _KEEPING_NAN.get(mode, mode)
        return self.node("Elemwise", params.Elemwise(mode=mode), inputs, values[0].kind, rank, length=length)

    def onnx_elemwise(self, mode: OnnxMode, *values: Value, kind: ElementType | None = None) -> Value:
        """A function with the rules of ONNX, of values of one type."""
        rank = max(v.rank for v in values)
        inputs = [self.exact(v) for v in values]
        check_same_kind(values)
        check_kind(values[0].kind, kinds_of(mode))
        kind, length = values[0].kind if kind is None else kind, common_length(values)
        return self.node("OnnxElemwise", OnnxElemwise(mode), inputs, kind, rank, length=length)

    def compare(self, mode: ElemwiseMultiTypeMode, *values: Value) -> Value:
        """A function of values of one type whose results are truth values."""
        check_same_kind(values)
        if mode == ElemwiseMultiTypeMode.ISNAN:
            check_kind(values[0].kind, "f")
        rank = max(v.rank for v in values)
        narrow = [self._as_int32(v) for v in values]
        inputs = [v for v in narrow if v is not None]
        if len(inputs) < len(values):
            inputs = [self.exact(v) for v in values]
        parameters, length = params.ElemwiseMultiType(mode=mode), common_length(values)
        return self.node("ElemwiseMultiType", parameters, inputs, ElementType.BOOL, rank, length=length)

    def _as_int32(self, value: Value) -> AnyVar | None:
        """An int32 that has the numbers of an int64; None if they are not known to fit."""
        if value.kind != ElementType.INT64:
            return None
        if value.dtype == INT32:
            return value.var
        known = value.known
        if known is None or not np.array_equal(known.astype(np.int32), known):
            return None
        return self.constant(known.astype(np.int32)).var

    def number(self, value: float, like: Value) -> Value:
        """A scalar of the type of another value."""
        if like.kind not in FLOATS and not float(value).is_integer():
            raise NotConverted(f"{value:.6g} is no {like.kind.name}")
        if like.kind == ElementType.BFLOAT16:
            return self.retyped(self.constant(np.float32(value)), like.kind)
        return self.constant(value, like.kind)

    def moved(
        self,
        op: str,
        parameters: Any,
        value: Value,
        *inputs: AnyVar,
        rank: int | None = None,
        length: int | Length | None = None,
    ) -> Value:
        """A node that moves the elements of its first input."""
        rank = value.rank if rank is None else rank
        return self.node(op, parameters, [value.var, *inputs], value.kind, rank, value.dtype, length)

    def reshaped(self, value: Value, target: AnyVar, rank: int, free: int | None = None) -> Value:
        """The value in another shape, of which one number may be left free (its place)."""
        parameters = params.OptionalAxisV1() if free is None else params.OptionalAxisV1(axis=free)
        length = value.extent if rank == 1 and value.rank <= 1 else None
        return self.moved("Reshape", parameters, value, self.size(target), rank=rank, length=length)

    def transposed(self, value: Value, order: Sequence[int]) -> Value:
        if list(order) == list(range(value.rank)):
            return value
        moved = self.moved("Dimshuffle", params.Dimshuffle(pattern=tuple(order), ndim=value.rank), value)
        self._note_sizes(moved, {k: self._size(value, axis) for k, axis in enumerate(order)})
        return moved

    def with_axes(self, value: Value, axes: Sequence[int]) -> Value:
        """The value with axes of length 1 inserted, which are counted in the result."""
        steps = [AxisDesc(AxisMethod.ADD_1, axis) for axis in sorted(axes)]
        if value.rank == 0:  # its one dimension counts
            steps = steps[1:]
        rank = value.rank + len(axes)
        if not steps:
            return value.with_rank(rank)
        found = self.moved("AxisAddRemove", params.AxisAddRemove(desc=tuple(steps)), value, rank=rank)
        kept = [axis for axis in range(rank) if axis not in axes]
        sizes = {axis: self._size(value, k) for k, axis in enumerate(kept)} | dict.fromkeys(axes, 1)
        self._note_sizes(found, sizes)
        return found

    def without_axes(self, value: Value, axes: Sequence[int]) -> Value:
        """The value without axes of length 1; if none is left, it is a scalar."""
        steps = [AxisDesc(AxisMethod.REMOVE, axis) for axis in sorted(axes, reverse=True)]
        rank = value.rank - len(axes)
        if rank == 0:
            steps = steps[:-1]
        if not steps:
            return value.with_rank(rank)
        found = self.moved("AxisAddRemove", params.AxisAddRemove(desc=tuple(steps)), value, rank=rank)
        kept = [axis for axis in range(value.rank) if axis not in axes]
        self._note_sizes(found, {k: self._size(value, axis) for k, axis in enumerate(kept)})
        return found

    def shape(self, value: Value) -> Value:
        """The dimensions of a value as a vector of int64."""
        if value.rank == 0:
            return self.constant(np.empty(0, np.int64))
        if value.extent is not None and not value.extent.inputs:
            return self.constant(np.array([value.extent.number]))
        parameters = params.OptionalAxisV1()
        return self.node("GetVarShape", parameters, [value.var], ElementType.INT64, 1, INT32, value.rank)

    def dimension(self, value: Value, axis: int) -> Value:
        """One dimension of a value, as a vector of one number."""
        parameters = params.OptionalAxisV1(axis=axis % value.rank)
        return self.node("GetVarShape", parameters, [value.var], ElementType.INT64, 1, INT32, 1)

    def joined(self, values: Sequence[Value], axis: int) -> Value:
        if len(values) == 1:
            return values[0]
        inputs, dtype = self.same_carrier(values)
        length = combined_length(values, sum)
        found = self.node("Concat", params.Axis(axis=axis), inputs, values[0].kind, values[0].rank, dtype, length)
        sizes = [self._size(v, axis) for v in values]
        self._note_sizes(found, {axis: None if None in sizes else sum(n for n in sizes if n is not None)})
        return found

    def _size(self, value: Value, axis: int) -> int | None:
        """The size of one axis, if it is known whatever the shapes of the inputs are."""
        var = value.var
        return var.spec.shape[axis] if var.const is not None and isinstance(var, Var) else self.sizes.get((var, axis))

    def _note_sizes(self, value: Value, sizes: Mapping[int, int | None]) -> None:
        """Notes sizes of axes, as far as they are known; they decide how many elements a vector has."""
        self.sizes |= {(value.var, axis): size for axis, size in sizes.items() if size is not None}
        if value.rank == 1 and value.extent is None and sizes.get(0) is not None:
            value.extent = Length(self.sizes[value.var, 0])

    def carry_sizes(self, source: Value, value: Value, changed: Mapping[int, int | None]) -> None:
        """Notes that a value has the sizes of another one of its rank, but for some axes."""
        self._note_sizes(value, {k: self._size(source, k) for k in range(source.rank)} | dict(changed))

    def sliced(self, value: Value, axis: int, begin: AnyVar | None, end: AnyVar | None, step: AnyVar | None) -> Value:
        """A part of one axis, by numpy's rules."""
        length: Length | None = None
        limits = [None if v is None else _known_number(v) for v in (begin, end, step)]
        if value.extent is not None and all(
            v is None or n is not None for v, n in zip((begin, end, step), limits, strict=True)
        ):
            count = len(range(*slice(*limits).indices(value.extent.number)))
            length = Length(count, value.extent.inputs)
        return self.sliced_along(value, [(axis, begin, end, step)], length)

    def sliced_along(
        self,
        value: Value,
        parts: Sequence[tuple[int, AnyVar | None, AnyVar | None, AnyVar | None]],
        length: Length | None = None,
    ) -> Value:
        """Parts of several axes: each axis, and where its part begins and ends, and the step."""
        items = tuple(
            params.IndexDescMaskItem(axis, begin is not None, end is not None, step is not None, False)
            for axis, begin, end, step in parts
        )
        numbers = [self.limit(v) for _, *limits in parts for v in limits if v is not None]
        found = self.moved("Subtensor", params.IndexDescMaskDump(items=items), value, *numbers, length=length)
        self.carry_sizes(value, found, {axis: self._part_size(value, axis, limits) for axis, *limits in parts})
        return found

    def _part_size(self, value: Value, axis: int, limits: Sequence[AnyVar | None]) -> int | None:
        """The size of a part of an axis, if it is known."""
        size, numbers = self._size(value, axis), [None if v is None else _known_number(v) for v in limits]
        if size is None or any(n is None and v is not None for n, v in zip(numbers, limits, strict=True)):
            return None
        return len(range(*slice(*numbers).indices(size)))

    def part(self, value: Value, axis: int, begin: int | None, end: int | None, step: int | None = None) -> Value:
        """A part of one axis whose limits are known."""
        limits = [None if n is None else self.integers([n]) for n in (begin, end, step)]
        return self.sliced(value, axis, *limits)

    def broadcast(self, value: Value, target: AnyVar, rank: int) -> Value:
        return self.moved("Broadcast", params.Empty(), value, self.size(target), rank=rank)


def _known_number(var: AnyVar) -> int | None:
    return None if var.const is None else int(var.const.array.reshape(-1)[0])
