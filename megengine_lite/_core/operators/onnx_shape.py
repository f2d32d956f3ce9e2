"""Target shapes, padding, slicing and repeating with the rules of ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.operators.base import Operator, broadcast_shapes, fail, normalize_axis, register
from megengine_lite._core.operators.checks import check_count, check_shape, common_dtype, int32_value, to_integers
from megengine_lite._core.operators.origins import (
    KnownOrigins,
    Number,
    NumberOrigins,
    Origin,
    Shape,
    ShapeOrigins,
    Size,
    later_numbers,
    numbers_of,
    sizes_of,
)


def _with_axes(node: AnyNode, shape: tuple[int, ...], axes: Sequence[int], insert: bool) -> list[int]:
    """A shape with axes of length 1 inserted or dropped."""
    ndim = len(shape) + len(axes) * insert
    places = {normalize_axis(node, a, ndim) for a in axes}
    if len(places) != len(axes) or (not insert and any(shape[p] != 1 for p in places)):
        raise fail(node, f"the axes {list(axes)} of shape {shape} are named twice, or are not 1")
    if insert:
        rest = iter(shape)
        return [1 if k in places else next(rest) for k in range(ndim)]
    return [d for k, d in enumerate(shape) if k not in places]


@register
class TargetShape(Operator):
    """The shape that data get, as int32, which is known before they are; inputs data, numbers."""

    name = "TargetShape"
    of_shapes = True
    in_files = None
    value_inputs = (1,)
    element_types = "floats, integers, bool, quantized"

    @staticmethod
    def _value(node: AnyNode, data: TensorSpec, value: np.ndarray | None) -> np.ndarray:
        numbers = to_integers(node, value, "the target shape")
        how = node.params.how
        if how in ("drop", "insert"):
            return int32_value(node, _with_axes(node, data.shape, numbers, how == "insert") or [1])
        if how == "expand":
            return int32_value(node, broadcast_shapes(node, [data.shape, check_shape(node, numbers or [1])]))
        if not node.params.keeps_zeros:
            if any(n == 0 and k >= len(data.shape) for k, n in enumerate(numbers)):
                raise fail(node, f"0 in {numbers} stands for a dimension that data of shape {data.shape} do not have")
            numbers = [data.shape[k] if n == 0 else n for k, n in enumerate(numbers)]
        if numbers.count(-1) > 1 or min(numbers, default=0) < -1:
            raise fail(node, f"the target shape {numbers} leaves more than one number open")
        if -1 in numbers:
            # Where 0 is given, the open number is what it is when the dimensions that are 0 have another size.
            rest, size = math.prod(n for n in numbers if n != -1), data.size
            if rest == size == 0:
                rest, size = math.prod(n or 1 for n in numbers if n != -1), math.prod(d or 1 for d in data.shape)
            if rest == 0 or size % rest:
                raise fail(node, f"{data.size} elements of shape {data.shape} do not fit the shape {numbers}")
            numbers[numbers.index(-1)] = size // rest
        return int32_value(node, check_shape(node, numbers or [1]))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        value = self._value(node, ins[0], ins[1].value)
        return [TensorSpec(value.shape, INT32, value)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [[()]]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        how, value, data = node.params.how, specs[1].value, specs[0].shape
        if how in ("drop", "insert") or value is None:
            return None
        numbers = [int(n) for n in value.reshape(-1)]
        if how == "expand":
            return self._expanded(data, numbers, known)
        found: list[Origin | list[Origin]] = []
        for k, n in enumerate(numbers):
            if n == -1:
                found.append([*sizes_of(data, 0), *numbers_of(value.shape, 1)])
            elif n == 0 and not node.params.keeps_zeros:
                found.append(Size(0, k) if known.is_fixed(Number(1, k)) else [Size(0, k), Number(1, k)])
            else:
                found.append(Number(1, k))
        return found

    @staticmethod
    def _expanded(data: Shape, numbers: Sequence[int], known: KnownOrigins) -> NumberOrigins:
        """Of the shape to which data and a shape broadcast: the one of two numbers if the other one is always 1."""
        ndim = max(len(data), len(numbers))
        found: list[Origin | list[Origin]] = []
        for k in range(ndim):
            place, axis = k - ndim + len(numbers), k - ndim + len(data)
            number = [Number(1, place)] if place >= 0 else []
            size = [Size(0, axis)] if axis >= 0 else []
            if not number or (size and numbers[place] == 1 and known.is_fixed(number[0])):
                found.append(size[0])
            elif (
                not size
                or (data[axis] == 1 and known.is_fixed(size[0]))
                or (numbers[place] > 1 and known.is_fixed(number[0]))
            ):
                found.append(number[0])
            else:
                found.append([*size, *number])
        return found

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [self._value(node, in_specs[0], ins[1])]


_PAD_MODES = ("constant", "edge", "reflect", "wrap")


@register
class OnnxPad(Operator):
    """Elements added, or removed where a number is negative; inputs data, numbers, value.

    The numbers are those in front of each dimension, then those behind each.
    """

    name = "OnnxPad"
    elements_of = slice(0, 3, 2)
    in_files = None
    value_inputs = (1,)
    element_types = "floats, integers, bool"

    @staticmethod
    def _widths(node: AnyNode, value: np.ndarray | None, ndim: int) -> list[tuple[int, int]]:
        numbers = to_integers(node, value, "the padding")
        if len(numbers) != 2 * ndim:
            raise fail(node, f"a padding of {len(numbers)} numbers does not fit {ndim} dimensions")
        return list(zip(numbers[:ndim], numbers[ndim:], strict=True))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        if node.params.mode not in _PAD_MODES:
            raise fail(node, f"the mode {node.params.mode!r} is not known; there are {', '.join(_PAD_MODES)}")
        shape = ins[0].shape
        widths = self._widths(node, ins[1].value, len(shape))
        if ins[2].size != 1:
            raise fail(node, f"the value must be one number, its shape is {ins[2].shape}")
        for d, (front, behind) in zip(shape, widths, strict=True):
            if node.params.mode != "constant" and max(front, behind) > 0 and d + min(front, 0) + min(behind, 0) < 1:
                raise fail(node, f"an empty axis of shape {shape} cannot be padded by its own elements")
        padded = [d + front + behind for d, (front, behind) in zip(shape, widths, strict=True)]
        return [TensorSpec(check_shape(node, padded), common_dtype(node, (ins[0], ins[2])))]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        n = len(shapes[0])
        return [[[Size(0, k), Number(1, k), Number(1, n + k)] for k in range(n)]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, mode = ins[0], node.params.mode
        widths = self._widths(node, ins[1], x.ndim)
        if mode == "constant" and any(d + min(f, 0) + min(b, 0) < 0 for d, (f, b) in zip(x.shape, widths, strict=True)):
            return [np.full(out_specs[0].shape, ins[2].reshape(()))]  # more is cut off than there is
        x = x[tuple(slice(max(-f, 0), d - max(-b, 0)) for d, (f, b) in zip(x.shape, widths, strict=True))]
        grown = [(max(f, 0), max(b, 0)) for f, b in widths]
        if mode == "constant":
            return [np.pad(x, grown, "constant", constant_values=ins[2].reshape(()))]
        if mode == "edge":
            return [np.pad(x, grown, "edge")]
        return [np.pad(x, grown, "reflect") if mode == "reflect" else np.pad(x, grown, "wrap")]


@register
class OnnxSlice(Operator):
    """Slices by the rules of ONNX; inputs data, begins, ends, axes[, steps]."""

    name = "OnnxSlice"
    in_files = None
    element_types = "floats, integers, bool, quantized"

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return tuple(range(1, len(node.inputs)))

    @staticmethod
    def _slices(node: AnyNode, shape: tuple[int, ...], values: Sequence[np.ndarray | None]) -> tuple[slice, ...]:
        begins, ends, axes, *steps = (to_integers(node, v, "a number of a slice") for v in values)
        lengths = {len(numbers) for numbers in (begins, ends, axes, *steps)}
        if len(lengths) > 1:
            raise fail(node, f"its starts, ends, axes and steps have different lengths: {sorted(lengths)}")
        slices = [slice(None)] * len(shape)
        for begin, end, axis, step in zip(begins, ends, axes, steps[0] if steps else [1] * len(axes), strict=True):
            if step == 0:
                raise fail(node, f"the step of axis {axis} is 0")
            place = normalize_axis(node, axis, len(shape))
            if slices[place] != slice(None):
                raise fail(node, f"the axes {axes[:20]} name one axis twice")
            if step < 0:  # from before the first element on, backwards, there is the first one
                begin = max(begin, -shape[place])
            slices[place] = slice(begin, end, step)
        return tuple(slices)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 4, 5)
        slices = self._slices(node, ins[0].shape, [s.value for s in ins[1:]])
        shape = [len(range(*s.indices(d))) for s, d in zip(slices, ins[0].shape, strict=True)]
        return [TensorSpec(check_shape(node, shape), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        numbers = later_numbers(shapes)
        return [[[size, *numbers] for size in sizes_of(shapes[0], 0)]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [ins[0][self._slices(node, ins[0].shape, ins[1:])]]


@register
class Tile(Operator):
    """The data repeated along each axis; inputs data, numbers."""

    name = "Tile"
    elements_of = slice(1)
    in_files = None
    value_inputs = (1,)
    repeats_elements = True
    element_types = "floats, integers, bool, quantized"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        numbers, shape = to_integers(node, ins[1].value, "the numbers of repetitions"), ins[0].shape
        if len(numbers) != len(shape) or min(numbers, default=0) < 0:
            raise fail(node, f"data of shape {shape} cannot be repeated {numbers} times")
        return [TensorSpec(check_shape(node, [d * n for d, n in zip(shape, numbers, strict=True)]), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [[[Size(0, k), Number(1, k)] for k in range(len(shapes[0]))]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.tile(ins[0], ins[1])]
