"""Makes nodes that files of MegEngine's have, and infers the shapes of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.compile.transform.counterparts.integer_ranges import Range
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BOOL, INT32, DType, from_numpy
from megengine_lite._core.ir.graph import NOT_NUMBERED, AnyNode, AnyVar, Constant, TensorSpec, Var
from megengine_lite._core.ir.params import (
    AxisDesc,
    AxisMethod,
    ElemwiseMode,
    ElemwiseMultiTypeMode,
    IndexDescMaskItem,
    ReduceMode,
)
from megengine_lite._core.ir.quantize import stored_constant
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.checks import broadcasts_to
from megengine_lite.errors import InternalError

NO_LIMIT = 2**31 - 1
"""No axis is longer: slices that end there, or beyond, have no end."""

_M = ElemwiseMode
_Q = ElemwiseMultiTypeMode


class Pieces:
    """Collects nodes. The writer of files numbers variables anew, so that these have no numbers here.

    Attributes
    ----------
    nodes
        In an order in which they can be computed.
    name
        What nodes are called that are made now.
    types
        The types that the inputs of the node have in the model; quantized ones are of other types here.
    ranges
        Between which numbers integers of these inputs lie, for the sizes of the inputs of the model.
    ranges_of_any_size
        The same for all sizes that these may have.
    takes_sizes
        Whether what is written for the node follows from the sizes of its variables, so that it is wrong for others.
    takes_axes
        The axes of its first input from whose sizes it follows, if it does not from others.
    takes_ranges
        Whether it is right because integers lie in these ranges, which other sizes of any input may change.
    whole
        The stored integers of variables of quantized types, as float32, where they are there.
    """

    def __init__(self) -> None:
        self.nodes: list[AnyNode] = []
        self.name = ""
        self.types: list[DType] = []
        self.ranges: list[Range] = []
        self.ranges_of_any_size: list[Range] = []
        self.takes_sizes = False
        self.takes_axes: set[int] = set()
        self.takes_ranges = False
        self.whole: dict[AnyVar, Var] = {}
        self._numbers: dict[tuple[Any, ...], Var] = {}
        self._with_gaps: set[AnyVar] = set()
        self._repeated: dict[AnyVar, tuple[AnyVar, AnyVar]] = {}

    def holds(self, rule: Callable[[Sequence[Range]], bool]) -> bool:
        """Whether a rule holds for the integers of the inputs. For other sizes it may not, which is kept in mind."""
        found = rule(self.ranges)
        self.takes_ranges |= found and not rule(self.ranges_of_any_size)
        return found

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def results(
        self, op: str, parameters: Any, inputs: Iterable[AnyVar], count: int = 1, dtype: DType | None = None
    ) -> list[Var]:
        """The outputs of a new node. ``dtype`` is the type that the operator is told to give."""
        variables = list(inputs)
        if op == "Elemwise" and len(variables) == 2:
            for x, row in (variables, variables[::-1]):
                if x in self._repeated and _is_row_of(row, x) and broadcasts_to(shape_of(row), shape_of(x)):
                    source, shape = self._repeated[x]
                    once = self.make(op, parameters, [source if v is x else v for v in variables], dtype)
                    is_whole = once.shape == shape_of(x)
                    return [once if is_whole else self.make("Broadcast", params.Empty(), [once, shape])]
                self.takes_sizes |= x in self._repeated and _may_be_row_of(row, x)
            variables = self._without_gaps(*variables)
        if op in ("BatchedMatrixMul", "MatrixMul"):  # the original takes no parts of one column, nor those turned
            variables = [self._copied(v) if v in self._with_gaps else v for v in variables]
        outputs: list[AnyVar] = [AnyVar(0, "") for _ in range(count)]
        node = AnyNode(op, parameters, variables, outputs, self.name, dtype)
        specs = operator_of(op).infer(node, [known_spec(v) for v in variables])
        made = []
        for spec in specs[:count]:
            if not isinstance(spec, TensorSpec):
                raise InternalError(f"{op} {self.name!r}: the shape of a result is not known")
            made.append(Var(0, "", TensorSpec(spec.shape, spec.dtype)))
        node.outputs = made
        self.nodes.append(node)
        facts = operator_of(op).in_original
        # The original makes a difference of a sum with a negated part.
        keeps_gaps = facts.keeps_gaps or (op == "Elemwise" and parameters.mode == _M.NEGATE)
        if facts.leaves_gaps or (keeps_gaps and variables[0] in self._with_gaps):
            self._with_gaps.update(made)
        if op == "Broadcast":
            source, _ = self._repeated.get(variables[0], (variables[0], None))
            self._repeated[made[0]] = (source, variables[1])
        return made

    def _without_gaps(self, x: AnyVar, y: AnyVar) -> list[AnyVar]:
        """The operands of a function of two elements, of which one is copied if the original gives wrong results.

        Where one of them is a row that is repeated for all of the other, it reads the other as if that had no gaps. It
        repeats results of functions in place of what they read, so what is repeated must be read before that.
        """
        rows = _may_be_row_of(y, x), _may_be_row_of(x, y)
        return [
            self._copied(v) if is_wrong and v in self._with_gaps else v
            for v, is_wrong in zip((x, y), rows, strict=True)
        ]

    def _copied(self, x: AnyVar) -> Var:
        """The elements of a variable in memory of their own: the original leaves out operators that only copy."""
        dtype = dtype_of(x)
        if dtype == BOOL:
            return self.converted(self.elemwise(_M.ABS, self.converted(x, INT32)), BOOL)
        one = self.number(1, x)
        return self.at_most(one, one, x)

    def make(self, op: str, parameters: Any, inputs: Iterable[AnyVar], dtype: DType | None = None) -> Var:
        """The output of a new node."""
        return self.results(op, parameters, inputs, 1, dtype)[0]

    # ---- constants --------------------------------------------------------------------------------------------------

    def constant(self, array: Any, dtype: DType | None = None) -> Var:
        """A constant; numbers in float64 and int64 become float32 and int32."""
        found = np.asarray(array)
        if dtype is None:
            narrow = {"f8": np.float32, "i8": np.int32}.get(found.dtype.str[1:])
            found = found if narrow is None else found.astype(narrow)
        else:
            found = found.astype(dtype.storage)
        found = np.ascontiguousarray(found.reshape(found.shape or (1,)))
        key = (found.shape, dtype or found.dtype, found.tobytes()) if found.size <= 64 else (id(found),)
        if key not in self._numbers:
            spec = TensorSpec(found.shape, dtype or from_numpy(found.dtype))
            self._numbers[key] = Var(NOT_NUMBERED, "", spec, Constant(found, object()))
        return self._numbers[key]

    def number(self, value: float, like: AnyVar) -> Var:
        """A number of the type of a variable."""
        dtype = dtype_of(like)
        return self.constant(stored_constant(value, dtype) if dtype.is_float else value, dtype)

    # ---- functions of elements --------------------------------------------------------------------------------------

    def elemwise(self, mode: ElemwiseMode, *variables: AnyVar) -> Var:
        return self.make("Elemwise", params.Elemwise(mode=mode), variables)

    def add(self, x: AnyVar, y: AnyVar) -> Var:
        return self.elemwise(_M.ADD, x, y)

    def subtract(self, x: AnyVar, y: AnyVar) -> Var:
        return self.elemwise(_M.SUB, x, y)

    def multiply(self, x: AnyVar, y: AnyVar) -> Var:
        return self.elemwise(_M.MUL, x, y)

    def shifted(self, x: AnyVar, bits: int) -> Var:
        """Integers times a power of two, or divided by one and rounded down."""
        return self.elemwise(_M.SHL if bits >= 0 else _M.SHR, x, self.number(abs(bits), x))

    def integer_product(self, x: AnyVar, y: AnyVar) -> Var:
        """The low 32 bits of products of int32.

        The original computes products of int32, and sums of them, as float32, which has 24 bits. So numbers are taken
        apart into 11 bits and 11 bits, which are not negative, and 10 bits with the sign. Shifted products are no part
        of its sums of products, also if they are shifted by nothing.
        """
        low = [self.subtract(v, self.shifted(self.shifted(v, -11), 11)) for v in (x, y)]
        high = [self.shifted(v, -22) for v in (x, y)]
        middle = [self.subtract(self.shifted(v, -11), self.shifted(h, 11)) for v, h in zip((x, y), high, strict=True)]
        total = self.shifted(self.multiply(low[0], low[1]), 0)
        crossed = self.add(self.multiply(low[0], middle[1]), self.multiply(middle[0], low[1]))
        total = self.add(total, self.shifted(crossed, 11))
        outer = self.add(self.multiply(low[0], high[1]), self.multiply(high[0], low[1]))
        return self.add(total, self.shifted(self.add(outer, self.multiply(middle[0], middle[1])), 22))

    def divide(self, x: AnyVar, y: AnyVar) -> Var:
        return self.elemwise(_M.TRUE_DIV, x, y)

    def at_most(self, x: AnyVar, y: AnyVar, then: AnyVar) -> Var:
        """``then`` where x is at most y, and 0 elsewhere, also where one of them is NaN."""
        return self.elemwise(_M.COND_LEQ_MOV, x, y, then)

    def less(self, x: AnyVar, y: AnyVar, then: AnyVar) -> Var:
        """``then`` where x is less than y, and 0 elsewhere."""
        return self.elemwise(_M.COND_LT_MOV, x, y, then)

    def compare(self, mode: ElemwiseMultiTypeMode, *variables: AnyVar) -> Var:
        """A truth value for each element. The original asks for the type of the result, also where it follows."""
        return self.make("ElemwiseMultiType", params.ElemwiseMultiType(mode=mode), variables, BOOL)

    def converted(self, x: AnyVar, dtype: DType) -> Var:
        if isinstance(x, Var) and x.dtype == dtype:
            return x
        return self.make("TypeCvt", params.DTypeTable(dtype=dtype), [x], dtype)

    def choice(self, mask: AnyVar, x: AnyVar, y: AnyVar) -> Var:
        """x where a mask of ones and zeros has 1, y elsewhere: releases until 1.13 have no operator for it.

        All have one type. Both parts are there with zeros in place of the others; what is not chosen may be NaN.
        """
        one, zero = self.number(1, mask), self.number(0, mask)
        return self.add(self.at_most(one, mask, x), self.at_most(mask, zero, y))

    # ---- shapes -----------------------------------------------------------------------------------------------------

    def reshaped(self, x: AnyVar, shape: Sequence[int]) -> Var:
        if isinstance(x, Var) and x.shape == tuple(shape):
            return x
        return self.make("Reshape", params.OptionalAxisV1(), [x, self.constant(np.array(shape, np.int32))])

    def with_first_axis(self, x: AnyVar) -> Var:
        """With an axis of length 1 in front of the others."""
        return self.make("AxisAddRemove", params.AxisAddRemove(desc=(AxisDesc(AxisMethod.ADD_1, 0),)), [x])

    def without_first_axis(self, x: Var) -> Var:
        """Without the first axis, whose length is 1."""
        return self.make("AxisAddRemove", params.AxisAddRemove(desc=(AxisDesc(AxisMethod.REMOVE, 0),)), [x])

    def with_last_axis(self, x: AnyVar) -> Var:
        """With an axis of length 1 behind the others."""
        added = AxisDesc(AxisMethod.ADD_1, len(shape_of(x)))
        return self.make("AxisAddRemove", params.AxisAddRemove(desc=(added,)), [x])

    def without_last_axis(self, x: Var) -> Var:
        """Without the last axis, whose length is 1."""
        removed = AxisDesc(AxisMethod.REMOVE, len(x.shape) - 1)
        return self.make("AxisAddRemove", params.AxisAddRemove(desc=(removed,)), [x])

    def transposed(self, x: AnyVar, order: Sequence[int]) -> Var:
        if isinstance(x, Var) and list(order) == list(range(len(x.shape))):
            return x
        return self.make("Dimshuffle", params.Dimshuffle(pattern=tuple(order), ndim=len(order)), [x])

    def expanded(self, x: AnyVar, shape: Sequence[int]) -> Var:
        """Repeated along axes of length 1."""
        if isinstance(x, Var) and x.shape == tuple(shape):
            return x
        return self.make("Broadcast", params.Empty(), [x, self.constant(np.array(shape, np.int32))])

    def joined(self, variables: Sequence[Var], axis: int) -> Var:
        if len(variables) == 1:
            return variables[0]
        return self.make("Concat", params.Axis(axis=axis), variables)

    def part(self, x: Var, axis: int, begin: int, end: int, step: int = 1) -> Var:
        """The elements of ``range(begin, end, step)`` along an axis; an end below 0 is in front of all elements."""
        if (begin, end, step) == (0, x.shape[axis], 1):
            return x
        has_end = end >= 0
        items = (IndexDescMaskItem(axis, True, has_end, True, False),)
        numbers = [self.constant(np.int32(n)) for n, given in ((begin, True), (end, has_end), (step, True)) if given]
        return self.make("Subtensor", params.IndexDescMaskDump(items=items), [x, *numbers])

    def sliced(self, x: Var, axis: int, begin: int, end: int, step: int) -> Var:
        """A slice of ONNX, whose limits may lie outside of the data."""
        if (begin, step) == (0, 1) and end >= NO_LIMIT:
            return x
        length = x.shape[axis]
        if step < 0 and begin < -1:  # backwards, and from in front of all elements on, there is the first one
            self.takes_axes.add(axis)
        first, last = self.limits(max(begin, -length) if step < 0 else begin, end, step, length, axis)
        items = (IndexDescMaskItem(axis, True, last is not None, True, False),)
        numbers = [self.constant(np.int32(n)) for n in (first, last, step) if n is not None]
        return self.make("Subtensor", params.IndexDescMaskDump(items=items), [x, *numbers])

    def limits(self, begin: int | None, end: int | None, step: int, length: int, axis: int) -> tuple[int, int | None]:
        """The limits of a slice as the original asks for them, inside of the data; no end if there is none.

        They stay as they are where they lie there, so that they mean the same for data of other lengths.
        """
        if end is not None and (end >= NO_LIMIT if step > 0 else end <= -NO_LIMIT):
            end = None
        if begin is None or (begin <= -NO_LIMIT if step > 0 else begin >= NO_LIMIT):
            begin = 0 if step > 0 else -1
        most = length if step > 0 else length - 1
        if all(n is None or -length <= n <= most for n in (begin, end)):
            return begin, end
        self.takes_axes.add(axis)
        first, last, _ = slice(begin, end, step).indices(length)
        return first, last if last >= 0 else None  # a step back to the first element has no end

    def turned(self, x: Var, axis: int) -> Var:
        """The elements of an axis in reverse."""
        return self.sliced(x, axis, -1, -NO_LIMIT, -1) if x.shape[axis] > 1 else x

    def taken(self, x: AnyVar, axis: int, *indexes: AnyVar) -> Var:
        """The parts at the positions of an index, or of one for each of some neighbouring axes."""
        return self.make("IndexingMultiAxisVec", _indexed(axis, len(indexes)), [x, *indexes])

    def changed(self, how: str, x: AnyVar, value: AnyVar, *indexes: AnyVar) -> Var:
        """Data with parts replaced (Set) or increased (Incr), at positions along the first axes."""
        return self.make(f"Indexing{how}MultiAxisVec", _indexed(0, len(indexes)), [x, value, *indexes])

    def reduced(self, mode: ReduceMode, x: AnyVar, axes: Sequence[int]) -> Var:
        """A reduction of one axis after the other, which stay with length 1."""
        for axis in axes:
            x = self.make("Reduce", params.Reduce(mode=mode, axis=axis), [x])
        assert isinstance(x, Var)
        return x

    def product(self, x: AnyVar, y: AnyVar) -> Var:
        """The product of two matrices."""
        return self.make("MatrixMul", params.MatrixMul(), [x, y])


def _indexed(axis: int, count: int) -> params.IndexDescMaskDump:
    """An index for each of some neighbouring axes."""
    items = (IndexDescMaskItem(a, False, False, False, True) for a in range(axis, axis + count))
    return params.IndexDescMaskDump(items=tuple(items))


def _is_row_of(row: AnyVar, x: AnyVar) -> bool:
    """Whether a variable is repeated along the first axis of another one, and has several elements along the last."""
    shape, ndim = shape_of(row), len(shape_of(x))
    return shape[-1] > 1 and len(shape) <= ndim and (len(shape) < ndim or shape[0] == 1)


def _may_be_row_of(row: AnyVar, x: AnyVar) -> bool:
    """Whether that is so for some sizes that the variables may have when the file runs."""
    if row.const is not None:
        return _is_row_of(row, x)
    return len(shape_of(row)) <= len(shape_of(x))


def known_spec(var: AnyVar) -> TensorSpec:
    """The shape and type of a variable, and its numbers if it is a constant."""
    spec = var.spec
    if not isinstance(spec, TensorSpec):
        raise InternalError(f"the shape of {var} is not known")
    if var.const is None or spec.value is not None:
        return spec
    return TensorSpec(spec.shape, spec.dtype, var.const.array)


def dtype_of(var: AnyVar) -> DType:
    if var.spec is None:
        raise InternalError(f"the type of {var} is not known")
    return var.spec.dtype


def shape_of(var: AnyVar) -> tuple[int, ...]:
    return known_spec(var).shape


def numbers_of(var: AnyVar) -> np.ndarray | None:
    """The numbers of a constant; None if they are computed."""
    return None if var.const is None else var.const.array
