"""Shapes and movement of data: reshaping, transposing, joining, splitting, padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.params import AxisMethod, PaddingMode
from megengine_lite._core.ir.quantize import stored_constant
from megengine_lite._core.operators.base import (
    Operator,
    broadcast_shapes,
    fail,
    first_input_is_non_negative,
    normalize_axis,
    register,
)
from megengine_lite._core.operators.checks import (
    broadcasts_to,
    check_count,
    check_shape,
    common_dtype,
    int32_value,
    to_integer,
    to_integers,
    to_shape,
)
from megengine_lite._core.operators.facts import IMAGE, ONE, InFiles, InOriginal, Use
from megengine_lite._core.operators.origins import (
    KnownOrigins,
    Number,
    NumberOrigins,
    Origin,
    Shape,
    ShapeOrigins,
    Size,
    aligned_sizes,
    moved_numbers,
    numbers_of,
    sizes_of,
)
from megengine_lite._core.operators.samples import COMMON, along_axis, first_only, is_another_axis
from megengine_lite._core.system.memory import MAX_NDIM

# Stored in `axis` of OptionalAxisV1 where there is no axis.
NO_AXIS = MAX_NDIM


@register
class GetVarShape(Operator):
    """The shape that the inputs broadcast to, or one number of it, as int32."""

    name = "GetVarShape"
    of_shapes = True
    param = params.OptionalAxisV1
    in_files = InFiles(revision=1)
    in_original = InOriginal(label="shape_of", has_workspace=False, predicts_results=True)
    sample_inputs = (IMAGE,)

    def original_uses(self, node: AnyNode) -> list[Use]:
        return [Use.SHAPE] * len(node.inputs)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        value = self._value(node, ins)
        return [TensorSpec(value.shape, INT32, value)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [[()]]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        sizes = aligned_sizes([s.shape for s in specs], range(len(specs)))
        if node.params.axis != NO_AXIS:
            sizes = [sizes[node.params.axis]]
        return [next(iter(origins)) if len(origins) == 1 else list(origins) for origins in sizes]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [self._value(node, in_specs)]

    @staticmethod
    def _value(node: AnyNode, ins: Sequence[TensorSpec]) -> np.ndarray:
        if not ins:
            raise fail(node, "needs at least one input")
        shape = broadcast_shapes(node, [s.shape for s in ins])
        axis = node.params.axis
        if axis != NO_AXIS:
            shape = (shape[normalize_axis(node, axis, len(shape))],)
        return int32_value(node, shape)


@register
class Reshape(Operator):
    """The same elements in another shape; one dimension may be left to be computed."""

    name = "Reshape"
    param = params.OptionalAxisV1
    value_inputs = (1,)
    in_files = InFiles(revision=1)
    in_original = InOriginal(mentioned_inputs=1, has_workspace=False, predicts_results=True, keeps_gaps=True)
    runs_in_float32 = True
    moves_elements = True
    keeps_order = True
    sample_inputs = (IMAGE, [2, 4, 6, 6])
    shape_inputs = (1,)

    def is_identity(self, node: Node) -> bool:
        return True

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return first_input_is_non_negative(node, is_non_negative)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        target = to_integers(node, ins[1].value, "the target shape")
        axis, size = node.params.axis, ins[0].size
        if axis != NO_AXIS:
            # The stored number at this place is often garbage.
            axis = normalize_axis(node, axis, len(target))
            target[axis] = 1
            rest = math.prod(target)
            if rest > 0 and size % rest == 0:
                target[axis] = size // rest
            elif rest == 0 and size == 0:
                target[axis] = 0
            else:
                target[axis] = -1
                raise fail(node, f"{size} elements of shape {ins[0].shape} do not fit shape {tuple(target)}")
        shape = check_shape(node, target)
        if math.prod(shape) != size:
            raise fail(node, f"{size} elements of shape {ins[0].shape} do not fit shape {shape}")
        return [TensorSpec(shape, ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        found: list[list[Origin]] = [[Number(1, k)] for k in range(shapes[1][0])]
        axis = node.params.axis
        if axis != NO_AXIS:
            axis = normalize_axis(node, axis, len(found))
            numbers = [Number(1, k) for k in range(len(found)) if k != axis]
            found[axis] = [*sizes_of(shapes[0], 0), *numbers]
        return [found]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        return numbers_of(specs[0].shape, 0)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [ins[0].reshape(out_specs[0].shape)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        """Rows of a sample stay together, however many they are: memory stays as it is."""
        return rows[0] != COMMON


@register
class Broadcast(Operator):
    """The input repeated to a target shape, by numpy's rule."""

    name = "Broadcast"
    param = params.Empty
    value_inputs = (1,)
    in_original = InOriginal(mentioned_inputs=1, has_workspace=False, predicts_results=True, leaves_gaps=True)
    repeats_elements = True
    runs_in_float32 = True
    sample_inputs = (IMAGE, [2, 4, 6, 6])
    shape_inputs = (1,)

    def is_identity(self, node: Node) -> bool:
        return True

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        target = to_shape(node, ins[1].value)
        if not broadcasts_to(ins[0].shape, target):
            raise fail(node, f"shape {ins[0].shape} does not broadcast to {target}")
        return [TensorSpec(target, ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [[[Number(1, k)] for k in range(shapes[1][0])]]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        target = to_shape(node, specs[1].value)
        return moved_numbers(0, specs[0].shape, lambda x: np.broadcast_to(x, target))

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.broadcast_to(ins[0], out_specs[0].shape)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        shape, out = node.inputs[0].shape, node.outputs[0].shape
        if rows[0] != COMMON:
            return len(shape) == len(out) and shape[0] == out[0]
        return len(shape) < len(out) or shape[0] == 1


@register
class Dimshuffle(Operator):
    """Dimensions permuted, dimensions of 1 inserted (-1 in the pattern) and dropped (not in the pattern)."""

    name = "Dimshuffle"
    param = params.Dimshuffle
    in_original = InOriginal(has_workspace=False, predicts_results=True, keeps_gaps=True)
    runs_in_float32 = True
    moves_elements = True
    element_types = "floats, integers, bool, quantized"

    def is_identity(self, node: Node) -> bool:
        return list(node.params.pattern) == list(range(len(node.inputs[0].shape)))

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return first_input_is_non_negative(node, is_non_negative)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, pattern, ndim = ins[0].shape, node.params.pattern, node.params.ndim
        if ndim and len(shape) != ndim:
            raise fail(node, f"needs {ndim} dimensions, the input's shape is {shape}")
        used = [p for p in pattern if p != -1]
        if any(not 0 <= p < len(shape) for p in used) or len(set(used)) != len(used):
            raise fail(node, f"pattern {tuple(pattern)} does not fit an input of shape {shape}")
        for i, d in enumerate(shape):
            if d != 1 and i not in used:
                raise fail(node, f"pattern {tuple(pattern)} drops dimension {i} of shape {shape}, which is not 1")
        return [TensorSpec(check_shape(node, [1 if p == -1 else shape[p] for p in pattern]), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [[[] if p == -1 else [Size(0, p)] for p in node.params.pattern]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        used = [p for p in node.params.pattern if p != -1]
        dropped = [i for i in range(ins[0].ndim) if i not in used]
        return [ins[0].transpose(used + dropped).reshape(out_specs[0].shape)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return first_only(self, node, rows) and node.params.pattern[0] == 0


@register
class AxisAddRemove(Operator):
    """Dimensions of 1 inserted and removed, step by step; one dimension always remains."""

    name = "AxisAddRemove"
    param = params.AxisAddRemove
    in_original = InOriginal(label="axis_add_rm", has_workspace=False, predicts_results=True, keeps_gaps=True)
    runs_in_float32 = True
    moves_elements = True
    keeps_order = True
    sample_inputs = (IMAGE,)

    def is_identity(self, node: Node) -> bool:
        return True

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = list(ins[0].shape)
        for step in node.params.desc:
            if step.method == AxisMethod.ADD_1:
                shape.insert(normalize_axis(node, step.axis, len(shape) + 1), 1)
            elif step.method == AxisMethod.REMOVE:
                axis = normalize_axis(node, step.axis, len(shape))
                if shape[axis] != 1:
                    raise fail(node, f"axis {step.axis} of shape {tuple(shape)} is not 1 and cannot be removed")
                if len(shape) > 1:
                    del shape[axis]
            else:
                raise fail(node, f"method {step.method} is not known")
        return [TensorSpec(check_shape(node, shape), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        sizes: list[list[Origin]] = [[size] for size in sizes_of(shapes[0], 0)]
        for step in node.params.desc:
            if step.method == AxisMethod.ADD_1:
                sizes.insert(normalize_axis(node, step.axis, len(sizes) + 1), [])
            elif len(sizes) > 1:
                del sizes[step.axis]
        return [sizes]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        return numbers_of(specs[0].shape, 0)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [ins[0].reshape(out_specs[0].shape)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return first_only(self, node, rows) and all(d.axis > 0 for d in node.params.desc)


@register
class Concat(Operator):
    """Tensors joined along an axis."""

    name = "Concat"
    elements_of = slice(None)
    param = params.Axis
    in_original = InOriginal(has_workspace=False, predicts_results=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE,)

    def is_identity(self, node: Node) -> bool:
        return len(node.inputs) == 1

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return all(map(is_non_negative, node.inputs))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        dtype = common_dtype(node, ins)
        shape = list(ins[0].shape)
        axis = normalize_axis(node, node.params.axis, len(shape))
        for spec in ins[1:]:
            other = spec.shape
            same_rest = len(other) == len(shape) and all(
                a == b or i == axis for i, (a, b) in enumerate(zip(shape, other, strict=True))
            )
            if not same_rest:
                shapes = ", ".join(str(s.shape) for s in ins)
                raise fail(node, f"inputs of shapes {shapes} cannot be joined along axis {axis}")
            shape[axis] += other[axis]
        return [TensorSpec(check_shape(node, shape), dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [aligned_sizes(shapes, range(len(shapes)))]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        parts, begin = [], 0
        for spec in specs:
            parts.append(np.arange(begin, begin + spec.size).reshape(spec.shape))
            begin += spec.size
        numbers = [number for k, spec in enumerate(specs) for number in numbers_of(spec.shape, k)]
        return [numbers[place] for place in np.concatenate(parts, node.params.axis).reshape(-1)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [np.concatenate(ins, axis=node.params.axis)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return len(set(rows)) == 1 and rows[0] != COMMON and is_another_axis(node.params.axis, node)


@register
class Split(Operator):
    """A tensor cut along an axis; inputs data and the length of each part."""

    name = "Split"
    param = params.Axis
    in_original = InOriginal(mentioned_inputs=1, has_workspace=False, predicts_results=True, leaves_gaps=True)
    runs_in_float32 = True
    moves_elements = True
    sample_inputs = (ONE, [1])
    keeps_samples = along_axis

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return max(n_inputs - 1, 0)

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return tuple(range(1, len(node.inputs)))

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if len(ins) < 2:
            raise fail(node, "needs the length of at least one part")
        shape = ins[0].shape
        axis = normalize_axis(node, node.params.axis, len(shape))
        lengths = [to_integer(node, s.value, f"the length of part {i}") for i, s in enumerate(ins[1:])]
        if min(lengths) < 0 or sum(lengths) != shape[axis]:
            raise fail(node, f"parts of {lengths} do not make up axis {axis} of shape {shape}")
        return [TensorSpec((*shape[:axis], n, *shape[axis + 1 :]), ins[0].dtype) for n in lengths]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        axis = node.params.axis
        ends = np.cumsum([s.shape[axis] for s in out_specs[:-1]], dtype=np.int64)
        return np.split(ins[0], ends, axis=axis)


@register
class Padding(Operator):
    """Elements added in front of and behind each dimension: a constant, the edge, or the mirrored inside."""

    name = "Padding"
    param = params.Padding
    in_original = InOriginal(type="PaddingForward")
    runs_in_float32 = True
    sample_inputs = (IMAGE,)
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape, mode = ins[0].shape, node.params.padding_mode
        if mode not in (PaddingMode.CONSTANT, PaddingMode.REPLICATE, PaddingMode.REFLECT):
            raise fail(node, f"mode {mode} is not known")
        offsets = self.offsets(node)
        if any(front or back for front, back in offsets[len(shape) :]):
            raise fail(node, f"pads dimensions that an input of shape {shape} does not have")
        out = []
        for i, (d, (front, back)) in enumerate(zip(shape, offsets, strict=False)):
            # Replication needs an element, mirroring one more than the padding is wide.
            needed = max(front, back) + 1 if mode == PaddingMode.REFLECT else min(front + back, 1)
            if mode != PaddingMode.CONSTANT and (front or back) and d < needed:
                raise fail(node, f"dimension {i} of shape {shape} is too short for a padding of {front} and {back}")
            out.append(front + d + back)
        return [TensorSpec(check_shape(node, out), ins[0].dtype)]

    @staticmethod
    def offsets(node: AnyNode) -> list[tuple[int, int]]:
        """Elements in front and behind, for as many dimensions as the parameter has."""
        p = node.params
        return [
            (getattr(p, f"front_offset_dim{i}"), getattr(p, f"back_offset_dim{i}"))  # uint32: never negative
            for i in range(MAX_NDIM)
        ]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, mode = ins[0], node.params.padding_mode
        widths = self.offsets(node)[: x.ndim]
        if mode == PaddingMode.REPLICATE:
            return [np.pad(x, widths, "edge")]
        if mode == PaddingMode.REFLECT:
            return [np.pad(x, widths, "reflect")]
        return [np.pad(x, widths, "constant", constant_values=self.constant(node, in_specs[0]))]

    @staticmethod
    def constant(node: AnyNode, spec: TensorSpec) -> np.ndarray:
        """The padded value as one element of the tensor's storage type."""
        return stored_constant(node.params.padding_val, spec.dtype)

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        p = node.params
        return first_only(self, node, rows) and p.front_offset_dim0 == p.back_offset_dim0 == 0


class PassThrough(Operator):
    """The first input unchanged. In the original these operators also manage memory or devices."""

    in_original = InOriginal(has_workspace=False, keeps_gaps=True)
    sample_inputs = (IMAGE,)
    has_shape_of = slice(1)

    def is_identity(self, node: Node) -> bool:
        return True

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if not ins:
            raise fail(node, "has no inputs")
        return [TensorSpec(ins[0].shape, ins[0].dtype)]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        return numbers_of(specs[0].shape, 0)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        return [ins[0]]


@register
class Identity(PassThrough):
    name = "Identity"
    runs_in_float32 = True
    keeps_samples = first_only


@register
class Copy(PassThrough):
    name = "Copy"


@register
class MarkDynamicVar(PassThrough):
    name = "MarkDynamicVar"


@register
class MarkNoBroadcastElemwise(PassThrough):
    name = "MarkNoBroadcastElemwise"


@register
class PersistentOutputStorage(PassThrough):
    name = "PersistentOutputStorage"


@register
class VirtualDep(PassThrough):
    name = "VirtualDep"
